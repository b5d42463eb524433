"""Instruction decoder and legality check, generated from `tidemill.isa.OPS`."""

from __future__ import annotations

from collections.abc import Iterable

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill.csr import Cause
from tidemill.isa import BY_MNEMONIC, BY_OPCODE, ENGINES, INSTRUCTION_BITS, OPS, Engine, Field, Op

SLOTS = {48: 0, 64: 1, 80: 2}
"""Lowest bit of a field with an index register -> its address slot."""

CONTROL_OPS: tuple[Op, ...] = tuple(op for op in OPS if op.engine is Engine.CONTROL)

Kind = data.StructLayout(dict.fromkeys(("single", "dispatch", "endloop", "loop", "slli", "fence", "halt"), 1))
"""What a legal instruction needs: `single` nothing, it takes a cycle; `dispatch` a place on the way to its engine; the
others are the instructions of that name. One bit is set, none for an illegal instruction."""


def narrow_fields() -> dict[tuple[int, int, bool, int, int], list[Op]]:
    """Fields whose legal range is narrower than their bits: (lo, width, signed, min, max) -> instructions."""
    checks: dict[tuple[int, int, bool, int, int], list[Op]] = {}
    for op in OPS:
        for field in op.all_fields[1:]:
            if (field.legal_min, field.legal_max) != (field.bits_min, field.bits_max):
                key = (field.lo, field.width, field.signed, field.legal_min, field.legal_max)
                checks.setdefault(key, []).append(op)
    return checks


def reserved_groups() -> dict[tuple[str, ...], list[int]]:
    """Mnemonics -> the bits that are reserved in exactly these instructions."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for bit in range(8, INSTRUCTION_BITS):
        owners = tuple(op.mnemonic for op in OPS if not op.used_mask >> bit & 1)
        if owners:
            groups.setdefault(owners, []).append(bit)
    return groups


def _kind(op: Op) -> str:
    """Member of `Kind` that an instruction belongs to."""
    if op.engine is not Engine.CONTROL:
        return "dispatch"
    return op.mnemonic if op.mnemonic in Kind.members else "single"


def _opcode_in(opcode: Value, ops: Iterable[Op]) -> Value:
    """Whether `opcode` is one of `ops`."""
    return opcode.matches(*(op.opcode for op in ops))


def slot_of(field: Field) -> int:
    """Address slot (0, 1, 2) of a field with an index register."""
    return SLOTS[field.lo]


class Decoder(wiring.Component):
    """Decodes one instruction a cycle.

    Members
    -------
    en : In(1): the pipeline moves; all outputs hold while low.
    word : In(128)
    select_a, select_b, select_c : Out(4): scalar registers to read (rs / ra, rt / rb, rc). One step after `word`.
    use_a, use_b, use_c : Out(1): the instruction reads that register; its value counts as zero otherwise. One step
        after `word`.
    immediate : Out(1): operand B is the immediate in bits 63:32. One step after `word`.
    full : Out(1): operand B has 32 bits; otherwise the upper 16 are those of operand C. One step after `word`.
    void : In(1): the instruction is no good for another reason. One step after `word`.
    cause : Out(4): NONE, or why the instruction is illegal: ILLEGAL_OPCODE before RESERVED_BITS before
        ILLEGAL_OPERAND. Two steps after `word`.
    engine : Out(4): one-hot in the order of `isa.ENGINES`; zero for control. Two steps after `word`.
    kind : Out(Kind): none set if the instruction is illegal or `void`. Two steps after `word`.
    legal : Out(1): some bit of `kind` is set. Two steps after `word`.
    writes : Out(1): the instruction, if legal, writes a register other than r0. Two steps after `word`.
    subtract : Out(1): it is `sub`; irq : Out(1): it is `irq`. Two steps after `word`.
    wide : Out(1): address slot 1 has 32 bits. Two steps after `word`.

    Outputs are registers without reset; the pipeline around keeps the valid bits. One step is one cycle with `en`.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "en": In(1),
                "word": In(INSTRUCTION_BITS),
                "select_a": Out(4),
                "select_b": Out(4),
                "select_c": Out(4),
                "use_a": Out(1),
                "use_b": Out(1),
                "use_c": Out(1),
                "immediate": Out(1),
                "full": Out(1),
                "void": In(1),
                "cause": Out(4),
                "engine": Out(len(ENGINES)),
                "kind": Out(Kind),
                "legal": Out(1),
                "writes": Out(1),
                "subtract": Out(1),
                "irq": Out(1),
                "wide": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = self.word
        opcode = word[0:8]
        is_control = opcode[5:8] == Engine.CONTROL

        # First step: facts that need few bits each.
        engine = Signal(len(ENGINES), reset_less=True)
        kind = Signal(Kind, reset_less=True)
        writes = Signal(reset_less=True)
        subtract = Signal(reset_less=True)
        irq = Signal(reset_less=True)
        unknown = Signal(reset_less=True)
        wide = Signal(reset_less=True)
        slots: tuple[list[Op], ...] = ([], [], [])
        wide_ops = []
        for op in OPS:
            for field in op.fields:
                if field.index is not None:
                    slots[slot_of(field)].append(op)
                    if field.width == 32:
                        wide_ops.append(op)
        uses_rs = [op for op in CONTROL_OPS if any(field.name == "rs" for field in op.fields)]
        writers = [op for op in CONTROL_OPS if any(field.name == "rd" for field in op.fields)]
        uses_rt = [op for op in CONTROL_OPS if any(field.name == "rt" for field in op.fields)]
        with m.If(self.en):
            m.d.sync += [
                self.select_a.eq(Mux(is_control, word[12:16], word[40:44])),
                self.select_b.eq(Mux(is_control, word[16:20], word[44:48])),
                self.select_c.eq(word[96:100]),
                self.use_a.eq(_opcode_in(opcode, slots[0] + uses_rs)),
                self.use_b.eq(_opcode_in(opcode, slots[1] + uses_rt)),
                self.use_c.eq(_opcode_in(opcode, slots[2])),
                self.immediate.eq(_opcode_in(opcode, [op for op in CONTROL_OPS if op.mnemonic == "addi"])),
                wide.eq(_opcode_in(opcode, wide_ops)),
                unknown.eq(~_opcode_in(opcode, BY_OPCODE.values())),
                engine.eq(Cat(opcode[5:8] == unit for unit in ENGINES)),
                *(kind[name].eq(_opcode_in(opcode, [op for op in OPS if _kind(op) == name])) for name in Kind.members),
                self.full.eq(is_control | _opcode_in(opcode, wide_ops)),
                writes.eq(_opcode_in(opcode, writers) & (word[8:12] != 0)),
                subtract.eq(opcode == BY_MNEMONIC["sub"].opcode),
                irq.eq(opcode == BY_MNEMONIC["irq"].opcode),
            ]
            reserved, illegal = [], []
            for number, (owners, bits) in enumerate(reserved_groups().items()):
                dirty = Signal(name=f"reserved_dirty{number}", reset_less=True)
                owned = Signal(name=f"reserved_owned{number}", reset_less=True)
                owner_ops = [op for op in OPS if op.mnemonic in owners]
                m.d.sync += [dirty.eq(Cat(word[bit] for bit in bits).any()), owned.eq(_opcode_in(opcode, owner_ops))]
                reserved.append(dirty & owned)
            for number, ((lo, width, is_signed, low, high), ops) in enumerate(narrow_fields().items()):
                value = word[lo : lo + width]
                if is_signed:
                    value = value.as_signed()
                # A limit that the bits themselves keep needs no comparison.
                lowest, highest = (-(1 << width - 1), (1 << width - 1) - 1) if is_signed else (0, (1 << width) - 1)
                limits = [value < low] * (low > lowest) + [value > high] * (high < highest)
                outside = Signal(name=f"range_outside{number}", reset_less=True)
                owned = Signal(name=f"range_owned{number}", reset_less=True)
                m.d.sync += [outside.eq(Cat(*limits).any()), owned.eq(_opcode_in(opcode, ops))]
                illegal.append(outside & owned)

            # Second step: join them.
            legal = ~(self.void | unknown | Cat(*reserved, *illegal).any())
            m.d.sync += [
                self.engine.eq(engine),
                *(self.kind[name].eq(kind[name] & legal) for name in Kind.members),
                self.legal.eq(legal),
                self.writes.eq(writes),
                self.subtract.eq(subtract),
                self.irq.eq(irq),
                self.wide.eq(wide),
                self.cause.eq(
                    Mux(
                        unknown,
                        Cause.ILLEGAL_OPCODE,
                        Mux(
                            Cat(*reserved).any(),
                            Cause.RESERVED_BITS,
                            Mux(Cat(*illegal).any(), Cause.ILLEGAL_OPERAND, Cause.NONE),
                        ),
                    )
                ),
            ]
        return m
