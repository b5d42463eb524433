"""TFLite operators over windows and axes: pooling, reductions, softmax, resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tidemill.compiler import ir
from tidemill.compiler.frontends.tflite_conv import window_geometry
from tidemill.compiler.frontends.tflite_elementwise import fixed_output, requantize_of
from tidemill.compiler.frontends.tflite_file import MAX_ELEMENTS, Node
from tidemill.compiler.frontends.tflite_graph import GraphBuilder, indices
from tidemill.compiler.frontends.tflite_moves import rearrange
from tidemill.compiler.reference import pool_counts
from tidemill.golden import reduce, resize
from tidemill.golden.affine import Affine
from tidemill.golden.requant import reciprocal
from tidemill.golden.softmax import LENGTH_MAX
from tidemill.isa import RequantMode

POOL = "Pool2DOptions"


def pool_2d(b: GraphBuilder, node: Node) -> None:
    """AVERAGE_POOL_2D (ties away from zero) and MAX_POOL_2D; padding does not count."""
    x = b.value(node, 0)
    if len(x.shape) != 4:
        raise b.error(node, f"its input has shape {list(x.shape)}; expected 4 axes")
    n, height, width, channels = x.shape
    kernel = (int(b.option(node, POOL, "FilterHeight")), int(b.option(node, POOL, "FilterWidth")))
    if max(kernel) > MAX_ELEMENTS:
        raise b.error(node, f"has a window of {kernel} pixels")
    size, strides, padding = window_geometry(b, node, POOL, (height, width), kernel)
    y = b.output(node, (n, *size, channels))
    before, after = b.input_quantization(node, 0), b.output_quantization(node)
    if abs(np.float32(before.scale) - np.float32(after.scale)) > 1e-6 or before.zero_point != after.zero_point:
        raise b.error(node, "input and output must have the same scale and zero point")
    qmin, qmax = b.activation(node, POOL)
    if node.operator == "MAX_POOL_2D":
        b.emit(ir.MaxPool2D(node.name, node.operator, [x], [y], kernel, strides, padding, (1, 1), qmin, qmax))
        return
    pool = ir.SumPool2D(node.name, node.operator, [x], [y], kernel, strides, padding, {})
    for count in np.unique(pool_counts(pool)):
        bias, multiplier, shift = reciprocal(int(count))
        pool.requantize[int(count)] = ir.Requantize(multiplier, shift, 0, qmin, qmax, RequantMode.DIV, bias)
    b.emit(pool)


def _reduced(b: GraphBuilder, node: Node, types: Sequence[str] = ("int8",)) -> tuple[ir.Tensor, ir.Tensor, list[int]]:
    """Input, output and sorted axes of a reduction."""
    x = b.value(node, 0, types)
    axes = sorted({b.axis(node, axis, len(x.shape)) for axis in b.integers(node, 1)})
    if b.option(node, "ReducerOptions", "KeepDims", False):
        shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    else:
        shape = [size for axis, size in enumerate(x.shape) if axis not in axes]
    return x, b.output(node, shape, types=types), axes


def reduction(b: GraphBuilder, node: Node) -> None:
    """MEAN, SUM and REDUCE_MAX: one window over the reduced axes."""
    x, y, axes = _reduced(b, node)
    before, after = b.input_quantization(node, 0), b.output_quantization(node)
    if node.operator == "REDUCE_MAX" and before != after:
        raise b.error(node, "input and output must have the same scale and zero point")
    if not axes:
        raise b.error(node, "reduces no axis")
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    count, inner = math.prod(x.shape[axis] for axis in axes), math.prod(x.shape[axes[-1] + 1 :])
    if axes == [1, 2] and len(x.shape) == 4:
        image = x
    elif axes == list(range(axes[0], axes[-1] + 1)) and inner > 1:
        image = b.reshaped(node, x, (math.prod(x.shape[: axes[0]]), count, 1, inner))
    else:
        image = b.reshaped(node, b.transposed(node, x, [*axes, *kept]), (1, count, 1, x.size // count))
    kernel = (image.shape[1], image.shape[2])
    small = (image.shape[0], 1, 1, image.channels)
    target = y if y.shape == small else b.temporary(node, "reduced", small, y)
    no_padding = ((0, 0), (0, 0))
    if node.operator == "REDUCE_MAX":
        b.emit(ir.MaxPool2D(node.name, node.operator, [image], [target], kernel, (1, 1), no_padding))
    else:
        parameters = reduce.tflite_mean if node.operator == "MEAN" else reduce.tflite_sum
        rq = requantize_of(parameters(before, after, count))
        b.emit(
            ir.SumPool2D(node.name, node.operator, [image], [target], kernel, (1, 1), no_padding, {count: rq})
        )  # fmt: skip
    if target is not y:
        b.move(node, [target], y, indices(y))


def reduce_min(b: GraphBuilder, node: Node) -> None:
    """REDUCE_MIN, on the host."""
    x, y, axes = _reduced(b, node)
    if b.input_quantization(node, 0) != b.output_quantization(node):
        raise b.error(node, "input and output must have the same scale and zero point")
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.reduce_min", {"axes": axes, "shape": list(y.shape)}))


def arg_max(b: GraphBuilder, node: Node) -> None:
    """ARG_MAX and ARG_MIN along a constant axis, on the host."""
    x, axes = b.value(node, 0), b.integers(node, 1)
    if len(axes) != 1:
        raise b.error(node, f"compares along the axes {axes}")
    axis = b.axis(node, axes[0], len(x.shape))
    y = b.output(node, (*x.shape[:axis], *x.shape[axis + 1 :]), types=("int32", "int64"))
    attributes = {"axis": axis, "maximum": node.operator == "ARG_MAX", "dtype": y.dtype}
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.argmax", attributes))


def softmax(b: GraphBuilder, node: Node) -> None:
    """SOFTMAX over the last axis."""
    x = b.value(node, 0)
    y = b.output(node, x.shape)
    after = b.output_quantization(node)
    if after != Affine(1 / 256, -128):
        raise b.error(
            node, f"its output has scale {after.scale:g} and zero point {after.zero_point}; expected 1/256 and -128"
        )
    beta = float(b.option(node, "SoftmaxOptions", "Beta"))
    if not (np.isfinite(beta) and beta > 0):
        raise b.error(node, f"beta is {beta}; expected a positive number")
    b.emit(ir.Softmax(node.name, node.operator, [x], [y], b.input_quantization(node, 0).scale, beta))


def log_softmax(b: GraphBuilder, node: Node) -> None:
    """LOG_SOFTMAX over the last axis, on the host."""
    x = b.value(node, 0)
    y = b.output(node, x.shape)
    fixed_output(b, node, Affine(1 / 16, 127))
    scale = b.input_quantization(node, 0).scale
    if not (1 <= x.channels <= LENGTH_MAX and scale > 2**-26):
        raise b.error(node, f"has rows of {x.channels} and scale {scale:g}; supported: 1 to {LENGTH_MAX}, above 2**-26")
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.log_softmax", {"scale": scale}))


def l2_normalization(b: GraphBuilder, node: Node) -> None:
    """L2_NORMALIZATION over the last axis, on the host."""
    x = b.value(node, 0)
    y = b.output(node, x.shape)
    fixed_output(b, node, Affine(1 / 128, 0))
    if b.option(node, "L2NormOptions", "FusedActivationFunction", 0) != 0:
        raise b.error(node, "has a fused activation, which TFLite Micro does not take")
    attributes = {"zero_point": b.input_quantization(node, 0).zero_point}
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.l2_normalization", attributes))


def cumsum(b: GraphBuilder, node: Node) -> None:
    """CUMSUM along a constant axis, on the host."""
    x, axes = b.value(node, 0), b.integers(node, 1)
    if len(axes) != 1:
        raise b.error(node, f"sums along the axes {axes}")
    y = b.output(node, x.shape)
    attributes = {
        "axis": b.axis(node, axes[0], len(x.shape)),
        "exclusive": bool(b.option(node, "CumsumOptions", "Exclusive", False)),
        "reverse": bool(b.option(node, "CumsumOptions", "Reverse", False)),
        "x": list(b.input_quantization(node, 0)),
        "y": list(b.output_quantization(node)),
    }
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.cumsum", attributes))


def reduce_all(b: GraphBuilder, node: Node) -> None:
    """REDUCE_ALL of truth values, on the host."""
    x, y, axes = _reduced(b, node, ("bool",))
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.reduce_all", {"axes": axes}))


def _resized(b: GraphBuilder, node: Node, kind: str) -> tuple[ir.Tensor, ir.Pair, bool, bool]:
    """Input, new size, and whether corners align and pixels have their centres at halves."""
    x, size = b.value(node, 0), b.integers(node, 1)
    if len(x.shape) != 4 or len(size) != 2 or min(size) < 1 or max(size) > MAX_ELEMENTS:
        raise b.error(node, f"resizes {list(x.shape)} to {size}")
    if not math.prod((x.shape[0], *size, x.channels)) <= MAX_ELEMENTS:
        raise b.error(node, f"resizes to {size}: at most {MAX_ELEMENTS} elements fit")
    corners = bool(b.option(node, kind, "AlignCorners", False))
    return x, (size[0], size[1]), corners, bool(b.option(node, kind, "HalfPixelCenters", False))


def resize_nearest(b: GraphBuilder, node: Node) -> None:
    """RESIZE_NEAREST_NEIGHBOR: a Move."""
    x, size, corners, halves = _resized(b, node, "ResizeNearestNeighborOptions")
    rows, columns = (
        resize.tflite_nearest(x.shape[1 + i], size[i], align_corners=corners, half_pixel_centers=halves) for i in (0, 1)
    )
    rearrange(b, node, x, indices(x)[:, rows][:, :, columns])


def resize_bilinear(b: GraphBuilder, node: Node) -> None:
    """RESIZE_BILINEAR, on the host."""
    x, size, corners, halves = _resized(b, node, "ResizeBilinearOptions")
    y = b.output(node, (x.shape[0], *size, x.channels))
    attributes = {"size": list(size), "align_corners": corners, "half_pixel_centers": halves}
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.resize_bilinear", attributes))


HANDLERS = {
    "AVERAGE_POOL_2D": pool_2d,
    "MAX_POOL_2D": pool_2d,
    "MEAN": reduction,
    "SUM": reduction,
    "REDUCE_MAX": reduction,
    "REDUCE_MIN": reduce_min,
    "ARG_MAX": arg_max,
    "ARG_MIN": arg_max,
    "REDUCE_ALL": reduce_all,
    "SOFTMAX": softmax,
    "LOG_SOFTMAX": log_softmax,
    "L2_NORMALIZATION": l2_normalization,
    "CUMSUM": cumsum,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
    "RESIZE_BILINEAR": resize_bilinear,
}
"""By operator name."""
