"""Host functions of TFLite operators: what `host.FUNCTIONS` takes from here, named `tflite.<operator>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.golden import elementwise, resize
from tidemill.golden.affine import Affine, round_away

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
    quantizations = (Affine(float(attributes[name][0]), int(attributes[name][1])) for name in "aby")
    return [elementwise.tflite_squared_difference(a, b, *quantizations)]


def resize_bilinear(attributes: Attributes, x: Array) -> list[Array]:
    """[N, H, W, C] to `size` (height, width)."""
    height, width = attributes["size"]
    corners, halves = attributes["align_corners"], attributes["half_pixel_centers"]
    return [resize.tflite_resize_bilinear(x, (height, width), align_corners=corners, half_pixel_centers=halves)]


FUNCTIONS: dict[str, Callable[..., list[Array]]] = {
    "tflite.quantize": quantize,
    "tflite.dequantize": dequantize,
    "tflite.argmax": argmax,
    "tflite.reduce_min": reduce_min,
    "tflite.squared_difference": squared_difference,
    "tflite.resize_bilinear": resize_bilinear,
}
"""f(attributes, *inputs) -> outputs, by name."""
