"""Bench of the AXI4 gateway with an independent AXI memory behind it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from itertools import cycle, pairwise
from random import Random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.handle import SimHandleBase
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiRam
from cocotbext.axi.axi_channels import AxiBTransaction, AxiRTransaction

from tidemill.config import Config, preset
from tidemill_verif.agents.axi_monitors import watch
from tidemill_verif.agents.axi_rules import Limits
from tidemill_verif.agents.ports import put, value
from tidemill_verif.benches import params
from tidemill_verif.coverage.sampling import dma as coverage

SIZE = 1 << 16
BURSTS = 32
"""Read bursts that the gateway keeps in flight, whoever asks."""
FETCHES = 2
"""Fetch bursts among them."""


OFFERS = (
    "fetch__cmd__ready", "load__cmd__ready", "store__cmd__ready", "store__beat__ready", "store__resp__valid"
)  # fmt: skip
"""What the clients see of a gateway that takes and gives nothing."""


class ReadClient:
    """Issues random bursts and checks the beats against `memory`; may stop taking beats for a while."""

    def __init__(self, dut: SimHandleBase, name: str, config: Config, memory: bytes, rng: Random, stall: float) -> None:
        self.dut, self.name, self.config, self.memory, self.rng, self.stall = dut, name, config, memory, rng, stall
        self.reset()
        self.taken: deque[tuple[int, int]] = deque()
        """Bursts that the gateway took and has not issued."""
        self.enabled = True
        self.lengths: tuple[int, ...] = (1, 2, config.max_burst, 0)
        self.total = self.errors = 0
        self.error_response = 0

    def reset(self) -> None:
        """Forgets everything, as an engine does on reset."""
        self.expected: deque[int] = deque()
        self.command: tuple[int, int] | None = None
        self.ready = False

    @property
    def busy(self) -> bool:
        """Whether something has been asked for and is not here."""
        return bool(self.command or self.expected)

    def sample(self) -> None:
        width = self.config.axi_bytes
        if self.ready and value(self.dut, f"{self.name}__beat__valid"):
            payload = value(self.dut, f"{self.name}__beat__payload")
            data, resp = payload & ((1 << 8 * width) - 1), payload >> 8 * width
            want = self.expected.popleft()
            assert data == want, f"{self.name}: beat {data:#x}, expected {want:#x}"
            assert resp in (0, self.error_response)
            self.errors += resp != 0
            self.total += 1
        if self.command and value(self.dut, f"{self.name}__cmd__ready"):
            addr, beats = self.command
            for at in range(addr % SIZE, addr % SIZE + beats * width, width):
                self.expected.append(int.from_bytes(self.memory[at : at + width], "little"))
            self.taken.append(self.command)
            self.command = None

    def drive(self) -> None:
        width, rng = self.config.axi_bytes, self.rng
        if self.command is None and self.enabled and rng.random() >= self.stall:
            beats = rng.choice(self.lengths) or rng.randint(1, self.config.max_burst)
            addr = rng.randrange(0, SIZE // 2, width)
            beats = min(beats, (4096 - addr % 4096) // width)
            self.command = (addr + rng.randrange(0, 1 << 32, SIZE), beats)
        put(self.dut, f"{self.name}__cmd__valid", self.command is not None)
        if self.command:
            put(self.dut, f"{self.name}__cmd__payload", self.command[0] | (self.command[1] - 1) << 32)
        self.ready = rng.random() >= self.stall
        put(self.dut, f"{self.name}__beat__ready", self.ready)


class WriteClient:
    """Writes random bursts into the upper half of the memory; `image` is what must be there."""

    def __init__(self, dut: SimHandleBase, config: Config, image: bytearray, rng: Random, stall: float) -> None:
        self.dut, self.config, self.image, self.rng, self.stall = dut, config, image, rng, stall
        self.enabled, self.stuck = True, False
        self.most = config.max_outstanding
        """Bursts that the client has unanswered."""
        self.total = self.errors = 0
        self.error_response = 0
        self.taken: deque[tuple[int, int]] = deque()
        """Bursts that the gateway took and has not issued."""
        self.lengths: tuple[int, ...] = (1, 2, config.max_burst, 0)
        self.reset()

    def reset(self) -> None:
        """Forgets everything, as an engine does on reset."""
        self.command: tuple[int, int] | None = None
        self.beats: deque[tuple[int, int]] = deque()
        self.unanswered = 0
        self.beat: tuple[int, int] | None = None
        self.ready = False

    @property
    def busy(self) -> bool:
        """Whether something has been asked for and is not answered."""
        return bool(self.command or self.unanswered)

    def sample(self) -> None:
        width = self.config.axi_bytes
        if self.ready and value(self.dut, "store__resp__valid"):
            self.unanswered -= 1
            assert self.unanswered >= 0, "response without burst"
            resp = value(self.dut, "store__resp__payload")
            assert resp in (0, self.error_response)
            self.errors += resp != 0
            self.total += 1
        if self.beat and value(self.dut, "store__beat__ready"):
            addr, data = self.beat
            self.image[addr : addr + width] = data.to_bytes(width, "little")
            self.beat = None
        if self.command and value(self.dut, "store__cmd__ready"):
            addr, beats = self.command
            for at in range(addr % SIZE, addr % SIZE + beats * width, width):
                self.beats.append((at, self.rng.getrandbits(8 * width)))
            self.taken.append(self.command)
            self.command = None
            self.unanswered += 1

    def drive(self) -> None:
        width, rng = self.config.axi_bytes, self.rng
        room = self.unanswered + (self.command is not None) < self.most
        if self.command is None and self.enabled and room and rng.random() >= self.stall:
            beats = rng.choice(self.lengths) or rng.randint(1, self.config.max_burst)
            addr = rng.randrange(SIZE // 2, SIZE, width)
            self.command = (addr + rng.randrange(0, 1 << 32, SIZE), min(beats, (4096 - addr % 4096) // width))
        put(self.dut, "store__cmd__valid", self.command is not None)
        if self.command:
            put(self.dut, "store__cmd__payload", self.command[0] | (self.command[1] - 1) << 32)
        if self.beat is None and self.beats and rng.random() >= self.stall:
            self.beat = self.beats.popleft()
        put(self.dut, "store__beat__valid", self.beat is not None)
        if self.beat:
            put(self.dut, "store__beat__payload", self.beat[1])
        self.ready = not self.stuck and rng.random() >= self.stall
        put(self.dut, "store__resp__ready", self.ready)


class Bench:
    """The gateway, its three clients, the AXI memory and the rules of the bus."""

    def __init__(self, dut: SimHandleBase, rng: Random) -> None:
        self.dut, self.rng = dut, rng
        self.config = preset(params()["preset"])
        Clock(dut.clk, 10, unit="ns").start()
        self.drains = coverage.watch_gateway(dut)
        self.image = bytearray(rng.randbytes(SIZE))
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi_"), dut.clk, dut.rst, mem=bytearray(self.image))
        for side in (self.ram.read_if, self.ram.write_if):
            side.log.setLevel(logging.WARNING)
        stalls = [rng.choice((0.0, 0.1, 0.5)) for _ in range(3)]
        self.fetch = ReadClient(dut, "fetch", self.config, bytes(self.image), rng, stalls[0])
        self.load = ReadClient(dut, "load", self.config, bytes(self.image), rng, stalls[1])
        self.store = WriteClient(dut, self.config, self.image, rng, stalls[2])
        self.clients = (self.fetch, self.load, self.store)
        limits = Limits.of(self.config)
        limits.has_registers, limits.load_bursts, limits.write_bursts = 0, BURSTS, BURSTS
        watch(dut, limits, lite=None)
        self.moves = dict.fromkeys(("ar", "aw", "w", "r", "b"), 0)
        self.moved: list[str] = []
        self.asked: list[int] = []
        self.quiescing = 0
        self.in_flight = 0
        self.ignoring = False
        self.quiet_cycles = 0

    def pause(self) -> None:
        """Random pauses on every channel of the memory."""
        for channel in (
            self.ram.read_if.ar_channel, self.ram.read_if.r_channel,
            self.ram.write_if.aw_channel, self.ram.write_if.w_channel, self.ram.write_if.b_channel,
        ):  # fmt: skip
            channel.set_pause_generator(self._pauses(self.rng.choice((0.0, 0.2, 0.6))))

    def _pauses(self, chance: float) -> Iterator[bool]:
        rng = Random(self.rng.getrandbits(32))
        while True:
            yield rng.random() < chance

    def count(self) -> None:
        """Notes the transfers of this cycle; every burst is the next that its client asked for."""
        self.moved = [
            channel
            for channel in self.moves
            if all(value(self.dut, f"m_axi__{channel}{name}") for name in ("valid", "ready"))
        ]
        for channel in self.moved:
            self.moves[channel] += 1
            if channel in ("ar", "aw"):
                client = self.store
                if channel == "ar":
                    self.asked.append(value(self.dut, "m_axi__arid"))
                    client = self.clients[self.asked[-1]]
                burst = value(self.dut, f"m_axi__{channel}addr"), value(self.dut, f"m_axi__{channel}len") + 1
                assert burst == client.taken.popleft(), f"{channel}: a burst that was not asked for"
                self.in_flight += 1
            self.in_flight -= channel == "b" or (channel == "r" and value(self.dut, "m_axi__rlast"))

    async def cycles(self, count: int) -> None:
        """Runs `count` cycles."""
        for _ in range(count):
            await RisingEdge(self.dut.clk)
            self.count()
            if value(self.dut, "quiet"):
                self.quiet_cycles += 1
                assert not self.in_flight, "quiet with bursts in flight"
            self.quiescing = (self.quiescing + 1) * value(self.dut, "quiesce")
            if self.quiescing > 1:
                assert not any(value(self.dut, name) for name in OFFERS), "a client is served while draining"
            for client in self.clients:
                if not self.ignoring:
                    client.sample()
                client.drive()

    async def start(self) -> None:
        """Reset."""
        put(self.dut, "quiesce", 0)
        put(self.dut, "rst", 1)
        for client in self.clients:
            client.enabled = False
            client.drive()
        await ClockCycles(self.dut.clk, 4)
        put(self.dut, "rst", 0)
        await ClockCycles(self.dut.clk, 4)
        for client in self.clients:
            client.enabled = True

    async def finish(self) -> None:
        """Lets everything under way end; then the memory must hold what was written."""
        for client in self.clients:
            client.enabled = False
        left = 6000
        while left and (self.in_flight or any(client.busy for client in self.clients)):
            await self.cycles(1)
            left -= 1
        await self.cycles(50)
        assert not self.in_flight
        assert not self.fetch.expected
        assert not self.load.expected
        assert not self.store.unanswered
        assert bytes(self.ram.read(0, SIZE)) == bytes(self.image), "memory differs"

    async def drain(self) -> int:
        """Quiesces, with the clients reset at once; returns the cycles until `quiet`."""
        put(self.dut, "quiesce", 1)
        self.drains()
        await self.cycles(1)  # the cycle in which quiesce rises: streams still count
        self.ignoring = True
        for client in self.clients:
            client.reset()
            client.enabled = False
            client.drive()
        cycles = 0
        while not value(self.dut, "quiet"):
            await self.cycles(1)
            cycles += 1
            assert cycles < 20_000, "never quiet"
        moves = dict(self.moves)
        await self.cycles(20)
        assert value(self.dut, "quiet")
        assert moves == self.moves, "the bus moved while quiet"
        put(self.dut, "quiesce", 0)
        await self.cycles(3)
        self.ignoring = False
        for client in self.clients:
            client.reset()
            client.taken.clear()
            client.enabled = True
        return cycles

    async def reset_in_flight(self) -> None:
        """Resets gateway, clients and memory together; what was under way is lost, in the memory's image too."""
        put(self.dut, "rst", 1)
        self.ignoring = True
        for client in self.clients:
            client.reset()
            client.taken.clear()
            client.enabled = False
            client.drive()
        await ClockCycles(self.dut.clk, 4)
        put(self.dut, "rst", 0)
        await ClockCycles(self.dut.clk, 4)
        self.in_flight = 0
        self.image[:] = self.ram.read(0, SIZE)
        self.ignoring = False
        for client in self.clients:
            client.enabled = True

    def only(self, *clients: ReadClient | WriteClient, lengths: tuple[int, ...] = (1,)) -> None:
        """Only `clients` ask for bursts from now on, without stalls, of one of `lengths` beats."""
        for client in self.clients:
            client.enabled, client.stall, client.lengths = client in clients, 0.0, lengths

    async def alone(self, client: ReadClient | WriteClient, beats: int, watched: dict[str, tuple[str, str]]) -> None:
        """One burst of `client`, after which nothing is under way. `watched`: names of a valid and a ready port;
        `self.seen` gets the cycles in which both were high."""
        self.only(client, lengths=(beats,))
        self.seen: dict[str, list[int]] = {name: [] for name in watched}
        for now in range(60 + 3 * beats):
            await self.cycles(1)
            client.enabled = False
            for name, ports in watched.items():
                if all(value(self.dut, port) for port in ports):
                    self.seen[name].append(now)


@cocotb.test()
async def test_fetch_and_load_alternate(dut: SimHandleBase) -> None:
    """Where both wait for the address channel each gets every other burst."""
    bench = Bench(dut, Random(params()["seed"]))
    await bench.start()
    bench.ram.read_if.ar_channel.set_pause_generator(cycle([True] * 5 + [False]))
    bench.only(bench.fetch, bench.load)
    await bench.cycles(400)
    pairs = list(pairwise(bench.asked[2:]))
    assert len(pairs) > 40
    assert all(first != second for first, second in pairs)
    await bench.finish()


@cocotb.test()
async def test_latency(dut: SimHandleBase) -> None:
    """Commands and beats pass in the cycles that the contract names, one beat a cycle."""
    bench = Bench(dut, Random(params()["seed"]))
    await bench.start()
    beats = bench.config.max_burst
    for client in (bench.fetch, bench.load):
        await bench.alone(client, beats, {
            "command": (f"{client.name}__cmd__valid", f"{client.name}__cmd__ready"),
            "address": ("m_axi__arvalid", "m_axi__arready"),
            "bus": ("m_axi__rvalid", "m_axi__rready"),
            "beat": (f"{client.name}__beat__valid", f"{client.name}__beat__ready"),
        })  # fmt: skip
        seen = bench.seen
        assert seen["address"] == [seen["command"][0] + 2]
        assert seen["beat"] == [now + 2 for now in seen["bus"]]
        assert len(seen["beat"]) == beats
    await bench.alone(bench.store, beats, {
        "command": ("store__cmd__valid", "store__cmd__ready"),
        "address": ("m_axi__awvalid", "m_axi__awready"),
        "beat": ("store__beat__valid", "store__beat__ready"),
        "bus": ("m_axi__wvalid", "m_axi__wready"),
    })  # fmt: skip
    seen = bench.seen
    assert seen["address"] == [seen["command"][0] + 1]
    assert seen["bus"] == [now + 2 for now in seen["beat"]]
    assert seen["beat"] == list(range(seen["beat"][0], seen["beat"][0] + beats))
    await bench.finish()


@cocotb.test()
@cocotb.parametrize(extra=range(3))
async def test_random_traffic(dut: SimHandleBase, extra: int) -> None:
    """All clients at once with random pauses everywhere: every beat right, in order, memory right."""
    bench = Bench(dut, Random(params()["seed"] * 10 + extra))
    await bench.start()
    bench.pause()
    bench.store.most = BURSTS if extra else bench.config.max_outstanding
    await bench.cycles(3000)
    await bench.finish()
    assert min(client.total for client in bench.clients) > 20
    assert bench.quiet_cycles == 0


@cocotb.test()
@cocotb.parametrize(extra=range(3))
async def test_quiesce(dut: SimHandleBase, extra: int) -> None:
    """Draining in the middle of traffic ends, keeps the AXI rules, writes nothing foreign, and leaves no trace."""
    rng = Random(params()["seed"] * 10 + extra + 5)
    bench = Bench(dut, rng)
    await bench.start()
    bench.pause()
    longest = 0
    for _ in range(18):
        await bench.cycles(rng.randint(1, 150))
        longest = max(longest, await bench.drain())
        assert bytes(bench.ram.read(0, SIZE)) == bytes(bench.image), "draining wrote something foreign"
    await bench.cycles(1000)
    await bench.finish()
    dut._log.info("longest drain %d cycles", longest)


@cocotb.test()
async def test_reset_in_flight(dut: SimHandleBase) -> None:
    """A reset in the middle of traffic leaves nothing of it."""
    rng = Random(params()["seed"] + 8)
    bench = Bench(dut, rng)
    await bench.start()
    bench.pause()
    bench.store.most = BURSTS
    for number in range(12):
        await bench.cycles(rng.randint(20, 120))
        if number % 3 == 0:
            put(dut, "quiesce", 1)
            bench.ignoring = True
            await bench.cycles(rng.randint(1, 4))
            put(dut, "quiesce", 0)
        await bench.reset_in_flight()
    await bench.cycles(300)
    await bench.finish()


@cocotb.test()
async def test_bursts_in_flight(dut: SimHandleBase) -> None:
    """With a memory that never answers each side issues as many bursts as its contract says, and goes on after; then
    nothing is left of them."""
    bench = Bench(dut, Random(params()["seed"] + 9))
    await bench.start()
    for channel in (bench.ram.read_if.ar_channel, bench.ram.write_if.aw_channel, bench.ram.write_if.w_channel):
        channel.queue_occupancy_limit = -1
    bench.store.most = 2 * BURSTS
    for client, beats, most in (
        (bench.fetch, 1, FETCHES),
        (bench.fetch, bench.config.max_burst, FETCHES),
        (bench.load, 2, BURSTS),
        (bench.store, 1, BURSTS),
    ):
        for channel in (bench.ram.read_if.r_channel, bench.ram.write_if.b_channel):
            channel.pause = True
        before = bench.moves["ar"] + bench.moves["aw"]
        bench.only(client, lengths=(beats,))
        await bench.cycles(300)
        issued = bench.moves["ar"] + bench.moves["aw"] - before
        assert issued == most, f"{issued} bursts of {beats} beats, expected {most}"
        for channel in (bench.ram.read_if.r_channel, bench.ram.write_if.b_channel):
            channel.pause = False
        await bench.cycles(200)
        await bench.finish()
        await bench.drain()
    for waiting in (300, 301):
        before = bench.moves["aw"]
        bench.store.stuck = True
        bench.only(bench.store)
        await bench.cycles(waiting)
        assert bench.moves["aw"] - before == BURSTS
        bench.store.stuck = False
        await bench.finish()
        await bench.drain()


@cocotb.test()
async def test_error_responses(dut: SimHandleBase) -> None:
    """SLVERR and DECERR reach the client that asked, on reads and on writes."""
    bench = Bench(dut, Random(params()["seed"]))
    for response in (2, 3):
        for channel, kind in (
            (bench.ram.read_if.r_channel, AxiRTransaction), (bench.ram.write_if.b_channel, AxiBTransaction)
        ):  # fmt: skip
            _corrupt(channel, kind, response)
        for client in bench.clients:
            client.error_response, client.errors, client.total = response, 0, 0
        await bench.start()
        await bench.cycles(800)
        await bench.finish()
        for client in bench.clients:
            assert client.errors == client.total > 5


def _corrupt(channel: Any, kind: type, response: int) -> None:
    """Makes every transaction that the memory sends on `channel` carry `response`."""
    name = "rresp" if kind is AxiRTransaction else "bresp"
    send = type(channel).send

    async def send_with_error(transaction: Any) -> None:
        setattr(transaction, name, response)
        await send(channel, transaction)

    channel.send = send_with_error


@cocotb.test()
async def test_throughput(dut: SimHandleBase) -> None:
    """Without stalls reads and writes move close to a beat a cycle."""
    bench = Bench(dut, Random(params()["seed"]))
    for client in bench.clients:
        client.stall = 0.0
    bench.fetch.enabled = False
    await bench.start()
    bench.fetch.enabled = False
    await bench.cycles(100)
    beats, acks = bench.load.total, bench.store.total
    await bench.cycles(1000)
    dut._log.info("1000 cycles: %d beats read, %d bursts written", bench.load.total - beats, bench.store.total - acks)
    assert bench.load.total - beats > 600
    await bench.finish()
