"""Bench of the frontend: random and directed programs against an interpreter made from `tidemill.isa` alone."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tidemill import isa
from tidemill.config import Config, preset
from tidemill.csr import Cause
from tidemill_verif.agents.clock import reset, start
from tidemill_verif.agents.streams import StreamSink, StreamSource
from tidemill_verif.benches import params
from tidemill_verif.benches.frontend_models import DECERR, SLVERR, Trace, interpret, random_block, random_engine_word
from tidemill_verif.coverage.collect import wanted
from tidemill_verif.coverage.sampling import frontend as coverage

_LEVELS = (
    *("halted", "user_irq", "user_code", "fault__valid", "pc", "instruction", "queue_full", "fetch_wait"),
    *("fetch__cmd__valid", *(f"instr__{i}__valid" for i in range(len(isa.ENGINES)))),
)
"""Outputs that are zero after a reset."""


class Events:
    """Checks pc, events and the end, cycle by cycle, from reset to reset."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.dut = machine, machine.dut
        self.blocked = False
        self.code = 0
        self.end: tuple[int, ...] | None = None
        self.beats = 0
        # Of the last edges, the newest last: instructions that arrived, the pc, whether the program runs.
        self.delivered = deque([0] * 7, maxlen=7)
        self.pcs = deque([0] * 2, maxlen=2)
        self.active = deque([False] * 7, maxlen=7)
        self.waited = False
        self.executed = False
        machine.ended_in = None
        self.first = True
        self.requested = 0
        self.still = 0

    def step(self, blocked: bool) -> None:
        """One cycle; `blocked`: an engine takes no instruction that is ready for it."""
        dut, machine = self.dut, self.machine
        path = machine.trace.path
        self.pcs.append(int(dut.pc.value))
        if self.first:
            for name in _LEVELS:
                assert not getattr(dut, name).value, f"{name} after a reset"
            self.first = False
        if path:
            expected = path[min(machine.executed, len(path) - 1)]
            assert self.pcs[-1] == expected, f"pc is {self.pcs[-1]} after {machine.executed}, not {expected}"
        assert bool(dut.queue_full.value) == self.blocked, "queue_full is not the blocked dispatch of the cycle before"
        self.blocked = blocked
        if dut.user_irq.value:
            self.code = int(dut.user_code.value)
        assert int(dut.user_code.value) == self.code, "user_code changed without user_irq"
        self._fetch_wait()
        self._end()
        self._fetch_ahead()

    def _fetch_wait(self) -> None:
        """Nothing arrived at the pc: a wait. The pipeline of 4 is filled, all arrived, or it executes: none.

        The event is two registers behind the beats; that all arrived is known two cycles later. The pc and the event
        of an execution come a cycle after that of a wait, so the wait of the cycle before is looked at. The cycle
        after an execution may not yet look for the right instruction.
        """
        dut, machine = self.dut, self.machine
        if dut.fetch__beat__valid.value:
            self.beats += 1
        self.delivered.append(self.beats * machine.config.axi_data_width // isa.INSTRUCTION_BITS)
        ended = bool(dut.halted.value or dut.fault__valid.value)
        self.active.append((self.active[-1] or bool(dut.start.value)) and not ended)
        wait, pc, arrived = self.waited, self.pcs[0], self.delivered[-5]
        self.waited = bool(dut.fetch_wait.value)
        length = machine.length
        complete = all(self.active) and self.delivered[0] == length
        if not self.active[-4] or dut.instruction.value or arrived >= pc + 5 or complete:
            assert not wait, f"fetch_wait at {pc}, {arrived} of {length} arrived"
        elif self.active[-3] and arrived <= pc and arrived < length and not self.executed:
            assert wait, f"no fetch_wait at {pc}, {arrived} of {length} arrived"
        self.executed = bool(dut.instruction.value)

    def _fetch_ahead(self) -> None:
        """Where nothing moves for some cycles no burst is missing: it would not fit behind what is still needed."""
        dut, machine = self.dut, self.machine
        offered = bool(dut.fetch__cmd__valid.value)
        if offered and dut.fetch__cmd__ready.value:
            beats = (int(dut.fetch__cmd__payload.value) >> 32) + 1
            self.requested += beats * machine.config.axi_data_width // isa.INSTRUCTION_BITS
        moved = offered or bool(dut.instruction.value) or not self.active[0]
        self.still = 0 if moved else self.still + 1
        if self.still >= 8 and self.active[-1] and self.requested < machine.length:
            floors = machine.trace.floors
            floor, looping = floors[min(machine.executed, len(floors) - 1)]
            room = floor + machine.config.ibuf_depth - self.requested
            whole = machine.whole_burst(self.requested)
            assert room < (1 if looping else whole), f"{self.requested} requested, {floor} needed, no burst of {whole}"

    def _end(self) -> None:
        """Halt and fault stay as they are."""
        dut = self.dut
        now = tuple(int(getattr(dut, name).value) for name in ("halted", "fault__valid"))
        if any(now):
            now += tuple(int(getattr(dut, f"fault__{name}").value) for name in ("cause", "pc", "info"))
            assert self.end in (None, now), f"the end changed from {self.end} to {now}"
            self.end = now
            self.machine.ended_in = self.machine.cycle
        else:
            assert self.end is None, "the end was taken back"


class Machine:
    """The frontend under test with an instruction memory and engines that only wait."""

    def __init__(self, dut: Any, config: Config, seed: int, stall: float) -> None:
        self.dut = dut
        self.config = config
        self.rng = random.Random(seed)
        self.words: list[int] = []
        self.length = 0
        self.bad: dict[int, int] = {}
        self.prog_addr = 0
        self.latency = 0
        self.busy_time = 0
        self.running: list[deque[int]] = [deque() for _ in isa.ENGINES]
        self.codes: list[int] = []
        self.executed = 0
        self.cycle = 0
        self.trace = Trace()
        self.ended_in: int | None = None
        self.late_commands = 0
        self.fetched: set[int] = set()
        self.sinks = [StreamSink(dut, f"instr__{i}", seed=seed, stall=stall) for i in range(len(isa.ENGINES))]
        self.commands = StreamSink(dut, "fetch__cmd", seed=seed, stall=stall)
        self.beats = StreamSource(dut, "fetch__beat", seed=seed, stall=stall)
        self.expected: deque[tuple[Any, ...]] = deque()
        dut.start.value = 0
        dut.idle.value = 15
        cocotb.start_soon(self._memory())
        cocotb.start_soon(self._watch())
        coverage.watch(dut)

    def whole_burst(self, index: int) -> int:
        """Instructions of the longest burst from instruction `index` on."""
        longest = max(1, min(16, self.config.max_burst * self.config.axi_bytes // 16))
        return min(longest - (self.prog_addr // 16 + index) % longest, self.length - index)

    async def _memory(self) -> None:
        """Answer fetch bursts; check that they obey the rules."""
        width = self.config.axi_data_width
        due: deque[tuple[int, int, int]] = deque()
        while True:
            await RisingEdge(self.dut.clk)
            if self.dut.rst.value:
                due.clear()
                self.commands.clear()
                self.beats.clear()
                self.late_commands = 0
                continue
            while self.commands.received:
                command = self.commands.received.popleft()
                addr, beats = command & 0xFFFFFFFF, (command >> 32) + 1
                first, count = (addr - self.prog_addr) // 16, beats * self.config.axi_bytes // 16
                assert (addr % 16, beats * self.config.axi_bytes) == (0, count * 16), "not whole instructions"
                assert addr // 4096 == (addr + 16 * count - 1) // 4096, "burst crosses 4 KiB"
                assert 0 <= first <= self.length - count, "fetch outside the program"
                assert beats <= max(self.config.max_burst, 16 // self.config.axi_bytes)
                assert addr // 256 == (addr + 16 * count - 1) // 256, "burst crosses 256 bytes"
                if not self.trace.looped:
                    whole = self.whole_burst(first)
                    assert count == whole, f"burst of {count} instructions instead of {whole}"
                if self.ended_in is not None:
                    self.late_commands += 1
                    assert self.late_commands <= 1, "the fetch goes on after the end"
                for index in range(first, first + count):
                    assert index not in self.fetched, f"instruction {index} fetched twice"
                    self.fetched.add(index)
                due.append((self.cycle + self.rng.randint(0, self.latency), first, count))
            if due and due[0][0] <= self.cycle:
                _, first, count = due.popleft()
                for index in range(first, first + count):
                    parts = 128 // width
                    broken = self.rng.randrange(parts)
                    word = self.words[index] if index < len(self.words) else 0
                    for part in range(parts):
                        # The first bad response counts; EXOKAY is none.
                        resp = self.rng.choice((0, 0, 1))
                        if index in self.bad and part >= broken:
                            resp = self.bad[index] if part == broken else self.rng.randrange(4)
                        self.beats.put(word >> (part * width) & ((1 << width) - 1) | resp << width)

    async def _watch(self) -> None:
        """Compare what comes out with the interpreter's list, and play the engines' idle lines."""
        dut = self.dut
        ports = [
            tuple(getattr(dut, f"instr__{i}__{part}") for part in ("valid", "ready", "payload"))
            for i in range(len(isa.ENGINES))
        ]
        lagging = [deque([True] * 3, maxlen=3) for _ in ports]
        events = Events(self)
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if dut.rst.value:
                for queue in self.running:
                    queue.clear()
                events = Events(self)
                continue
            assert sum(int(port[0].value) for port in ports) <= 1, "two engines addressed at once"
            self.executed += int(dut.instruction.value)
            if dut.user_irq.value:
                self.codes.append(int(dut.user_code.value))
            events.step(any(valid.value and not ready.value for valid, ready, _ in ports))
            for i, (valid, ready, payload) in enumerate(ports):
                if valid.value:
                    self._fences()
                if valid.value and ready.value:
                    bits = int(payload.value)
                    self._meet(("instr", i, bits & ((1 << 128) - 1), bits >> 128))
                    self.running[i].append(self.cycle + 3 + self.rng.randint(0, self.busy_time))
                while self.running[i] and self.running[i][0] <= self.cycle:
                    self.running[i].popleft()
            idle = 0
            for i, history in enumerate(lagging):
                history.append(not self.running[i])
                # Late by up to three cycles in falling, as the contract allows; never early in rising.
                idle |= (history[self.rng.randrange(3)] and (not self.running[i] or history[0])) << i
            dut.idle.value = idle

    def _fences(self) -> None:
        """Fences due before the next instruction: their engines must have nothing left."""
        while self.expected and self.expected[0][0] == "fence":
            mask = self.expected.popleft()[1]
            assert not any(self.running[i] for i in range(len(isa.ENGINES)) if mask >> i & 1), "fence passed too early"

    def _meet(self, what: tuple[Any, ...]) -> None:
        self._fences()
        assert self.expected, f"unexpected {what}"
        expected = self.expected.popleft()
        assert what == expected, f"got {what}, expected {expected}"

    async def begin(
        self, words: list[int], prog_addr: int = 0, bad: dict[int, int] | None = None, length: int | None = None
    ) -> Trace:
        """Reset and start a program; returns what it must do. `length`: of the program, with zeros behind `words`."""
        expected = interpret(self.config, words, prog_addr, bad or {}, sample=wanted())
        assert expected is not None, "the program does not end"
        dut = self.dut
        await reset(dut, self.rng.choice((1, 1, 4)))
        self.words, self.bad, self.prog_addr = words, bad or {}, prog_addr
        self.length = len(words) if length is None else length
        self.trace = expected
        self.fetched.clear()
        for sink in self.sinks:
            sink.clear()
        self.expected = deque(expected.work)
        self.executed = 0
        self.codes.clear()
        dut.prog_addr.value = prog_addr
        dut.prog_len.value = self.length
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
        return expected

    async def run(
        self, words: list[int], *, prog_addr: int = 0, bad: dict[int, int] | None = None, length: int | None = None
    ) -> tuple[Trace, int]:
        """Reset, run a program to its end, compare; returns the trace and the cycles from start to end."""
        expected = await self.begin(words, prog_addr, bad, length)
        dut = self.dut
        begin = self.cycle
        while not (dut.halted.value or dut.fault__valid.value):
            await RisingEdge(dut.clk)
            assert self.cycle - begin < 400_000, f"hangs at {int(dut.pc.value)}"
        cycles = self.cycle - begin
        for _ in range(300):
            await RisingEdge(dut.clk)
            if not any(item[0] != "fence" for item in self.expected):
                break
        if expected.halted:
            assert not dut.fault__valid.value, f"fault {int(dut.fault__cause.value)}"
            assert dut.halted.value
            self._fences()
        else:
            assert expected.fault is not None
            assert dut.fault__valid.value
            assert not dut.halted.value
            got = (Cause(int(dut.fault__cause.value)), int(dut.fault__pc.value), int(dut.fault__info.value))
            assert got == expected.fault, f"got fault {got}, expected {expected.fault}"
            if wanted():
                coverage.fault(self.config, words, expected.fault[0], expected.fault[1], expected.fault[2])
            self._fences()
        assert not self.expected, f"never came: {self.expected[0]}"
        for _ in range(8):
            await RisingEdge(dut.clk)
        assert self.executed == expected.executed
        assert self.codes == expected.codes
        return expected, cycles


async def machine(dut: Any, stall: float) -> tuple[Machine, random.Random]:
    """A reset machine and the bench's random numbers."""
    config = preset(params()["preset"]).replace(**params().get("changes", {}))
    result = Machine(dut, config, params()["seed"], stall)
    await start(dut)
    return result, random.Random(params()["seed"])


@cocotb.test()
async def test_random_programs(dut: Any) -> None:
    """Random programs under random stalls do what the interpreter does."""
    unit, rng = await machine(dut, 0.4)
    done = 0
    while done < params().get("programs", 40):
        words = random_block(rng, rng.choice((5, 20, 60, 150)), rng.randint(0, unit.config.loop_depth), 6)
        words.append(isa.encode("halt"))
        words += [rng.getrandbits(128) for _ in range(rng.choice((0, 3, 20)))]
        addr = 16 * rng.randrange(1 << 28)
        if interpret(unit.config, words, addr, {}) is None:
            continue
        unit.latency = rng.choice((0, 10, 60))
        unit.busy_time = rng.choice((0, 5, 30))
        await unit.run(words, prog_addr=addr)
        done += 1


@cocotb.test()
async def test_random_faults(dut: Any) -> None:
    """Programs with flipped bits, bad fetches and missing ends fault exactly where the interpreter does."""
    unit, rng = await machine(dut, 0.3)
    seen: dict[Cause, int] = {}
    done = 0
    while done < params().get("faults", 60):
        words = random_block(rng, rng.choice((5, 20, 40)), rng.randint(0, unit.config.loop_depth), 4)
        words += [isa.encode("halt")] * rng.randrange(2)
        bad = {}
        at = rng.randrange(len(words))
        kind = rng.randrange(5)
        if kind == 0:
            bad = {at: rng.choice((SLVERR, DECERR))}
        elif kind == 1:
            words[at] = rng.getrandbits(128)
        elif kind == 2:
            words[at] = isa.encode("endloop")
        elif kind == 3:
            words[at] ^= 1 << rng.randrange(128)
        addr = 16 * rng.randrange(1 << 28)
        trace = interpret(unit.config, words, addr, bad)
        if trace is None:
            continue
        unit.latency = rng.choice((0, 30))
        unit.busy_time = 10
        await unit.run(words, prog_addr=addr, bad=bad)
        if trace.fault:
            seen[trace.fault[0]] = seen.get(trace.fault[0], 0) + 1
        done += 1
    dut._log.info(f"faults seen: {seen}")
    assert {Cause.BUS_SLVERR, Cause.ILLEGAL_OPCODE, Cause.LOOP, Cause.PC_RANGE} <= set(seen)


@cocotb.test()
async def test_every_illegal_field(dut: Any) -> None:
    """Each reserved bit and each value next to a legal range faults; the extremes of the range do not."""
    unit, rng = await machine(dut, 0.0)
    halt = isa.encode("halt")
    words = []
    for op in isa.OPS:
        legal = op.opcode
        for spec in op.all_fields[1:]:
            legal |= (spec.legal_min & ((1 << spec.width) - 1)) << spec.lo
        reserved = [bit for bit in range(8, 128) if not op.used_mask >> bit & 1]
        words += [legal | 1 << bit for bit in rng.sample(reserved, min(len(reserved), params().get("bits", 2)))]
        for spec in op.all_fields[1:]:
            mask = ((1 << spec.width) - 1) << spec.lo
            if spec.legal_min > spec.bits_min:
                words.append(legal & ~mask | (spec.legal_min - 1 & mask >> spec.lo) << spec.lo)
            if spec.legal_max < spec.bits_max:
                words.append(legal & ~mask | spec.legal_max << spec.lo)
                words.append(legal & ~mask | spec.legal_max + 1 << spec.lo)
    words += [opcode for opcode in range(256) if opcode not in isa.BY_OPCODE and rng.random() < 0.25]
    for word in words:
        await unit.run([word, halt])


@cocotb.test()
async def test_loop_limits(dut: Any) -> None:
    """The longest legal body runs from the buffer; one more, too deep a nest and a body that leaves it fault."""
    unit, rng = await machine(dut, 0.2)
    config = unit.config
    halt, end, nop = isa.encode("halt"), isa.encode("endloop"), isa.encode("nop")
    lead = [nop] * rng.randrange(40)

    def loop(count: int, length: int) -> int:
        return isa.encode("loop", count=count, rs=0, length=length)

    longest = config.ibuf_depth - 1
    body = [random_engine_word(rng) for _ in range(longest - 1)]
    await unit.run([*lead, loop(3, longest), *body, end, halt])
    await unit.run([*lead, loop(3, longest), *body, end, *body, loop(2, longest), *body, end, halt])
    await unit.run([*lead, loop(3, longest + 1), *body, nop, end, halt])
    for count in (0, 1, 2):
        nest = [loop(count, 2)] * (config.loop_depth + 1) + [end] * (config.loop_depth + 1)
        await unit.run([*lead, *nest, halt])
        nest = [loop(max(count, 1), 2)] * config.loop_depth + [end] * config.loop_depth
        await unit.run([*lead, *nest, halt])
    await unit.run([*lead, loop(2, 3), *[nop] * (2 * config.ibuf_depth), end, halt])
    await unit.run([*lead, loop(2, 3), *[nop] * (config.ibuf_depth - 3)])
    await unit.run([loop(2, 5), nop, loop(0, longest), *[nop] * (2 * config.ibuf_depth), halt])
    await unit.run([loop(0, longest), *[rng.getrandbits(128) for _ in range(longest)], halt])
    await unit.run([loop(0, longest), nop])
    await unit.run([end, halt])
    await unit.run([loop(1, 4095), halt])
    for count in (0xFFFF, 0x5A5A, 0xA5A5, 0x8001):
        # The program ends inside all its loops.
        nest = [loop(count ^ depth, 9) for depth in range(config.loop_depth)]
        await unit.run([*[nop] * rng.randrange(40), *nest, halt])
    await unit.run([])
    await unit.run([halt])


@cocotb.test()
async def test_throughput(dut: Any) -> None:
    """One instruction a cycle in straight-line code inside loops, no bubble at predicted loop ends."""
    unit, rng = await machine(dut, 0.0)
    size = unit.config.ibuf_depth - 2
    body = []
    while len(body) < size:
        body.append(
            rng.choice(
                (random_engine_word(rng), isa.encode("addi", rd=1, rs=1, imm=1), isa.encode("add", rd=2, rs=1, rt=2))
            )
        )
    halt, end = isa.encode("halt"), isa.encode("endloop")
    runs = {}
    for length, counts in ((size, (2, 12)), (8, (2, 102))):
        for count in counts:
            words = [isa.encode("loop", count=count, rs=0, length=length + 1), *body[:length], end, halt]
            _, runs[length, count] = await unit.run(words)
    long_cycles = runs[size, 12] - runs[size, 2]
    short_cycles = runs[8, 102] - runs[8, 2]
    dut._log.info(f"{long_cycles} cycles for {10 * (size + 1)}, {short_cycles} for {100 * 9} instructions")
    assert long_cycles == 10 * (size + 1)
    assert short_cycles == 100 * 9
    nest = [
        isa.encode("loop", count=20, rs=0, length=4),
        isa.encode("loop", count=20, rs=0, length=2),
        body[0],
        end,
        end,
    ]
    trace, cycles = await unit.run([*nest, halt])
    dut._log.info(f"nest of short loops: {trace.executed} instructions in {cycles} cycles")


@cocotb.test()
async def test_a_reset_forgets_what_is_under_way(dut: Any) -> None:
    """A program stopped by a reset anywhere leaves nothing to the next one."""
    unit, rng = await machine(dut, 0.3)
    for _ in range(params().get("resets", 12)):
        unit.latency = rng.choice((0, 10, 60))
        words = [*random_block(rng, 60, unit.config.loop_depth, 4), isa.encode("halt")]
        if interpret(unit.config, words, 0, {}) is not None:
            await unit.begin(words)
            for _ in range(rng.randint(1, 300)):
                await RisingEdge(dut.clk)
        await unit.run([*random_block(rng, 8, 1, 2), isa.encode("halt")], prog_addr=16 * rng.randrange(1 << 28))


@cocotb.test()
async def test_cost_of_control_instructions(dut: Any) -> None:
    """The cycles of the frontend's docstring, in the middle of a loop that runs from the buffer."""
    unit, _ = await machine(dut, 0.0)
    nop, end = isa.encode("nop"), isa.encode("endloop")
    dispatched, other = isa.encode("mx.sync"), isa.encode("fence", engines=1)
    skipped = isa.encode("loop", count=0, rs=0, length=1)
    costs = {
        "nop": ([nop], 1),
        "irq": ([isa.encode("irq", code=3)], 1),
        "slli": ([isa.encode("slli", rd=1, rs=1, amount=9)], 2),
        "fence": ([isa.encode("fence", engines=15)], 3),
        "fence behind a dispatch": ([dispatched, other], 1 + 11),
        "fence 5 behind a dispatch": ([dispatched, *[nop] * 5, other], 1 + 11),
        "skipped loop": ([skipped, end], 7),
        "loop": ([isa.encode("loop", count=1, rs=0, length=6), *[nop] * 5, end], 2 + 5 + 1),
    }
    for name, (words, cost) in costs.items():
        if unit.config.loop_depth > 1 or "loop" not in name:
            body = [*[nop] * 5, *words, *[nop] * 5]
            cycles = []
            for count in (3, 13):
                program = [isa.encode("loop", count=count, rs=0, length=len(body) + 1), *body, end, isa.encode("halt")]
                cycles.append((await unit.run(program))[1])
            per_round = (cycles[1] - cycles[0]) / 10
            assert per_round - 11 == cost, f"{name}: {per_round - 11} cycles instead of {cost}"


@cocotb.test()
async def test_long_programs(dut: Any) -> None:
    """Every bit of the program's length counts: it is fetched beyond what the lower bits say."""
    unit, rng = await machine(dut, 0.2)
    words = [*[isa.encode("nop")] * (unit.config.ibuf_depth // 2), isa.encode("halt")]
    for bit in range(8, 24):
        await unit.run(words, prog_addr=16 * rng.randrange(1 << 28), length=(1 << bit) + rng.randint(0, len(words) - 2))
