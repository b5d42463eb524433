"""Elementwise operations on arrays: sums, products, extremes, tables and activations by table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tidemill.compiler import ir
from tidemill.driver.npu import Npu
from tidemill.golden import elementwise, tables
from tidemill.golden.affine import Affine, Requantization
from tidemill.golden.onnx_tables import onnx_table
from tidemill.ops import single
from tidemill.ops.single import Int8

Scales = tuple[float, float, float]
ZeroPoints = tuple[int, int, int]


def add(
    dev: Npu,
    a: Int8,
    b: Int8,
    scales: Scales,
    zero_points: ZeroPoints = (0, 0, 0),
    *,
    qmin: int = -128,
    qmax: int = 127,
    mode: str = "tflite",
) -> Int8:
    """a + b of real values on the device, int8 arrays that broadcast as in numpy.

    `scales` and `zero_points` are those of a, b and the result. Mode "tflite" gives TFLite Micro's ADD, "onnx" ONNX
    Runtime's QLinearAdd. Raises ValueError for arguments out of range, and in mode "onnx" where ONNX Runtime's float32
    rounding cannot be met for every pair of values; DeviceError.
    """
    affines, limit = _affines("add", scales, zero_points), single.limits("add", qmin, qmax)
    if _is_onnx("add", mode):
        found = elementwise.onnx_add(*affines, qmin=limit[0], qmax=limit[1])
    else:
        found = elementwise.tflite_add(*affines, qmin=limit[0], qmax=limit[1])
    return _sum(dev, "add", a, b, found)


def sub(
    dev: Npu,
    a: Int8,
    b: Int8,
    scales: Scales,
    zero_points: ZeroPoints = (0, 0, 0),
    *,
    qmin: int = -128,
    qmax: int = 127,
    mode: str = "tflite",
) -> Int8:
    """a - b of real values, as `add`; mode "onnx" is DequantizeLinear, Sub, QuantizeLinear."""
    affines, limit = _affines("sub", scales, zero_points), single.limits("sub", qmin, qmax)
    if _is_onnx("sub", mode):
        found = elementwise.onnx_add(*affines, subtract=True, qmin=limit[0], qmax=limit[1])
    else:
        found = elementwise.tflite_sub(*affines, qmin=limit[0], qmax=limit[1])
    return _sum(dev, "sub", a, b, found)


def mul(
    dev: Npu,
    a: Int8,
    b: Int8,
    scales: Scales,
    zero_points: ZeroPoints = (0, 0, 0),
    *,
    qmin: int = -128,
    qmax: int = 127,
    mode: str = "tflite",
) -> Int8:
    """a * b of real values, as `add`; mode "onnx" is QLinearMul."""
    affines, limit = _affines("mul", scales, zero_points), single.limits("mul", qmin, qmax)
    convert = elementwise.onnx_mul if _is_onnx("mul", mode) else elementwise.tflite_mul
    found = convert(*affines, qmin=limit[0], qmax=limit[1])
    _exact("mul", found.misses)
    a, b, shape = _broadcast("mul", a, b)
    scaling = _requantize(found.requantization)
    op = ir.Mul(
        "mul", "mul", single.inputs(a, b), single.output(shape), found.zero_a, found.zero_b, scaling
    )  # fmt: skip
    return single.run_op(dev, op, a, b)


def minimum(dev: Npu, a: Int8, b: Int8) -> Int8:
    """The smaller of each pair, int8 arrays that broadcast."""
    return _extreme(dev, "minimum", a, b)


def maximum(dev: Npu, a: Int8, b: Int8) -> Int8:
    """The larger of each pair, int8 arrays that broadcast."""
    return _extreme(dev, "maximum", a, b)


def table(dev: Npu, x: Int8, values: ArrayLike) -> Int8:
    """values[x & 255] of every element on the device; `values` is int8 [256]. Raises ValueError, DeviceError."""
    x, entries = single.int8("table: x", x), single.int8("table: values", values, 1)
    if entries.shape != (256,):
        raise ValueError(f"table: values must have 256 entries, not {entries.size}")
    return single.run_op(dev, ir.Table("table", "table", single.inputs(x), single.output(x.shape), entries), x)


_TFLITE: dict[str, Callable[..., Int8]] = {
    "requantize": tables.tflite_quantize,
    "relu": tables.tflite_relu,
    "relu6": lambda x, y: tables.tflite_relu6(x),
    "leaky_relu": tables.tflite_leaky_relu,
    "hard_swish": tables.tflite_hard_swish,
    "sigmoid": lambda x, y: tables.tflite_logistic(x),
    "tanh": lambda x, y: tables.tflite_tanh(x),
    "elu": tables.tflite_elu,
    "abs": tables.tflite_abs,
    "rsqrt": tables.tflite_rsqrt,
}
_FIXED = {"sigmoid": Affine(1 / 256, -128), "tanh": Affine(1 / 128, 0)}
"""Outputs that TFLite prescribes."""


def activation(
    dev: Npu,
    x: Int8,
    kind: str,
    scale: float,
    zero_point: int = 0,
    *,
    out_scale: float | None = None,
    out_zero_point: int | None = None,
    mode: str = "tflite",
    **attributes: Any,
) -> Int8:
    """An activation function on the device, by table; exact for every value.

    Parameters
    ----------
    x : int8, any shape
    kind : in mode "tflite" one of requantize, relu, relu6, leaky_relu (`alpha`), hard_swish, sigmoid, tanh, elu, abs,
        rsqrt: TFLite Micro's int8 kernels; in mode "onnx" the name of an ONNX operator (Relu, Sigmoid, Gelu, ...)
        between DequantizeLinear and QuantizeLinear
    scale, zero_point : of x
    out_scale, out_zero_point : of the result; default: the input's, or what TFLite prescribes (sigmoid, tanh)
    attributes : the operator's

    Raises ValueError, DeviceError.
    """
    source = _affine("activation", "", scale, zero_point)
    default = _FIXED.get(kind, source) if mode == "tflite" else source
    target = _affine(
        "activation", "out_", default.scale if out_scale is None else out_scale,
        default.zero_point if out_zero_point is None else out_zero_point,
    )  # fmt: skip
    if _is_onnx("activation", mode):
        return table(dev, x, onnx_table(kind, source, target, **attributes))
    if kind not in _TFLITE:
        raise ValueError(f"activation: kind must be one of {', '.join(_TFLITE)}, not {kind!r}")
    if (kind in _FIXED or kind == "relu6") and target != default:
        raise ValueError(
            f"activation: {kind} gives scale {default.scale:g} and zero point {default.zero_point}, "
            f"not {target.scale:g} and {target.zero_point}"
        )
    return table(dev, x, _TFLITE[kind](source, target, **attributes))


def relu(dev: Npu, x: Int8, zero_point: int = 0) -> Int8:
    """max(x, zero_point): the rectifier with input and result alike."""
    return activation(dev, x, "relu", 1.0, zero_point)


def softmax(dev: Npu, x: Int8, scale: float, beta: float = 1.0) -> Int8:
    """TFLite's int8 softmax over the last axis; the result has scale 1/256 and zero point -128.

    `scale` is that of x. Raises ValueError, DeviceError.
    """
    x = single.int8("softmax: x", x)
    for name, value in (("scale", scale), ("beta", beta)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"softmax: {name} must be finite and above 0, not {value!r}")
    op = ir.Softmax("softmax", "softmax", single.inputs(x), single.output(x.shape), float(scale), float(beta))
    return single.run_op(dev, op, x)


def _is_onnx(function: str, mode: str) -> bool:
    if mode not in ("tflite", "onnx"):
        raise ValueError(f"{function}: mode must be 'tflite' or 'onnx', not {mode!r}")
    return mode == "onnx"


def _affine(function: str, prefix: str, scale: float, zero_point: int) -> Affine:
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"{function}: {prefix}scale must be finite and above 0, not {scale!r}")
    return Affine(float(scale), single.zero_point(f"{function}: {prefix}zero_point", zero_point))


def _affines(function: str, scales: Scales, zero_points: ZeroPoints) -> tuple[Affine, Affine, Affine]:
    if len(scales) != 3 or len(zero_points) != 3:
        raise ValueError(f"{function}: scales and zero_points must have 3 entries (a, b, result), not {scales!r}")
    a, b, y = (_affine(function, "", s, z) for s, z in zip(scales, zero_points, strict=True))
    return a, b, y


def _requantize(found: Requantization) -> ir.Requantize:
    return ir.Requantize(
        found.multiplier, found.shift, found.zero_point, found.qmin, found.qmax, found.mode, found.bias, found.preshift
    )


def _exact(function: str, misses: int) -> None:
    if misses:
        raise ValueError(
            f"{function}: for these scales {misses} of 65536 pairs of values would differ from ONNX Runtime"
        )


def _broadcast(function: str, a: Int8, b: Int8) -> tuple[Int8, Int8, tuple[int, ...]]:
    a, b = single.int8(f"{function}: a", a), single.int8(f"{function}: b", b)
    try:
        return a, b, np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise ValueError(f"{function}: {list(a.shape)} and {list(b.shape)} do not broadcast") from None


def _sum(dev: Npu, name: str, a: Int8, b: Int8, found: elementwise.Addition) -> Int8:
    _exact(name, found.misses)
    a, b, shape = _broadcast(name, a, b)
    scaling = _requantize(found.requantization)
    op = ir.Add(
        name, name, single.inputs(a, b), single.output(shape), found.table_a, found.table_b, scaling
    )  # fmt: skip
    return single.run_op(dev, op, a, b)


def _extreme(dev: Npu, name: str, a: Int8, b: Int8) -> Int8:
    a, b, shape = _broadcast(name, a, b)
    op = ir.MinMax(name, name, single.inputs(a, b), single.output(shape), name == "maximum")
    return single.run_op(dev, op, a, b)
