"""What constant weights can absorb: explicit padding, permutations before a dense layer, im2col of a first layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.ir import Conv2D, Graph, Host, Move, Op, Padding, Tensor
from tidemill.compiler.passes.moves import host_move, through
from tidemill.config import Config

Index = NDArray[np.int64]


def fold_padding(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """A convolution of a spatially padded tensor pads by itself where the padding holds its input zero point."""
    moves = {id(op.y): op for op in graph.ops if isinstance(op, Move)}
    ops: list[Op] = []
    for op in graph.ops:
        move = moves.get(id(op.x)) if isinstance(op, Conv2D) else None
        pads = None if move is None or len(move.inputs) != 1 else _spatial_padding(move)
        if isinstance(op, Conv2D) and move is not None and pads is not None and move.fill == op.input_zero_point:
            (top, bottom), (left, right) = op.padding
            total = ((top + pads[0][0], bottom + pads[0][1]), (left + pads[1][0], right + pads[1][1]))
            ops.append(replace(op, inputs=[move.x], padding=total))
        else:
            ops.append(op)
    return replace(graph, ops=ops)


def _spatial_padding(move: Move) -> Padding | None:
    """The padding of [N, H, W, C] that the move is, if it is one."""
    x, index = move.x, move.index
    if len(x.shape) != 4 or index.ndim != 4 or not (index < 0).any():
        return None
    inside = np.argwhere(index >= 0)
    if not len(inside):
        return None
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    if tuple(high - low) != x.shape or low[0] or low[3] or high[0] != index.shape[0] or high[3] != index.shape[3]:
        return None
    window = index[low[0] : high[0], low[1] : high[1], low[2] : high[2], low[3] : high[3]]
    if not np.array_equal(window.reshape(-1), np.arange(x.size)):
        return None
    return (
        (int(low[1]), int(index.shape[1] - high[1])),
        (int(low[2]), int(index.shape[2] - high[2])),
    )


def fold_permutations(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """A dense layer over a flattened or permuted activation becomes a convolution over the activation itself, with
    permuted weights and a kernel as large as the image."""
    moves = {id(op.y): op for op in graph.ops if isinstance(op, Move)}
    ops: list[Op] = []
    for op in graph.ops:
        move = moves.get(id(op.x)) if isinstance(op, Conv2D) else None
        if isinstance(op, Conv2D) and move is not None:
            ops.extend(_permuted(op, move))
        else:
            ops.append(op)
    return replace(graph, ops=ops)


def _permuted(op: Conv2D, move: Move) -> list[Op]:
    if op.weights.shape[1:3] != (1, 1) or op.groups != 1 or len(move.inputs) != 1 or op.padding != ((0, 0), (0, 0)):
        return [op]
    if op.strides != (1, 1):
        return [op]
    source, size = move.x, op.x.channels
    rows = op.x.pixels
    shape = source.shape if len(source.shape) == 4 else (rows, 1, 1, size)
    if source.size != rows * size or shape[0] != rows:
        return [op]
    order = move.index.reshape(rows, size) - np.arange(rows, dtype=np.int64)[:, None] * size
    if not (order == order[0]).all() or not np.array_equal(np.sort(order[0]), np.arange(size)):
        return [op]
    outputs = op.weights.shape[0]
    permuted = np.empty((outputs, size), np.int16)
    permuted[:, order[0]] = op.weights.reshape(outputs, size)
    result = Tensor(op.y.name, (rows, 1, 1, outputs), op.y.dtype, op.y.scale, op.y.zero_point)
    view = np.arange(op.y.size, dtype=np.int64).reshape(op.y.shape)
    weights = permuted.reshape(outputs, *shape[1:])
    if len(source.shape) != 4:
        return [replace(op, inputs=[source], weights=weights)]
    return [
        replace(op, inputs=[source], outputs=[result], weights=weights),
        Move(f"{op.name} (shape)", "RESHAPE", [result], [op.y], view),
    ]


def pack_first_layers(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """A convolution that alone reads an input with few channels, or such a result of the host, gets its patches packed
    by the host (im2col), so that the array's rows are full: [N, H, W, C] becomes [N, Ho, Wo, kh * kw * C] and the
    kernel 1 x 1."""
    consumers = graph.consumers()
    borders = {id(port.tensor) for port in graph.outputs} | {id(state.write) for state in graph.states} | set(keep)
    ports = {id(port.tensor): port for port in graph.inputs}
    hosted = {id(tensor) for op in graph.ops if isinstance(op, Host) for tensor in op.outputs}
    ops: list[Op] = []
    for op in graph.ops:
        key = id(op.inputs[0]) if op.inputs else 0
        alone = len(consumers.get(key, [])) == 1 and key not in borders and (key in ports or key in hosted)
        packed = _packed(op, config) if isinstance(op, Conv2D) and alone else None
        if not isinstance(op, Conv2D) or packed is None:
            ops.append(op)
            continue
        index, tensor = packed
        if key in ports:
            merged = through(ports[key], index, op.input_zero_point, tensor)
            if merged is None:
                ops.append(op)
                continue
            ports[key] = merged
        else:
            ops.append(host_move(f"{op.name} (patches)", [op.x], tensor, index, op.input_zero_point))
        weights = op.weights.reshape(op.weights.shape[0], 1, 1, -1)
        none = ((0, 0), (0, 0))
        ops.append(replace(op, inputs=[tensor], weights=weights, strides=(1, 1), dilation=(1, 1), padding=none))
    return replace(graph, inputs=[ports[id(port.tensor)] for port in graph.inputs], ops=ops)


def _packed(op: Conv2D, config: Config) -> tuple[Index, Tensor] | None:
    """Index [N, Ho, Wo, kh * kw * C] of the patches (-1: padding) and their tensor, where packing pays."""
    _, kh, kw, _ = op.weights.shape
    x = op.x
    if kh * kw == 1 or op.groups != 1 or len(x.shape) != 4 or 2 * x.channels > config.dim:
        return None
    batch, height, width, channels = x.shape
    padded = np.full((batch, height + sum(op.padding[0]), width + sum(op.padding[1]), channels), -1, np.int64)
    top, left = op.padding[0][0], op.padding[1][0]
    padded[:, top : top + height, left : left + width] = np.arange(x.size, dtype=np.int64).reshape(x.shape)
    _, out_height, out_width, _ = op.y.shape
    rows = np.arange(out_height)[:, None] * op.strides[0] + np.arange(kh) * op.dilation[0]
    columns = np.arange(out_width)[:, None] * op.strides[1] + np.arange(kw) * op.dilation[1]
    patches = padded[:, rows[:, None, :, None], columns[None, :, None, :]]
    index = patches.reshape(batch, out_height, out_width, kh * kw * channels)
    return index, Tensor(f"{x.name} (patches)", index.shape, x.dtype, x.scale, x.zero_point)
