"""Host functions of ONNX operators: what `host.FUNCTIONS` takes from here, named `onnx.<function>`.

uint8 tensors of the model come and go as int8 holding `value - 128`; the attributes give the model's types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Attributes = Mapping[str, Any]
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
    """To another type; integers wrap."""
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


def _leaky_relu(attributes: Attributes, x: Array) -> Array:
    return np.where(x >= 0, x, x * np.float32(attributes["alpha"]))


def _hard_sigmoid(attributes: Attributes, x: Array) -> Array:
    line = np.float32(attributes["alpha"]) * x + np.float32(attributes["beta"])
    return np.asarray(np.maximum(np.minimum(line, np.float32(1)), np.float32(0)))


UNARY: dict[str, Callable[[Attributes, Array], Array]] = {
    "Relu": lambda attributes, x: np.maximum(x, x.dtype.type(0)),
    "Clip": _clip,
    "LeakyRelu": _leaky_relu,
    "HardSigmoid": _hard_sigmoid,
    "Abs": lambda attributes, x: np.abs(x),
    "Neg": lambda attributes, x: -x,
    "Sign": lambda attributes, x: np.sign(x),
    "Floor": lambda attributes, x: np.floor(x),
    "Ceil": lambda attributes, x: np.ceil(x),
    "Round": lambda attributes, x: np.rint(x),
    "Sqrt": lambda attributes, x: np.sqrt(x),
}
"""f(attributes, x) of elementwise operators that numpy computes as ONNX Runtime does."""


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


FUNCTIONS: dict[str, Callable[..., list[Array]]] = {
    "onnx.quantize": quantize,
    "onnx.dequantize": dequantize,
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
}
