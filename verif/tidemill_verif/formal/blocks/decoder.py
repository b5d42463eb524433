"""The decoder `frontend/decoder.py` against the instruction table, instruction by instruction."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data

from tidemill.csr import Cause
from tidemill.isa import ENGINES, INSTRUCTION_BITS, OPS, Engine, Op
from tidemill_hdl.frontend.decoder import Decoder, Kind, narrow_fields, reserved_groups
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "frontend/decoder.py"
_SELECTS = {"a": ("ra", "rs"), "b": ("rb", "rt"), "c": ("rc",)}
"""Read port of the scalar registers -> the fields that name its register."""


def _kind(op: Op) -> str:
    """Member of `Kind` of a legal instruction."""
    if op.engine is not Engine.CONTROL:
        return "dispatch"
    return "single" if op.mnemonic in ("nop", "irq", "addi", "add", "sub") else op.mnemonic


def _cause(word: Value, op: Op) -> Value:
    """Why `word`, which has the opcode of `op`, is illegal, or NONE."""
    unused = (1 << INSTRUCTION_BITS) - 1 & ~op.used_mask
    outside: list[Value] = []
    for field in op.all_fields:
        value = word[field.lo : field.lo + field.width]
        number = value.as_signed() if field.signed else value
        outside += [number < field.legal_min, number > field.legal_max]
    illegal = Mux(Cat(outside).any(), Cause.ILLEGAL_OPERAND, Cause.NONE)
    return Mux((word & unused) != 0, Cause.RESERVED_BITS, illegal)


class DecoderHarness(Harness):
    """Any word in every step, and a pipeline that stops at any time; the expectation is made of `isa.OPS`."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Decoder()
        self.free_inputs(dut)
        word, opcode = dut.word, dut.word[:8]
        layout = data.StructLayout(
            {
                "known": 1,
                "cause": 4,
                "engine": len(ENGINES),
                "kind": Kind.size,
                "writes": 1,
                "subtract": 1,
                "irq": 1,
                "full": 1,
                "wide": 1,
                **{f"use_{port}": 1 for port in _SELECTS},
                **{f"select_{port}": 4 for port in _SELECTS},
                "immediate": 1,
            }
        )
        expected = Signal(layout)
        m.d.comb += expected.cause.eq(Cause.ILLEGAL_OPCODE)
        with m.Switch(opcode):
            for op in OPS:
                fields = {field.name: field for field in op.all_fields}
                with m.Case(op.opcode):
                    m.d.comb += [expected.known.eq(1), expected.cause.eq(_cause(word, op))]
                    m.d.comb += expected.immediate.eq("imm" in fields and op.mnemonic == "addi")
                    m.d.comb += [
                        data.View(Kind, expected.kind)[_kind(op)].eq(1),
                        expected.writes.eq((fields["rd"].lo == 8) & (word[8:12] != 0) if "rd" in fields else 0),
                        expected.subtract.eq(op.mnemonic == "sub"),
                        expected.irq.eq(op.mnemonic == "irq"),
                    ]
                    if op.engine is Engine.CONTROL:
                        m.d.comb += expected.full.eq(1)
                    else:
                        m.d.comb += expected.engine.eq(1 << ENGINES.index(op.engine))
                    indexed = {field.index: field for field in op.fields if field.index}
                    m.d.comb += expected.wide.eq("rb" in indexed and indexed["rb"].width == 32)
                    if "rb" in indexed and indexed["rb"].width == 32:
                        m.d.comb += expected.full.eq(1)
                    for port, names in _SELECTS.items():
                        for name in names:
                            if name in fields and (name in indexed or name.startswith("rs") or name == "rt"):
                                lo = fields[name].lo
                                m.d.comb += [
                                    expected[f"use_{port}"].eq(1),
                                    expected[f"select_{port}"].eq(word[lo : lo + 4]),
                                ]

        one, two = Signal(layout), Signal(layout)
        steps = Signal(2)
        void = Signal()
        with m.If(dut.en):
            m.d.sync += [one.eq(expected), two.eq(one), steps.eq(Mux(steps == 2, 2, steps + 1)), void.eq(dut.void)]
        first, second = steps != 0, steps == 2
        self.prove("cause", ~second | (dut.cause == two.cause))
        self.prove("engine", ~(second & two.known) | (dut.engine == two.engine))
        legal = ~void & (two.cause == Cause.NONE)
        self.prove("legal", ~second | (dut.legal == legal))
        self.prove("kind", ~second | (dut.kind.as_value() == Mux(legal, two.kind, 0)))
        facts = [dut.writes == two.writes, dut.subtract == two.subtract, dut.irq == two.irq]
        self.prove("facts", ~(second & two.known) | Cat(facts).all())
        self.prove("wide", ~second | (dut.wide == two.wide))
        reads = [(dut.use_a, dut.select_a, "a"), (dut.use_b, dut.select_b, "b"), (dut.use_c, dut.select_c, "c")]
        uses = [use == one[f"use_{port}"] for use, _, port in reads]
        self.prove("registers_used", ~first | Cat(uses).all())
        selects = [~use | (select == one[f"select_{port}"]) for use, select, port in reads]
        self.prove("registers_named", ~first | Cat(selects).all())
        self.prove("immediate", ~first | (dut.immediate == one.immediate))
        self.prove("full", ~(first & one.known) | (dut.full == one.full))
        self._lemmas(first, one)
        self.cover("legal", second & (dut.cause == Cause.NONE) & dut.engine.any())
        self.cover("illegal", second & (dut.cause == Cause.ILLEGAL_OPERAND))

    def _lemmas(self, first: Value, one: data.View) -> None:
        """What the registers of the first step hold, while the pipeline stands, too."""

        reserved = self._pairs("reserved_dirty", "reserved_owned", len(reserved_groups()))
        illegal = self._pairs("range_outside", "range_owned", len(narrow_fields()))
        legality = Mux(reserved, Cause.RESERVED_BITS, Mux(illegal, Cause.ILLEGAL_OPERAND, Cause.NONE))
        unknown = self.inner("dut.unknown")
        self.lemma("cause_of_first", ~first | (Mux(unknown, Cause.ILLEGAL_OPCODE, legality) == one.cause))
        self.lemma("engine_of_first", ~(first & one.known) | (self.inner("dut.engine", len(ENGINES)) == one.engine))
        self.lemma("kind_of_first", ~first | (self.inner("dut.kind", len(one.kind)) == one.kind))
        for name in ("writes", "subtract", "irq"):
            self.lemma(f"{name}_of_first", ~(first & one.known) | (self.inner(f"dut.{name}") == one[name]))
        self.lemma("wide_of_first", ~first | (self.inner("dut.wide") == one.wide))

    def _pairs(self, what: str, whose: str, count: int) -> Value:
        """Whether any of the numbered facts is true of an instruction that it concerns."""
        return Cat(self.inner(f"dut.{what}{i}") & self.inner(f"dut.{whose}{i}") for i in range(count)).any()


PROOFS = (
    Proof(
        "table",
        partial(DecoderHarness),
        {
            "cause": "every one of the 2^128 words gets the cause that the table gives it, or none",
            "engine": "every known opcode goes to its engine, control instructions to none",
            "legal": "a word is legal exactly if the table has no cause against it and nothing else speaks against it",
            "kind": "every legal instruction raises the flag of its kind alone, every other word none",
            "facts": "a known instruction says whether it writes a register other than r0, is `sub`, is `irq`",
            "wide": "slot 1 has 32 bits exactly where the table says so",
            "registers_used": "a register is read for exactly those fields that the instruction has",
            "registers_named": "the register read is the one that the field names",
            "full": "operand B has 32 bits for control instructions and wide slots, 16 for the others",
            "immediate": "operand B is the immediate for `addi` only",
        },
        (
            Twin(
                "cause", _FILE, "for bit in range(8, INSTRUCTION_BITS):", "for bit in range(8, INSTRUCTION_BITS - 1):"
            ),
            Twin("engine", _FILE, "engine.eq(Cat(opcode[5:8] == unit for", "engine.eq(Cat(opcode[5:7] == unit for"),
            Twin("legal", _FILE, "~(self.void | unknown |", "~(unknown |"),
            Twin("kind", _FILE, "(kind[name] & legal)", "(kind[name])"),
            Twin("facts", _FILE, "& (word[8:12] != 0)", "& (word[8:11] != 0)"),
            Twin("full", _FILE, "self.full.eq(is_control |", "self.full.eq("),
            Twin("wide", _FILE, "if field.width == 32:", "if field.width == 32 and op.mnemonic != 'st.run':"),
            Twin(
                "registers_used",
                _FILE,
                "_opcode_in(opcode, slots[1] + uses_rt)",
                "_opcode_in(opcode, slots[1] + uses_rs)",
            ),
            Twin("registers_named", _FILE, "self.select_c.eq(word[96:100])", "self.select_c.eq(word[97:101])"),
            Twin("immediate", _FILE, 'op.mnemonic == "addi"', 'op.mnemonic == "add"'),
        ),
        {"legal": "a legal engine instruction", "illegal": "an instruction with an illegal operand"},
        depth=5,
    ),
)
