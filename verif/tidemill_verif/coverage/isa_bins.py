"""Bins made from the instruction table: a new instruction, field or choice makes holes appear by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tidemill.isa import OPS, WAIT, Engine, Field, Kind, Op
from tidemill_verif.coverage.point import join


def corners(field: Field) -> tuple[str, ...]:
    """Names of the kinds of legal values of `field`: extremes, zero, minus one, and anything else."""
    if field.choices is not None:
        return tuple(choice.name for choice in field.choices)
    if field.kind is Kind.SEMAPHORES:
        return ("none", "one", "several", "all")
    if field.legal_max - field.legal_min == 1:
        return (str(field.legal_min), str(field.legal_max))
    inner = tuple(name for name, value in (("zero", 0), ("minus one", -1)) if field.legal_min < value < field.legal_max)
    return ("min", *inner, "max", "inside")


def corner(field: Field, value: int) -> str:
    """The kind of the legal `value` of `field`."""
    if field.choices is not None:
        return field.choices(value).name
    if field.kind is Kind.SEMAPHORES:
        count = value.bit_count()
        return "none" if not count else "one" if count == 1 else "all" if count == field.width else "several"
    if field.legal_max - field.legal_min == 1:
        return str(value)
    for name, at in (("min", field.legal_min), ("max", field.legal_max), ("zero", 0), ("minus one", -1)):
        if value == at:
            return name
    return "inside"


def operands(op: Op) -> tuple[Field, ...]:
    """The fields of `op` without its opcode."""
    return op.all_fields[1:]


def operand_bins(ops: tuple[Op, ...] = OPS) -> tuple[str, ...]:
    """`mnemonic.field corner` of every operand of `ops`."""
    return tuple(f"{op.mnemonic}.{f.name} {name}" for op in ops for f in operands(op) for name in corners(f))


def operand_hits(op: Op, values: Mapping[str, int]) -> Iterator[str]:
    """The bins of `operand_bins` that an instruction with these values hits."""
    for field in operands(op):
        yield f"{op.mnemonic}.{field.name} {corner(field, values[field.name])}"


def _reaches_engine(field: Field) -> bool:
    """Whether an engine looks at `field`: registers are added and semaphores waited for before."""
    return field.kind is not Kind.REGISTER and field.name != WAIT.name


def engine_bins(ops: tuple[Op, ...]) -> tuple[str, ...]:
    """As `operand_bins`, of the fields that engines look at."""
    return tuple(
        f"{op.mnemonic}.{f.name} {name}"
        for op in ops
        for f in operands(op)
        if _reaches_engine(f)
        for name in corners(f)
    )


def engine_hits(op: Op, values: Mapping[str, int]) -> Iterator[str]:
    """The bins of `engine_bins` that an instruction with these values hits."""
    for field in operands(op):
        if _reaches_engine(field):
            yield f"{op.mnemonic}.{field.name} {corner(field, values[field.name])}"


def ops_of(*engines: Engine) -> tuple[Op, ...]:
    """The instructions of `engines`, all engines with a queue where none is named."""
    wanted = engines or tuple(engine for engine in Engine if engine is not Engine.CONTROL)
    return tuple(op for op in OPS if op.engine in wanted)


def names(ops: tuple[Op, ...]) -> tuple[str, ...]:
    """Their mnemonics."""
    return tuple(op.mnemonic for op in ops)


ALU = tuple(op for op in OPS if op.combine is not None)
"""The vector engine's operations on rows."""


def illegal_bins() -> tuple[str, ...]:
    """Every way to violate the table: a reserved bit of each instruction, each field just outside its legal range."""
    bins = []
    for op in OPS:
        if op.used_mask.bit_length() < 128 or op.used_mask.bit_count() < 128:
            bins.append(join(op.mnemonic, "reserved bit"))
        for field in operands(op):
            if field.legal_min > field.bits_min:
                bins.append(f"{op.mnemonic}.{field.name} below")
            if field.legal_max < field.bits_max:
                bins.append(f"{op.mnemonic}.{field.name} above")
    return tuple(bins)
