"""Data movement: chains become one `Move`, and moves at the borders become the host's reading and writing order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.ir import Graph, Host, Move, Op, Port, Tensor
from tidemill.config import Config

Index = NDArray[np.int64]


def compose_moves(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """A move of moved tensors reads their sources itself. The inner moves stay for other users."""
    written = {id(state.read) for state in graph.states}
    moves: dict[int, Move] = {}
    ops: list[Op] = []
    for op in graph.ops:
        new = op
        if isinstance(op, Move):
            new = _composed(op, moves)
            moves[id(new.y)] = new
        ops.append(new)
    assert not written & set(moves), "a variable's old value is never a result"
    return replace(graph, ops=ops)


def _composed(outer: Move, moves: dict[int, Move]) -> Move:
    sources: list[Tensor] = []
    parts: list[Index] = []
    fill, filled = outer.fill, bool((outer.index < 0).any())
    for tensor in outer.inputs:
        inner = moves.get(id(tensor))
        hole = inner is not None and bool((inner.index < 0).any())
        if inner is None or (hole and filled and inner.fill != fill):
            parts.append(_append(sources, [tensor])[0])
            continue
        if hole:
            fill, filled = inner.fill, True
        positions = np.concatenate(_append(sources, inner.inputs))
        flat = inner.index.reshape(-1)
        parts.append(np.where(flat < 0, -1, positions[flat]))
    if sources == outer.inputs:
        return outer
    lookup = np.concatenate(parts)
    index = np.where(outer.index < 0, -1, lookup[outer.index])
    return replace(outer, inputs=sources, index=index, fill=fill)


def _append(sources: list[Tensor], tensors: list[Tensor]) -> list[Index]:
    """Positions of each tensor's elements among the concatenated sources, which grow by those that are new."""
    positions = []
    for tensor in tensors:
        offset = 0
        for source in sources:
            if source is tensor:
                break
            offset += source.size
        else:
            sources.append(tensor)
        positions.append(np.arange(offset, offset + tensor.size, dtype=np.int64))
    return positions


def fold_into_outputs(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """An output that is a move of one tensor is read from that tensor; not from a variable's old value, which is gone
    when the host reads."""
    overwritten = {id(state.read) for state in graph.states}
    moves = {id(op.y): op for op in graph.ops if isinstance(op, Move)}
    outputs = []
    for port in graph.outputs:
        move = moves.get(id(port.tensor))
        if (
            move is None
            or len(move.inputs) != 1
            or move.x.data is not None
            or id(move.x) in overwritten
            or (move.index < 0).any()
        ):
            outputs.append(port)
            continue
        flat = move.index.reshape(-1)
        outputs.append(replace(port, tensor=move.x, index=flat if port.index is None else flat[port.index]))
    used = {id(port.tensor) for port in outputs} | {id(state.write) for state in graph.states} | set(keep)
    used |= {id(tensor) for op in graph.ops for tensor in op.inputs}
    ops = [op for op in graph.ops if not isinstance(op, Move) or id(op.y) in used]
    return replace(graph, ops=ops, outputs=outputs)


def fold_into_inputs(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """An input that only one move reads is written in the move's order."""
    consumers = graph.consumers()
    borders = {id(port.tensor) for port in graph.outputs} | {id(state.write) for state in graph.states} | set(keep)
    inputs, gone = [], set()
    for port in graph.inputs:
        users = consumers.get(id(port.tensor), [])
        move = users[0] if len(users) == 1 else None
        if isinstance(move, Move) and len(move.inputs) == 1 and id(port.tensor) not in borders:
            merged = through(port, move.index, move.fill, move.y)
            if merged is not None:
                gone.add(id(move))
                inputs.append(merged)
                continue
        inputs.append(port)
    return replace(graph, inputs=inputs, ops=[op for op in graph.ops if id(op) not in gone])


def host_move(name: str, sources: list[Tensor], result: Tensor, index: Index, fill: int) -> Host:
    """The move as a host operation."""
    return Host(name, "MOVE", sources, [result], "move", {"index": index, "fill": fill})


def move_on_host(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """What the host has made, it puts into order itself before it writes it."""
    hosted: set[int] = set()
    ops: list[Op] = []
    for op in graph.ops:
        new = op
        if isinstance(op, Move) and all(id(tensor) in hosted for tensor in op.inputs):
            new = host_move(op.name, op.inputs, op.y, op.index, op.fill)
        if isinstance(new, Host):
            hosted.update(id(tensor) for tensor in new.outputs)
        ops.append(new)
    return replace(graph, ops=ops)


def through(port: Port, index: Index, fill: int, tensor: Tensor) -> Port | None:
    """The port that writes `tensor`, whose elements are those of the port's tensor at `index` (-1: `fill`); None where
    two different fills would be needed."""
    if port.index is None:
        return replace(port, tensor=tensor, index=index, fill=fill)
    merged = np.where(index < 0, -1, port.index.reshape(-1)[index])
    old_holes = bool((merged[index >= 0] < 0).any())
    if old_holes and bool((index < 0).any()) and port.fill != fill:
        return None
    return replace(port, tensor=tensor, index=merged, fill=port.fill if old_holes else fill)
