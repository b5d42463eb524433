"""Scratchpad, and with it BankedMemory."""

from __future__ import annotations

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from tidemill_hdl.memory.banked import BankedMemory
from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["scratchpad"](), ids=str)
def test_scratchpad_serves_all_ports(run: BenchRun) -> None:
    run.start()


@pytest.mark.parametrize(("depth", "banks"), [(64, 3), (60, 4), (4, 4), (64, 1)])
def test_shapes_that_cannot_be_built_are_refused(depth: int, banks: int) -> None:
    with pytest.raises(ValueError, match="powers of two"):
        BankedMemory(data.ArrayLayout(signed(8), 4), depth, banks, 1, 1)
