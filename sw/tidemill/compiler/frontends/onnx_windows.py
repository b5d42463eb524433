"""Sliding windows of ONNX nodes, and the channels-last tensors they run on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tidemill.compiler.frontends.onnx_convert import Converter
from tidemill.compiler.frontends.onnx_model import Node
from tidemill.compiler.frontends.onnx_values import Activation, channels_last, require
from tidemill.compiler.ir import Padding, Pair, Tensor


@dataclass(frozen=True)
class Window:
    """Sliding windows over the two last axes of a [N, C, H, W] value; 1-D ones have height 1."""

    kernel: Pair
    strides: Pair
    dilation: Pair
    padding: Padding
    output: Pair


def window(node: Node, kernel: list[int], spatial: tuple[int, ...]) -> Window:
    """The windows that kernel_shape, strides, dilations, pads, auto_pad and ceil_mode describe."""
    rank = len(spatial)
    require(rank in (1, 2), node, f"only 1-D and 2-D windows are supported, not {rank}-D")
    require(len(kernel) == rank, node, f"kernel_shape must have {rank} sizes, not {len(kernel)}")
    strides = node.ints("strides", [1] * rank) or [1] * rank
    dilation = node.ints("dilations", [1] * rank) or [1] * rank
    pads = node.ints("pads", [0] * 2 * rank) or [0] * 2 * rank
    require(len(strides) == len(dilation) == rank and len(pads) == 2 * rank, node, "attributes differ in length")
    positive = all(0 < value <= 1 << 16 for value in [*kernel, *strides, *dilation])
    require(positive, node, "kernel_shape, strides and dilations must be 1 to 65536")
    require(all(0 <= value <= 1 << 16 for value in pads), node, "pads must be 0 to 65536")
    auto = node.text("auto_pad", "NOTSET")
    require(auto in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), node, f"auto_pad {auto!r} is unknown")
    pairs: list[Pair] = []
    sizes: list[int] = []
    for axis in range(rank):
        extent = (kernel[axis] - 1) * dilation[axis] + 1
        size, stride = spatial[axis], strides[axis]
        before, after = (pads[axis], pads[axis + rank]) if auto == "NOTSET" else (0, 0)
        if auto.startswith("SAME"):
            total = max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
            small, large = total // 2, total - total // 2
            before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
        room = size + before + after - extent
        require(room >= 0, node, f"windows of {extent} do not fit {size} + {before} + {after}")
        count = room // stride + 1
        if node.integer("ceil_mode", 0) and auto == "NOTSET":
            count = -(-room // stride) + 1
            if (count - 1) * stride >= size + before:
                count -= 1
            after += max((count - 1) * stride - room, 0)
        pairs.append((before, after))
        sizes.append(count)
    if rank == 1:
        kernel, strides, dilation = [1, *kernel], [1, *strides], [1, *dilation]
        pairs, sizes = [(0, 0), *pairs], [1, *sizes]
    return Window(
        (kernel[0], kernel[1]),
        (strides[0], strides[1]),
        (dilation[0], dilation[1]),
        (pairs[0], pairs[1]),
        (sizes[0], sizes[1]),
    )


def as_nhwc(c: Converter, x: Activation) -> Tensor:
    """[N, C, W] or [N, C, H, W] as a tensor [N, H, W, C]."""
    rank = len(x.shape)
    tensor = c.build.tensor(x, channels_last(rank))
    if rank == 4:
        return tensor
    n, channels, width = x.shape
    wide = Tensor(f"{x.name}/1d", (n, 1, width, channels), tensor.dtype, tensor.scale, tensor.zero_point)
    c.build.move(wide.name, "Reshape", [tensor], np.arange(x.size, dtype=np.int64).reshape(wide.shape), wide)
    return wide


def from_nhwc(c: Converter, node: Node, y: Activation, tensor: Tensor) -> Tensor:
    """The tensor [N, H, W, C] an operation writes so that `tensor` ([N, W, C] for 1-D) of `y` gets its elements.

    For 2-D that is `tensor` itself; else call `finish_1d` after the operation is made.
    """
    if len(y.shape) == 4:
        return tensor
    n, width, channels = tensor.shape
    return Tensor(f"{y.name}/1d", (n, 1, width, channels), tensor.dtype, tensor.scale, tensor.zero_point)


def finish_1d(c: Converter, wide: Tensor, tensor: Tensor) -> None:
    """The movement from `wide` to `tensor`, where they differ."""
    if wide is not tensor:
        index = np.arange(tensor.size, dtype=np.int64).reshape(tensor.shape)
        c.build.move(wide.name, "Reshape", [wide], index, tensor)
