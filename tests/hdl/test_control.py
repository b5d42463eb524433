"""Control and status registers."""

from __future__ import annotations

import pytest

from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["control"](), ids=str)
def test_control(run: BenchRun) -> None:
    run.start()


@pytest.mark.parametrize("run", FAMILIES["counters"](), ids=str)
def test_counters(run: BenchRun) -> None:
    run.start()
