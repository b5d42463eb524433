"""Engine queues and semaphores."""

from __future__ import annotations

import pytest

from tidemill.config import preset
from tidemill_hdl.sync import Sync
from tidemill_verif.runner import run_bench

BUILDS = {
    "tiny": {},
    "narrow": {"semaphore_width": 2, "queue_depth": 2, "name": "narrow"},
    "deep": {"semaphore_width": 8, "queue_depth": 17, "name": "deep"},
}


@pytest.mark.parametrize("build", BUILDS)
def test_sync(build: str) -> None:
    run_bench(
        Sync(preset("tiny").replace(**BUILDS[build])),
        bench="tidemill_verif.benches.sync",
        name=f"sync-{build}",
        params={"preset": "tiny", "changes": BUILDS[build]},
        seed=3,
    )
