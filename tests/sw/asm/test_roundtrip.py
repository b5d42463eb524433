"""Disassembly assembles to the same program."""

from __future__ import annotations

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tidemill.asm import assemble, disassemble
from tidemill.config import preset
from tidemill.isa import OPS, Kind, Op, encode
from tidemill.operands import REQUIRED_SPACE
from tidemill.program import BufferDecl, Program, Relocation

CONFIG = preset("tiny").replace(name="odd one", acc_rows=256)
BUFFERS = {
    name: BufferDecl(name, "int8", (64, 4), data) for name, data in (("A", None), ("a b", bytes(256)), ("spad", None))
}
PLAIN = [op for op in OPS if op.mnemonic not in ("loop", "endloop")]


@st.composite
def instruction(draw: st.DrawFn, op: Op) -> tuple[int, dict[str, str]]:
    values, relocated = {}, {}
    for field in op.all_fields[1:]:
        values[field.name] = draw(st.integers(field.legal_min, field.legal_max))
    for field in op.fields:
        if field.kind is Kind.LOCAL and not (field.name == "b" and values["b_imm"]):
            space = REQUIRED_SPACE.get((op.mnemonic, field.name)) or draw(st.sampled_from(("spad", "acc")))
            rows = CONFIG.acc_rows if space == "acc" else CONFIG.spad_rows
            values[field.name] = (0x8000 if space == "acc" else 0) + draw(st.integers(0, rows - 1))
        if field.name in ("dram", "imm") and draw(st.booleans()):
            relocated[field.name] = draw(st.sampled_from(list(BUFFERS)))
    if values.get("b_imm") and values["b"] >> 15:
        values["b"] -= 1 << 16
    return encode(op.mnemonic, **values), relocated


@st.composite
def programs(draw: st.DrawFn) -> Program:
    words: list[int] = []
    relocations: list[Relocation] = []

    def block(depth: int) -> None:
        for _ in range(draw(st.integers(0, 4))):
            if depth < CONFIG.loop_depth and draw(st.integers(0, 3)) == 0:
                start = len(words)
                words.append(0)
                block(depth + 1)
                count, rs = draw(st.integers(0, 65535)), draw(st.integers(0, 15))
                words[start] = encode("loop", count=count, rs=rs, length=len(words) - start)
                words.append(encode("endloop"))
            else:
                word, relocated = draw(st.sampled_from(PLAIN).flatmap(instruction))
                relocations.extend(Relocation(len(words), field, buffer) for field, buffer in relocated.items())
                words.append(word)

    block(4 - draw(st.integers(0, 2)))
    return Program(CONFIG, tuple(words), BUFFERS, tuple(relocations), ("A", "post it", "r1", "load"))


@seed(1)
@settings(max_examples=200, deadline=None)
@given(programs())
def test_disassembly_assembles_to_the_same_program(program: Program) -> None:
    again = assemble(disassemble(program), bounds=False)
    assert (again.words, again.relocations, again.buffers, again.semaphores, again.config) == (
        program.words, program.relocations, program.buffers, program.semaphores, program.config,
    )  # fmt: skip


@seed(2)
@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 2**128 - 1), st.sampled_from([0x8, 0x9, 0x20000000008])), max_size=6))
def test_illegal_words_survive(words: list[int]) -> None:
    program = Program(CONFIG, tuple(words))
    assert assemble(disassemble(program), bounds=False).words == program.words
