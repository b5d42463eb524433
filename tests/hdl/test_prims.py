"""Stream buffers and the address nest under random stalls and random walks."""

from __future__ import annotations

import pytest

from tidemill_hdl.prim.queue import Queue
from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["stream_buffers"](), ids=str)
def test_stream_buffers(run: BenchRun) -> None:
    run.start()


@pytest.mark.parametrize("run", FAMILIES["address_nest"](), ids=str)
def test_address_nest(run: BenchRun) -> None:
    run.start()


def test_queue_depth_must_hold_two() -> None:
    with pytest.raises(ValueError, match="at least 2, not 1"):
        Queue(8, 1)
