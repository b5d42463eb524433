"""One operation of the compiler's graph, compiled and run on an open device; and the checks of its arguments."""

from __future__ import annotations

import hashlib
import operator
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.compiler.compile import compile_graph
from tidemill.compiler.compiled import CompiledModel
from tidemill.compiler.ir import Graph, Op, Pair, Port, Requantize, Tensor
from tidemill.compiler.runtime import Session
from tidemill.config import Config
from tidemill.driver.npu import Npu
from tidemill.ops.requant import Requant

Int8 = NDArray[np.int8]
CACHE = 64
"""Compiled operations that are kept."""


@dataclass(frozen=True)
class _Key:
    config: Config
    digest: bytes
    op: Op = field(compare=False)


@lru_cache(CACHE)
def _compiled(key: _Key) -> CompiledModel:
    """A graph of this operation alone. Its tensors are exposed, so that no pass moves its work to the host."""

    def port(tensor: Tensor) -> Port:
        return Port(tensor.name, tensor, tensor.shape, tensor.dtype)

    op = key.op
    ports = [port(tensor) for tensor in op.inputs]
    results = [port(tensor) for tensor in op.outputs]
    graph = Graph(op.name, [op], ports, results, exposed=[*ports, *results])
    return compile_graph(graph, key.config, keep_all=True)


def run_op(dev: Npu, op: Op, *arrays: NDArray[Any]) -> NDArray[Any]:
    """The output of `op` for `arrays`, its inputs in order. Equal operations are compiled once.

    Raises ModelError (a ValueError) where the operation does not fit the device's configuration, DeviceError.
    """
    key = _Key(dev.config, hashlib.sha256(pickle.dumps(op)).digest(), op)
    model = _compiled(key)
    with Session(dev, model) as session:
        session.run({border.name: array for border, array in zip(model.inputs, arrays, strict=True)})
        return session.exposed()[op.y.name]


def inputs(*arrays: NDArray[Any]) -> list[Tensor]:
    """Tensors x0, x1, ... of the arrays."""
    return [Tensor(f"x{number}", array.shape, array.dtype.name) for number, array in enumerate(arrays)]


def output(shape: Sequence[int], dtype: str = "int8") -> list[Tensor]:
    """The tensor y."""
    return [Tensor("y", tuple(shape), dtype)]


def int8(what: str, value: ArrayLike, ndim: int | None = None) -> Int8:
    """`value` as an int8 array of `ndim` axes without empty ones. Raises ValueError, which calls it `what`."""
    array = np.asarray(value)
    if array.dtype != np.int8:
        raise ValueError(f"{what} must have dtype int8, not {array.dtype}")
    if (ndim is not None and array.ndim != ndim) or 0 in array.shape or array.ndim == 0:
        axes = "at least one axis" if ndim is None else f"{ndim} axes"
        raise ValueError(f"{what} must have {axes}, each of at least 1, not shape {list(array.shape)}")
    return array


def integer(what: str, value: SupportsIndex, low: int, high: int) -> int:
    """An int of `low` to `high`. Raises ValueError."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{what} must be an int, not {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{what} must be in {low}..{high}, not {number}")
    return number


def zero_point(what: str, value: SupportsIndex) -> int:
    """An int8 zero point."""
    return integer(what, value, -128, 127)


def limits(function: str, qmin: int, qmax: int) -> Pair:
    """An int8 range."""
    low, high = integer(f"{function}: qmin", qmin, -128, 127), integer(f"{function}: qmax", qmax, -128, 127)
    if low > high:
        raise ValueError(f"{function}: qmin must be at most qmax ({high}), not {low}")
    return low, high


def pair(what: str, value: int | Sequence[int], low: int, high: int) -> Pair:
    """(vertical, horizontal) from two ints or one for both."""
    values = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{what} must be an int or two, not {value!r}")
    return integer(what, values[0], low, high), integer(what, values[1], low, high)


def requantize(requant: Requant | None, channels: int) -> Requantize | None:
    """A user's `Requant` in the form of the graph. Raises ValueError for another number of channels."""
    if requant is None:
        return None
    multiplier, shift = requant.columns(channels)
    return Requantize(
        multiplier, shift, requant.zero_point, requant.qmin, requant.qmax, requant.isa_mode
    )  # fmt: skip
