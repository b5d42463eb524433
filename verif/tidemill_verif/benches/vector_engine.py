"""Bench of the vector engine: random programs against the golden functions, faults, and cycle counts."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tidemill.config import preset
from tidemill.csr import Cause
from tidemill.isa import ACC_SPACE, OPS, Post, RequantMode, encode
from tidemill_verif.agents.clock import reset, start
from tidemill_verif.agents.streams import StreamSource
from tidemill_verif.benches import params
from tidemill_verif.benches.vector_models import LocalRange, PortedMemory, Reference
from tidemill_verif.coverage.sampling import vector as coverage

_ALU = [op.mnemonic for op in OPS if op.combine is not None]
_TABLE = np.zeros(256, np.int32)
"""The look-up table of the one design that all tests of a simulation use."""
_PORTS = ("a_spad", "b_spad", "a_acc", "b_acc", "spad_w", "acc_w")
_LIMIT = 10_000
"""Cycles after which an instruction counts as hung."""


class Bench:
    """The design with its memories and the reference."""

    def __init__(self, dut: Any, name: str, stall: float) -> None:
        self.dut = dut
        self.config = preset(params()["preset"])
        self.rng = random.Random(f"{params()['seed']}/{name}")
        self.pc = self.rng.randrange(1 << 20)
        self.rows_seen = self.progress_seen = 0
        numbers = np.random.default_rng(self.rng.getrandbits(32))
        config = self.config
        spad = numbers.integers(-128, 128, (config.spad_rows, config.rows), dtype=np.int8)
        wide = numbers.integers(-(1 << 31), 1 << 31, (config.acc_rows, config.cols), dtype=np.int64)
        # Half of the lanes are small numbers, so that int8 results are not all saturated.
        acc = np.where(numbers.random(wide.shape) < 0.5, wide, wide >> 21).astype(np.int32)
        corners = numbers.choice([-(1 << 31), -1, 0, 1, (1 << 31) - 1], wide.shape).astype(np.int32)
        acc = np.where(numbers.random(wide.shape) < 0.2, corners, acc)
        self.reference = Reference(config, spad.copy(), acc.copy(), _TABLE)
        seed = self.rng.getrandbits(32)
        self.spad = PortedMemory(dut, spad, ("a_spad", "b_spad"), "spad_w", seed=seed, stall=stall)
        self.acc = PortedMemory(dut, acc, ("a_acc", "b_acc"), "acc_w", seed=seed, stall=stall)
        self.source = StreamSource(dut, "instr", seed=seed, stall=stall)
        coverage.watch(dut)
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        """Count the events; behind a fault nothing moves."""
        dut = self.dut
        offers = [getattr(dut, f"{port}__req__valid") for port in _PORTS]
        quiet = fresh = False
        while True:
            await RisingEdge(dut.clk)
            if fresh and not dut.rst.value:
                for name in ("done__valid", "fault__valid", "row", *(f"{port}__req__valid" for port in _PORTS)):
                    assert not getattr(dut, name).value, f"{name} after a reset"
            fresh = bool(dut.rst.value)
            row, progress = bool(dut.row.value), bool(dut.progress.value)
            assert progress or not row, "a row without progress"
            assert not (quiet and progress), "progress without an instruction or after a fault"
            self.rows_seen += row
            self.progress_seen += progress
            ended = bool(dut.fault__valid.value or dut.done__valid.value)
            quiet = ended or bool(dut.rst.value)
            if ended:
                assert not any(offer.value for offer in offers), "an access after the end of an instruction"

    async def run(self, mnemonic: str, **values: int) -> int:
        """Execute one instruction on both sides and compare everything; the cycles it took."""
        signal = self.rng.choice((0, 0xFFFF, 1 << self.rng.randrange(16), self.rng.getrandbits(16)))
        word = encode(mnemonic, wait=self.rng.getrandbits(16), signal=signal, **values)
        fault = None
        before = (self.rows_seen, self.progress_seen, self.reference.points)
        try:
            self.reference.execute(word)
        except LocalRange as error:
            fault = error.row
        self.pc = (self.pc + 0x5B_D1E9) & 0xFF_FFFF
        self.source.put(self.pc << 128 | word)
        cycles, context = 0, f"{mnemonic} {values} {self.reference}"
        while not self.dut.done__valid.value and not self.dut.fault__valid.value:
            await RisingEdge(self.dut.clk)
            cycles += 1
            assert cycles < _LIMIT, f"hangs: {context}"
        if fault is None:
            assert self.dut.done__valid.value, f"fault {self.dut.fault__info.value.to_signed()}: {context}"
            assert int(self.dut.done__signal.value) == signal
        else:
            await self._check_fault(fault, context)
        for name, got, expected in (
            ("spad", self.spad.rows, self.reference.spad),
            ("acc", self.acc.rows, self.reference.acc),
        ):
            rows = np.flatnonzero((got != expected).any(axis=1))
            assert not rows.size, f"{name}[{rows[:8]}] is {got[rows[:2]]}, golden {expected[rows[:2]]}: {context}"
        await RisingEdge(self.dut.clk)
        after = (self.rows_seen, self.progress_seen, self.reference.points)
        counted, progress, points = (now - then for now, then in zip(after, before, strict=True))
        assert counted == points, f"{counted} rows counted, not {points}: {context}"
        # A point moves twice, at its issue and into the ALU, and may give a result or be loaded.
        assert points + (points > 0) <= progress <= 3 * points, f"{progress} cycles of progress: {context}"
        return cycles

    async def _check_fault(self, row: int, context: str) -> None:
        """The fault is right, stays, and nothing is reported as done; the design is then reset."""
        for _ in range(30):
            assert self.dut.fault__valid.value, f"no fault for row {row}: {context}"
            assert not self.dut.done__valid.value, f"done after a fault for row {row}: {context}"
            assert int(self.dut.fault__cause.value) == Cause.LOCAL_RANGE
            assert int(self.dut.fault__pc.value) == self.pc
            assert self.dut.fault__info.value.to_signed() == row, context
            await RisingEdge(self.dut.clk)
        self.reference.reset()
        await reset(self.dut)

    def region(self, acc: bool, upper: bool) -> tuple[int, int]:
        """First row and length of the half of a memory that holds operands (lower) or destinations (upper)."""
        half = (self.config.acc_rows if acc else self.config.spad_rows) // 2
        return half * upper, half

    def place(self, acc: bool, upper: bool, counts: list[int], bound: int = 3) -> tuple[int, list[int]]:
        """A base address and strides for `counts`, so that every row stays in its region."""
        low, size = self.region(acc, upper)
        strides = [self.rng.randint(-bound, bound) for _ in counts]
        ends = [stride * (count - 1) for stride, count in zip(strides, counts, strict=True)]
        first = low - sum(min(end, 0) for end in ends)
        last = low + size - 1 - sum(max(end, 0) for end in ends)
        # Often at the very edge of the memory.
        base = last if upper and self.rng.random() < 0.2 else self.rng.randint(first, last)
        return base | (ACC_SPACE if acc else 0), strides

    async def configure(self, n: list[int], k: list[int], d: list[int], a: list[int], b: list[int]) -> None:
        """vx.dims and the operands' strides (n0, n1, k0, k1 each)."""
        await self.run("vx.dims", n0=n[0], n1=n[1], k0=k[0], k1=k[1], d0=d[0], d1=d[1])
        for name, strides in (("vx.astride", a), ("vx.bstride", b)):
            await self.run(name, n0=strides[0], n1=strides[1], k0=strides[2], k1=strides[3])

    async def parameters(self) -> None:
        """Random requantization or table state."""
        rng, config = self.rng, self.config
        low, high = rng.choice(((-128, 127), (0, 6), (rng.randint(-128, 127), rng.randint(-128, 127))))
        await self.run(
            "vx.quant",
            zero_point=rng.randint(-128, 127),
            qmin=low,
            qmax=high,
            preshift=rng.choice((0, 0, rng.randint(0, 31))),
            mode=rng.choice(list(RequantMode)),
        )
        base = rng.randrange(config.acc_rows // 2)
        multipliers = [rng.getrandbits(30) | 1 << 30 for _ in range(config.cols)]
        shifts = [rng.randint(-24, -6) & 0xFF for _ in range(config.cols)]
        for memory in (self.acc.rows, self.reference.acc):
            memory[base] >>= 12
            memory[base + 1] = multipliers
            memory[base + 2] = shifts
        await self.run("vx.param", src=ACC_SPACE | base)
        if rng.random() < 0.5:
            await self.run("vx.lut", src=ACC_SPACE | rng.randrange(config.acc_rows // 2))

    async def random_operation(self, mnemonic: str, post: Post) -> None:
        """Configuration and one operation of random shape, spaces and window; sometimes in place."""
        rng = self.rng
        n = [rng.choice((1, rng.randint(1, 9))), rng.randint(1, 3)]
        k = [rng.choice((1, rng.randint(1, 4))), rng.choice((1, rng.randint(1, 3)))]
        a_acc, b_acc, d_acc = (rng.random() < 0.5 for _ in range(3))
        a, a_strides = self.place(a_acc, False, n + k)
        b, b_strides = self.place(b_acc, False, n + k)
        dst, d_strides = self.place(d_acc, True, n)
        if rng.random() < 0.2:
            k = [1, 1]
            a_strides = [rng.choice((1, 2)), 40, 0, 0]
            low, size = self.region(a_acc, True)
            a = rng.randint(low, low + size - 1 - 8 * a_strides[0] - 2 * 40) | (ACC_SPACE if a_acc else 0)
            dst, d_strides = a, a_strides[:2]
        await self.configure(n, k, d_strides, a_strides, b_strides)
        if rng.random() < 0.2:
            await self.parameters()  # an operation right behind a load
        immediate = rng.random() < 0.3
        number = rng.choice((rng.randint(-32768, 32767), rng.randint(-4, 4), -32768, 32767))
        await self.run(mnemonic, dst=dst, a=a, b=number if immediate else b, b_imm=int(immediate), post=post)


@cocotb.test()
async def test_every_operation_with_every_post_and_window(dut: Any) -> None:
    """Each operation, post step and destination; each with windows of one row, of one line and of two."""
    bench = Bench(dut, "each", 0.0)
    await start(dut)
    await bench.parameters()
    lanes = bench.config.cols
    for memory in (bench.acc.rows, bench.reference.acc):
        memory[60] = np.resize([-(1 << 31), (1 << 31) - 1, -1, 1], lanes)
        memory[61] = np.resize([0, -5, 5, 0], lanes)
    for mnemonic in _ALU:
        for post in Post:
            for space in (0, ACC_SPACE):
                await bench.run(mnemonic, dst=space | 5, a=3, b=ACC_SPACE | 4, post=post)
        for a, b in ((60, 61), (61, 60), (60, 60)):
            await bench.run(mnemonic, dst=ACC_SPACE | 62, a=ACC_SPACE | a, b=ACC_SPACE | b)
        await bench.run(mnemonic, dst=6, a=3, b=-7, b_imm=1)
    for window in ([1, 1], [2, 1], [1, 2], [3, 2]):
        await bench.configure([2, 1], window, [1, 0], [1, 0, 1, 7], [2, 0, 3, 5])
        for mnemonic in _ALU:
            await bench.run(mnemonic, dst=200, a=ACC_SPACE | 3, b=4)


@cocotb.test()
async def test_the_row_next_to_each_memory_faults(dut: Any) -> None:
    """The second point of each operand leaves its memory at the first and at the last row."""
    bench = Bench(dut, "ends", 0.2)
    await start(dut)
    for operand in ("a", "b", "dst"):
        for space, rows in ((0, bench.config.spad_rows), (ACC_SPACE, bench.config.acc_rows)):
            for step, row in ((-1, 0), (1, rows - 1)):
                a, b, d = ([step if operand == name else 0, 0, 0, 0] for name in ("a", "b", "dst"))
                await bench.configure([2, 1], [1, 1], d[:2], a, b)
                await bench.run("vx.add", **{"dst": 21, "a": 22, "b": 23, operand: space | row})


@cocotb.test()
async def test_instructions_wait_in_order(dut: Any) -> None:
    """Instructions that are offered while the engine works are done one after another."""
    bench = Bench(dut, "queue", 0.2)
    await start(dut)
    signals = [bench.rng.getrandbits(16) for _ in range(40)]
    for number, signal in enumerate(signals):
        word = encode("vx.add", signal=signal, dst=300 + number, a=ACC_SPACE | number, b=number, post=Post.NONE)
        bench.reference.execute(word)
        bench.source.put(word)
    for signal in signals:
        while not dut.done__valid.value:
            await RisingEdge(dut.clk)
        assert int(dut.done__signal.value) == signal
        await RisingEdge(dut.clk)
    assert np.array_equal(bench.spad.rows, bench.reference.spad)


@cocotb.test()
async def test_parameters_start_as_zero(dut: Any) -> None:
    """Requantization with power-up configuration, and again after a reset, gives what zero parameters give."""
    bench = Bench(dut, "zero", 0.4)
    await start(dut)
    for _ in range(2):
        await bench.run("vx.add", dst=9, a=3, b=5, post=Post.RQ)
        await bench.run("vx.add", dst=ACC_SPACE | 9, a=ACC_SPACE | 3, b=5, b_imm=1, post=Post.RQ)
        await bench.parameters()
        await bench.run("vx.add", dst=9, a=3, b=5, post=Post.RQ)
        await reset(dut)
        bench.reference.reset()


@cocotb.test()
async def test_rows_outside_fault(dut: Any) -> None:
    """A walk out of any operand's memory faults with its row, earlier points keep their effect."""
    bench = Bench(dut, "faults", 0.4)
    await start(dut)
    rng, config = bench.rng, bench.config
    for _ in range(params()["repeats"] * 40):
        n, k = [rng.randint(1, 6), rng.randint(1, 3)], [rng.randint(1, 3), rng.randint(1, 2)]
        spaces = [rng.random() < 0.5 for _ in range(3)]
        a, a_strides = bench.place(spaces[0], False, n + k)
        b, b_strides = bench.place(spaces[1], False, n + k)
        dst, d_strides = bench.place(spaces[2], True, n)
        wild = rng.choice((rng.randint(-4, 4), -32768, 32767, -5000, 5000))
        victim = rng.choice((a_strides, b_strides, d_strides))
        victim[rng.randrange(len(victim))] = wild
        if rng.random() < 0.3:
            rows = config.acc_rows if spaces[0] else config.spad_rows
            a = (a & ACC_SPACE) | rng.choice((0, rows - 1, min(rows, 32767), 32767))
        # A row that wandered into another operand's region would make the order of reads and writes matter.
        if _overlaps(n, k, (a, a_strides), (b, b_strides), (dst, d_strides)):
            continue
        await bench.configure(n, k, d_strides, a_strides, b_strides)
        await bench.run(rng.choice(_ALU), dst=dst, a=a, b=b, post=rng.choice(list(Post)))
    for mnemonic, source in (
        ("vx.param", 5),
        ("vx.param", ACC_SPACE | (config.acc_rows - 2)),
        ("vx.lut", ACC_SPACE | (config.acc_rows - 1)),
        ("vx.lut", 77),
    ):
        await bench.run(mnemonic, src=source)


def _overlaps(n: list[int], k: list[int], *operands: tuple[int, list[int]]) -> bool:
    """Whether a destination row may also be an operand row."""
    reach = []
    for base, strides in operands:
        counts = (n + k)[: len(strides)]
        ends = [stride * (count - 1) for stride, count in zip(strides, counts, strict=True)]
        row = base & ~ACC_SPACE
        reach.append((base & ACC_SPACE, row + sum(min(e, 0) for e in ends), row + sum(max(e, 0) for e in ends)))
    space, low, high = reach[2]
    return any(other == space and first <= high and low <= last for other, first, last in reach[:2])


@cocotb.test()
async def test_random_programs_equal_golden(dut: Any) -> None:
    """Every operation with every post, random shapes, windows, spaces and stalls; rows are counted."""
    bench = Bench(dut, "random", 0.4)
    await start(dut)
    for repeat in range(params()["repeats"]):
        pairs = [(mnemonic, post) for mnemonic in _ALU for post in Post]
        bench.rng.shuffle(pairs)
        for index, (mnemonic, post) in enumerate(pairs):
            if (index + repeat) % 3 == 0:
                await bench.parameters()
            await bench.random_operation(mnemonic, post)
            if index % 7 == 0:
                await bench.run("vx.sync")


@cocotb.test()
async def test_a_reset_forgets_what_is_under_way(dut: Any) -> None:
    """Operations stopped by a reset anywhere leave nothing to the next ones but what they wrote."""
    bench = Bench(dut, "resets", 0.2)
    await start(dut)
    for _ in range(params()["repeats"] * 8):
        await bench.parameters()
        post = bench.rng.choice(list(Post))
        word = encode(bench.rng.choice(_ALU), dst=ACC_SPACE | 400 if post is Post.RQ else 400, a=5, b=9, post=post)
        await bench.configure([6, 2], [2, 1], [1, 8], [1, 6, 1, 0], [1, 2, 0, 0])
        bench.source.put(bench.pc << 128 | word)
        for _ in range(bench.rng.randint(1, 60)):
            await RisingEdge(dut.clk)
        bench.source.clear()
        await reset(dut, bench.rng.choice((1, 1, 3)))
        for _ in range(30):
            await RisingEdge(dut.clk)
            assert not dut.done__valid.value
        bench.reference.reset()
        bench.reference.spad[:], bench.reference.acc[:] = bench.spad.rows, bench.acc.rows
        for space in (0, ACC_SPACE):
            await bench.run("vx.add", dst=space | 200, a=ACC_SPACE | 3, b=4, post=bench.rng.choice(list(Post)))


@cocotb.test()
async def test_throughput(dut: Any) -> None:
    """Without stalls: one row a cycle without post, cols / requant_lanes cycles a row with it, small overhead."""
    bench = Bench(dut, "throughput", 0.0)
    await start(dut)
    few, count = 40, 100
    groups = bench.config.cols // bench.config.requant_lanes
    for post in Post:
        for space in (0, ACC_SPACE):
            values = {"dst": space | 250 if space else 300, "a": space, "b": space | 120, "post": post}
            cycles = {}
            for rows in (few, count):
                await bench.configure([rows, 1], [1, 1], [1, 0], [1, 0, 0, 0], [1, 0, 0, 0])
                cycles[rows] = await bench.run("vx.add", **values)
            each = 1 if post is Post.NONE else groups
            dut._log.info("%s: %d cycles for %d rows", post.name, cycles[count], count)
            assert cycles[count] - cycles[few] == (count - few) * each, f"{post.name}: {cycles}"
            assert cycles[count] <= count * each + (24 if post is Post.NONE else 48 + groups), post.name
    await bench.run("vx.dims")
    single = await bench.run("vx.add", dst=300, a=1, b=2)
    configuration = await bench.run("vx.sync")
    dut._log.info("one row: %d cycles, configuration: %d cycles", single, configuration)
    assert single <= 23
    assert configuration == 3


@cocotb.test()
async def test_operands_at_their_limits(dut: Any) -> None:
    """The largest counts, the extreme strides of loops that run once, and the first and last rows."""
    bench = Bench(dut, "limits", 0.0)
    await start(dut)
    spad_last, acc_last = bench.config.spad_rows - 1, ACC_SPACE + bench.config.acc_rows - 1
    for index, (count, largest) in enumerate((("n0", 4095), ("n1", 4095), ("k0", 1023), ("k1", 1023))):
        await bench.run("vx.dims", **{count: largest})
        first, last = (ACC_SPACE, acc_last) if index % 2 else (0, spad_last)
        await bench.run("vx.add", dst=9, a=first, b=last)
        await bench.run("vx.add", dst=ACC_SPACE | 9, a=last, b=first)
    for extreme in (-32768, -1, 0, 1, 32767):
        strides = dict.fromkeys(("n0", "n1", "k0", "k1"), extreme)
        await bench.run("vx.dims", d0=extreme, d1=extreme)
        await bench.run("vx.astride", **strides)
        await bench.run("vx.bstride", **strides)
        await bench.run("vx.sub", dst=3, a=ACC_SPACE + 3, b=4)
    for low, high in ((-128, -128), (127, 127), (0, -1), (-1, 0)):
        for preshift, zero in ((0, -128), (31, 127), (4, -1), (1, 0)):
            await bench.run("vx.quant", zero_point=zero, qmin=low, qmax=high, preshift=preshift, mode=preshift % 3)
            await bench.run("vx.add", dst=3, a=ACC_SPACE + 3, b=4, post=Post.RQ)
    for mnemonic in _ALU:
        for address in (0, spad_last, ACC_SPACE, acc_last):
            await bench.run(mnemonic, dst=address, a=address, b=address)
        for number in (-32768, -1, 0, 1, 32767):
            await bench.run(mnemonic, dst=5, a=ACC_SPACE + 3, b=number, b_imm=1)
    for mnemonic in _ALU:
        # The largest address: a row that no memory has.
        for field in ("dst", "a", "b"):
            await bench.run(mnemonic, **{"dst": 1, "a": 2, "b": 3, field: 0xFFFF})
    for mnemonic, rows in (("vx.param", 3), ("vx.lut", 256 // bench.config.cols)):
        for address in (ACC_SPACE, acc_last - rows + 1, 0, 0xFFFF):
            await bench.run(mnemonic, src=address)
