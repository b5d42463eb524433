"""Bench of the performance counters in a width in which every bit of them counts."""

from __future__ import annotations

from random import Random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tidemill.csr import COUNTERS
from tidemill_verif.agents.clock import start
from tidemill_verif.benches import params

EVENTS = [counter.name for counter in COUNTERS if counter.name != "CYCLES"]
WIDTHS = [2 if name.startswith("CONFLICT_") else 1 for name in EVENTS]


class Model:
    """What the counters must show."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.reset()

    def reset(self) -> None:
        """All zero."""
        self.seen, self.counts = [0] * len(EVENTS), [0] * len(EVENTS)
        self.low = self.high = self.wrap = 0

    def clock(self, clear: int, run: int, enable: int, events: list[int]) -> None:
        """One edge with these inputs before it."""
        modulo = 1 << self.bits
        self.counts = [
            (count + seen) % modulo * (not clear) for count, seen in zip(self.counts, self.seen, strict=True)
        ]
        self.seen = [event * (enable and not clear) for event in events]
        self.high = (self.high + self.wrap) % modulo * (not clear)
        self.wrap = int(run and self.low == modulo - 1 and not clear)
        self.low = (self.low + run) % modulo * (not clear)

    @property
    def values(self) -> int:
        """The port `values`."""
        packed, position = self.low | self.high << self.bits, 2 * self.bits
        for count in self.counts:
            packed |= count << position
            position += self.bits
        return packed


async def _drive(dut: Any, model: Model, rng: Random, cycles: int, clears: float, run: float, event: float) -> None:
    """`cycles` cycles of random inputs: the chances of `clear`, of `run` and `enable`, and of each event."""
    for _ in range(cycles):
        clear, running, enable = (int(rng.random() < chance) for chance in (clears, run, run))
        events = [rng.getrandbits(width) if rng.random() < event else 0 for width in WIDTHS]
        packed, position = 0, 0
        for number, width in zip(events, WIDTHS, strict=True):
            packed |= number << position
            position += width
        dut.clear.value, dut.run.value, dut.enable.value, dut.events.value = clear, running, enable, packed
        await RisingEdge(dut.clk)
        assert int(dut.values.value) == model.values
        if dut.rst.value:
            model.reset()
        else:
            model.clock(clear, running, enable, events)


@cocotb.test()
async def test_counts_wraps_and_clears(dut: Any) -> None:
    """Each counter is the sum of its events, CYCLES of its cycles, through every wrap; `clear` zeroes them all."""
    for name in ("clear", "run", "enable", "events"):
        getattr(dut, name).value = 0
    await start(dut)
    model, rng = Model(params()["bits"]), Random(params()["seed"])
    await _drive(dut, model, rng, 400, 0.1, 0.5, 0.5)
    await _drive(dut, model, rng, (1 << 2 * model.bits) * 5 // 4, 0.0, 0.95, 0.3)
    await _drive(dut, model, rng, 100, 0.5, 0.9, 0.9)


@cocotb.test()
async def test_reset(dut: Any) -> None:
    """The reset zeroes counters that have counted, and what is on its way to them."""
    for name in ("clear", "run", "enable", "events"):
        getattr(dut, name).value = 0
    await start(dut)
    model, rng = Model(params()["bits"]), Random(params()["seed"] + 1)
    for _ in range(8):
        await _drive(dut, model, rng, (3 << model.bits) // 2, 0.0, 1.0, 0.8)
        dut.rst.value = 1
        await _drive(dut, model, rng, 1, 0.0, 1.0, 1.0)
        dut.rst.value = 0
