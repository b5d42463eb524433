"""Removes operations whose results nobody uses."""

from __future__ import annotations

from dataclasses import replace

from tidemill.compiler.ir import Graph
from tidemill.config import Config


def remove_dead(graph: Graph, config: Config, keep: frozenset[int]) -> Graph:
    """Operations that reach no output, no variable and no kept tensor go."""
    wanted = {id(port.tensor) for port in graph.outputs} | {id(state.write) for state in graph.states} | set(keep)
    ops = []
    for op in reversed(graph.ops):
        if any(id(tensor) in wanted for tensor in op.outputs):
            ops.append(op)
            wanted.update(id(tensor) for tensor in op.inputs)
    return replace(graph, ops=ops[::-1])
