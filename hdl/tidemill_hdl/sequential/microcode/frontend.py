"""Fetch, decode, scalar instructions and loops."""

from __future__ import annotations

from collections import Counter

from tidemill.config import Config
from tidemill.csr import Cause, Unit
from tidemill.isa import BY_MNEMONIC, ENGINES, OPS, Engine, Field, Op
from tidemill_hdl.sequential import registers as r
from tidemill_hdl.sequential.assembler import WORD_BITS, Assembler, Flag, Reg, Report
from tidemill_hdl.sequential.microcode.control import bus_fault, fault

_OPCODES = max(op.opcode for op in OPS) + 1
_INSTRUCTIONS = r.csr_register("INSTRUCTIONS")


def emit(u: Assembler, config: Config) -> None:
    """Labels: fetch (the instruction at PC), advance (it is done), executed (the same, PC is set), after (the queues
    are looked at)."""
    _fetch(u, config)
    _decode(u)
    _scalar(u)
    _loops(u, config)
    _waits(u)


def _fetch(u: Assembler, config: Config) -> None:
    u.label("advance")
    u.add(r.PC, r.PC, 1)
    u.label("executed")
    u.add(_INSTRUCTIONS, _INSTRUCTIONS, 1)
    u.label("after")
    u.mov(r.SCRATCH, r.QUEUED_ALL)
    u.when(Flag.ZERO, "fetch")
    u.call("schedule")

    u.label("fetch")
    u.mov(r.PATIENCE, r.csr_register("WATCHDOG"))
    u.sub(r.SCRATCH, r.PC, r.csr_register("PROG_LEN"))
    u.when(Flag.CARRY, "fetch.beyond")
    u.mov(r.SCRATCH, r.LOOPS)
    u.when(Flag.ZERO, "fetch.begin")
    u.sub(r.SCRATCH, r.PC, r.OUTERMOST)
    u.sub(r.SCRATCH, r.SCRATCH, config.ibuf_depth)
    u.when(Flag.CARRY, "fetch.far")
    u.label("fetch.begin")
    u.sll(r.BEAT_ADDRESS, r.PC, 4)
    u.add(r.BEAT_ADDRESS, r.BEAT_ADDRESS, r.csr_register("PROG_ADDR"))
    u.read(r.BEAT_ADDRESS, 3, fetch=True)
    for word in (r.I0, r.I1, r.I2, r.I3):
        again, good = u.fresh("fetch.word"), u.fresh("fetch.good")
        u.label(again)
        u.take(word)
        u.unless(Flag.BAD, good)
        u.unless(Flag.LATE, "fetch.bad")
        u.call("patience")
        u.go(again)
        u.label(good)
    u.and_(r.T0, r.I0, 0xFF)
    u.sub(r.SCRATCH, r.T0, _OPCODES)
    u.when(Flag.CARRY, "illegal")
    u.srl(r.ENGINE, r.T0, 5)
    u.sub(r.ENGINE, r.ENGINE, int(ENGINES[0]))
    u.index(r.T0)
    u.jump("decode")

    u.label("fetch.beyond")
    fault(u, Cause.PC_RANGE, Unit.FRONTEND, r.PC)
    u.label("fetch.far")
    fault(u, Cause.LOOP, Unit.FRONTEND, 0)
    u.label("fetch.bad")
    bus_fault(u, Unit.FRONTEND, r.BEAT_ADDRESS)
    for label, cause in (
        ("illegal", Cause.ILLEGAL_OPCODE), ("reserved", Cause.RESERVED_BITS), ("operand", Cause.ILLEGAL_OPERAND),
        ("loop.bad", Cause.LOOP),
    ):  # fmt: skip
        u.label(label)
        fault(u, cause, Unit.FRONTEND, r.I0)


def _decode(u: Assembler) -> None:
    # Engine instructions of the same shape are decoded alike.
    first: dict[object, str] = {}
    decoders = {op.opcode: first.setdefault(_shape(op), op.mnemonic) for op in OPS}
    masks = Counter(op.used_mask for op in OPS if decoders[op.opcode] == op.mnemonic)
    u.label("decode")
    for opcode in range(_OPCODES):
        u.go(f"decode.{decoders[opcode]}" if opcode in decoders else "illegal")
    for op in OPS:
        if decoders[op.opcode] != op.mnemonic:
            continue
        u.label(f"decode.{op.mnemonic}")
        if masks[op.used_mask] > 1:
            u.call(f"unused.{op.used_mask:x}")
        else:
            _check_reserved(u, op.used_mask)
        for field in op.fields:
            _check_range(u, field)
        if op.engine is Engine.CONTROL:
            u.go(f"do.{op.mnemonic}")
            continue
        for field in op.fields:
            if field.index is not None:
                u.call(f"add.{field.lo}.{field.width}")
        u.go("dispatch")
    for used in (mask for mask, users in masks.items() if users > 1):
        u.label(f"unused.{used:x}")
        _check_reserved(u, used)
        u.ret()
    for field in {(f.lo, f.width): f for op in OPS for f in op.fields if f.index is not None}.values():
        _add_register(u, field)


def _shape(op: Op) -> object:
    """What decoding depends on."""
    if op.engine is Engine.CONTROL:
        return op.mnemonic
    return tuple((f.lo, f.width, f.legal_min, f.legal_max, f.index is not None) for f in op.fields)


def _check_reserved(u: Assembler, used: int) -> None:
    for index, word in enumerate((r.I0, r.I1, r.I2, r.I3)):
        reserved = ~(used >> WORD_BITS * index) & 0xFFFF_FFFF
        low = 0
        while reserved >> low:
            while not reserved >> low & 1:
                low += 1
            high = low
            while reserved >> high & 1:
                high += 1
            source = word
            if high < WORD_BITS:
                u.sll(r.SCRATCH, source, WORD_BITS - high)
                source = r.SCRATCH
            if low or source is word:
                u.srl(r.SCRATCH, source, WORD_BITS - (high - low))
            u.unless(Flag.ZERO, "reserved")
            low = high


def _check_range(u: Assembler, field: Field) -> None:
    lowest, highest = field.legal_min > field.bits_min, field.legal_max < field.bits_max
    assert not (field.signed and (lowest or highest)), f"no check of signed fields: {field.name}"
    if lowest or highest:
        u.extract(r.T0, field)
    if lowest:
        assert field.legal_min == 1, f"no check of such a lower limit: {field.name}"
        u.when(Flag.ZERO, "operand")
    if highest:
        u.sub(r.SCRATCH, r.T0, field.legal_max + 1)
        u.when(Flag.CARRY, "operand")


def _add_register(u: Assembler, field: Field) -> None:
    """Add the register to an address: its low half, its high half or the whole word."""
    index = next(f for op in OPS if field in op.fields for f in op.fields if f.name == field.index)
    word, low = divmod(field.lo, WORD_BITS)
    address = (r.I0, r.I1, r.I2, r.I3)[word]
    u.label(f"add.{field.lo}.{field.width}")
    u.extract(r.T0, index)
    u.when(Flag.ZERO, f"add.{field.lo}.none")
    u.index(r.T0)
    if field.width == WORD_BITS:
        u.add(address, r.SCALAR.x, address)
    elif low:
        u.sll(r.T0, r.SCALAR.x, low)
        u.add(address, address, r.T0)
    else:
        u.add(r.T0, r.SCALAR.x, address)
        u.xor(r.T0, r.T0, address)
        u.and_(r.T0, r.T0, (1 << field.width) - 1)
        u.xor(address, address, r.T0)
    if f"add.{field.lo}.none" not in u.labels:
        u.label(f"add.{field.lo}.none")
    u.ret()


def _scalar(u: Assembler) -> None:
    def source(mnemonic: str, name: str, d: Reg) -> None:
        u.extract(d, BY_MNEMONIC[mnemonic].field(name))
        u.index(d)
        u.mov(d, r.SCALAR.x)

    u.label("do.nop")
    u.go("advance")

    u.label("do.irq")
    u.extract(r.csr_register("USER_CODE"), BY_MNEMONIC["irq"].field("code"))
    u.report(Report.USER)
    u.go("advance")

    u.label("do.addi")
    source("addi", "rs", r.T1)
    u.extract(r.T2, BY_MNEMONIC["addi"].field("imm"))
    u.add(r.T1, r.T1, r.T2)
    u.go("result")

    u.label("do.add")
    source("add", "rs", r.T1)
    source("add", "rt", r.T2)
    u.add(r.T1, r.T1, r.T2)
    u.go("result")

    u.label("do.sub")
    source("sub", "rs", r.T1)
    source("sub", "rt", r.T2)
    u.sub(r.T1, r.T1, r.T2)
    u.go("result")

    u.label("do.slli")
    source("slli", "rs", r.T1)
    u.extract(r.T2, BY_MNEMONIC["slli"].field("amount"))
    u.sll(r.T1, r.T1, r.T2)

    u.label("result")
    u.extract(r.T0, BY_MNEMONIC["addi"].field("rd"))
    u.when(Flag.ZERO, "advance")
    u.index(r.T0)
    u.mov(r.SCALAR.x, r.T1)
    u.go("advance")


def _loops(u: Assembler, config: Config) -> None:
    loop = BY_MNEMONIC["loop"]
    u.label("do.loop")
    u.extract(r.T0, loop.field("length"))
    u.sub(r.SCRATCH, r.T0, config.ibuf_depth)
    u.when(Flag.CARRY, "loop.bad")
    u.sub(r.SCRATCH, r.LOOPS, config.loop_depth)
    u.when(Flag.ZERO, "loop.bad")
    u.extract(r.T1, loop.field("rs"))
    u.extract(r.T2, loop.field("count"))
    u.index(r.T1)
    u.add(r.T2, r.SCALAR.x, r.T2)
    u.and_(r.T2, r.T2, 0xFFFF)
    u.unless(Flag.ZERO, "loop.enter")
    u.add(r.PC, r.PC, r.T0)
    u.go("advance")
    u.label("loop.enter")
    u.mov(r.SCRATCH, r.LOOPS)
    u.unless(Flag.ZERO, "loop.inner")
    u.mov(r.OUTERMOST, r.PC)
    u.label("loop.inner")
    u.index(r.LOOPS)
    u.add(r.LOOP_BEGIN.x, r.PC, 1)
    u.mov(r.LOOP_LEFT.x, r.T2)
    u.add(r.LOOPS, r.LOOPS, 1)
    u.go("advance")

    u.label("do.endloop")
    u.mov(r.SCRATCH, r.LOOPS)
    u.when(Flag.ZERO, "loop.bad")
    u.sub(r.T0, r.LOOPS, 1)
    u.index(r.T0)
    u.sub(r.LOOP_LEFT.x, r.LOOP_LEFT.x, 1)
    u.unless(Flag.ZERO, "loop.again")
    u.mov(r.LOOPS, r.T0)
    u.go("advance")
    u.label("loop.again")
    u.mov(r.PC, r.LOOP_BEGIN.x)
    u.go("executed")


def _waits(u: Assembler) -> None:
    """`fence` and `halt`: the queues of their engines must be empty. What waits is fetched again each time."""
    u.label("do.halt")
    u.mov(r.SCRATCH, r.QUEUED_ALL)
    u.unless(Flag.ZERO, "waiting")
    u.add(_INSTRUCTIONS, _INSTRUCTIONS, 1)
    u.go("halted")

    u.label("do.fence")
    u.extract(r.T0, BY_MNEMONIC["fence"].field("engines"))
    for index in range(len(ENGINES)):
        passed = u.fresh("fence.passed")
        u.and_(r.SCRATCH, r.T0, 1 << index)
        u.when(Flag.ZERO, passed)
        u.mov(r.SCRATCH, Reg(r.QUEUED.number + index))
        u.unless(Flag.ZERO, "waiting")
        u.label(passed)
    u.go("advance")

    u.label("waiting")
    u.call("schedule")
    u.mov(r.SCRATCH, r.MADE_PROGRESS)
    u.unless(Flag.ZERO, "fetch")
    u.go("blocked")
