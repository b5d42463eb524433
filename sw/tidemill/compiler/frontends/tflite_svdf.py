"""TFLite's SVDF, whose memory is a state of the graph."""

from __future__ import annotations

import numpy as np

from tidemill.compiler import ir
from tidemill.compiler.frontends.tflite_conv import bias_of
from tidemill.compiler.frontends.tflite_file import Node
from tidemill.compiler.frontends.tflite_graph import GraphBuilder, Variable, indices
from tidemill.golden.affine import Affine
from tidemill.golden.requant import quantize_multiplier


def svdf(b: GraphBuilder, node: Node) -> None:
    """SVDF: with an int8 memory two convolutions, with an int16 memory on the host.

    The fused activation does not count, as in TFLite Micro's integer kernel.
    """
    x, features = b.value(node, 0), b.constant(node, 1, ("int8",))
    times, memory = b.constant(node, 2, ("int8", "int16")), b.file_tensor(node, 4)
    rank = b.option(node, "SVDFOptions", "Rank")
    if len(x.shape) != 2 or features.ndim != 2 or times.ndim != 2 or features.shape[1] != x.channels:
        raise b.error(node, f"features {list(features.shape)} and times {list(times.shape)} do not fit {list(x.shape)}")
    filters, length = times.shape
    if rank < 1 or filters != features.shape[0] or filters % rank or min(filters, length) < 1:
        raise b.error(node, f"has {features.shape[0]} features, times {list(times.shape)}, rank {rank}")
    y = b.output(node, (x.shape[0], filters // rank))
    if memory.shape != (x.shape[0], filters * length) or memory.dtype != times.dtype or memory.data is not None:
        raise b.error(
            node,
            f"its memory {memory.name!r} is {memory.dtype}{list(memory.shape)}; "
            f"expected a variable {times.dtype}[{x.shape[0]}, {filters * length}]",
        )
    bias = bias_of(b, node, 3, filters // rank)
    constants = b.file_tensor(node, 1), b.file_tensor(node, 2)
    if any(t.scales.size != 1 or t.zero_points[0] != 0 for t in constants):
        raise b.error(node, "its weights must have one scale and zero point 0")
    if memory.scales.size != 1 or memory.scales[0] <= 0 or (memory.dtype == "int16" and memory.zero_points[0] != 0):
        raise b.error(node, f"its memory {memory.name!r} must have one scale, and for int16 zero point 0")
    state = Affine(float(memory.scales[0]), int(memory.zero_points[0]))
    scales = (float(constants[0].scales[0]), float(constants[1].scales[0]))
    if memory.dtype == "int8" and state.zero_point == 0:
        _on_npu(b, node, x, y, features, times, bias, rank, state, scales)
    else:
        _on_host(b, node, x, y, features, times, bias, rank, state, scales)


def _remember(b: GraphBuilder, node: Node, read: ir.Tensor, new: ir.Tensor) -> None:
    name = f"{node.name}/memory:{node.index}"
    b.variables[name] = Variable(name, read, new)


def _on_npu(
    b: GraphBuilder, node: Node, x: ir.Tensor, y: ir.Tensor, features: np.ndarray, times: np.ndarray,
    bias: np.ndarray, rank: int, state: Affine, scales: tuple[float, float],
) -> None:  # fmt: skip
    """The memory is an image [batch, time, 1, filter], over which a grouped convolution runs."""
    before, after = b.input_quantization(node, 0), b.output_quantization(node)
    batch, (filters, length) = x.shape[0], times.shape
    read = ir.Tensor(f"{node.name}/memory", (batch, length, 1, filters), "int8", state.scale, 0)
    rq = ir.Requantize(*quantize_multiplier(before.scale * scales[0] / state.scale), 0)
    row = b.reshaped(node, x, (batch, 1, 1, x.channels))
    newest = b.temporary(node, "features", (batch, 1, 1, filters), read)
    weights = features.astype(np.int16).reshape(filters, 1, 1, -1)
    zeros = np.zeros(filters, dtype=np.int32)
    b.emit(
        ir.Conv2D(node.name, node.operator, [row], [newest], weights, zeros, rq, input_zero_point=before.zero_point)
    )  # fmt: skip
    new = b.temporary(node, "moved", read.shape, read)
    joined = np.concatenate([indices(read)[:, 1:], indices(newest) + read.size], axis=1)
    b.move(node, [read, newest], new, joined)
    units = filters // rank
    weights = np.moveaxis(times.astype(np.int16).reshape(units, rank, length), 1, 2)[:, :, None]
    rq = ir.Requantize(*quantize_multiplier(state.scale * scales[1] / after.scale), after.zero_point)
    total = b.temporary(node, "sums", (batch, 1, 1, units), y)
    conv = ir.Conv2D(node.name, node.operator, [new], [total], np.ascontiguousarray(weights), bias, rq, groups=units)
    b.emit(conv)
    b.move(node, [total], y, np.arange(y.size))
    _remember(b, node, read, new)


def _on_host(
    b: GraphBuilder, node: Node, x: ir.Tensor, y: ir.Tensor, features: np.ndarray, times: np.ndarray,
    bias: np.ndarray, rank: int, state: Affine, scales: tuple[float, float],
) -> None:  # fmt: skip
    """An int16 memory is a state of its bytes."""
    attributes = {
        "features": features,
        "times": times,
        "bias": bias,
        "rank": rank,
        "x": list(b.input_quantization(node, 0)),
        "y": list(b.output_quantization(node)),
        "state": list(state),
        "scales": list(scales),
    }
    shape = (x.shape[0], times.shape[0], times.shape[1] * times.dtype.itemsize)
    read, new = (
        ir.Tensor(f"{node.name}/{suffix}", shape, "int8", None, state.zero_point) for suffix in ("memory", "moved")
    )
    b.emit(ir.Host(node.name, node.operator, [x, read], [y, new], "tflite.svdf", attributes))
    _remember(b, node, read, new)


HANDLERS = {"SVDF": svdf}
"""By operator name."""
