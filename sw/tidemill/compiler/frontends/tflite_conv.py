"""TFLite operators that multiply matrices: convolutions, fully connected layers, products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler import ir
from tidemill.compiler.frontends.tflite_file import Node
from tidemill.compiler.frontends.tflite_graph import Array, GraphBuilder, indices
from tidemill.golden.requant import quantize_multiplier


def padding_of(total_in: int, total_out: int, extent: int, stride: int) -> ir.Pair:
    """(before, after) so that `total_out` windows of `extent` fit, the odd one after (ComputePaddingWithOffset)."""
    total = max((total_out - 1) * stride + extent - total_in, 0)
    return total // 2, total - total // 2


def window_geometry(
    b: GraphBuilder,
    node: Node,
    kind: str,
    size: ir.Pair,
    kernel: ir.Pair,
    dilation: ir.Pair = (1, 1),
) -> tuple[ir.Pair, ir.Pair, ir.Padding]:
    """(output size, strides, padding) of windows over an image of `size` (ComputePaddingHeightWidth)."""
    strides = tuple(int(b.option(node, kind, f"Stride{axis}")) for axis in "HW")
    if min(strides) < 1 or min(dilation) < 1 or min(kernel) < 1:
        raise b.error(node, f"has strides {strides}, dilation {dilation}, window {kernel}; all must be positive")
    same = b.option(node, kind, "Padding")
    if same not in (0, 1):
        raise b.error(node, f"has padding {same}; supported: 0 (SAME), 1 (VALID)")
    outputs, pads = [], []
    for total, taps, stride, step in zip(size, kernel, strides, dilation, strict=True):
        extent = (taps - 1) * step + 1
        count = -(-total // stride) if same == 0 else -(-(total - extent + 1) // stride)
        if count < 1:
            raise b.error(node, f"its window of {extent} pixels does not fit into {total}")
        outputs.append(count)
        pads.append(padding_of(total, count, extent, stride))
    return (outputs[0], outputs[1]), (strides[0], strides[1]), (pads[0], pads[1])


def scale_parameters(b: GraphBuilder, node: Node, position: int, axis: int, channels: int) -> tuple[Array, Array]:
    """Multipliers and shifts of a layer with weights at input `position`: one for each output channel.

    Input scale * weight scale / output scale in double. With one scale for all weights the source of TFLite Micro
    (GetQuantizedConvolutionMultipler) multiplies in float32; the released runtime does so in double (measured).
    """
    weights = b.file_tensor(node, position)
    data = 0 if node.operator != "TRANSPOSE_CONV" else 2
    scale_in, scale_out = b.input_quantization(node, data).scale, b.output_quantization(node).scale
    if weights.scales.size not in (1, channels) or (weights.scales.size > 1 and weights.axis != axis):
        raise b.error(
            node,
            f"weights {weights.name!r} have {weights.scales.size} scales along axis {weights.axis}; "
            f"expected 1, or {channels} along axis {axis}",
        )
    products = [scale_in * float(scale) for scale in np.broadcast_to(weights.scales, channels)]
    pairs = np.array([quantize_multiplier(product / scale_out) for product in products], dtype=np.int64)
    return pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int32)


def bias_of(b: GraphBuilder, node: Node, position: int, channels: int) -> NDArray[np.int32]:
    """The bias at input `position`, zeros where there is none."""
    if not b.has(node, position):
        return np.zeros(channels, dtype=np.int32)
    bias = b.constant(node, position, ("int32",))
    if bias.size != channels:
        raise b.error(node, f"has {bias.size} biases for {channels} channels")
    return bias.reshape(channels)


def weights_of(b: GraphBuilder, node: Node, position: int, rank: int) -> NDArray[np.int16]:
    """Constant int8 weights with `rank` axes, their zero point subtracted."""
    weights = b.constant(node, position, ("int8",))
    record = b.file_tensor(node, position)
    if weights.ndim != rank or weights.size == 0:
        raise b.error(node, f"weights {record.name!r} have shape {list(weights.shape)}; expected {rank} axes")
    if node.operator in ("FULLY_CONNECTED", "BATCH_MATMUL"):
        zero_point = int(record.zero_points[0]) if record.zero_points.size == 1 else 0
    else:
        zero_point = 0
    unused = record.zero_points[:1] != zero_point if record.zero_points.size == 1 else record.zero_points != 0
    if unused.any() or not -128 <= zero_point <= 127:
        raise b.error(node, f"weights {record.name!r} have the zero point {record.zero_points[0]}; expected 0")
    return weights.astype(np.int16) - np.int16(zero_point)


def layer(  # one place for what all layers share
    b: GraphBuilder,
    node: Node,
    x: ir.Tensor,
    y: ir.Tensor,
    weights: NDArray[np.int16],
    kind: str,
    *,
    axis: int = 0,
    weights_at: int = 1,
    bias_at: int = 2,
    strides: ir.Pair = (1, 1),
    dilation: ir.Pair = (1, 1),
    padding: ir.Padding = ((0, 0), (0, 0)),
    groups: int = 1,
) -> None:
    """Emit the Conv2D with the scales, bias and activation of `node`."""
    channels = weights.shape[0]
    multiplier, shift = scale_parameters(b, node, weights_at, axis, channels)
    qmin, qmax = b.activation(node, kind) if kind else (-128, 127)
    b.emit(
        ir.Conv2D(
            node.name,
            node.operator,
            [x],
            [y],
            np.ascontiguousarray(weights),
            bias_of(b, node, bias_at, channels),
            ir.Requantize(multiplier, shift, b.output_quantization(node).zero_point, qmin, qmax),
            strides,
            dilation,
            padding,
            groups,
            b.input_quantization(node, 0 if node.operator != "TRANSPOSE_CONV" else 2).zero_point,
        )
    )


def _dilation(b: GraphBuilder, node: Node, kind: str) -> ir.Pair:
    return int(b.option(node, kind, "DilationHFactor", 1)), int(b.option(node, kind, "DilationWFactor", 1))


def _image(b: GraphBuilder, node: Node, position: int) -> ir.Tensor:
    x = b.value(node, position)
    if len(x.shape) != 4:
        raise b.error(node, f"its input has shape {list(x.shape)}; expected 4 axes")
    return x


def conv_2d(b: GraphBuilder, node: Node) -> None:
    """CONV_2D, grouped where the weights have fewer channels than the input."""
    x, w = _image(b, node, 0), weights_of(b, node, 1, 4)
    channels, kh, kw, depth = w.shape
    groups = x.channels // depth
    if groups * depth != x.channels or channels % max(groups, 1):
        raise b.error(node, f"weights {list(w.shape)} do not fit {x.channels} input channels")
    dilation = _dilation(b, node, "Conv2DOptions")
    size, strides, padding = window_geometry(b, node, "Conv2DOptions", (x.shape[1], x.shape[2]), (kh, kw), dilation)
    y = b.output(node, (x.shape[0], *size, channels))
    layer(
        b, node, x, y, w, "Conv2DOptions", strides=strides, dilation=dilation, padding=padding, groups=groups
    )  # fmt: skip


def depthwise_conv_2d(b: GraphBuilder, node: Node) -> None:
    """DEPTHWISE_CONV_2D: weights [1, kh, kw, C * multiplier]."""
    kind = "DepthwiseConv2DOptions"
    x, w = _image(b, node, 0), weights_of(b, node, 1, 4)
    _, kh, kw, channels = w.shape
    multiplier = b.option(node, kind, "DepthMultiplier")
    if w.shape[0] != 1 or channels != x.channels * multiplier:
        raise b.error(
            node, f"weights {list(w.shape)} do not fit {x.channels} input channels with depth multiplier {multiplier}"
        )
    dilation = _dilation(b, node, kind)
    size, strides, padding = window_geometry(b, node, kind, (x.shape[1], x.shape[2]), (kh, kw), dilation)
    y = b.output(node, (x.shape[0], *size, channels))
    layer(
        b, node, x, y, np.moveaxis(w[0], 2, 0)[..., None], kind, axis=3,
        strides=strides, dilation=dilation, padding=padding, groups=x.channels,
    )  # fmt: skip


def transpose_conv(b: GraphBuilder, node: Node) -> None:
    """TRANSPOSE_CONV: a convolution with the flipped kernel over the image with stride - 1 zeros between its pixels."""
    kind = "TransposeConvOptions"
    shape, w, x = b.integers(node, 0), weights_of(b, node, 1, 4), _image(b, node, 2)
    channels, kh, kw, depth = w.shape
    n, height, width, _ = x.shape
    if len(shape) != 4 or depth != x.channels:
        raise b.error(node, f"weights {list(w.shape)} and output shape {shape} do not fit input {list(x.shape)}")
    y = b.output(node, (n, *shape[1:3], channels))
    size = (y.shape[1], y.shape[2])
    fitting, strides, padding = window_geometry(b, node, kind, size, (kh, kw))
    if fitting != (height, width):
        raise b.error(
            node, f"an output of {size[0]}x{size[1]} comes from {fitting[0]}x{fitting[1]}, not {height}x{width}"
        )
    spread = b.temporary(node, "spread", (n, size[0] + kh - 1, size[1] + kw - 1, depth), x)
    index = np.full(spread.shape, -1, dtype=np.int64)
    # pixel i lies at i * stride, after the kernel's size - 1 - padding pixels of border
    rows, columns = (
        np.arange(count) * stride + taps - 1 - pads[0]
        for count, stride, taps, pads in zip((height, width), strides, (kh, kw), padding, strict=True)
    )
    inside_rows, inside_columns = rows < spread.shape[1], columns < spread.shape[2]
    index[:, rows[inside_rows][:, None], columns[inside_columns]] = indices(x)[:, inside_rows][:, :, inside_columns]
    b.move(node, [x], spread, index, b.input_quantization(node, 2).zero_point)
    layer(b, node, spread, y, w[:, ::-1, ::-1], kind, bias_at=3)


def fully_connected(b: GraphBuilder, node: Node) -> None:
    """FULLY_CONNECTED: all elements of the input in rows as long as the weights'."""
    kind = "FullyConnectedOptions"
    x = b.value(node, 0)
    if b.option(node, kind, "WeightsFormat", 0) != 0:
        raise b.error(node, "has shuffled weights; only the default format is supported")
    constant = b.value(node, 1).data is not None
    w_shape = b.value(node, 1).shape
    if len(w_shape) != 2 or x.size % w_shape[1]:
        raise b.error(node, f"weights {list(w_shape)} do not fit input {list(x.shape)}")
    channels, depth = w_shape
    record = b.subgraph.tensors[node.outputs[0]] if node.outputs else None
    if record is None or not record.shape or record.shape[-1] != channels:
        raise b.error(node, f"its output must end with an axis of {channels}")
    if math.prod(record.shape) != x.size // depth * channels:
        raise b.error(
            node, f"output {list(record.shape)} does not fit input {list(x.shape)} and weights {list(w_shape)}"
        )
    y = b.output(node, record.shape)
    x = b.reshaped(node, x, (*y.shape[:-1], depth))
    if constant:
        layer(b, node, x, y, weights_of(b, node, 1, 2).reshape(channels, 1, 1, depth), kind)
        return
    w = b.transposed(node, b.value(node, 1), (1, 0))
    flat = b.reshaped(node, x, (y.pixels, depth))
    direct = len(y.shape) == 2
    target = y if direct else b.temporary(node, "rows", (y.pixels, channels), y)
    multiplier, shift = scale_parameters(b, node, 1, 0, 1)
    qmin, qmax = b.activation(node, kind)
    bias = bias_of(b, node, 2, channels)
    rq = ir.Requantize(int(multiplier[0]), int(shift[0]), b.output_quantization(node).zero_point, qmin, qmax, bias=bias)
    zero_points = b.input_quantization(node, 0).zero_point, b.input_quantization(node, 1).zero_point
    b.emit(ir.MatMul(node.name, node.operator, [flat, w], [target], rq, *zero_points))
    if not direct:
        b.move(node, [target], y, np.arange(y.size))


def batch_matmul(b: GraphBuilder, node: Node) -> None:
    """BATCH_MATMUL: with a constant matrix a fully connected layer, else a product of activations."""
    kind = "BatchMatMulOptions"
    x, w = b.value(node, 0), b.value(node, 1)
    if min(len(x.shape), len(w.shape)) < 2:
        raise b.error(node, f"inputs {list(x.shape)} and {list(w.shape)} must have 2 or more axes")
    if b.option(node, kind, "AdjX", False):
        x = b.transposed(node, x, _swap(len(x.shape)))
    if b.option(node, kind, "AdjY", False):
        w = b.transposed(node, w, _swap(len(w.shape)))
    if x.shape[-1] != w.shape[-2]:
        raise b.error(node, f"inputs {list(x.shape)} and {list(w.shape)} do not multiply")
    try:
        leading = np.broadcast_shapes(x.shape[:-2], w.shape[:-2])
    except ValueError:
        raise b.error(node, f"inputs {list(x.shape)} and {list(w.shape)} do not broadcast") from None
    rows, columns = x.shape[-2], w.shape[-1]
    y = b.output(node, (*leading, rows, columns))
    quantized = b.input_quantization(node, 0), b.input_quantization(node, 1)
    if w.data is not None and math.prod(w.shape[:-2]) == 1:
        matrix = w.data.reshape(-1, columns).T.astype(np.int16) - np.int16(quantized[1].zero_point)
        x = b.reshaped(node, x, (*y.shape[:-1], x.shape[-1]))
        layer(b, node, x, y, matrix.reshape(columns, 1, 1, -1), "", bias_at=2)
        return
    multiplier, shift = scale_parameters(b, node, 1, 0, 1)
    operands = [_broadcast(b, node, tensor, leading) for tensor in (x, w)]
    rq = ir.Requantize(int(multiplier[0]), int(shift[0]), b.output_quantization(node).zero_point)
    zero_points = (q.zero_point for q in quantized)
    b.emit(ir.MatMul(node.name, node.operator, operands, [y], rq, *zero_points))


def _swap(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def _broadcast(b: GraphBuilder, node: Node, tensor: ir.Tensor, leading: Sequence[int]) -> ir.Tensor:
    """`tensor` with the leading axes `leading`."""
    shape = (*leading, *tensor.shape[-2:])
    if tensor.shape == shape:
        return tensor
    index = np.broadcast_to(indices(tensor), shape)
    return b.move(node, [tensor], b.temporary(node, "broadcast", shape, tensor), index)


HANDLERS = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "TRANSPOSE_CONV": transpose_conv,
    "FULLY_CONNECTED": fully_connected,
    "BATCH_MATMUL": batch_matmul,
}
"""By operator name."""
