"""The programs of docs/examples assemble without errors and compute what their first comment says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.asm.assembler import assemble, assemble_source
from tidemill.driver.npu import Result, open_npu
from tidemill.golden.requant import quantize_multiplier, requantize
from tidemill.isa import BY_MNEMONIC

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.s"))
N = 16


def run(name: str, **inputs: NDArray[np.generic]) -> Result:
    path = DOCS / "examples" / name
    program = assemble(path.read_text(encoding="utf-8"), str(path))
    with open_npu("iss", config=program.config) as npu:
        return npu.run(npu.load(program), inputs)


def int8(rng: np.random.Generator, *shape: int) -> NDArray[np.int8]:
    return rng.integers(-128, 128, shape, dtype=np.int8)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_checker_finds_nothing_but_credits_left_over(path: Path) -> None:
    diagnostics = assemble_source(path.read_text(encoding="utf-8"), str(path)).diagnostics()
    assert [d.message for d in diagnostics if "is left at 2 when the program ends" not in d.message] == []


def test_ten_lines_multiply() -> None:
    rng = np.random.default_rng(1)
    a, b = int8(rng, N, N), int8(rng, N, N)
    np.testing.assert_array_equal(run("ten_lines.s", A=a, B=b).outputs["C"], a.astype(np.int32) @ b)


def test_gemm_tile_multiplies_and_requantizes() -> None:
    rng = np.random.default_rng(2)
    a, b = int8(rng, N, N), int8(rng, N, N)
    bias = rng.integers(-2000, 2000, N, dtype=np.int32)
    multiplier, shift = zip(*(quantize_multiplier(s) for s in rng.uniform(0.0005, 0.004, N)), strict=True)
    parameters = np.array([bias, multiplier, shift], np.int32)
    expected = requantize(a.astype(np.int32) @ b, bias, multiplier, shift, zero_point=3).clip(-100, 100)
    assert expected.min() == -100
    assert expected.max() == 100
    np.testing.assert_array_equal(run("gemm_tile.s", A=a, B=b, P=parameters).outputs["C"], expected)


def test_double_buffer_multiplies_while_it_moves() -> None:
    rng = np.random.default_rng(3)
    a, b = int8(rng, 16 * N, N), int8(rng, N, N)
    result = run("double_buffer.s", A=a, B=b)
    np.testing.assert_array_equal(result.outputs["C"], a.astype(np.int32) @ b)
    busy = sum(result.counters[f"BUSY_{engine}"] for engine in ("LOAD", "STORE", "MATRIX"))
    assert busy > 1.5 * result.cycles


def test_the_programming_guide_quotes_the_examples() -> None:
    """A block of assembly in the guide that says which file it is equals that file."""
    text = (DOCS / "programming.md").read_text(encoding="utf-8")
    quotes = re.findall(r"\[`(examples/\w+\.s)`\]\(\1\):\n\n```\n(.*?)```", text, re.DOTALL)
    assert {name for name, _ in quotes} == {"examples/gemm_tile.s", "examples/double_buffer.s"}
    for name, quote in quotes:
        assert quote == (DOCS / name).read_text(encoding="utf-8")


def test_the_instruction_guide_lists_a_real_instruction() -> None:
    text = (DOCS / "adding-an-instruction.md").read_text(encoding="utf-8")
    op = BY_MNEMONIC["vx.maxpool"]
    assert f'_vector("vx.maxpool", {op.opcode - 0x80:#x}, "{op.doc}", Combine.MAX)' in text
