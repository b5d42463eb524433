"""The assembler: encodings, diagnostics, bounds."""

from __future__ import annotations

import pytest

from tidemill.asm import AsmError, assemble, disassemble
from tidemill.isa import decode

HEAD = ".preset tiny\n.sem s, t\n.buffer A, int8, [8, 4]\n.const N = 2*M\n.const M = 4\n"


def one(line: str, bounds: bool = False) -> dict[str, int]:
    return decode(assemble(HEAD + line, bounds=bounds).words[0]).values


def errors(line: str, bounds: bool = False) -> str:
    with pytest.raises(AsmError) as caught:
        assemble(HEAD + line, "k.s", bounds=bounds)
    return str(caught.value)


def test_operands_are_positional_or_named() -> None:
    assert one("ld.run spad[3 + r2], A + 4 + r1, N, n2=7, signal=s|sem[5], wait=t") == {
        "wait": 2, "signal": 0b100001, "dst": 3, "dram": 4, "n0": 8, "n1": 1, "n2": 7, "ra": 2, "rb": 1,
    }  # fmt: skip


def test_a_number_as_operand_b_is_an_immediate() -> None:
    values = one("vx.add acc[1], spad[2], -5, post=rq")
    assert (values["b"], values["b_imm"], values["dst"], values["post"]) == (0xFFFB, 1, 0x8001, 1)
    assert one("vx.add acc[1], spad[2], acc[3]")["b_imm"] == 0


def test_loop_length_is_computed() -> None:
    program = assemble(HEAD + "loop 3 + r4, end=e\nnop\nloop r1\nnop\nendloop\ne: endloop\nhalt")
    outer, inner = decode(program.words[0]).values, decode(program.words[2]).values
    assert (outer["count"], outer["rs"], outer["length"]) == (3, 4, 5)
    assert (inner["count"], inner["rs"], inner["length"]) == (0, 1, 2)


def test_li_of_a_buffer_is_relocated() -> None:
    program = assemble(HEAD + "li r3, A + 8\nhalt")
    assert [(r.index, r.field, r.buffer) for r in program.relocations] == [(0, "imm", "A")]
    assert decode(program.words[0]).values == {"rd": 3, "rs": 0, "imm": 8}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mx.akt n0=3", "k.s:6:1: error: unknown instruction 'mx.akt'; did you mean 'mx.act'?"),
        ("mx.act n0=4096", "k.s:6:11: error: mx.act field 'n0': 4096 is not in 1..4095"),
        ("ld.run spad[0], drma=A", "error: ld.run has no field 'drma'; did you mean 'dram'?"),
        ("ld.sync wait=ss", "unknown semaphore 'ss'; did you mean 's'?"),
        ("ld.run spad[4096], A", "spad row 4096 is not in 0..4095"),
        ("mx.run acc[0], acc[0]", "acc[0] must lie in spad"),
        ("ld.run spad[0]", "ld.run needs field 'dram'"),
        ("loop 3", "k.s:6:1: error: loop without endloop"),
        ("endloop", "endloop without loop"),
        ("li r16, 0", "register r16 is not in r0..r15"),
        ("vx.add acc[0], acc[0], 0, post=foo", "'foo' is not one of none, rq, lut, lsum, lmax"),
        ("nop 1/0", "takes at most 0"),
        (".const Z = 1/0\nli r1, Z", "division by zero"),
        (".const Z = Z\nli r1, Z", "'Z' is defined by itself"),
        ("li r1, NN", "unknown name 'NN'; did you mean 'N'?"),
        ("li r1, $", "unexpected character '$'"),
        (".include \"none.s\"", "cannot include 'none.s'"),
        (".sem s", "'s' is declared already"),
        ("fence 16", "fence field 'engines': 16 is not in 1..15"),
    ],
)  # fmt: skip
def test_errors_say_where_what_and_what_is_legal(line: str, message: str) -> None:
    assert message in errors(line)


def test_caret_points_at_the_operand() -> None:
    lines = errors("    mx.act n0=4096").splitlines()
    assert lines[1].index("4096") == lines[2].index("^")


def test_several_errors_are_reported_at_most_twenty() -> None:
    assert errors("foo\n" * 3).count(": error:") == 3
    assert errors("foo\n" * 30).count(": error:") == 20


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ld.run spad[0], A, 9\nhalt", "bytes 0..35 of buffer 'A' are not in 0..31"),
        ("loop 3\nld.run spad[0], A + r1, 4\naddi r1, r1, 16\nendloop\nhalt", "bytes 32..47 of buffer 'A'"),
        ("ld.run spad[4092], A, 8\nhalt", "spad row 4099 is not in 0..4095"),
        ("st.run spad[0], A + 2, 1\nhalt", "MISALIGNED"),
    ],
)
def test_overruns_are_errors(source: str, message: str) -> None:
    assert message in errors(source, bounds=True)


def test_exact_fit_is_no_error() -> None:
    assemble(HEAD + "loop 2\nld.run spad[4088], A + r1, 4\naddi r1, r1, 16\nendloop\nhalt")


def test_includes_name_their_stack(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "x.s").write_text("bad\n")
    with pytest.raises(AsmError, match=r"main.s:1: included from here\n.*x.s:1:1: error: unknown instruction"):
        assemble('.include "x.s"', str(tmp_path / "main.s"))


def test_names_that_are_no_identifiers_are_quoted() -> None:
    program = assemble(
        '.preset tiny\n.buffer "a/b:0", int8, [2, 4], [1,2,3,4,-5,6,7,-128]\nld.run spad[0], "a/b:0", 2\nhalt'
    )
    again = assemble(disassemble(program))
    assert again.buffers == program.buffers
    assert program.buffers["a/b:0"].data == bytes([1, 2, 3, 4, 251, 6, 7, 128])
