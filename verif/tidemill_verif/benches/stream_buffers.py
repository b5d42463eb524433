"""Bench of the stream buffers (`prim/queue.py`)."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles, RisingEdge

from tidemill_verif.agents.clock import reset, start
from tidemill_verif.agents.streams import StreamSink, StreamSource
from tidemill_verif.benches import params
from tidemill_verif.coverage.sampling import prims as coverage


@cocotb.test()
@cocotb.parametrize(source_stall=[0.0, 0.5], sink_stall=[0.0, 0.5])
async def test_stream_keeps_order_and_content(dut: Any, source_stall: float, sink_stall: float) -> None:
    """Everything that enters leaves, in order, under every mix of stalls; at full speed one transfer a cycle."""
    seed, width = params()["seed"], params()["width"]
    rng = random.Random(seed)
    coverage.watch_buffer(dut, params()["depth"])
    source = StreamSource(dut, "i", seed=seed, stall=source_stall)
    sink = StreamSink(dut, "o", seed=seed, stall=sink_stall)
    await start(dut)
    payloads = [rng.getrandbits(width) for _ in range(500)]
    sink.expect(*payloads)
    source.extend(payloads)
    cycles = 0
    while sink.count < len(payloads):
        await RisingEdge(dut.clk)
        cycles += 1
        assert cycles < 50 * len(payloads), f"stuck after {sink.count} transfers"
    if not source_stall and not sink_stall:
        assert cycles <= len(payloads) + 4


@cocotb.test()
async def test_stream_holds_its_depth(dut: Any) -> None:
    """With the output blocked, as many transfers enter as there are entries, and all of them come out."""
    seed, width, depth = params()["seed"], params()["width"], params()["depth"]
    rng = random.Random(seed)
    coverage.watch_buffer(dut, depth)
    source = StreamSource(dut, "i", seed=seed)
    dut.o__ready.value = 0
    await start(dut)
    payloads = [rng.getrandbits(width) for _ in range(depth + 3)]
    source.extend(payloads)
    await ClockCycles(dut.clk, 40 * depth)
    assert source.sent == depth
    sink = StreamSink(dut, "o", seed=seed)
    sink.expect(*payloads)
    await sink.drain()


@cocotb.test()
async def test_level_counts_what_is_held(dut: Any) -> None:
    """In every cycle, `level` is the number of transfers that entered and did not leave; buffers without it pass."""
    if not hasattr(dut, "level"):
        return
    seed, depth = params()["seed"], params()["depth"]
    source = StreamSource(dut, "i", seed=seed, stall=0.3)
    StreamSink(dut, "o", seed=seed, stall=0.5)
    await start(dut)
    source.extend([0] * 300)
    held, seen = 0, set()
    for _ in range(1000):
        await RisingEdge(dut.clk)
        assert int(dut.level.value) == held
        seen.add(held)
        held += int(dut.i__valid.value and dut.i__ready.value) - int(dut.o__valid.value and dut.o__ready.value)
    assert seen == set(range(depth + 1))


@cocotb.test()
async def test_stream_is_empty_after_reset(dut: Any) -> None:
    """Reset drops what is held; what comes later arrives."""
    seed = params()["seed"]
    source = StreamSource(dut, "i", seed=seed, stall=0)
    dut.o__ready.value = 0
    await start(dut)
    source.extend([1, 2])
    await source.drain()
    source.clear()
    coverage.reset_while_holding()
    await reset(dut)
    assert not dut.o__valid.value
    sink = StreamSink(dut, "o", seed=seed)
    sink.expect(3, 0, 3)
    source.extend([3, 0, 3])
    await sink.drain()
