"""The vector engine's arithmetic: one function per operation, by mnemonic, and what follows it.

Rows are int32 arrays [..., C]; every function works lane by lane on any shape and never changes its arguments.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.isa import Combine

Rows = NDArray[np.int32]
Operation = Callable[[Rows, Rows, int, int], Rows]


def _rows(values: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(values).astype(np.int64)


def _low16(values: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(values).astype(np.int16).astype(np.int64)


def clamp(values: ArrayLike, low: int, high: int) -> Rows:
    """Limit `values` to low..high as int32: min(max(value, low), high), so `high` wins where low > high."""
    return np.minimum(np.maximum(_rows(values), low), high).astype(np.int32)


def saturate_int8(values: ArrayLike) -> NDArray[np.int8]:
    """What a scratchpad row keeps of int32 lanes: the nearest int8."""
    return clamp(values, -128, 127).astype(np.int8)


def _add(a: Rows, b: Rows, qmin: int, qmax: int) -> Rows:
    return (_rows(a) + _rows(b)).astype(np.int32)


def _sub(a: Rows, b: Rows, qmin: int, qmax: int) -> Rows:
    return (_rows(a) - _rows(b)).astype(np.int32)


def _mul(a: Rows, b: Rows, qmin: int, qmax: int) -> Rows:
    return (_low16(a) * _low16(b)).astype(np.int32)


def _min(a: Rows, b: Rows, qmin: int, qmax: int) -> Rows:
    return np.minimum(_rows(a), _rows(b)).astype(np.int32)


def _max(a: Rows, b: Rows, qmin: int, qmax: int) -> Rows:
    return np.maximum(_rows(a), _rows(b)).astype(np.int32)


def _shl(a: Rows, b: Rows, qmin: int, qmax: int) -> Rows:
    return (_rows(a) << (_rows(b) & 31)).astype(np.int32)


def _shr(a: Rows, b: Rows, qmin: int, qmax: int) -> Rows:
    return (_rows(a) >> (_rows(b) & 31)).astype(np.int32)


def _clamp(a: Rows, b: Rows, qmin: int, qmax: int) -> Rows:
    return clamp(a, qmin, qmax)


def _maxpool(a: Rows, b: Rows, qmin: int, qmax: int) -> Rows:
    return _rows(a).astype(np.int32)


ALU: dict[str, Operation] = {
    "vx.add": _add,
    "vx.sub": _sub,
    "vx.mul": _mul,
    "vx.min": _min,
    "vx.max": _max,
    "vx.shl": _shl,
    "vx.shr": _shr,
    "vx.clamp": _clamp,
    "vx.maxpool": _maxpool,
}
"""f(a, b, qmin, qmax) of every vector operation by its mnemonic: a and b int8 or int32 (they broadcast), result int32,
modulo 2**32; qmin and qmax are those of `vx.quant`."""


_FOLD: dict[Combine, np.ufunc] = {Combine.SUM: np.add, Combine.MAX: np.maximum, Combine.MIN: np.minimum}


def fold(combine: Combine, values: ArrayLike, axis: int | tuple[int, ...]) -> Rows:
    """Fold the window axes of `values`: sum modulo 2**32, maximum or minimum. Returns int32 without those axes."""
    return _FOLD[combine].reduce(_rows(values), axis=axis).astype(np.int32)  # type: ignore[no-any-return]


def post_lut(values: ArrayLike, table: ArrayLike) -> Rows:
    """`table[value & 255]` for each lane; `table` is int32 [256]."""
    return np.take(np.asarray(table).astype(np.int32), _rows(values) & 255)


def lane_sum(values: ArrayLike) -> Rows:
    """The sum of all lanes of a row, modulo 2**32, in every lane: int32 [..., C]."""
    rows = _rows(values)
    return np.broadcast_to(rows.sum(axis=-1, keepdims=True), rows.shape).astype(np.int32)


def lane_max(values: ArrayLike) -> Rows:
    """The largest lane of a row in every lane: int32 [..., C]."""
    rows = _rows(values)
    return np.broadcast_to(rows.max(axis=-1, keepdims=True), rows.shape).astype(np.int32)
