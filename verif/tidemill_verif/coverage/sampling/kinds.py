"""Kinds of numbers, as the plan's bins name them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_INT32 = {-(1 << 31): "smallest", -1: "-1", 0: "0", 1: "1", (1 << 31) - 1: "largest"}
_INT8 = {-128: "-128", 0: "0", 127: "127"}


def words(values: NDArray[np.generic]) -> set[str]:
    """Kinds of the int32 `values`."""
    return {
        _INT32.get(value, "negative" if value < 0 else "positive") for value in values.astype(np.int64).ravel().tolist()
    }


def bytes_(values: NDArray[np.generic]) -> set[str]:
    """Kinds of the int8 `values`."""
    return {_INT8.get(value, "negative" if value < 0 else "positive") for value in values.ravel().tolist()}


def side(row: int) -> str:
    """Where a row outside its memory lies."""
    return "below" if row < 0 else "above"
