"""The matrix engine's arithmetic: products of int8 rows with a weight tile, accumulated modulo 2**32."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_FLOAT32_DEPTH = 1024
"""Longest sum of products of two int8 (at most 2**14 each) that float32 adds without rounding."""


def product(x: ArrayLike, w: ArrayLike) -> NDArray[np.int32]:
    """y[m, c] = sum over r of x[m, r] * w[r, c]: int8 [M, R] and int8 [R, C] to int32 [M, C].

    Exact for every R below 2**17 (the sum fits int32); the machine's R is at most 64. Raises ValueError for other
    element types.
    """
    x, w = np.asarray(x), np.asarray(w)
    if x.dtype != np.int8 or w.dtype != np.int8:
        raise ValueError(f"product needs int8 operands, not {x.dtype} and {w.dtype}")
    # floating-point products run in BLAS and are exact here
    dtype = np.float32 if x.shape[-1] <= _FLOAT32_DEPTH else np.float64
    return np.asarray(x.astype(dtype) @ w.astype(dtype)).astype(np.int32)


def accumulate(old: ArrayLike, y: ArrayLike) -> NDArray[np.int32]:
    """old + y modulo 2**32, int32."""
    return (np.asarray(old).astype(np.int64) + np.asarray(y).astype(np.int64)).astype(np.int32)
