"""Host functions of ONNX operators: what `host.FUNCTIONS` takes from here, named `onnx.<function>`.

uint8 tensors of the model come and go as int8 holding `value - 128`; the attributes give the model's types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.golden import onnx_tables

Array = NDArray[Any]
Attributes = Mapping[str, Any]
PARAMETERS = ("alpha", "beta", "gamma", "approximate")
"""Attributes of elementwise functions."""
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535)}


def held(values: Array, dtype: str) -> Array:
    """Values of the model's type `dtype` as the graph holds them."""
    if dtype == "uint8":
        return (values.astype(np.int16) - 128).astype(np.int8)
    return values.astype(dtype)


def model(values: Array, dtype: str) -> Array:
    """Values that the graph holds in the model's type `dtype`."""
    if dtype == "uint8":
        return (values.astype(np.int16) + 128).astype(np.uint8)
    return values.astype(dtype)


def _along(parameter: Array, attributes: Attributes, rank: int) -> Array:
    if "axis" not in attributes:
        return np.asarray(parameter)
    return np.asarray(parameter).reshape([-1 if axis == attributes["axis"] else 1 for axis in range(rank)])


def quantize(attributes: Attributes, x: Array) -> list[Array]:
    """QuantizeLinear of float32: divide, round half to even, saturate."""
    scale = _along(attributes["scale"], attributes, x.ndim)
    zero_point = _along(attributes["zero_point"], attributes, x.ndim)
    low, high = LIMITS[attributes["dtype"]]
    with np.errstate(all="ignore"):
        scaled = np.rint(x / scale).astype(np.float64)
    values = np.clip(np.where(np.isnan(scaled), low, scaled + zero_point), low, high)
    return [held(values.astype(attributes["dtype"]), attributes["dtype"])]


def dequantize(attributes: Attributes, x: Array) -> list[Array]:
    """DequantizeLinear to float32."""
    scale = _along(attributes["scale"], attributes, x.ndim)
    zero_point = _along(attributes["zero_point"], attributes, x.ndim)
    difference = model(x, attributes["dtype"]).astype(np.int64) - zero_point
    return [(difference.astype(np.float32) * scale).astype(np.float32)]


def _computed(dtype: str, scale: Array, zero_point: tuple[Array, ...]) -> Attributes:
    """Parameters of `quantize` and `dequantize` that are tensors of the graph."""
    zero = model(zero_point[0], dtype).astype(np.int64).reshape(()) if zero_point else np.int64(0)
    return {"scale": scale.reshape(()), "zero_point": zero, "dtype": dtype}


def quantize_computed(attributes: Attributes, x: Array, scale: Array, *zero_point: Array) -> list[Array]:
    """QuantizeLinear by a scale and zero point that are computed."""
    return quantize(_computed(attributes["dtype"], scale, zero_point), x)


def dequantize_computed(attributes: Attributes, x: Array, scale: Array, *zero_point: Array) -> list[Array]:
    """DequantizeLinear by a scale and zero point that are computed."""
    return dequantize(_computed(attributes["dtype"], scale, zero_point), x)


def dynamic_quantize(attributes: Attributes, x: Array) -> list[Array]:
    """DynamicQuantizeLinear: uint8 values, scale and zero point (GetQuantizationParameter)."""
    low = np.minimum(np.min(x, initial=0), np.float32(0)).astype(np.float32)
    high = np.maximum(np.max(x, initial=0), np.float32(0)).astype(np.float32)
    scale = np.float32(1) if low == high else np.float32((high - low) / np.float32(255))
    zero = np.rint(np.clip(-low / scale, np.float32(0), np.float32(255))).astype(np.uint8)
    parameters = {"scale": scale, "zero_point": np.int64(zero), "dtype": "uint8"}
    return [*quantize(parameters, x), np.asarray(scale), held(np.asarray(zero), "uint8")]


def lookup(attributes: Attributes, x: Array) -> list[Array]:
    """table[x & 255]."""
    return [np.asarray(attributes["table"])[x.view(np.uint8)]]


def pair(attributes: Attributes, a: Array, b: Array) -> list[Array]:
    """table[a & 255, b & 255], broadcasting."""
    return [np.asarray(attributes["table"])[a.view(np.uint8), b.view(np.uint8)]]


def move(attributes: Attributes, *inputs: Array) -> list[Array]:
    """Data movement of any type, as `ir.Move`."""
    dtype = inputs[0].dtype
    flat = np.concatenate([*(value.reshape(-1) for value in inputs), np.array([attributes["fill"]], dtype=dtype)])
    return [flat[attributes["index"]]]


def scale(attributes: Attributes, x: Array) -> list[Array]:
    """float32(int32) * scale, one or one a channel (MlasGemm with a scale)."""
    return [x.astype(np.float32) * np.asarray(attributes["scale"], dtype=np.float32)]


def minus_zero_point(attributes: Attributes, acc: Array, zero_point: Array) -> list[Array]:
    """int32 sums minus the (uint8, held) zero point times the sums of the weights, modulo 2**32."""
    # the activations are held 128 lower too, so the held zero point is the one they need
    correction = np.asarray(attributes["sums"]).astype(np.int64) * int(zero_point.reshape(-1)[0])
    return [(acc.astype(np.int64) - correction).astype(np.int32)]


def cast(attributes: Attributes, x: Array) -> list[Array]:
    """To another type; integers wrap, what float values out of an integer's range become is not defined by ONNX."""
    with np.errstate(invalid="ignore"):
        return [held(model(x, attributes["source"]).astype(attributes["dtype"]), attributes["dtype"])]


def matmul(attributes: Attributes, a: Array, b: Array) -> list[Array]:
    """Integer product, which wraps."""
    return [np.asarray(a @ b)]


def _clip(attributes: Attributes, x: Array) -> Array:
    limits = []
    for limit, end in ((attributes["low"], "min"), (attributes["high"], "max")):
        if np.isfinite(limit) or x.dtype.kind == "f":
            limits.append(x.dtype.type(limit))
        else:
            limits.append(x.dtype.type(getattr(np.iinfo(x.dtype), end)))
    return np.asarray(np.minimum(np.maximum(x, limits[0]), limits[1]))


def _golden(function: Callable[..., Array]) -> Callable[[Attributes, Array], Array]:
    def run(attributes: Attributes, x: Array) -> Array:
        return function(x, **{name: attributes[name] for name in attributes if name in PARAMETERS})

    return run


UNARY: dict[str, Callable[[Attributes, Array], Array]] = {
    **{name: _golden(function) for name, function in onnx_tables.FUNCTIONS.items()},
    "Relu": lambda attributes, x: np.maximum(x, x.dtype.type(0)),
    "Clip": _clip,
}
"""f(attributes, x) of elementwise operators, as ONNX Runtime computes them."""


def _integer_division(a: Array, b: Array) -> Array:
    """Towards zero, as C divides; what C leaves undefined is 0."""
    a64, b64 = a.astype(np.int64), b.astype(np.int64)
    quotient = np.abs(a64) // np.where(b64 == 0, 1, np.abs(b64))
    return np.asarray(np.where(b64 == 0, 0, np.sign(a64) * np.sign(b64) * quotient)).astype(a.dtype)


def _divide(a: Array, b: Array) -> Array:
    return a / b if a.dtype.kind == "f" else _integer_division(a, b)


def _shift(a: Array, b: Array, left: bool) -> Array:
    wide = b >= 8 * a.dtype.itemsize
    count = np.where(wide, 0, b).astype(a.dtype)
    return np.where(wide, 0, a << count if left else a >> count).astype(a.dtype)


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Pow": np.power,
    "Mod": np.mod,
    "Fmod": np.fmod,
    "BitShiftLEFT": lambda a, b: _shift(a, b, True),
    "BitShiftRIGHT": lambda a, b: _shift(a, b, False),
    "PRelu": lambda a, b: np.where(a < 0, a * b, a),
    "And": np.logical_and,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
"""f(a, b) of broadcasting operators."""


def unary(attributes: Attributes, x: Array) -> list[Array]:
    """`UNARY[function]` in the model's types."""
    with np.errstate(all="ignore"):
        y = UNARY[attributes["function"]](attributes, model(x, attributes["inputs"][0]))
    return [held(np.asarray(y), attributes["dtype"])]


def binary(attributes: Attributes, a: Array, b: Array) -> list[Array]:
    """`BINARY[function]` in the model's types; integers wrap."""
    function = "Fmod" if attributes.get("fmod") else attributes["function"]
    first, second = (model(x, dtype) for x, dtype in zip((a, b), attributes["inputs"], strict=True))
    with np.errstate(all="ignore"):
        y = BINARY[function](first, second)
    return [held(np.asarray(y), attributes["dtype"])]


def where(attributes: Attributes, condition: Array, a: Array, b: Array) -> list[Array]:
    """Elements of `a` where the condition holds, else of `b`."""
    return [np.where(condition, a, b)]


_REDUCE: dict[str, Callable[..., Array]] = {"ReduceMax": np.max, "ReduceMin": np.min}


def reduce(attributes: Attributes, x: Array) -> list[Array]:
    """Largest or smallest element over `axes`; the order of held bytes is that of the model's."""
    return [np.asarray(_REDUCE[attributes["function"]](x, axis=tuple(attributes["axes"]), keepdims=True))]


def average_pool(attributes: Attributes, x: Array) -> list[Array]:
    """QLinearAveragePool of [N, H, W, C]: float32 sums in the order of each window's pixels (QLinearPoolNhwc2DTask)."""
    scale = np.asarray(attributes["x_scale"], dtype=np.float32)
    real = (x.astype(np.int32) - attributes["x_zero_point"]).astype(np.float32) * scale
    (kh, kw), (sh, sw) = attributes["kernel"], attributes["strides"]
    top, bottom, left, right = attributes["padding"]
    margins = ((0, 0), (top, bottom), (left, right), (0, 0))
    inside = np.pad(np.ones((1, *x.shape[1:3], 1), dtype=np.float32), margins)
    padded = np.pad(real, margins)
    height, width = (padded.shape[1] - kh) // sh + 1, (padded.shape[2] - kw) // sw + 1
    total = np.zeros((x.shape[0], height, width, x.shape[3]), dtype=np.float32)
    count = np.zeros((1, height, width, 1), dtype=np.float32)
    for i, j in np.ndindex(kh, kw):
        rows, columns = slice(i, i + (height - 1) * sh + 1, sh), slice(j, j + (width - 1) * sw + 1, sw)
        total += padded[:, rows, columns]
        count += inside[:, rows, columns]
    mean = total / (np.float32(kh * kw) if attributes["include"] else count)
    offset, zero_point = attributes["offset"], np.float32(attributes["y_zero_point"])
    rounded = np.rint(mean / np.asarray(attributes["y_scale"], dtype=np.float32) + zero_point)
    low, high = attributes["limits"]
    return [np.clip(rounded.astype(np.int64) - offset, low, high).astype(np.int8)]


def softmax(attributes: Attributes, x: Array) -> list[Array]:
    """QLinearSoftmax: exponentials by a float32 table, float32 sums (QlinearSoftmaxCPU)."""
    shape, axis = x.shape, attributes["axis"]
    rows = x.reshape(int(np.prod(shape[:axis])), -1) if attributes["flatten"] else np.swapaxes(x, axis, -1)
    length = rows.shape[-1]
    scale = np.float64(np.float32(attributes["scale"]))
    room = np.float64(np.log(np.finfo(np.float32).max / np.float32(length)))
    shift = max(0.0, room - 5) / scale
    table = np.exp((np.arange(256) - 255 + shift) * scale).astype(np.float32)
    exponentials = table[rows.astype(np.int64) + 255 - rows.max(axis=-1, keepdims=True).astype(np.int64)]
    total = np.add.accumulate(exponentials, axis=-1)[..., -1:]
    steps = np.floor(np.float32(1) / np.float32(attributes["y_scale"]))
    values = np.rint(exponentials * steps / total).astype(np.int64) + attributes["y_zero_point"]
    offset = 128 if attributes["dtype"] == "uint8" else 0
    held_values = np.clip(values - offset, -128, 127).astype(np.int8)
    return [held_values.reshape(shape) if attributes["flatten"] else np.swapaxes(held_values, axis, -1)]


def resize_linear(attributes: Attributes, x: Array) -> list[Array]:
    """Bilinear interpolation of [N, C, H, W] in float32, integers cut (UpsampleBilinear)."""
    top, bottom, left, right = (attributes[name] for name in ("first2", "second2", "first3", "second3"))
    down, up = (np.asarray(attributes[name], dtype=np.float32)[:, None] for name in ("to_first2", "to_second2"))
    along, back = (np.asarray(attributes[name], dtype=np.float32) for name in ("to_first3", "to_second3"))
    dtype = attributes["dtype"]
    real = model(x, dtype).astype(np.float32)
    total = back * up * real[:, :, top][..., left]
    total = total + along * up * real[:, :, top][..., right]
    total = total + back * down * real[:, :, bottom][..., left]
    total = total + along * down * real[:, :, bottom][..., right]
    return [total if dtype == "float32" else held(np.trunc(total).astype(dtype), dtype)]


def argmax(attributes: Attributes, x: Array) -> list[Array]:
    """Index of the first (or last) largest element along `axis`; held bytes have the model's order."""
    axis = attributes["axis"]
    if not attributes["last"]:
        return [np.argmax(x, axis=axis, keepdims=True).astype(np.int64)]
    return [x.shape[axis] - 1 - np.argmax(np.flip(x, axis), axis=axis, keepdims=True).astype(np.int64)]


FUNCTIONS: dict[str, Callable[..., list[Array]]] = {
    "onnx.quantize": quantize,
    "onnx.dequantize": dequantize,
    "onnx.quantize_computed": quantize_computed,
    "onnx.dequantize_computed": dequantize_computed,
    "onnx.dynamic_quantize": dynamic_quantize,
    "onnx.lookup": lookup,
    "onnx.pair": pair,
    "onnx.move": move,
    "onnx.scale": scale,
    "onnx.minus_zero_point": minus_zero_point,
    "onnx.cast": cast,
    "onnx.matmul": matmul,
    "onnx.unary": unary,
    "onnx.binary": binary,
    "onnx.where": where,
    "onnx.reduce": reduce,
    "onnx.average_pool": average_pool,
    "onnx.softmax": softmax,
    "onnx.argmax": argmax,
    "onnx.resize_linear": resize_linear,
}
