"""Engine queues and semaphores."""

from __future__ import annotations

import pytest

from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["sync"](), ids=str)
def test_sync(run: BenchRun) -> None:
    run.start()
