"""Pooling and reductions of ONNX models."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tidemill.compiler.frontends.onnx_convert import Converter, handles
from tidemill.compiler.frontends.onnx_layers import quantized_input
from tidemill.compiler.frontends.onnx_model import Node
from tidemill.compiler.frontends.onnx_moves import reshape_value, transposed
from tidemill.compiler.frontends.onnx_values import (
    BYTES,
    Activation,
    Pending,
    Quantization,
    Real,
    Value,
    channels_last,
    require,
)
from tidemill.compiler.frontends.onnx_windows import Window, as_nhwc, finish_1d, from_nhwc, window
from tidemill.compiler.ir import MaxPool2D, SumPool2D


def pooled_shape(x: Activation, w: Window) -> tuple[int, ...]:
    """[N, C, ...] of the windows' results."""
    return (*x.shape[:2], *(w.output if len(x.shape) == 4 else w.output[1:]))


def rising(value: Real) -> bool:
    """Larger int8 values stand for values that are not smaller."""
    ordered = np.roll(value.table, 128)
    return bool(np.all(np.diff(ordered) >= 0))


def whole(x: Activation) -> Window:
    """One window over all pixels."""
    size = (1, *x.shape[2:])[-2:]
    return Window((size[0], size[1]), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))


def flat_pixels(c: Converter, node: Node, x: Activation) -> Activation:
    """[N, C, ...] of any rank as [N, C, H, W] for a window over everything."""
    if len(x.shape) in (3, 4):
        return x
    require(len(x.shape) > 4, node, f"its input must have 3 axes or more, not {len(x.shape)}")
    wide = reshape_value(c, node, x, (*x.shape[:2], x.shape[2], math.prod(x.shape[3:])))
    assert isinstance(wide, Activation)
    return wide


@handles("MaxPool", "GlobalMaxPool")
def max_pool(c: Converter, node: Node) -> Value:
    """MaxPool and GlobalMaxPool of int8 and uint8 tensors or rising functions of them."""
    value = c.value(node, 0)
    require(len(node.outputs) == 1, node, "the indices of the maxima are not supported")
    if isinstance(value, Real) and rising(value):
        return Real(max_pooled(c, node, value.activation), value.table, value.quantization)
    require(c.dtype(value) in BYTES, node, f"{c.dtype(value)} data that is not quantized is not supported")
    return max_pooled(c, node, c.activation(node, value))


def max_pooled(c: Converter, node: Node, x: Activation) -> Activation:
    """MaxPool2D of an activation."""
    rank = len(x.shape)
    if node.op == "GlobalMaxPool":
        x = flat_pixels(c, node, x)
        w = whole(x)
        shape: tuple[int, ...] = (*x.shape[:2], *[1] * (len(x.shape) - 2))
    else:
        require(node.integer("storage_order", 0) == 0, node, "storage_order must be 0")
        w = window(node, node.ints("kernel_shape") or [], x.shape[2:])
        shape = pooled_shape(x, w)
    y, tensor = c.build.new(node, shape, x.dtype, channels_last(len(shape)), x.quantization)
    wide = from_nhwc(c, node, y, tensor)
    c.build.ops.append(
        MaxPool2D(node.name, node.op, [as_nhwc(c, x)], [wide], w.kernel, w.strides, w.padding, w.dilation)
    )
    finish_1d(c, wide, tensor)
    if len(shape) != rank:
        return c.reshaped(y, (*shape[:2], *[1] * (rank - 2)), node)
    return y


def global_average(
    c: Converter, node: Node, x: Activation, qx: Quantization, target: Quantization, low: float, high: float
) -> Activation:
    """SumPool2D over all pixels, scaled by x_scale / (y_scale * pixels) (MlasQLinearGlobalAveragePool)."""
    rank, pixels = len(x.shape), math.prod(x.shape[2:])
    require(pixels > 0, node, "it has no pixels")
    x = flat_pixels(c, node, x)
    scale = qx.scale / (target.scale * np.float32(pixels))
    rq = c.requantize(node, scale, target, low, high)
    rq = dataclasses.replace(rq, bias=-pixels * qx.held_zero_point)
    w = whole(x)
    shape = (*x.shape[:2], *[1] * (len(x.shape) - 2))
    y, tensor = c.build.new(node, shape, target.dtype, channels_last(len(shape)), target)
    wide = from_nhwc(c, node, y, tensor)
    c.build.ops.append(
        SumPool2D(node.name, node.op, [as_nhwc(c, x)], [wide], w.kernel, w.strides, w.padding, {pixels: rq})
    )
    finish_1d(c, wide, tensor)
    if len(shape) != rank:
        return c.reshaped(y, (*shape[:2], *[1] * (rank - 2)), node)
    return y


@handles("GlobalAveragePool")
def global_average_pool(c: Converter, node: Node) -> Value:
    """GlobalAveragePool between DequantizeLinear and QuantizeLinear."""
    x, qx = quantized_input(c, node)

    def finish(target: Quantization, low: float, high: float) -> Activation:
        return global_average(c, node, x, qx, target, low, high)

    def as_float() -> Activation:
        raise node.error("its result is not quantized by a QuantizeLinear: onnxruntime averages it in float32")

    return Pending(node, (*x.shape[:2], *[1] * (len(x.shape) - 2)), finish, as_float)


@handles("com.microsoft.QLinearGlobalAveragePool")
def qlinear_global_average_pool(c: Converter, node: Node) -> Value:
    """QLinearGlobalAveragePool, channels first or last."""
    x = c.byte(node, 0)
    qx = c.quantization(node, 1, 2, None, x.dtype)
    qy = c.quantization(node, 3, 4, None, x.dtype)
    if not node.integer("channels_last", 0):
        return global_average(c, node, x, qx, qy, -math.inf, math.inf)
    rank = len(x.shape)
    perm = (0, rank - 1, *range(1, rank - 1))
    first = transposed(c, node, x, perm)
    assert isinstance(first, Activation)
    return transposed(c, node, global_average(c, node, first, qx, qy, -math.inf, math.inf), channels_last(rank))
