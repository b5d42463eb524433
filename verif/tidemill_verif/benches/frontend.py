"""Bench of the frontend: random and directed programs against an interpreter made from `tidemill.isa` alone."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tidemill import isa
from tidemill.config import Config, preset
from tidemill.csr import Cause
from tidemill_verif.agents.clock import reset, start
from tidemill_verif.agents.streams import StreamSink, StreamSource
from tidemill_verif.benches import params
from tidemill_verif.coverage.collect import wanted
from tidemill_verif.coverage.sampling import frontend as coverage

MAX_STEPS = 6000
DECERR = 3
SLVERR = 2


@dataclass
class Trace:
    """What a program must do. `work` holds ("instr", engine index, word, pc) and ("fence", mask)."""

    work: list[tuple[Any, ...]] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    """Codes of the irq instructions."""
    executed: int = 0
    halted: bool = False
    fault: tuple[Cause, int, int] | None = None
    """Cause, pc, info."""


def resolve(decoded: isa.Decoded, word: int, registers: list[int]) -> int:
    """`word` with the registers added to its indexed fields."""
    for spec in decoded.op.fields:
        if spec.index is not None:
            mask = (1 << spec.width) - 1
            value = (word >> spec.lo & mask) + registers[decoded.values[spec.index]] & mask
            word = word & ~(mask << spec.lo) | value << spec.lo
    return word


def interpret(
    config: Config, words: list[int], prog_addr: int, bad: dict[int, int], *, sample: bool = False
) -> Trace | None:
    """Run a program; None if it takes more than MAX_STEPS. `bad`: AXI responses of instructions. `sample`: count what
    the program covers."""
    trace = Trace()
    if sample:
        coverage.program(config, prog_addr, len(words))
    registers = [0] * isa.SCALAR_REGISTERS
    loops: list[list[int]] = []  # loop pc, iterations left
    pc = 0
    for _ in range(MAX_STEPS):
        if pc >= len(words):
            trace.fault = (Cause.PC_RANGE, pc, pc)
            return trace
        if loops and pc - loops[0][0] >= config.ibuf_depth:
            trace.fault = (Cause.LOOP, pc, 0)
            return trace
        word = words[pc]
        if pc in bad:
            cause = Cause.BUS_DECERR if bad[pc] == DECERR else Cause.BUS_SLVERR
            trace.fault = (cause, pc, (prog_addr + 16 * pc) & 0xFFFFFFFF)
            return trace
        try:
            decoded = isa.decode(word)
        except isa.EncodingError as error:
            trace.fault = (Cause[str(error).split(":")[0]], pc, word & 0xFFFFFFFF)
            if sample:
                coverage.refused(word)
            return trace
        value, name = decoded.values, decoded.op.mnemonic
        following = pc + 1
        if sample:
            coverage.executed(config, decoded, registers, len(loops))
        if decoded.op.engine is not isa.Engine.CONTROL:
            engine = isa.ENGINES.index(decoded.op.engine)
            trace.work.append(("instr", engine, resolve(decoded, word, registers), pc))
        elif name == "halt":
            trace.work.append(("fence", 15))
            trace.executed += 1
            trace.halted = True
            return trace
        elif name == "fence":
            trace.work.append(("fence", value["engines"]))
        elif name == "irq":
            trace.codes.append(value["code"])
        elif name == "loop":
            if len(loops) == config.loop_depth or value["length"] + 1 > config.ibuf_depth:
                trace.fault = (Cause.LOOP, pc, word & 0xFFFFFFFF)
                return trace
            count = (value["count"] + registers[value["rs"]]) & 0xFFFF
            if count:
                loops.append([pc, count])
            else:
                following = pc + value["length"] + 1
        elif name == "endloop":
            if not loops:
                trace.fault = (Cause.LOOP, pc, word & 0xFFFFFFFF)
                return trace
            loops[-1][1] -= 1
            if loops[-1][1]:
                following = loops[-1][0] + 1
            else:
                loops.pop()
        elif name != "nop":
            a = registers[value["rs"]]
            if name == "addi":
                result = a + value["imm"]
            elif name == "add":
                result = a + registers[value["rt"]]
            elif name == "sub":
                result = a - registers[value["rt"]]
            else:
                result = a << value["amount"]
            if value["rd"]:
                registers[value["rd"]] = result & 0xFFFFFFFF
        trace.executed += 1
        pc = following
    return None


def random_operand(rng: random.Random, spec: isa.Field) -> int:
    """A legal value of a field, extremes often."""
    low, high = spec.legal_min, spec.legal_max
    corners = [value for value in (low, high, 0, -1) if low <= value <= high]
    if spec.kind is isa.Kind.SEMAPHORES:
        corners.append(1 << rng.randrange(spec.width))
    return rng.choice((rng.choice(corners), rng.randint(low, high)))


def random_engine_word(rng: random.Random) -> int:
    """A legal engine instruction."""
    op = rng.choice([op for op in isa.OPS if op.engine is not isa.Engine.CONTROL])
    word = op.opcode
    for spec in op.all_fields[1:]:
        word |= (random_operand(rng, spec) & ((1 << spec.width) - 1)) << spec.lo
    return word


def random_block(rng: random.Random, size: int, loops_left: int, iterations: int) -> list[int]:
    """About `size` instructions, with nested loops; a loop's count sets the register that it adds."""
    words: list[int] = []
    while len(words) < size:
        kind = rng.random()
        if kind < 0.14 and loops_left:
            body = random_block(rng, rng.choice((0, 1, 2, 3, 6, rng.randint(1, size))), loops_left - 1, iterations // 2)
            count = rng.choice((0, 1, 2, 3, rng.randint(1, max(1, iterations))))
            offset = rng.choice((0, rng.randrange(1 << 32), count + 1))
            register = rng.randrange(1, isa.SCALAR_REGISTERS) if offset else 0
            if offset:
                words.append(isa.encode("addi", rd=register, rs=0, imm=offset - (1 << 32) * (offset >> 31)))
            words.append(isa.encode("loop", count=(count - offset) & 0xFFFF, rs=register, length=len(body) + 1))
            words += [*body, isa.encode("endloop")]
        elif kind < 0.45:
            rd, rs, rt = (rng.randrange(isa.SCALAR_REGISTERS) for _ in range(3))
            imm = random_operand(rng, isa.BY_MNEMONIC["addi"].field("imm"))
            words.append(
                rng.choice(
                    (
                        isa.encode("addi", rd=rd, rs=rs, imm=imm),
                        isa.encode("add", rd=rd, rs=rs, rt=rt),
                        isa.encode("sub", rd=rd, rs=rs, rt=rt),
                        isa.encode("slli", rd=rd, rs=rs, amount=rng.randrange(32)),
                    )
                )
            )
        elif kind < 0.48:
            words.append(isa.encode("fence", engines=rng.randint(1, 15)))
        elif kind < 0.50:
            words.append(isa.encode("irq", code=rng.choice((0, 0xFFFF, rng.randrange(1 << 16)))))
        elif kind < 0.53:
            words.append(isa.encode("nop"))
        else:
            words.append(random_engine_word(rng))
    return words


class Machine:
    """The frontend under test with an instruction memory and engines that only wait."""

    def __init__(self, dut: Any, config: Config, seed: int, stall: float) -> None:
        self.dut = dut
        self.config = config
        self.rng = random.Random(seed)
        self.words: list[int] = []
        self.bad: dict[int, int] = {}
        self.prog_addr = 0
        self.latency = 0
        self.busy_time = 0
        self.running: list[deque[int]] = [deque() for _ in isa.ENGINES]
        self.codes: list[int] = []
        self.executed = 0
        self.cycle = 0
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

    async def _memory(self) -> None:
        """Answer fetch bursts; check that they obey the rules."""
        width = self.config.axi_data_width
        due: deque[tuple[int, int, int]] = deque()
        while True:
            await RisingEdge(self.dut.clk)
            if self.dut.rst.value:
                due.clear()
                self.commands.clear()
                continue
            while self.commands.received:
                command = self.commands.received.popleft()
                addr, beats = command & 0xFFFFFFFF, (command >> 32) + 1
                first, count = (addr - self.prog_addr) // 16, beats * self.config.axi_bytes // 16
                assert (addr % 16, beats * self.config.axi_bytes) == (0, count * 16), "not whole instructions"
                assert addr // 4096 == (addr + 16 * count - 1) // 4096, "burst crosses 4 KiB"
                assert 0 <= first <= len(self.words) - count, "fetch outside the program"
                assert beats <= max(self.config.max_burst, 16 // self.config.axi_bytes)
                for index in range(first, first + count):
                    assert index not in self.fetched, f"instruction {index} fetched twice"
                    self.fetched.add(index)
                due.append((self.cycle + self.rng.randint(0, self.latency), first, count))
            if due and due[0][0] <= self.cycle:
                _, first, count = due.popleft()
                for index in range(first, first + count):
                    parts = 128 // width
                    broken = self.rng.randrange(parts)
                    for part in range(parts):
                        resp = self.bad.get(index, 0) if part == broken else 0
                        self.beats.put(self.words[index] >> (part * width) & ((1 << width) - 1) | resp << width)

    async def _watch(self) -> None:
        """Compare what comes out with the interpreter's list, and play the engines' idle lines."""
        dut = self.dut
        ports = [
            tuple(getattr(dut, f"instr__{i}__{part}") for part in ("valid", "ready", "payload"))
            for i in range(len(isa.ENGINES))
        ]
        lagging = [deque([True] * 3, maxlen=3) for _ in ports]
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if dut.rst.value:
                for queue in self.running:
                    queue.clear()
                continue
            assert sum(int(port[0].value) for port in ports) <= 1, "two engines addressed at once"
            self.executed += int(dut.instruction.value)
            if dut.user_irq.value:
                self.codes.append(int(dut.user_code.value))
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

    async def run(
        self, words: list[int], *, prog_addr: int = 0, bad: dict[int, int] | None = None
    ) -> tuple[Trace, int]:
        """Reset, run a program to its end, compare; returns the trace and the cycles from start to end."""
        expected = interpret(self.config, words, prog_addr, bad or {}, sample=wanted())
        assert expected is not None, "the program does not end"
        dut = self.dut
        dut.rst.value = 1
        for _ in range(3):
            await RisingEdge(dut.clk)
        self.beats.clear()
        await reset(dut)
        self.words, self.bad, self.prog_addr = words, bad or {}, prog_addr
        self.fetched.clear()
        for sink in self.sinks:
            sink.clear()
        self.expected = deque(expected.work)
        self.executed = 0
        self.codes.clear()
        dut.prog_addr.value = prog_addr
        dut.prog_len.value = len(words)
        dut.start.value = 1
        await RisingEdge(dut.clk)
        dut.start.value = 0
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
