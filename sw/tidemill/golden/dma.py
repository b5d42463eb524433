"""Which rows and bytes an instruction touches, in the order it touches them.

Rows are plain integers: a row below 0 or beyond the memory is for the caller to notice. Local addresses (16 bits,
with the memory in bit 15) are taken apart by `split`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.isa import ACC_SPACE

PADDING = -1
"""Stands for a DRAM address in `Walk.dram` where the row is padding."""

_ADDRESS_MASK = (1 << 32) - 1


def split(address: int) -> tuple[bool, int]:
    """(accumulator?, row) of a local address; only its low 16 bits count."""
    return bool(address & ACC_SPACE), address & (ACC_SPACE - 1)


def nest(base: int, counts: Sequence[int], strides: Sequence[int]) -> NDArray[np.int64]:
    """base + sum of index * stride over nested loops.

    `counts` and `strides` are innermost first; the result has one axis per loop, outermost first, so that its flat
    order is the order of the walk.
    """
    addresses = np.array(base, dtype=np.int64)
    for count, stride in zip(reversed(counts), reversed(strides), strict=True):
        addresses = addresses[..., None] + np.arange(count, dtype=np.int64) * stride
    return addresses


def matrix_rows(base: int, counts: tuple[int, int, int], strides: tuple[int, int, int]) -> NDArray[np.int64]:
    """Rows of one operand of `mx.run`, flat in the order of the walk: int64 [n2 * n1 * n0].

    `base` is the operand's first row, `counts` (n0, n1, n2), `strides` (s0, s1, s2) or (t0, t1, t2).
    """
    return nest(base, counts, strides).reshape(-1)


def vector_rows(base: int, counts: tuple[int, int, int, int], strides: tuple[int, int, int, int]) -> NDArray[np.int64]:
    """Rows of an operand of a vector operation: int64 [n1 * n0, k1 * k0], a window's rows in each line.

    `counts` are (n0, n1, k0, k1) and `strides` the same four of `vx.astride` or `vx.bstride`.
    """
    n0, n1, k0, k1 = counts
    sn0, sn1, sk0, sk1 = strides
    return nest(base, (k0, k1, n0, n1), (sk0, sk1, sn0, sn1)).reshape(n1 * n0, k1 * k0)


def vector_destination(base: int, n0: int, n1: int, d0: int, d1: int) -> NDArray[np.int64]:
    """Destination rows of a vector operation in the order of the points: int64 [n1 * n0]."""
    return nest(base, (n0, n1), (d0, d1)).reshape(-1)


@dataclass(frozen=True)
class Walk:
    """The rows of one `ld.run` or `st.run`, line after line.

    A later row overwrites an earlier one at the same place; numpy's `memory[walk.local] = rows` does that too.
    """

    lines: NDArray[np.int64]
    """DRAM address of each line's first byte, modulo 2**32: [n2 * n1]."""
    local: NDArray[np.int64]
    """Local row of each row of each line: [n2 * n1, pad_lo + n0 + pad_hi]."""
    dram: NDArray[np.int64]
    """Address of each row's first byte in DRAM, PADDING for padding rows: shape of `local`. A line does not wrap: its
    last rows may lie at 2**32 and above."""


def walk(
    local: int,
    dram: int,
    n0: int,
    n1: int,
    n2: int,
    *,
    row_bytes: int,
    s1: int = 0,
    s2: int = 0,
    d1: int = 0,
    d2: int = 0,
    pad_lo: int = 0,
    pad_hi: int = 0,
) -> Walk:
    """The walk of `ld.run` (and with no padding of `st.run`): n2 planes of n1 lines of n0 rows.

    `local` is the first local row, `dram` the first byte, `row_bytes` the bytes of a row of the memory; the other
    names are those of `ld.stride`, `st.stride`, `ld.dst` and `st.src`.
    """
    lines = nest(dram, (n1, n2), (s1, s2)).reshape(-1) & _ADDRESS_MASK
    length = pad_lo + n0 + pad_hi
    rows = nest(local, (length, n1, n2), (1, d1, d2)).reshape(n2 * n1, length)
    addresses = np.full(rows.shape, PADDING, dtype=np.int64)
    addresses[:, pad_lo : pad_lo + n0] = lines[:, None] + np.arange(n0, dtype=np.int64) * row_bytes
    return Walk(lines, rows, addresses)
