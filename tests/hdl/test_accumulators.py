"""Accumulators."""

from __future__ import annotations

import pytest

from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["accumulators"](), ids=str)
def test_accumulators_match_the_golden_model(run: BenchRun) -> None:
    run.start()
