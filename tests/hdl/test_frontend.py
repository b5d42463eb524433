"""Frontend and decoder."""

from __future__ import annotations

import pytest

from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["frontend"](), ids=str)
def test_frontend(run: BenchRun) -> None:
    run.start()
