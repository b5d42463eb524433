"""Averages, reductions, softmax and resizing of ONNX models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tidemill.compiler.frontends.onnx_convert import Converter, handles
from tidemill.compiler.frontends.onnx_layers import quantized_input
from tidemill.compiler.frontends.onnx_model import Array, Node, check_size
from tidemill.compiler.frontends.onnx_moves import moved, normalized, reshape_value, transposed
from tidemill.compiler.frontends.onnx_pools import pooled_shape, rising
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
from tidemill.compiler.ir import Host, Requantize, SumPool2D
from tidemill.golden.affine import Affine
from tidemill.golden.reduce import float_mean, onnx_average_pool
from tidemill.golden.resize import onnx_nearest

MEAN_NOTE = "onnxruntime averages in float32 and may differ by 1 where its error crosses a half"


def sums_are_safe(qx: Quantization, qy: Quantization, pixels: int, count: int) -> bool:
    """Whether float32 sums of up to `pixels` dequantized values round like the exact ones, in any order of summation.

    A sum of n terms has an error of at most (n + 3) roundings of the sum of magnitudes; the result must stay that far
    from every half.
    """
    sums = np.arange(-255 * pixels, 255 * pixels + 1, dtype=np.float64)
    scale = float(qx.scale) / (count * float(qy.scale))
    power = math.frexp(float(qx.scale))[0] == 0.5 and 255 * pixels < 1 << 24
    error = (0 if power else (pixels + 3) * 255 * pixels * scale) + 4 * np.abs(sums) * scale + 1024
    place = sums * scale
    distance = np.abs(place - np.floor(place) - 0.5)
    inside = np.abs(place) < 257
    return bool(np.all(distance[inside] > error[inside] * 2.0**-24))


def exact_average(qx: Quantization, qy: Quantization, pixels: int, count: int) -> Requantize | None:
    """The requantization of the sum of `pixels` values divided by `count`, None where it may differ from float32."""
    if not sums_are_safe(qx, qy, pixels, count):
        return None
    x, y = (Affine(float(q.scale), q.held_zero_point) for q in (qx, qy))
    unsigned = qy.dtype == "uint8"
    try:
        found = onnx_average_pool(x, y, count, unsigned=unsigned)
    except ValueError:
        return None
    bias = found.bias + (count - pixels) * x.zero_point
    sums = np.arange(-255 * pixels, 255 * pixels + 1)
    expected = float_mean(sums, x, y, count, unsigned=unsigned)
    rq = Requantize(
        found.multiplier, found.shift, found.zero_point, -128, 127, found.mode, bias=bias, preshift=found.preshift
    )
    plain = found(sums + count * x.zero_point)
    return rq if np.array_equal(plain, expected) else None


def average(
    c: Converter, node: Node, x: Activation, qx: Quantization, qy: Quantization, limits: tuple[int, int]
) -> Activation:
    """AveragePool: sums on the NPU where they give the same bytes, else float32 sums on the host."""
    w = window(node, node.ints("kernel_shape") or [], x.shape[2:])
    require(w.dilation == (1, 1), node, "dilations must be 1")
    include = bool(node.integer("count_include_pad", 0))
    area = w.kernel[0] * w.kernel[1]
    numbers = {int(n) for n in np.unique(inside_counts(w, x))}
    require(0 not in numbers, node, "a window has only padding")
    found = {n: exact_average(qx, qy, n, area if include else n) for n in numbers}
    known = {n: rq for n, rq in found.items() if rq is not None}
    modes = {(rq.mode, rq.zero_point) for rq in known.values()}
    y, tensor = c.build.new(node, pooled_shape(x, w), qy.dtype, channels_last(len(x.shape)), qy)
    wide = from_nhwc(c, node, y, tensor)
    source = as_nhwc(c, x)
    if len(known) == len(found) and len(modes) == 1:
        qmin, qmax = limits
        final = {
            n: Requantize(rq.multiplier, rq.shift, rq.zero_point, qmin, qmax, rq.mode, rq.bias, rq.preshift)
            for n, rq in known.items()
        }
        c.build.ops.append(SumPool2D(node.name, node.op, [source], [wide], w.kernel, w.strides, w.padding, final))
    else:
        attributes: dict[str, Any] = {
            "kernel": list(w.kernel),
            "strides": list(w.strides),
            "padding": [*w.padding[0], *w.padding[1]],
            "include": int(include),
            "x_scale": qx.scale,
            "x_zero_point": qx.held_zero_point,
            "y_scale": qy.scale,
            "y_zero_point": int(qy.zero_point),
            "offset": qy.offset,
            "limits": list(limits),
        }
        c.build.ops.append(Host(node.name, node.op, [source], [wide], "onnx.average_pool", attributes))
    finish_1d(c, wide, tensor)
    return y


def inside_counts(w: Window, x: Activation) -> Array:
    """Pixels of each window that are not padding: [Ho, Wo]."""
    counts = []
    for axis, size in enumerate((1, *x.shape[2:])[-2:]):
        start = np.arange(w.output[axis]) * w.strides[axis] - w.padding[axis][0]
        counts.append(np.minimum(start + w.kernel[axis], size) - np.maximum(start, 0))
    return np.asarray(np.maximum(counts[0], 0)[:, None] * np.maximum(counts[1], 0))


@handles("AveragePool")
def average_pool(c: Converter, node: Node) -> Value:
    """AveragePool between DequantizeLinear and QuantizeLinear: QLinearAveragePool in ONNX Runtime."""
    x, qx = quantized_input(c, node)
    w = window(node, node.ints("kernel_shape") or [], x.shape[2:])

    def finish(target: Quantization, low: float, high: float) -> Activation:
        return average(c, node, x, qx, target, c.bounds(target, low, high))

    def as_float() -> Activation:
        raise node.error("its result is not quantized by a QuantizeLinear: onnxruntime averages it in float32")

    return Pending(node, pooled_shape(x, w), finish, as_float)


@handles("com.microsoft.QLinearAveragePool")
def qlinear_average_pool(c: Converter, node: Node) -> Value:
    """QLinearAveragePool, channels first or last."""
    x = c.byte(node, 0)
    qx = c.quantization(node, 1, 2, None, x.dtype)
    qy = c.quantization(node, 3, 4, None, x.dtype)
    if not node.integer("channels_last", 0):
        return average(c, node, x, qx, qy, (-128, 127))
    rank = len(x.shape)
    first = transposed(c, node, x, (0, rank - 1, *range(1, rank - 1)))
    assert isinstance(first, Activation)
    return transposed(c, node, average(c, node, first, qx, qy, (-128, 127)), channels_last(rank))


# ---- reductions


def reduced_axes(c: Converter, node: Node, rank: int) -> list[int]:
    """The axes of a reduction; all where none are given."""
    axes = c.ints(node, "axes", 1)
    if not axes:
        require(not node.integer("noop_with_empty_axes", 0), node, "it reduces nothing")
        return list(range(rank))
    return sorted(normalized(node, axes, rank))


def kept_shape(node: Node, shape: tuple[int, ...], axes: list[int]) -> tuple[int, ...]:
    """The result's shape, with keepdims."""
    if node.integer("keepdims", 1):
        return tuple(1 if i in axes else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in axes)


@handles("ReduceMax", "ReduceMin")
def reduce_extreme(c: Converter, node: Node) -> Value:
    """ReduceMax and ReduceMin on the host, of integers or rising functions of bytes."""
    value = c.value(node, 0)
    if isinstance(value, Real) and rising(value):
        inner = extreme(c, node, value.activation)
        assert isinstance(inner, Activation)
        return Real(inner, value.table, value.quantization)
    require(c.dtype(value) in (*BYTES, "int32", "int64", "float32"), node, f"{c.dtype(value)} data is not supported")
    return extreme(c, node, c.activation(node, value))


def extreme(c: Converter, node: Node, x: Activation) -> Value:
    """The host operation."""
    axes = reduced_axes(c, node, len(x.shape))
    require(x.size > 0, node, "its input is empty")
    full = tuple(1 if i in axes else size for i, size in enumerate(x.shape))
    attributes = {"function": node.op, "axes": axes}
    c.build.tensor(x)
    y, tensor = c.build.new(node, full, x.dtype, None, x.quantization)
    c.build.ops.append(Host(node.name, node.op, [c.build.tensor(x)], [tensor], "onnx.reduce", attributes))
    return reshape_value(c, node, y, kept_shape(node, x.shape, axes))


@handles("ReduceMean")
def reduce_mean(c: Converter, node: Node) -> Value:
    """ReduceMean between DequantizeLinear and QuantizeLinear: a sum over one window of all reduced elements."""
    x, qx = quantized_input(c, node)
    axes = reduced_axes(c, node, len(x.shape))
    shape = kept_shape(node, x.shape, axes)
    rest = [i for i in range(len(x.shape)) if i not in axes]
    count = math.prod(x.shape[i] for i in axes)
    others = math.prod(x.shape[i] for i in rest)
    require(count > 0, node, "its input is empty")

    def finish(target: Quantization, low: float, high: float) -> Activation:
        order = (*axes, *rest)
        source = c.build.tensor(x, (0, 2, 3, 1)) if order == (2, 3, 0, 1) else c.build.tensor(x, order)
        rows = (x.shape[0], count, 1, x.shape[1]) if order == (2, 3, 0, 1) else (1, count, 1, others)
        image = c.build.view(source, rows, f"{x.name}/rows")
        y, tensor = c.build.new(node, shape, target.dtype, None, target)
        sums = c.build.piece(tensor, (rows[0], 1, 1, rows[3]), f"{y.name}/means")
        rq = exact_average(qx, target, count, count)
        if rq is None:
            c.notes[node.index] = MEAN_NOTE
            rq = c.requantize(node, np.asarray(qx.scale / (target.scale * np.float32(count))), target)
            rq = Requantize(rq.multiplier, rq.shift, rq.zero_point, mode=rq.mode, bias=-count * qx.held_zero_point)
        qmin, qmax = c.bounds(target, low, high)
        final = Requantize(rq.multiplier, rq.shift, rq.zero_point, qmin, qmax, rq.mode, rq.bias, rq.preshift)
        window_ = ((count, 1), (1, 1), ((0, 0), (0, 0)))
        c.build.ops.append(SumPool2D(node.name, node.op, [image], [sums], *window_, {count: final}))
        finish_1d(c, sums, tensor)
        return y

    def as_float() -> Activation:
        raise node.error("its result is not quantized by a QuantizeLinear: onnxruntime averages it in float32")

    return Pending(node, shape, finish, as_float)


@handles("ArgMax")
def argmax(c: Converter, node: Node) -> Value:
    """ArgMax on the host, of integers or rising functions of bytes."""
    value = c.value(node, 0)
    if isinstance(value, Real):
        require(bool(np.all(np.diff(np.roll(value.table, 128)) > 0)), node, "its input is not an increasing function")
        value = value.activation
    x = c.activation(node, value)
    (axis,) = normalized(node, [node.integer("axis", 0)], len(x.shape))
    require(x.size > 0, node, "its input is empty")
    attributes = {"axis": axis, "last": node.integer("select_last_index", 0)}
    full = tuple(1 if i == axis else size for i, size in enumerate(x.shape))
    y = c.host(node, "onnx.argmax", attributes, [c.logical(x)], "int64", full)
    return reshape_value(c, node, y, kept_shape(node, x.shape, [axis]))


# ---- softmax


def softmax_host(
    c: Converter, node: Node, x: Activation, qx: Quantization, qy: Quantization, axis: int, opset: int
) -> Activation:
    """QLinearSoftmax on the host."""
    require(qx.dtype == qy.dtype, node, "its input and its result differ in type")
    (axis,) = normalized(node, [axis], len(x.shape))
    length = math.prod(x.shape[axis:]) if opset < 13 else x.shape[axis]
    # the largest exponential is FLT_MAX / (length * e**5), and it is multiplied before it is divided
    steps = math.floor(1 / float(qy.scale))
    require(steps < 148 * length, node, f"its output scale {float(qy.scale):.3g} makes onnxruntime's float32 overflow")
    attributes = {
        "scale": qx.scale,
        "y_scale": qy.scale,
        "y_zero_point": int(qy.zero_point),
        "dtype": qy.dtype,
        "axis": axis,
        "flatten": int(opset < 13),
    }
    y, tensor = c.build.new(node, x.shape, qy.dtype, None, qy)
    c.build.ops.append(Host(node.name, node.op, [c.build.tensor(x)], [tensor], "onnx.softmax", attributes))
    return y


@handles("Softmax")
def softmax(c: Converter, node: Node) -> Value:
    """Softmax between DequantizeLinear and QuantizeLinear: QLinearSoftmax in ONNX Runtime."""
    x, qx = quantized_input(c, node)
    axis = node.integer("axis", 1 if node.opset < 13 else -1)

    def finish(target: Quantization, low: float, high: float) -> Activation:
        require(low <= 0 and high >= 1, node, "limits before the QuantizeLinear are not supported")
        return softmax_host(c, node, x, qx, target, axis, node.opset)

    def as_float() -> Activation:
        raise node.error("its result is not quantized by a QuantizeLinear")

    return Pending(node, x.shape, finish, as_float)


@handles("com.microsoft.QLinearSoftmax")
def qlinear_softmax(c: Converter, node: Node) -> Value:
    """QLinearSoftmax."""
    x = c.byte(node, 0)
    qx = c.quantization(node, 1, 2, None, x.dtype)
    qy = c.quantization(node, 3, 4, None, x.dtype)
    opset = node.integer("opset", 13)
    return softmax_host(c, node, x, qx, qy, node.integer("axis", 1 if opset < 13 else -1), opset)


# ---- resize


@handles("Resize", "Upsample")
def resize(c: Converter, node: Node) -> Value:
    """Resize by nearest neighbours, a movement, or linearly over the two last axes, on the host."""
    value = c.value(node, 0)
    mode = node.text("mode", "nearest")
    require(mode in ("nearest", "linear"), node, f"mode {mode!r} is not supported: use nearest or linear")
    rank = len(value.shape)
    axes = normalized(node, node.ints("axes", list(range(rank))) or [], rank)
    sizes, scales = resize_target(c, node, [value.shape[axis] for axis in axes])
    old = node.op == "Upsample" or node.opset < 11
    coordinates = "asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else node.text("nearest_mode", "round_prefer_floor")
    check_size(tuple(sizes), f"node {node.name!r} ({node.op}): its result")
    if mode == "linear":
        return resize_linear(c, node, value, dict(zip(axes, zip(sizes, scales, strict=True), strict=True)), coordinates)
    picks = []
    for axis, size, scale in zip(axes, sizes, scales, strict=True):
        if size != value.shape[axis] or (scale is not None and scale != 1):
            places = onnx_nearest(value.shape[axis], size, scale=scale, coordinates=coordinates, rounding=rounding)
            picks.append((axis, places))

    def arrange(places: Any) -> Any:
        for axis, pick in picks:
            places = places.take(pick, axis=axis)
        return places

    return moved(c, node, value, arrange)


def resize_linear(
    c: Converter, node: Node, value: Value, targets: dict[int, tuple[int, float | None]], coordinates: str
) -> Value:
    """Linear over the two last axes of [N, C, H, W], of integers (cut) or float32 (UpsampleBilinear)."""
    dtype = c.dtype(value)
    require(dtype in (*BYTES, "float32"), node, f"{dtype} data is not supported")
    x = c.activation(node, value)
    rank = len(x.shape)
    require(rank == 4 and not node.integer("antialias", 0), node, "linear mode needs 4 axes and no antialias")
    attributes: dict[str, Any] = {"dtype": x.dtype}
    shape = x.shape
    for axis in range(rank):
        size, scale = targets.get(axis, (x.shape[axis], None))
        shape = (*shape[:axis], size, *shape[axis + 1 :])
        if axis < 2:
            require(size == x.shape[axis], node, "linear mode resizes the two last axes only")
            continue
        places = linear_places(node, x.shape[axis], size, scale, coordinates)
        for name, values in zip(("first", "second", "to_first", "to_second"), places, strict=True):
            attributes[f"{name}{axis}"] = values
    y, tensor = c.build.new(node, shape, x.dtype, None, x.quantization)
    c.build.ops.append(Host(node.name, node.op, [c.build.tensor(x)], [tensor], "onnx.resize_linear", attributes))
    return y


def linear_places(
    node: Node, before: int, after: int, scale: float | None, coordinates: str
) -> tuple[Array, Array, Array, Array]:
    """Both pixels of each of `after` pixels, and the float32 distances to them (SetupUpsampleBilinear)."""
    factor = np.float32(after) / np.float32(before) if scale is None else np.float32(scale)
    pixels, half = np.arange(after, dtype=np.float32), np.float32(0.5)
    place = {
        "half_pixel": (pixels + half) / factor - half,
        "pytorch_half_pixel": (pixels + half) / factor - half if after > 1 else np.zeros_like(pixels),
        "asymmetric": pixels / factor,
        "align_corners": pixels * np.float32(before - 1) / np.float32(max(after - 1, 1)),
    }.get(coordinates)
    if place is None:
        raise node.error(f"coordinate_transformation_mode {coordinates!r} is not supported")
    place = np.clip(pixels if factor == 1 else place, np.float32(0), np.float32(before - 1))
    first = np.minimum(place.astype(np.int64), before - 1)
    second = np.minimum(first + 1, before - 1)
    to_first, to_second = np.abs(place - first.astype(np.float32)), np.abs(place - second.astype(np.float32))
    same = first == second
    return first, second, np.where(same, half, to_first), np.where(same, half, to_second)


def resize_target(c: Converter, node: Node, before: list[int]) -> tuple[list[int], list[float | None]]:
    """The sizes of the resized axes, and their scales where the model gives scales."""
    scales_index = 1 if node.op == "Upsample" or node.opset < 11 else 2
    scales = c.optional_constant(node, scales_index, "the scales")
    if scales is not None and scales.size:
        require(scales.size == len(before) and bool((scales > 0).all()), node, "its scales do not fit its axes")
        factors = [float(np.float32(scale)) for scale in scales.reshape(-1)]
        require(all(factor < 1 << 16 for factor in factors), node, "its scales are too large")
        return [math.floor(size * factor) for size, factor in zip(before, factors, strict=True)], [*factors]
    sizes = c.optional_constant(node, 3, "the sizes")
    require(sizes is not None and sizes.size == len(before), node, "it has neither scales nor sizes")
    assert sizes is not None
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    require(policy == "stretch", node, f"keep_aspect_ratio_policy {policy!r} is not supported")
    wanted = [int(size) for size in sizes.reshape(-1)]
    require(min(wanted) > 0 and min(before) > 0, node, f"sizes {wanted} are not positive")
    return wanted, [None] * len(before)
