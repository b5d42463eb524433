"""The borders of a graph: arrays as the user has them, and tensors as the graph holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.compiler.compiled import Border
from tidemill.compiler.ir import Port

Array = NDArray[Any]


class InputError(ValueError):
    """An array that does not fit its port. The message names the port, what it takes and what it was given."""


def to_tensor(port: Port, array: ArrayLike) -> Array:
    """The user's `array`, of the port's shape and dtype, as the graph's tensor. Raises InputError if it is not."""
    return encode(port, array, port.tensor.shape, port.tensor.dtype)


def encode(port: Port | Border, array: ArrayLike, shape: tuple[int, ...], dtype: str) -> Array:
    """The user's `array` as a tensor of `shape` and `dtype`. Raises InputError unless it fits the port."""
    values = np.asarray(array)
    if values.shape != port.shape:
        raise InputError(f"input {port.name!r} takes shape {list(port.shape)}, not {list(values.shape)}")
    if values.dtype != np.dtype(port.dtype):
        raise InputError(f"input {port.name!r} takes {port.dtype}, not {values.dtype}")
    if port.offset:
        values = values.astype(np.int32) - port.offset
    values = values.astype(dtype)
    if port.index is not None:
        values = np.append(values.reshape(-1), values.dtype.type(port.fill))[port.index]
    return values.reshape(shape)


def from_tensor(port: Port | Border, values: Array) -> Array:
    """The tensor's `values` as the user's array of `port.shape` and `port.dtype`."""
    if port.index is not None:
        values = values.reshape(-1)[port.index]
    if port.offset:
        values = values.astype(np.int32) + port.offset
    return values.astype(port.dtype).reshape(port.shape)
