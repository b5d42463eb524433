"""Data movement on arrays: every element of the result is an element of an input, or a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.compiler import ir
from tidemill.driver.npu import Npu
from tidemill.ops import single

Array = NDArray[Any]


def move(dev: Npu, arrays: Sequence[Array], index: ArrayLike, fill: int = 0) -> Array:
    """y.flat[i] = the flattened and concatenated arrays [index.flat[i]], or `fill` where index is -1, on the device.

    `arrays` are int8, or all int32; y has the shape of `index`. Slices, repetitions, flips, splits are moves. Raises
    ValueError, DeviceError.
    """
    sources = [np.asarray(array) for array in arrays]
    types = sorted({str(source.dtype) for source in sources})
    if types not in (["int8"], ["int32"]):
        raise ValueError(f"move: arrays must be all int8 or all int32, not {', '.join(types) or 'none'}")
    positions, total = np.asarray(index), sum(source.size for source in sources)
    if positions.dtype.kind not in "iu" or positions.size == 0 or positions.ndim == 0:
        raise ValueError(
            f"move: index must be integers with at least one axis, not {positions.dtype} {list(positions.shape)}"
        )
    if positions.min() < -1 or positions.max() >= total:
        wrong = int(positions.min() if positions.min() < -1 else positions.max())
        raise ValueError(f"move: index must be in -1..{total - 1}, not {wrong}")
    limits = np.iinfo(types[0])
    op = ir.Move(
        "move", "move", single.inputs(*sources), single.output(positions.shape, types[0]), positions.astype(np.int64),
        single.integer("move: fill", fill, int(limits.min), int(limits.max)),
    )  # fmt: skip
    return single.run_op(dev, op, *sources)


def transpose(dev: Npu, x: Array, axes: Sequence[int] | None = None) -> Array:
    """`numpy.transpose` on the device."""
    return move(dev, [x], np.transpose(_positions(x), axes))


def concat(dev: Npu, arrays: Sequence[Array], axis: int = 0) -> Array:
    """`numpy.concatenate` on the device."""
    starts = np.cumsum([0, *(np.asarray(array).size for array in arrays)])
    parts = [_positions(array) + start for array, start in zip(arrays, starts[:-1], strict=True)]
    return move(dev, arrays, np.concatenate(parts, axis=axis))


def pad(dev: Npu, x: Array, widths: Sequence[tuple[int, int]], value: int = 0) -> Array:
    """`numpy.pad` with a constant, on the device; `widths` is (before, after) of each axis."""
    return move(dev, [x], np.pad(_positions(x), widths, constant_values=-1), value)


def _positions(x: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(x)
    return np.arange(array.size, dtype=np.int64).reshape(array.shape)
