"""Requantizer lane."""

from __future__ import annotations

import pytest

from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["requantizer"](), ids=str)
def test_requantizer(run: BenchRun) -> None:
    """Every mode, preshift and parameter range equals the golden model bit by bit."""
    run.start()
