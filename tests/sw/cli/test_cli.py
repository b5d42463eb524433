"""The command line: files in, files out, one line per error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tidemill.cli import main
from tidemill.isa_doc import isa_markdown

SOURCE = """.preset tiny
.sem s
.buffer A, int8, [8, 4]
.buffer C, int8, [8, 4]
ld.run spad[0], A, 8, signal=s
st.run spad[0], C, 8, wait=s
halt
"""


def tidemill(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "k.s"
    path.write_text(SOURCE)
    return path


def test_assemble_disassemble_check(source: Path, tmp_path: Path) -> None:
    tidemill("asm", source)
    assert "ld.run dst=spad[0], dram=A, n0=8, signal=s" in tidemill("disasm", tmp_path / "k.tmb")
    assert "no errors" in tidemill("check", source)
    assert "no errors" in tidemill("check", tmp_path / "k.tmb")


def test_run_copies_through_the_simulator(source: Path, tmp_path: Path) -> None:
    tidemill("asm", source)
    array = np.random.default_rng(3).integers(-128, 128, (8, 4), dtype=np.int8)
    np.save(tmp_path / "a.npy", array)
    output = tidemill(
        "run", tmp_path / "k.tmb", "--in", f"A={tmp_path / 'a.npy'}", "--out", f"C={tmp_path / 'c.npy'}", "--json"
    )
    assert json.loads(output)["cycles"] > 0
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), array)


def test_unordered_accesses_are_errors_unless_switched_off(source: Path, tmp_path: Path) -> None:
    source.write_text(SOURCE.replace(", wait=s", ""))
    output = tidemill("asm", source, code=1)
    assert f"{source}:6:1: error: RAW" in output
    assert "[unordered access]" in output
    assert not (tmp_path / "k.tmb").exists()
    tidemill("asm", source, "--no-check")
    assert "unordered access" in tidemill("check", tmp_path / "k.tmb", code=1)


def test_errors_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.tmb").write_bytes(b"what is this")
    for arguments in (
        ("asm", tmp_path / "none.s"),
        ("disasm", tmp_path / "bad.tmb"),
        ("disasm", tmp_path / "none.tmb"),
    ):
        output = tidemill(*arguments, code=1)
        assert output.startswith("tidemill: error: "), output
        assert output.count("\n") == 1, output


def test_commands_are_listed_with_examples() -> None:
    listing = tidemill("--help")
    for command in ("asm", "check", "disasm", "isa", "run"):
        assert command in listing
        assert "Example:" in tidemill(command, "--help")


def test_the_reference_page_is_up_to_date() -> None:
    page = Path(__file__).parents[3] / "docs" / "isa.md"
    assert page.read_text(encoding="utf-8") == isa_markdown(), "run: tidemill isa -o docs/isa.md"
