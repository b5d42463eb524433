"""Bench of a board's memory behind the arbiter: two masters with random bursts and stalls, held against plain bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.triggers import Combine, RisingEdge
from cocotbext.axi import AxiBus, AxiMaster, AxiResp

from tidemill_verif.agents import clock
from tidemill_verif.benches import params

MASTERS = ("npu", "link")


class Bench:
    """Two masters of one memory; what it should hold is `content`."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.size = int(params()["size"])
        self.rng = random.Random(int(params()["seed"]))
        self.content = bytearray(self.size)
        self.masters = {name: AxiMaster(AxiBus.from_prefix(dut, f"{name}_"), dut.clk, dut.rst) for name in MASTERS}

    async def start(self, stall: float) -> None:
        """Reset, then masters that stall with probability `stall`."""
        await clock.start(self.dut, 4)
        for master in self.masters.values():
            write, read = master.write_if, master.read_if
            for channel in (
                write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel,
            ):  # fmt: skip
                channel.set_pause_generator(self.pauses(stall))
            cocotb.start_soon(self.watch("r", ("data", "resp", "last", "id")))
            cocotb.start_soon(self.watch("b", ("resp", "id")))
        if params().get("undefined"):
            self.content = bytearray(self.rng.randbytes(self.size))
            await self.masters["npu"].write(0, bytes(self.content))

    def pauses(self, share: float) -> Iterator[bool]:
        """Pause in about `share` of the cycles."""
        rng = random.Random(self.rng.random())
        while True:
            yield rng.random() < share

    async def watch(self, channel: str, fields: tuple[str, ...]) -> None:
        """A response on offer stays as it is until it is taken."""
        for name in MASTERS:
            cocotb.start_soon(self._watch_one(f"{name}__{channel}", fields))

    async def _watch_one(self, prefix: str, fields: tuple[str, ...]) -> None:
        valid, ready = (getattr(self.dut, f"{prefix}{end}") for end in ("valid", "ready"))
        payload = [getattr(self.dut, prefix + field) for field in fields]
        offered = None
        while True:
            await RisingEdge(self.dut.clk)
            now = [str(part.value) for part in payload] if valid.value else None
            assert offered is None or now == offered, f"{prefix} changed before it was taken"
            offered = now if now is not None and not ready.value else None

    async def work(self, name: str, first: int, last: int, count: int) -> None:
        """Random writes and reads of a master in its part of the memory."""
        rng, master = random.Random(self.rng.random()), self.masters[name]
        for _ in range(count):
            length = rng.choice((1, 4, rng.randrange(1, 64), rng.randrange(1, 700)))
            start = rng.randrange(first, last - length)
            if rng.random() < 0.5:
                data = rng.randbytes(length)
                result = await master.write(start, data)
                assert result.resp == AxiResp.OKAY
                self.content[start : start + length] = data
            else:
                result = await master.read(start, length)
                assert result.resp == AxiResp.OKAY
                assert result.data == self.content[start : start + length], f"{name} read {length} from {start:#x}"


@cocotb.test()
async def test_both_masters_see_their_bytes(dut: Any) -> None:
    """Each master in its half, both at once, without and with stalls; then each reads the other's half."""
    bench = Bench(dut)
    for stall in (0.0, 0.35):
        await bench.start(stall)
        half = bench.size // 2
        tasks = [
            cocotb.start_soon(bench.work("npu", 0, half, 40)),
            cocotb.start_soon(bench.work("link", half, bench.size, 40)),
        ]
        await Combine(*tasks)
        await bench.work("link", 0, half, 8)
        await bench.work("npu", half, bench.size, 8)
        return_at_end = (await bench.masters["npu"].read(0, bench.size)).data
        assert return_at_end == bench.content


@cocotb.test()
async def test_addresses_beyond_the_memory_are_refused(dut: Any) -> None:
    """DECERR for reads and writes, among good ones; nothing is changed."""
    bench = Bench(dut)
    await bench.start(0.2)
    data = bench.rng.randbytes(256)
    for name, master in bench.masters.items():
        await master.write(0x100, data)
        for address in (bench.size, bench.size + 0x100, 2 * bench.size + 0x100, 0x8000_0100, 0xFFFF_FF00):
            write = cocotb.start_soon(master.write(address, bytes(64)))
            read = await master.read(address, 64)
            assert read.resp == AxiResp.DECERR, f"{name} read {address:#x}"
            await write
            assert write.result().resp == AxiResp.DECERR, f"{name} wrote {address:#x}"
            good = await master.read(0x100, len(data))
            assert (good.resp, good.data) == (AxiResp.OKAY, data)


@cocotb.test()
async def test_a_burst_moves_a_beat_a_cycle(dut: Any) -> None:
    """Reads and writes of long bursts, nobody stalling; the link's word among them waits for no more than one burst."""
    bench = Bench(dut)
    await bench.start(0.0)
    size, beats = 4096, 4096 // int(params()["bus_bytes"])
    master = bench.masters["npu"]
    times = []
    for access in (master.write(0, bench.rng.randbytes(size)), master.read(0, size)):
        begun = cocotb.utils.get_sim_time("ns")
        other = cocotb.start_soon(bench.masters["link"].read(size, 4))
        await access
        await other
        times.append((cocotb.utils.get_sim_time("ns") - begun) / clock.PERIOD_NS)
    bursts = -(-beats // 256)
    assert max(times) < beats + 30 * bursts, f"{times} cycles for {beats} beats"
