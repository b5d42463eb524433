"""What programs must do to the frontend, from `tidemill.isa` alone, and random programs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from tidemill import isa
from tidemill.config import Config
from tidemill.csr import Cause
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
    path: list[int] = field(default_factory=list)
    """The pc of every instruction reached, that of the halt or the fault last."""
    floors: list[tuple[int, bool]] = field(default_factory=list)
    """Of each of them the oldest instruction still needed, and whether a loop is active."""
    executed: int = 0
    halted: bool = False
    looped: bool = False
    """Whether a loop was active at any time."""
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
        trace.path.append(pc)
        trace.floors.append((loops[0][0] if loops else pc, bool(loops)))
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
                trace.looped = True
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
