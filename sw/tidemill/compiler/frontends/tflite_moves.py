"""TFLite operators that only move data: each becomes one Move an output, on int8 or int32, or a constant.

A handler applies the numpy function of the same meaning to the positions of the input's elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tidemill.compiler import ir
from tidemill.compiler.frontends.tflite_file import MAX_ELEMENTS, Node
from tidemill.compiler.frontends.tflite_graph import Array, GraphBuilder, indices

TYPES = ("int8", "uint8", "int32", "int64", "bool", "int16", "float32")
"""Types that can be moved as constants; `GraphBuilder.move` refuses activations that are not int8, uint8 or int32."""


def rearrange(b: GraphBuilder, node: Node, x: ir.Tensor, index: Array, position: int = 0, fill: int = 0) -> None:
    """Emit the Move of `x` whose index is `index`; the output has its shape and the input's type."""
    y = b.output(node, index.shape, position, TYPES)
    source = b.subgraph.tensors[node.outputs[position]].dtype
    if y.dtype != x.dtype or (source == "uint8") != (_is_uint8(b, node, x)):
        raise b.error(node, f"its output is {source}, its input {x!r}")
    b.move(node, [x], y, index, fill)


def _is_uint8(b: GraphBuilder, node: Node, x: ir.Tensor) -> bool:
    return any(i >= 0 and b.values.get(i) is x and b.subgraph.tensors[i].dtype == "uint8" for i in node.inputs)


def check_size(b: GraphBuilder, node: Node, shape: Sequence[int]) -> None:
    if not 0 < math.prod(shape) <= MAX_ELEMENTS:
        raise b.error(node, f"makes a tensor of shape {list(shape)[:16]}; 1 to {MAX_ELEMENTS} elements fit")


def same_quantization(b: GraphBuilder, node: Node, position: int) -> None:
    """TFLite Micro copies bytes: scales that differ would change the numbers."""
    record = b.file_tensor(node, position)
    output = b.subgraph.tensors[node.outputs[0]]
    if record.dtype in ("int8", "uint8") and b.quantization(node, record) != b.quantization(node, output):
        raise b.error(node, f"{record.name!r} and {output.name!r} must have the same scale and zero point")


def reshape(b: GraphBuilder, node: Node) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the elements in their order, in the shape that the file gives the output."""
    x = b.value(node, 0, TYPES)
    record = b.subgraph.tensors[node.outputs[0]] if node.outputs else None
    if record is None or math.prod(record.shape) != x.size:
        raise b.error(node, f"makes {x.size} elements into shape {list(record.shape) if record else None}")
    rearrange(b, node, x, indices(x).reshape(record.shape))


def transpose(b: GraphBuilder, node: Node) -> None:
    """TRANSPOSE with a constant order of the axes."""
    x, order = b.value(node, 0, TYPES), b.integers(node, 1)
    order = [b.axis(node, axis, len(x.shape)) for axis in order]
    if sorted(order) != list(range(len(x.shape))):
        raise b.error(node, f"orders the axes of {list(x.shape)} as {order}")
    rearrange(b, node, x, indices(x).transpose(order))


def concatenation(b: GraphBuilder, node: Node) -> None:
    """CONCATENATION of tensors with one scale and zero point."""
    kind = "ConcatenationOptions"
    inputs = [b.value(node, i, TYPES) for i in range(len(node.inputs))]
    if not inputs or len({len(tensor.shape) for tensor in inputs}) != 1:
        raise b.error(node, "concatenates tensors with different numbers of axes")
    axis = b.axis(node, b.option(node, kind, "Axis"), len(inputs[0].shape))
    if b.option(node, kind, "FusedActivationFunction", 0) != 0:
        raise b.error(node, "has a fused activation, which TFLite Micro does not take")
    starts = np.cumsum([0, *(tensor.size for tensor in inputs)])
    parts = [indices(tensor) + start for tensor, start in zip(inputs, starts, strict=False)]
    if len({(part.shape[:axis], part.shape[axis + 1 :]) for part in parts}) != 1:
        raise b.error(node, f"concatenates {[list(part.shape) for part in parts]} along axis {axis}")
    joined = np.concatenate(parts, axis)
    y = b.output(node, joined.shape, types=TYPES)
    dtypes = {b.file_tensor(node, i).dtype for i in range(len(inputs))}
    if dtypes != {b.subgraph.tensors[node.outputs[0]].dtype}:
        raise b.error(node, f"concatenates {', '.join(sorted(dtypes))}")
    for i in range(len(inputs)):
        same_quantization(b, node, i)
    b.move(node, inputs, y, joined)


def pack(b: GraphBuilder, node: Node) -> None:
    """PACK: tensors of one shape along a new axis."""
    inputs = [b.value(node, i, TYPES) for i in range(len(node.inputs))]
    if not inputs or len({(tensor.shape, tensor.dtype) for tensor in inputs}) != 1:
        raise b.error(node, f"packs {inputs}, which must be alike")
    axis = b.axis(node, b.option(node, "PackOptions", "Axis"), len(inputs[0].shape) + 1)
    parts = [indices(tensor) + number * tensor.size for number, tensor in enumerate(inputs)]
    stacked = np.stack(parts, axis)
    y = b.output(node, stacked.shape, types=TYPES)
    if {b.file_tensor(node, i).dtype for i in range(len(inputs))} != {b.subgraph.tensors[node.outputs[0]].dtype}:
        raise b.error(node, f"its output is not {inputs[0].dtype}")
    b.move(node, inputs, y, stacked)


def unpack(b: GraphBuilder, node: Node) -> None:
    """UNPACK: the slices along an axis, without it."""
    x = b.value(node, 0, TYPES)
    axis = b.axis(node, b.option(node, "UnpackOptions", "Axis"), len(x.shape))
    if len(node.outputs) != x.shape[axis]:
        raise b.error(node, f"unpacks an axis of {x.shape[axis]} into {len(node.outputs)} outputs")
    for number in range(x.shape[axis]):
        rearrange(b, node, x, indices(x).take(number, axis), number)


def _split_at(b: GraphBuilder, node: Node, x: ir.Tensor, axis: int, sizes: Sequence[int]) -> None:
    if len(sizes) != len(node.outputs) or min(sizes, default=0) < 1 or sum(sizes) != x.shape[axis]:
        raise b.error(node, f"splits an axis of {x.shape[axis]} into {list(sizes)} for {len(node.outputs)} outputs")
    for number, part in enumerate(np.split(indices(x), np.cumsum(sizes)[:-1], axis)):
        rearrange(b, node, x, part, number)


def split(b: GraphBuilder, node: Node) -> None:
    """SPLIT into equal parts along a constant axis."""
    axes, x = b.integers(node, 0), b.value(node, 1, TYPES)
    if len(axes) != 1 or not node.outputs:
        raise b.error(node, f"splits along the axes {axes} into {len(node.outputs)} outputs")
    axis = b.axis(node, axes[0], len(x.shape))
    _split_at(b, node, x, axis, [x.shape[axis] // len(node.outputs)] * len(node.outputs))


def split_v(b: GraphBuilder, node: Node) -> None:
    """SPLIT_V into parts of constant sizes; one of them may be -1: the rest."""
    x, sizes, axes = b.value(node, 0, TYPES), b.integers(node, 1), b.integers(node, 2)
    if len(axes) != 1:
        raise b.error(node, f"splits along the axes {axes}")
    axis = b.axis(node, axes[0], len(x.shape))
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = x.shape[axis] - sum(sizes) - 1
    _split_at(b, node, x, axis, sizes)


def slice_(b: GraphBuilder, node: Node) -> None:
    """SLICE with constant begin and size; size -1: to the end."""
    x, begins, sizes = b.value(node, 0, TYPES), b.integers(node, 1), b.integers(node, 2)
    if not len(begins) == len(sizes) == len(x.shape):
        raise b.error(node, f"slices {list(x.shape)} at {begins} by {sizes}")
    ranges = []
    for total, begin, size in zip(x.shape, begins, sizes, strict=True):
        end = total if size == -1 else begin + size
        if not 0 <= begin < end <= total:
            raise b.error(node, f"slices {list(x.shape)} at {begins} by {sizes}")
        ranges.append(slice(begin, end))
    rearrange(b, node, x, indices(x)[tuple(ranges)])


def strided_slice(b: GraphBuilder, node: Node) -> None:
    """STRIDED_SLICE with constant begin, end and strides and all masks, as numpy indexing."""
    kind = "StridedSliceOptions"
    x = b.value(node, 0, TYPES)
    begins, ends, strides = (b.integers(node, i) for i in (1, 2, 3))
    masks = {
        name: b.option(node, kind, name + "Mask") for name in ("Begin", "End", "Ellipsis", "NewAxis", "ShrinkAxis")
    }
    if not len(begins) == len(ends) == len(strides):
        raise b.error(node, f"slices from {begins} to {ends} by {strides}")
    if b.option(node, kind, "Offset", False):
        ends = [begin + end for begin, end in zip(begins, ends, strict=True)]
    consumed = sum(not masks["NewAxis"] >> i & 1 and not masks["Ellipsis"] >> i & 1 for i in range(len(begins)))
    if masks["Ellipsis"].bit_count() > 1 or consumed > len(x.shape):
        raise b.error(node, f"slices {list(x.shape)} from {begins} to {ends}, ellipsis mask {masks['Ellipsis']}")
    key: list[Any] = []
    axis = 0
    for i, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        if masks["Ellipsis"] >> i & 1:
            key.append(Ellipsis)
            axis = len(x.shape) - (consumed - axis)
        elif masks["NewAxis"] >> i & 1:
            key.append(None)
        elif masks["ShrinkAxis"] >> i & 1:
            key.append(b.axis(node, begin, x.shape[axis]))
            axis += 1
        elif stride == 0:
            raise b.error(node, f"slices by {strides}")
        else:
            key.append(
                slice(None if masks["Begin"] >> i & 1 else begin, None if masks["End"] >> i & 1 else end, stride)
            )
            axis += 1
    index = np.asarray(indices(x)[tuple(key)])
    check_size(b, node, index.shape)
    rearrange(b, node, x, index)


def _pairs(b: GraphBuilder, node: Node, position: int, rank: int) -> list[ir.Pair]:
    """A constant [rank, 2] of numbers from 0."""
    pairs = b.constant(node, position)
    if pairs.shape != (rank, 2) or pairs.min() < 0 or pairs.max() > MAX_ELEMENTS:
        raise b.error(node, f"input {position} is {pairs.tolist()}; expected {rank} pairs of numbers from 0")
    return [(int(low), int(high)) for low, high in pairs]


def pad(b: GraphBuilder, node: Node) -> None:
    """PAD and PADV2: the output's zero point, or a constant, around the input."""
    x = b.value(node, 0)
    padding = _pairs(b, node, 1, len(x.shape))
    check_size(b, node, [size + sum(pair) for size, pair in zip(x.shape, padding, strict=True)])
    fill = b.output_quantization(node).zero_point
    if node.operator == "PADV2" and b.has(node, 2):
        value = b.constant(node, 2, ("int8",))
        if value.size != 1:
            raise b.error(node, f"pads with {value.size} values")
        fill = int(value.reshape(-1)[0])
    rearrange(b, node, x, np.pad(indices(x), padding, constant_values=-1), fill=fill)


def mirror_pad(b: GraphBuilder, node: Node) -> None:
    """MIRROR_PAD: the input reflected at its borders, with (1: SYMMETRIC) or without (0: REFLECT) the border itself."""
    x = b.value(node, 0)
    padding = _pairs(b, node, 1, len(x.shape))
    symmetric = b.option(node, "MirrorPadOptions", "Mode") == 1
    if any(max(pair) > size - (not symmetric) for size, pair in zip(x.shape, padding, strict=True)):
        raise b.error(node, f"pads {list(x.shape)} by {padding}, more than it can reflect")
    check_size(b, node, [size + sum(pair) for size, pair in zip(x.shape, padding, strict=True)])
    rearrange(b, node, x, np.pad(indices(x), padding, mode="symmetric" if symmetric else "reflect"))


def broadcast_to(b: GraphBuilder, node: Node) -> None:
    """BROADCAST_TO a constant shape."""
    x, shape = b.value(node, 0, TYPES), b.integers(node, 1)
    if min(shape, default=1) < 1:
        raise b.error(node, f"broadcasts to {shape}")
    check_size(b, node, shape)
    try:
        index = np.broadcast_to(indices(x), shape)
    except ValueError:
        raise b.error(node, f"{list(x.shape)} does not broadcast to {shape}") from None
    rearrange(b, node, x, index)


def tile(b: GraphBuilder, node: Node) -> None:
    """TILE by constant counts."""
    x, counts = b.value(node, 0, TYPES), b.integers(node, 1)
    if len(counts) != len(x.shape) or min(counts, default=1) < 1:
        raise b.error(node, f"repeats {list(x.shape)} {counts} times")
    check_size(b, node, [size * count for size, count in zip(x.shape, counts, strict=True)])
    rearrange(b, node, x, np.tile(indices(x), counts))


def reverse(b: GraphBuilder, node: Node) -> None:
    """REVERSE_V2 along constant axes."""
    x, axes = b.value(node, 0, TYPES), b.integers(node, 1)
    rearrange(b, node, x, np.flip(indices(x), tuple({b.axis(node, axis, len(x.shape)) for axis in axes})))


def _block(b: GraphBuilder, node: Node, kind: str) -> tuple[ir.Tensor, int]:
    x, block = b.value(node, 0), b.option(node, kind, "BlockSize")
    if len(x.shape) != 4 or block < 1:
        raise b.error(node, f"takes blocks of {block} from {list(x.shape)}")
    return x, block


def space_to_depth(b: GraphBuilder, node: Node) -> None:
    """SPACE_TO_DEPTH: blocks of pixels become channels."""
    x, block = _block(b, node, "SpaceToDepthOptions")
    n, height, width, channels = x.shape
    if height % block or width % block:
        raise b.error(node, f"blocks of {block} do not divide {height}x{width}")
    grid = indices(x).reshape(n, height // block, block, width // block, block, channels).transpose(0, 1, 3, 2, 4, 5)
    rearrange(b, node, x, grid.reshape(n, height // block, width // block, -1))


def depth_to_space(b: GraphBuilder, node: Node) -> None:
    """DEPTH_TO_SPACE: channels become blocks of pixels."""
    x, block = _block(b, node, "DepthToSpaceOptions")
    n, height, width, channels = x.shape
    if channels % (block * block):
        raise b.error(node, f"blocks of {block}x{block} do not divide {channels} channels")
    grid = indices(x).reshape(n, height, width, block, block, -1).transpose(0, 1, 3, 2, 4, 5)
    rearrange(b, node, x, grid.reshape(n, height * block, width * block, -1))


def _blocks(b: GraphBuilder, node: Node, x: ir.Tensor) -> tuple[list[int], list[ir.Pair]]:
    blocks = b.integers(node, 1)
    if not 1 <= len(blocks) < len(x.shape) or not all(1 <= block <= MAX_ELEMENTS for block in blocks):
        raise b.error(node, f"takes blocks of {blocks} from {list(x.shape)}")
    return blocks, _pairs(b, node, 2, len(blocks))


def space_to_batch(b: GraphBuilder, node: Node) -> None:
    """SPACE_TO_BATCH_ND: the pixels of each phase of a grid become images.

    Padding holds the zero point, as in TFLite; TFLite Micro never sets the byte that it pads with.
    """
    x = b.value(node, 0)
    blocks, padding = _blocks(b, node, x)
    rest = len(x.shape) - 1 - len(blocks)
    check_size(b, node, [size + sum(p) for size, p in zip(x.shape[1:], padding, strict=False)])
    padded = np.pad(indices(x), [(0, 0), *padding, *[(0, 0)] * rest], constant_values=-1)
    n, *spatial = padded.shape[: 1 + len(blocks)]
    if any(size % block for size, block in zip(spatial, blocks, strict=True)):
        raise b.error(node, f"blocks of {blocks} do not divide {spatial}")
    split_shape = [n]
    for size, block in zip(spatial, blocks, strict=True):
        split_shape += [size // block, block]
    tail = x.shape[1 + len(blocks) :]
    grid = padded.reshape(*split_shape, *tail)
    phases, places = range(2, len(split_shape), 2), range(1, len(split_shape), 2)
    grid = grid.transpose(*phases, 0, *places, *range(len(split_shape), grid.ndim))
    outer = [size // block for size, block in zip(spatial, blocks, strict=True)]
    index = grid.reshape(n * math.prod(blocks), *outer, *tail)
    rearrange(b, node, x, index, fill=b.output_quantization(node).zero_point)


def batch_to_space(b: GraphBuilder, node: Node) -> None:
    """BATCH_TO_SPACE_ND: images become the phases of a grid, which is then cropped."""
    x = b.value(node, 0)
    blocks, crops = _blocks(b, node, x)
    if x.shape[0] % math.prod(blocks):
        raise b.error(node, f"blocks of {blocks} do not divide {x.shape[0]} images")
    n, spatial, tail = x.shape[0] // math.prod(blocks), x.shape[1 : 1 + len(blocks)], x.shape[1 + len(blocks) :]
    grid = indices(x).reshape(*blocks, n, *spatial, *tail)
    count = len(blocks)
    order = [count]
    for i in range(count):
        order += [count + 1 + i, i]
    grid = grid.transpose(*order, *range(2 * count + 1, grid.ndim))
    whole = [size * block for size, block in zip(spatial, blocks, strict=True)]
    if any(sum(crop) >= size for size, crop in zip(whole, crops, strict=True)):
        raise b.error(node, f"crops {crops} of {whole}")
    keep = tuple(slice(low, size - high) for size, (low, high) in zip(whole, crops, strict=True))
    rearrange(b, node, x, grid.reshape(n, *whole, *tail)[(slice(None), *keep)])


def shape(b: GraphBuilder, node: Node) -> None:
    """SHAPE: a constant, as every shape is known."""
    sizes = np.array(b.file_tensor(node, 0).shape, dtype=np.int64)
    y = b.output(node, sizes.shape, types=("int32", "int64"))
    y.data = sizes.astype(y.dtype)


HANDLERS = {
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "TRANSPOSE": transpose,
    "CONCATENATION": concatenation,
    "PACK": pack,
    "UNPACK": unpack,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "PAD": pad,
    "PADV2": pad,
    "MIRROR_PAD": mirror_pad,
    "BROADCAST_TO": broadcast_to,
    "TILE": tile,
    "REVERSE_V2": reverse,
    "SPACE_TO_DEPTH": space_to_depth,
    "DEPTH_TO_SPACE": depth_to_space,
    "SPACE_TO_BATCH_ND": space_to_batch,
    "BATCH_TO_SPACE_ND": batch_to_space,
    "SHAPE": shape,
}
"""By operator name."""
