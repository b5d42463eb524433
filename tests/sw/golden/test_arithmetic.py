"""Vector, matrix and address models against plain Python integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tidemill.golden import dma, matrix, vector
from tidemill.isa import BY_MNEMONIC, Combine

EDGES = [0, 1, -1, 127, -128, 2**15 - 1, -(2**15), 2**15, 2**31 - 1, -(2**31), 31, 32, 33, -33]


def _wrap(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def _low16(x: int) -> int:
    return (x + 2**15) % 2**16 - 2**15


MEANING = {
    "vx.add": lambda a, b: _wrap(a + b),
    "vx.sub": lambda a, b: _wrap(a - b),
    "vx.mul": lambda a, b: _low16(a) * _low16(b),
    "vx.min": min,
    "vx.max": max,
    "vx.shl": lambda a, b: _wrap(a << (b % 32)),
    "vx.shr": lambda a, b: a // 2 ** (b % 32),
    "vx.clamp": lambda a, b: min(max(a, -5), 90),
    "vx.maxpool": lambda a, b: a,
}


def test_every_vector_operation_of_the_instruction_set_has_a_model() -> None:
    assert set(vector.ALU) == {op.mnemonic for op in BY_MNEMONIC.values() if op.combine is not None}
    assert set(vector.ALU) == set(MEANING)


@pytest.mark.parametrize("mnemonic", MEANING)
def test_vector_operation_means_what_the_table_says(mnemonic: str) -> None:
    pairs = np.array(list(itertools.product(EDGES, EDGES)), dtype=np.int32)
    actual = vector.ALU[mnemonic](pairs[:, 0], pairs[:, 1], -5, 90)
    assert actual.dtype == np.int32
    assert actual.tolist() == [MEANING[mnemonic](int(a), int(b)) for a, b in pairs]


def test_folds_and_lane_reductions_wrap() -> None:
    rows = np.array([[2**31 - 1, 5], [1, -7]], dtype=np.int32)
    assert vector.fold(Combine.SUM, rows, 0).tolist() == [-(2**31), -2]
    assert vector.fold(Combine.MAX, rows, 0).tolist() == [2**31 - 1, 5]
    assert vector.fold(Combine.MIN, rows, 0).tolist() == [1, -7]
    assert vector.lane_sum(rows).tolist() == [[-(2**31) + 4] * 2, [-6] * 2]
    assert vector.lane_max(rows).tolist() == [[2**31 - 1] * 2, [1] * 2]


def test_look_up_saturation_and_clamp() -> None:
    assert vector.post_lut([-1, 256, 3], np.arange(256) * 10).tolist() == [2550, 0, 30]
    assert vector.saturate_int8([-129, -128, 127, 128, 2**31 - 1]).tolist() == [-128, -128, 127, 127, 127]
    assert vector.clamp([0], 5, -5).tolist() == [-5]


@pytest.mark.parametrize("depth", [1, 16, 64, 1024, 1025])
def test_products_are_exact_at_their_largest(depth: int) -> None:
    x = np.full((3, depth), -128, dtype=np.int8)
    x[1] = 127
    w = np.full((depth, 2), -128, dtype=np.int8)
    w[0, 1] = 127
    assert np.array_equal(matrix.product(x, w), x.astype(np.int64) @ w.astype(np.int64))


def test_accumulation_wraps_and_products_take_int8_only() -> None:
    assert matrix.accumulate(np.int32(2**31 - 1), np.int32(1)) == -(2**31)
    with pytest.raises(ValueError, match="int8 operands, not int32"):
        matrix.product(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int8))


def test_operand_rows_follow_the_loops() -> None:
    matrix_rows = [9 + 5 * i2 - 2 * i1 + i0 for i2 in range(2) for i1 in range(3) for i0 in range(4)]
    assert dma.matrix_rows(9, (4, 3, 2), (1, -2, 5)).tolist() == matrix_rows
    vector_rows = [
        [7 + 3 * n0 + 11 * n1 - k0 + 20 * k1 for k1 in range(2) for k0 in range(3)]
        for n1 in range(2)
        for n0 in range(4)
    ]
    assert dma.vector_rows(7, (4, 2, 3, 2), (3, 11, -1, 20)).tolist() == vector_rows
    destination = [1 + 2 * n0 + 9 * n1 for n1 in range(3) for n0 in range(2)]
    assert dma.vector_destination(1, 2, 3, 2, 9).tolist() == destination
    assert dma.split(0x18005) == (True, 5)
    assert dma.split(0x7FFF) == (False, 0x7FFF)


def test_transfer_walk_places_padding_and_wraps_lines() -> None:
    walk = dma.walk(100, 0xFFFFFFF0, 2, 2, 2, row_bytes=4, s1=8, s2=32, d1=10, d2=-50, pad_lo=1, pad_hi=2)
    assert walk.lines.tolist() == [0xFFFFFFF0, 0xFFFFFFF8, 0x10, 0x18]
    assert walk.local.tolist() == [[first + i for i in range(5)] for first in (100, 110, 50, 60)]
    assert walk.dram.tolist() == [[-1, first, first + 4, -1, -1] for first in walk.lines.tolist()]
    assert dma.walk(0, 0, 0, 3, 1, row_bytes=4).local.shape == (3, 0)
