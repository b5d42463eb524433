"""Scratchpad, and with it BankedMemory."""

from __future__ import annotations

from functools import partial

import pytest
from amaranth.hdl import signed
from amaranth.lib import data

from tidemill.config import preset
from tidemill_hdl.memory.banked import BankedMemory
from tidemill_hdl.memory.scratchpad import Scratchpad
from tidemill_verif.runner import run_bench


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_scratchpad_serves_all_ports(name: str) -> None:
    run_bench(
        partial(Scratchpad, preset(name)),
        bench="tidemill_verif.benches.scratchpad",
        name=f"scratchpad-{name}",
        params={"preset": name},
    )


@pytest.mark.parametrize(("depth", "banks"), [(64, 3), (60, 4), (4, 4), (64, 1)])
def test_shapes_that_cannot_be_built_are_refused(depth: int, banks: int) -> None:
    with pytest.raises(ValueError, match="powers of two"):
        BankedMemory(data.ArrayLayout(signed(8), 4), depth, banks, 1, 1)
