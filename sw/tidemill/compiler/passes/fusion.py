"""Elementwise tables: chains become one table, and a table after a convolution becomes its last step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tidemill.compiler.ir import Conv2D, Graph, Op, Table
from tidemill.config import Config


def _only_user(graph: Graph, keep: frozenset[int]) -> dict[int, Op]:
    """The one consumer of each tensor that has just one, and no other use."""
    borders = {id(port.tensor) for port in graph.outputs} | {id(state.write) for state in graph.states} | set(keep)
    return {key: ops[0] for key, ops in graph.consumers().items() if len(ops) == 1 and key not in borders}


def compose_tables(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """A table of a table reads the source itself."""
    tables: dict[int, Table] = {}
    ops: list[Op] = []
    for op in graph.ops:
        new = op
        if isinstance(op, Table):
            inner = tables.get(id(op.x))
            if inner is not None:
                new = replace(op, inputs=[inner.x], table=op.table[inner.table.view(np.uint8)])
            tables[id(new.y)] = new  # type: ignore[assignment]
        ops.append(new)
    return replace(graph, ops=ops)


def fuse_tables(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """A table that alone reads a convolution's int8 result is applied by the convolution."""
    users = _only_user(graph, keep)
    fused: set[int] = set()
    ops: list[Op] = []
    for op in graph.ops:
        if id(op) in fused:
            continue
        user = users.get(id(op.y)) if isinstance(op, Conv2D) else None
        if isinstance(op, Conv2D) and isinstance(user, Table) and op.requantize is not None and op.table is None:
            fused.add(id(user))
            ops.append(replace(op, outputs=[user.y], table=user.table))
        else:
            ops.append(op)
    return replace(graph, ops=ops)
