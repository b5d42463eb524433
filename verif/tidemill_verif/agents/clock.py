"""Clock and reset."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

PERIOD_NS = 10


async def start(dut: Any, reset_cycles: int = 2) -> None:
    """Start `dut.clk` and reset the design; returns after the edge at which reset ends."""
    cocotb.start_soon(Clock(dut.clk, PERIOD_NS, unit="ns").start())
    await reset(dut, reset_cycles)


async def reset(dut: Any, cycles: int = 2) -> None:
    """Hold `dut.rst` for `cycles` edges of the running clock."""
    dut.rst.value = 1
    for _ in range(cycles):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
