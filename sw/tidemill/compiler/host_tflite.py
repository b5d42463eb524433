"""Host functions of TFLite operators: what `host.FUNCTIONS` takes from here, named `tflite.<operator>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Attributes = Mapping[str, Any]


def quantize(attributes: Attributes, x: Array) -> list[Array]:
    """float32 to int8: round(x / scale) + zero_point, ties away from zero, saturated (AffineQuantize)."""
    scaled = x.astype(np.float32) / np.float32(attributes["scale"])
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
    # the largest float32 below 0.5 plus 0.5 is 1 in float32
    rounded = np.where(np.abs(scaled) < 0.5, 0, rounded)
    return [np.clip(np.nan_to_num(rounded) + attributes["zero_point"], -128, 127).astype(np.int8)]


def dequantize(attributes: Attributes, x: Array) -> list[Array]:
    """int8 to float32: scale * (x - zero_point) in double, then rounded (Dequantize)."""
    values = (x.astype(np.int32) - attributes["zero_point"]).astype(np.float64)
    return [(values * float(np.float32(attributes["scale"]))).astype(np.float32)]


def argmax(attributes: Attributes, x: Array) -> list[Array]:
    """Index of the largest (`maximum`) or smallest element along `axis`, the first of equals."""
    find = np.argmax if attributes["maximum"] else np.argmin
    return [np.asarray(find(x, axis=attributes["axis"])).astype(attributes["dtype"])]


def reduce_max(attributes: Attributes, x: Array) -> list[Array]:
    """Largest (`maximum`) or smallest element over `axes`."""
    reduce = np.max if attributes["maximum"] else np.min
    return [np.asarray(reduce(x, axis=tuple(attributes["axes"]), keepdims=True))]


FUNCTIONS: dict[str, Callable[..., list[Array]]] = {
    "tflite.quantize": quantize,
    "tflite.dequantize": dequantize,
    "tflite.argmax": argmax,
    "tflite.reduce_max": reduce_max,
}
