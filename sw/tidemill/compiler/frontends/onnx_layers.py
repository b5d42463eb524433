"""Layers of ONNX models that are integer products: convolutions, Gemm, MatMul, in all their quantized spellings.

The scale of a requantized product is float32(float32(x_scale * w_scale) / y_scale), in that order of roundings, as in
ONNX Runtime's QLinearConv, QLinearMatMul and QGemm.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.frontends.onnx_convert import Converter, broadcast, handles
from tidemill.compiler.frontends.onnx_model import Array, Node, check_size
from tidemill.compiler.frontends.onnx_values import (
    BYTES,
    Activation,
    Constant,
    Float,
    Pending,
    Quantization,
    Real,
    Value,
    channels_last,
    require,
)
from tidemill.compiler.frontends.onnx_windows import Window, as_nhwc, finish_1d, from_nhwc, window
from tidemill.compiler.ir import Conv2D, Host, MatMul, Requantize, Tensor


@dataclass(frozen=True)
class Weights:
    """Constant weights minus their zero point, in the model's shape, and their scales, scalar or [channels]."""

    values: NDArray[np.int16]
    scale: Float
    quantized: Array
    zero_point: Array


def weights(node: Node, array: Array, zero: Array | int, axis: int) -> NDArray[np.int16]:
    """`array` minus the zero point, which has one element or one for each index of `axis`."""
    require(str(array.dtype) in BYTES, node, f"weights must be int8 or uint8, not {array.dtype}")
    zero = np.asarray(zero, dtype=np.int64)
    if zero.size > 1:
        require(zero.size == array.shape[axis], node, "the weights' zero points must be one per output channel")
        zero = zero.reshape([-1 if i == axis % array.ndim else 1 for i in range(array.ndim)])
    else:
        zero = zero.reshape(())
    return (array.astype(np.int64) - zero).astype(np.int16)


def dequantized_weights(c: Converter, node: Node, index: int, axis: int) -> Weights:
    """Input `index`: DequantizeLinear of constant int8 or uint8 weights, per tensor or along `axis`."""
    value = c.value(node, index)
    if not isinstance(value, Constant) or value.quantization is None or value.quantized is None:
        raise node.error(f"its weights {node.inputs[index]!r} are not quantized: quantize the model to 8 bits first")
    q = value.quantization
    require(q.dtype in BYTES, node, f"weights must be int8 or uint8, not {q.dtype}")
    axis %= value.array.ndim
    require(q.axis is None or q.axis % value.array.ndim == axis, node, "weights must be quantized per output channel")
    return Weights(weights(node, value.quantized, q.zero_point, axis), q.scale, value.quantized, q.zero_point)


def quantized_input(c: Converter, node: Node, index: int = 0) -> tuple[Activation, Quantization]:
    """Input `index`: DequantizeLinear of an int8 or uint8 activation."""
    value = c.value(node, index)
    real = c.real(value)
    if real is None or real.quantization is None:
        raise node.error(f"its input {node.inputs[index]!r} is float32, not quantized: quantize the model to 8 bits")
    return real.activation, real.quantization


def bias(c: Converter, node: Node, index: int, scales: Float, channels: int) -> NDArray[np.int32]:
    """Input `index` as int32 in units of `scales`; a float constant is rounded to them (WeightBiasQuantization)."""
    value = c.optional(node, index)
    if value is None:
        return np.zeros(channels, dtype=np.int32)
    if not isinstance(value, Constant):
        raise node.error("its bias must be a constant")
    if value.quantized is not None and value.quantization is not None and value.quantization.dtype == "int32":
        integers = value.quantized
    elif value.array.dtype == np.int32:
        integers = value.array
    else:
        with np.errstate(all="ignore"):
            rounded = np.rint(value.array.astype(np.float32) / scales)
        require(bool(np.isfinite(rounded).all()), node, "its bias is too large for its scale")
        integers = np.clip(rounded.astype(np.float64), -(1 << 31), (1 << 31) - 1).astype(np.int32)
    fits = integers.size in (1, channels) and integers.size == math.prod(integers.shape[-1:])
    require(fits, node, f"its bias must have {channels} elements, not shape {list(integers.shape)}")
    return np.broadcast_to(integers.reshape(-1), (channels,)).astype(np.int32)


# ---- convolutions


def convolution(
    c: Converter,
    node: Node,
    x: Activation,
    zero_point: int,
    values: NDArray[np.int16],
    biases: NDArray[np.int32],
    requantize: Requantize | None,
    dtype: str,
    quantization: Quantization | None = None,
) -> Activation:
    """Conv2D of x [N, C, ...] with weights [Co, C / groups, ...]."""
    require(len(x.shape) in (3, 4), node, f"its input must have 3 or 4 axes, not {len(x.shape)}")
    require(values.ndim == len(x.shape), node, f"its weights must have {len(x.shape)} axes, not {values.ndim}")
    groups = node.integer("group", 1)
    outputs, depth, *kernel = values.shape
    require(node.ints("kernel_shape", kernel) == kernel, node, "kernel_shape differs from the weights' shape")
    fits = groups > 0 and depth * groups == x.shape[1] and outputs > 0 and outputs % groups == 0
    require(fits, node, f"weights {list(values.shape)} with {groups} groups do not fit {x.shape[1]} channels")
    w = window(node, kernel, x.shape[2:])
    shape = (x.shape[0], outputs, *(w.output if len(kernel) == 2 else w.output[1:]))
    y, tensor = c.build.new(node, shape, dtype, channels_last(len(shape)), quantization)
    wide = from_nhwc(c, node, y, tensor)
    filters = values.reshape(outputs, depth, *w.kernel).transpose(0, 2, 3, 1)
    c.build.ops.append(
        Conv2D(
            node.name,
            node.op,
            [as_nhwc(c, x)],
            [wide],
            weights=np.ascontiguousarray(filters),
            bias=biases,
            requantize=requantize,
            strides=w.strides,
            dilation=w.dilation,
            padding=w.padding,
            groups=groups,
            input_zero_point=zero_point,
        )
    )
    finish_1d(c, wide, tensor)
    return y


@handles("QLinearConv")
def qlinear_conv(c: Converter, node: Node) -> Value:
    """QLinearConv."""
    x = c.byte(node, 0)
    qx = c.quantization(node, 1, 2, None, x.dtype)
    qw = c.quantization(node, 4, 5, 0, "int8")
    qy = c.quantization(node, 6, 7, None, x.dtype)
    require(qx.dtype == x.dtype, node, "the input's zero point differs in type from the input")
    array = c.constant(node, 3, "the weights")
    values = weights(node, array, qw.zero_point, 0)
    scales = qx.scale * qw.scale
    biases = bias(c, node, 8, scales, array.shape[0])
    channel_scales(node, scales, array.shape[0])
    return convolution(
        c, node, x, qx.held_zero_point, values, biases, c.requantize(node, scales / qy.scale, qy), qy.dtype, qy
    )


def channel_scales(node: Node, scales: Float, channels: int) -> None:
    """Raises ModelError unless there is one scale, or one a channel."""
    require(scales.size in (1, channels), node, f"there must be 1 or {channels} scales, not {scales.size}")


@handles("Conv")
def conv(c: Converter, node: Node) -> Value:
    """Conv between DequantizeLinear and QuantizeLinear: ONNX Runtime makes a QLinearConv of them."""
    x, qx = quantized_input(c, node)
    w = dequantized_weights(c, node, 1, 0)
    outputs = w.values.shape[0]
    scales = np.asarray(qx.scale * w.scale)
    channel_scales(node, scales, outputs)
    biases = bias(c, node, 2, scales, outputs)

    def finish(target: Quantization, low: float, high: float) -> Activation:
        note_limits(c, node, target, low, high)
        rq = c.requantize(node, scales / target.scale, target, low, high)
        return convolution(c, node, x, qx.held_zero_point, w.values, biases, rq, target.dtype, target)

    def as_float() -> Activation:
        raise node.error("its result is not quantized by a QuantizeLinear: onnxruntime convolves it in float32")

    spatial = window(node, list(w.values.shape[2:]), x.shape[2:])
    sizes = spatial.output if len(x.shape) == 4 else spatial.output[1:]
    return Pending(node, (x.shape[0], outputs, *sizes), finish, as_float)


def note_limits(c: Converter, node: Node, target: Quantization, low: float, high: float) -> None:
    """Remark on limits that the type's range does not imply: there ONNX Runtime computes the layer in float32."""
    smallest, largest = target.dequantize(np.array(target.limits))
    if low > smallest or high < largest:
        c.notes[node.index] = "limited before it is quantized: onnxruntime computes it in float32 and may differ by 1"


@handles("ConvInteger")
def conv_integer(c: Converter, node: Node) -> Value:
    """ConvInteger: int32 sums; the input's zero point may be computed."""
    x = c.byte(node, 0)
    array = c.constant(node, 1, "the weights")
    zero = c.optional_constant(node, 3, "the weights' zero point")
    values = weights(node, array, 0 if zero is None else zero, 0)
    biases = np.zeros(array.shape[0], dtype=np.int32)
    x_zero = c.optional(node, 2)
    if x_zero is None or isinstance(x_zero, Constant):
        zero_point = (0 if x_zero is None else int(c.scalar(node, 2, "the zero point"))) - x.offset
        return convolution(c, node, x, zero_point, values, biases, None, "int32")
    acc = convolution(c, node, x, 0, values, biases, None, "int32")
    w = window(node, list(values.shape[2:]), x.shape[2:])
    return minus_zero_point(c, node, acc, c.activation(node, x_zero), coverage(values, w, x.shape, node))


def coverage(values: NDArray[np.int16], w: Window, shape: tuple[int, ...], node: Node) -> NDArray[np.int32]:
    """Sum of the weights whose tap is inside the image: [Co, Ho, Wo] ([Co, Wo] for 1-D)."""
    outputs = values.shape[0]
    taps = values.astype(np.int64).sum(axis=1).reshape(outputs, *w.kernel)
    height, width = (1, *shape[2:])[-2:]
    inside = []
    for axis, size in enumerate((height, width)):
        start = np.arange(w.output[axis])[:, None] * w.strides[axis] - w.padding[axis][0]
        place = start + np.arange(w.kernel[axis]) * w.dilation[axis]
        inside.append(((place >= 0) & (place < size)).astype(np.int64))
    sums = np.einsum("yi,oij,xj->oyx", inside[0], taps, inside[1])
    return np.asarray(sums).reshape(outputs, *(w.output if len(shape) == 4 else w.output[1:])).astype(np.int32)


def minus_zero_point(c: Converter, node: Node, acc: Activation, zero: Activation, sums: Array) -> Activation:
    """acc - zero point * sums on the host, for a zero point that is computed; `sums` broadcast in logical order."""
    order = acc.order
    aligned = sums.reshape((1,) * (len(acc.shape) - sums.ndim) + sums.shape).transpose(order)
    result, tensor = c.build.new(node, acc.shape, "int32", order)
    attributes = {"sums": np.ascontiguousarray(aligned)}
    inputs = [c.build.tensor(acc, order), c.build.tensor(zero)]
    c.build.ops.append(Host(node.name, node.op, inputs, [tensor], "onnx.minus_zero_point", attributes))
    return result


# ---- products


@dataclass(frozen=True)
class Operand:
    """The second factor of a product: a constant [K, N] with its zero point subtracted, or an activation."""

    constant: NDArray[np.int16] | None
    activation: Activation | None
    zero_point: int
    shape: tuple[int, ...]


def operand(c: Converter, node: Node, value: Value, zero: Array) -> Operand:
    """`value` (int8 or uint8) as a second factor; `zero` is the model's zero point, one or one a column."""
    dtype = c.dtype(value)
    require(dtype in BYTES, node, f"its factors must be int8 or uint8, not {dtype}")
    zero = np.asarray(zero, dtype=np.int64)
    if isinstance(value, Constant) and value.array.ndim == 2:
        return Operand(weights(node, value.array, zero.reshape(-1), 1), None, 0, value.shape)
    require(zero.size == 1, node, "the zero point of a computed or batched second factor must be a scalar")
    activation = c.activation(node, value)
    return Operand(None, activation, int(zero.reshape(-1)[0]) - activation.offset, activation.shape)


def product(
    c: Converter,
    node: Node,
    x: Activation,
    zero_point: int,
    w: Operand,
    biases: NDArray[np.int32] | None,
    requantize: Requantize | None,
    dtype: str,
    quantization: Quantization | None = None,
) -> Activation:
    """x @ w as numpy's matmul, by Conv2D for a constant matrix, else MatMul."""
    shape = product_shape(node, x.shape, w.shape)
    if w.constant is not None:
        y, tensor = c.build.new(node, shape, dtype, None, quantization)
        filters = np.ascontiguousarray(w.constant.T).reshape(w.shape[1], 1, 1, w.shape[0])
        zeros = np.zeros(w.shape[1], dtype=np.int32)
        source = c.build.tensor(x if len(x.shape) > 1 else c.reshaped(x, (1, *x.shape)))
        target = tensor if len(x.shape) > 1 else Tensor(f"{tensor.name}/2d", (1, *shape), tensor.dtype)
        c.build.ops.append(
            Conv2D(
                node.name,
                node.op,
                [source],
                [target],
                weights=filters,
                bias=zeros if biases is None else biases,
                requantize=requantize,
                input_zero_point=zero_point,
            )
        )
        finish_1d(c, target, tensor)
        return y
    assert w.activation is not None
    require(biases is None or not biases.any(), node, "a bias needs a constant second factor")
    a = x if len(x.shape) > 1 else c.reshaped(x, (1, *x.shape))
    b = w.activation if len(w.shape) > 1 else c.reshaped(w.activation, (*w.shape, 1))
    leading = broadcast(node, a.shape[:-2], b.shape[:-2])
    full = (*leading, a.shape[-2], b.shape[-1])
    y, tensor = c.build.new(node, shape, dtype, None, quantization)
    target = tensor if full == shape else Tensor(f"{tensor.name}/full", full, tensor.dtype)
    c.build.ops.append(
        MatMul(
            node.name,
            node.op,
            [expanded(c, a, leading), expanded(c, b, leading)],
            [target],
            requantize=requantize,
            x_zero_point=zero_point,
            w_zero_point=w.zero_point,
        )
    )
    finish_1d(c, target, tensor)
    return y


def product_shape(node: Node, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of numpy's matmul."""
    require(bool(a) and bool(b), node, "its factors must have axes")
    left, right = a if len(a) > 1 else (1, *a), b if len(b) > 1 else (*b, 1)
    require(left[-1] == right[-2], node, f"shapes {list(a)} and {list(b)} do not multiply")
    shape = [*broadcast(node, left[:-2], right[:-2])]
    shape += [left[-2]] if len(a) > 1 else []
    shape += [right[-1]] if len(b) > 1 else []
    return tuple(shape)


def expanded(c: Converter, a: Activation, leading: tuple[int, ...]) -> Tensor:
    """Logical form of `a` with the leading axes broadcast to `leading`."""
    shape = (*leading, *a.shape[-2:])
    tensor = c.build.tensor(a)
    if a.shape == shape:
        return tensor
    check_size(shape, a.name)
    if tensor.data is not None:
        data = np.ascontiguousarray(np.broadcast_to(tensor.data, shape))
        return Tensor(tensor.name, shape, tensor.dtype, data=data)
    index = np.broadcast_to(np.arange(a.size, dtype=np.int64).reshape(a.shape), shape)
    wide = Tensor(f"{a.name}/expanded", shape, tensor.dtype, tensor.scale, tensor.zero_point)
    c.build.move(wide.name, "Expand", [tensor], index, wide)
    return wide


@handles("QLinearMatMul")
def qlinear_matmul(c: Converter, node: Node) -> Value:
    """QLinearMatMul; scales and zero points of the second factor may be one a column."""
    x = c.byte(node, 0)
    b = c.value(node, 3)
    qx = c.quantization(node, 1, 2, None, x.dtype)
    qw = c.quantization(node, 4, 5, 1, c.dtype(b))
    qy = c.quantization(node, 6, 7, None, x.dtype)
    w = operand(c, node, b, qw.zero_point)
    scales = np.asarray(qx.scale * qw.scale)
    channel_scales(node, scales, w.shape[-1])
    rq = c.requantize(node, scales / qy.scale, qy)
    return product(c, node, x, qx.held_zero_point, w, None, rq, qy.dtype, qy)


@handles("MatMulInteger")
def matmul_integer(c: Converter, node: Node) -> Value:
    """MatMulInteger: int32 sums; the first zero point may be computed when the second factor is a constant."""
    x = c.byte(node, 0)
    b = c.value(node, 1)
    b_zero = c.optional_constant(node, 3, "the second zero point")
    w = operand(c, node, b, np.zeros((), dtype=np.int64) if b_zero is None else b_zero)
    a_zero = c.optional(node, 2)
    if a_zero is None or isinstance(a_zero, Constant):
        zero_point = (0 if a_zero is None else int(c.scalar(node, 2, "the first zero point"))) - x.offset
        return product(c, node, x, zero_point, w, None, None, "int32")
    if w.constant is None:
        raise node.error("a computed zero point needs a constant second factor")
    acc = product(c, node, x, 0, w, None, None, "int32")
    return minus_zero_point(c, node, acc, c.activation(node, a_zero), w.constant.sum(axis=0, dtype=np.int32))


def pending_product(
    c: Converter,
    node: Node,
    x: Activation,
    qx: Quantization,
    w: Operand,
    biases: NDArray[np.int32] | None,
    scales: Float,
) -> Pending:
    """A product of dequantized factors: requantized, or float32(sum) * scale (MatMulIntegerToFloat, QGemm)."""

    def finish(target: Quantization, low: float, high: float) -> Activation:
        note_limits(c, node, target, low, high)
        rq = c.requantize(node, scales / target.scale, target, low, high)
        return product(c, node, x, qx.held_zero_point, w, biases, rq, target.dtype, target)

    def as_float() -> Activation:
        acc = product(c, node, x, qx.held_zero_point, w, biases, None, "int32")
        return c.host(node, "onnx.scale", {"scale": np.asarray(scales, dtype=np.float32)}, [acc], "float32", acc.shape)

    return Pending(node, product_shape(node, x.shape, w.shape), finish, as_float)


@handles("MatMul")
def matmul(c: Converter, node: Node) -> Value:
    """MatMul of dequantized factors: QLinearMatMul or MatMulIntegerToFloat in ONNX Runtime."""
    first = c.value(node, 0)
    if not isinstance(first, Real):
        return integer_matmul(c, node)
    x, qx = quantized_input(c, node)
    second = c.value(node, 1)
    if isinstance(second, Constant):
        w = dequantized_weights(c, node, 1, -1)
        scale = w.scale
        other = operand(c, node, Constant(w.quantized), w.zero_point)
    else:
        b, qb = quantized_input(c, node, 1)
        other, scale = operand(c, node, b, qb.zero_point), qb.scale
    scales = np.asarray(qx.scale * scale)
    channel_scales(node, scales, other.shape[-1])
    return pending_product(c, node, x, qx, other, None, scales)


def integer_matmul(c: Converter, node: Node) -> Value:
    """MatMul of integers on the host; float32 is refused."""
    inputs = [c.value(node, i) for i in (0, 1)]
    dtype = c.dtype(inputs[0])
    exact = dtype in ("int32", "uint32", "int64", "uint64") and c.dtype(inputs[1]) == dtype
    require(exact, node, f"its factors are {dtype}, not quantized: quantize the model to 8 bits first")
    shape = product_shape(node, inputs[0].shape, inputs[1].shape)
    return c.host(node, "onnx.matmul", {}, [c.activation(node, v) for v in inputs], dtype, shape)


def gemm_operand(c: Converter, node: Node, array: Array, zero: Array) -> Operand:
    """A constant second factor of Gemm, transposed as transB says."""
    values = weights(node, array, zero, 0 if node.integer("transB", 0) else 1)
    require(values.ndim == 2, node, f"its second factor must be a matrix, not {values.ndim}-D")
    values = values.T if node.integer("transB", 0) else values
    return Operand(np.ascontiguousarray(values), None, 0, values.shape)


def gemm_input(c: Converter, node: Node, x: Activation) -> Activation:
    """The first factor of Gemm, transposed as transA says."""
    require(len(x.shape) == 2, node, f"its first factor must be a matrix, not {len(x.shape)}-D")
    if not node.integer("transA", 0):
        return x
    tensors = {tuple(1 - axis for axis in order): tensor for order, tensor in x.tensors.items()}
    if not tensors:
        tensors = {(1, 0): c.build.tensor(x)}
    return Activation(f"{x.name}/t", (x.shape[1], x.shape[0]), x.dtype, tensors)


@handles("Gemm")
def gemm(c: Converter, node: Node) -> Value:
    """Gemm of dequantized factors: QGemm in ONNX Runtime. A constant second factor, alpha and beta 1."""
    require(node.number("beta", 1.0) == 1 or len(node.inputs) < 3, node, "beta must be 1")
    require(node.number("alpha", 1.0) == 1, node, "alpha must be 1")
    x, qx = quantized_input(c, node)
    axis = 0 if node.integer("transB", 0) else 1
    second = c.value(node, 1)
    if isinstance(second, Constant):
        known = dequantized_weights(c, node, 1, axis)
        w, scale = gemm_operand(c, node, known.quantized, known.zero_point), known.scale
    else:
        b, qb = quantized_input(c, node, 1)
        require(not node.integer("transB", 0), node, "transB needs a constant second factor")
        w, scale = operand(c, node, b, qb.zero_point), qb.scale
    scales = np.asarray(qx.scale * scale)
    channel_scales(node, scales, w.shape[-1])
    biases = bias(c, node, 2, scales, w.shape[-1])
    pending = pending_product(c, node, gemm_input(c, node, x), qx, w, biases, scales)
    third = c.optional(node, 2)
    if isinstance(third, Constant) and third.quantized is None:

        def as_float() -> Activation:
            raise node.error("its bias and its result are not quantized: onnxruntime computes it in float32")

        return dataclasses.replace(pending, as_float=as_float)
    return pending


@handles("com.microsoft.QGemm")
def qgemm(c: Converter, node: Node) -> Value:
    """QGemm: with an output scale 8 bits, else float32."""
    x = c.byte(node, 0)
    qx = c.quantization(node, 1, 2, None, x.dtype)
    second = c.value(node, 3)
    qw = c.quantization(node, 4, 5, 1, c.dtype(second))
    if isinstance(second, Constant):
        w = gemm_operand(c, node, second.array, qw.zero_point)
    else:
        require(not node.integer("transB", 0), node, "transB needs a constant second factor")
        w = operand(c, node, second, qw.zero_point)
    scales = np.asarray(node.number("alpha", 1.0) * qx.scale * qw.scale)
    require(bool((scales > 0).all()), node, "alpha must be positive")
    channel_scales(node, scales, w.shape[-1])
    biases = bias(c, node, 6, scales, w.shape[-1])
    pending = pending_product(c, node, gemm_input(c, node, x), qx, w, biases, scales)
    if c.optional(node, 7) is None:
        return pending.as_float()
    return pending.quantized(c.quantization(node, 7, 8, None, x.dtype))
