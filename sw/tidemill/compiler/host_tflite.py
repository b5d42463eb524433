"""Host functions of TFLite operators: what `host.FUNCTIONS` takes from here, named `tflite.<operator>`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.ports import InputError
from tidemill.golden import elementwise, reduce, resize, softmax, vector
from tidemill.golden.affine import Affine, round_away
from tidemill.golden.svdf import Svdf

Array = NDArray[Any]
Attributes = Mapping[str, Any]


def quantize(attributes: Attributes, x: Array) -> list[Array]:
    """float32 to int8: round(x / scale) + zero_point in float32, halves away from zero, saturated (AffineQuantize)."""
    rounded = np.nan_to_num(round_away(x.astype(np.float32) / np.float32(attributes["scale"])))
    return [np.clip(rounded + attributes["zero_point"], -128, 127).astype(np.int8)]


def dequantize(attributes: Attributes, x: Array) -> list[Array]:
    """int8 to float32: scale * (x - zero_point) in double, then rounded (Dequantize)."""
    values = (x.astype(np.int32) - attributes["zero_point"]).astype(np.float64)
    return [(values * float(np.float32(attributes["scale"]))).astype(np.float32)]


def argmax(attributes: Attributes, x: Array) -> list[Array]:
    """Index of the largest (`maximum`) or smallest element along `axis`, the first of equals."""
    find = np.argmax if attributes["maximum"] else np.argmin
    return [np.asarray(find(x, axis=attributes["axis"])).astype(attributes["dtype"])]


def reduce_min(attributes: Attributes, x: Array) -> list[Array]:
    """Smallest element over `axes`, as `shape`."""
    return [np.min(x, axis=tuple(attributes["axes"])).reshape(attributes["shape"])]


def squared_difference(attributes: Attributes, a: Array, b: Array) -> list[Array]:
    """(a - b) ** 2; `a`, `b` and `y` are pairs of scale and zero point."""
    quantizations = (_affine(attributes[name]) for name in "aby")
    return [elementwise.tflite_squared_difference(a, b, *quantizations)]


def resize_bilinear(attributes: Attributes, x: Array) -> list[Array]:
    """[N, H, W, C] to `size` (height, width)."""
    height, width = attributes["size"]
    corners, halves = attributes["align_corners"], attributes["half_pixel_centers"]
    return [resize.tflite_resize_bilinear(x, (height, width), align_corners=corners, half_pixel_centers=halves)]


def _affine(pair: Any) -> Affine:
    return Affine(float(pair[0]), int(pair[1]))


def div(attributes: Attributes, a: Array, b: Array) -> list[Array]:
    """a / b; `a`, `b` and `y` are pairs of scale and zero point."""
    first, second, y = (_affine(attributes[name]) for name in "aby")
    return [elementwise.tflite_div(a, b, first, second, y, qmin=attributes["qmin"], qmax=attributes["qmax"])]


def add_n(attributes: Attributes, *values: Array) -> list[Array]:
    """The sum of all inputs; `x` and `y` are pairs of scale and zero point."""
    return [elementwise.tflite_add_n(values, _affine(attributes["x"]), _affine(attributes["y"]))]


def log_softmax(attributes: Attributes, x: Array) -> list[Array]:
    """Over the last axis; `scale` is the input's."""
    return [softmax.tflite_log_softmax(x, attributes["scale"])]


def l2_normalization(attributes: Attributes, x: Array) -> list[Array]:
    """Over the last axis; `zero_point` is the input's."""
    return [reduce.tflite_l2_normalization(x, attributes["zero_point"])]


def cumsum(attributes: Attributes, x: Array) -> list[Array]:
    """Along `axis`; `x` and `y` are pairs of scale and zero point."""
    flags = {name: bool(attributes[name]) for name in ("exclusive", "reverse")}
    return [reduce.tflite_cumsum(x, attributes["axis"], _affine(attributes["x"]), _affine(attributes["y"]), **flags)]


def reduce_all(attributes: Attributes, x: Array) -> list[Array]:
    """Whether all elements over `axes` are true."""
    return [np.all(x, axis=tuple(attributes["axes"]))]


def _check_index(index: Array, size: int) -> None:
    if np.any((index < 0) | (index >= size)):
        raise InputError(f"gathers element {int(index.max())} or {int(index.min())} of 0..{size - 1}")


def gather(attributes: Attributes, x: Array, index: Array) -> list[Array]:
    """The slices `index` of `axis`; `batch` leading axes are common. Raises InputError for an index out of range."""
    axis, batch = attributes["axis"], attributes["batch"]
    _check_index(index, x.shape[axis])
    common, outer, inner = (math.prod(x.shape[a:b]) for a, b in ((0, batch), (batch, axis), (axis + 1, x.ndim)))
    flat = index.reshape(common, -1)
    picked = x.reshape(common, outer, x.shape[axis], inner)[np.arange(common)[:, None], :, flat]
    return [picked.transpose(0, 2, 1, 3).reshape(*x.shape[:axis], *index.shape[batch:], *x.shape[axis + 1 :])]


def gather_nd(attributes: Attributes, x: Array, index: Array) -> list[Array]:
    """The slices at the places along the last axis of `index`. Raises InputError for an index out of range."""
    for number in range(index.shape[-1]):
        _check_index(index[..., number], x.shape[number])
    return [x[tuple(np.moveaxis(index, -1, 0))]]


def dynamic_update_slice(attributes: Attributes, x: Array, update: Array, starts: Array) -> list[Array]:
    """`x` with `update` put at `starts`, which are limited to where it fits."""
    place = [int(np.clip(s, 0, n - u)) for s, n, u in zip(starts, x.shape, update.shape, strict=True)]
    result = x.copy()
    result[tuple(slice(p, p + u) for p, u in zip(place, update.shape, strict=True))] = update
    return [result]


COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "EQUAL": np.equal,
    "NOT_EQUAL": np.not_equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "LOGICAL_AND": np.logical_and,
    "LOGICAL_OR": np.logical_or,
}
"""By operator name."""


def compare(attributes: Attributes, a: Array, b: Array) -> list[Array]:
    """`function` of COMPARISONS; int8 inputs are compared by their tables `a` and `b`."""
    if "a" in attributes:
        a, b = vector.post_lut(a, attributes["a"]), vector.post_lut(b, attributes["b"])
    return [COMPARISONS[attributes["function"]](a, b)]


def logical_not(attributes: Attributes, x: Array) -> list[Array]:
    """Not x."""
    return [np.logical_not(x)]


def select(attributes: Attributes, condition: Array, x: Array, z: Array) -> list[Array]:
    """x where the condition is true, else z."""
    return [np.where(condition, x, z)]


def cast(attributes: Attributes, x: Array) -> list[Array]:
    """Numbers as `dtype`: real ones cut off towards zero and saturated, integers modulo the type's range."""
    dtype = np.dtype(attributes["dtype"])
    if x.dtype.kind == "f" and dtype.kind == "i":
        low, high = float(np.iinfo(attributes["dtype"]).min), float(np.iinfo(attributes["dtype"]).max)
        x = np.clip(np.trunc(np.nan_to_num(x.astype(np.float64))), low, high)
    return [x.astype(dtype)]


def svdf(attributes: Attributes, x: Array, memory: Array) -> list[Array]:
    """Output and new memory, [batch, filters, bytes]; see frontends.tflite_svdf for the attributes."""
    scales, times = attributes["scales"], np.asarray(attributes["times"])
    quantizations = (_affine(attributes[name]) for name in ("state", "y"))
    layer = Svdf(
        attributes["features"], times, attributes["bias"], attributes["rank"], _affine(attributes["x"]), *scales,
        *quantizations,
    )  # fmt: skip
    y, new = layer(x, np.ascontiguousarray(memory).view(times.dtype))
    return [y, np.ascontiguousarray(new).view(np.int8)]


FUNCTIONS: dict[str, Callable[..., list[Array]]] = {
    "tflite.quantize": quantize,
    "tflite.dequantize": dequantize,
    "tflite.argmax": argmax,
    "tflite.reduce_min": reduce_min,
    "tflite.squared_difference": squared_difference,
    "tflite.resize_bilinear": resize_bilinear,
    "tflite.div": div,
    "tflite.add_n": add_n,
    "tflite.log_softmax": log_softmax,
    "tflite.l2_normalization": l2_normalization,
    "tflite.cumsum": cumsum,
    "tflite.reduce_all": reduce_all,
    "tflite.gather": gather,
    "tflite.gather_nd": gather_nd,
    "tflite.dynamic_update_slice": dynamic_update_slice,
    "tflite.compare": compare,
    "tflite.logical_not": logical_not,
    "tflite.select": select,
    "tflite.cast": cast,
    "tflite.svdf": svdf,
}
"""f(attributes, *inputs) -> outputs, by name."""
