"""Graph to graph: what runs on the machine as one operation becomes one operation.

Each pass is a function `(graph, config, keep) -> graph`; `keep` holds the `id` of tensors that must stay as they are.
"""

from __future__ import annotations

from tidemill.compiler.ir import Graph
from tidemill.compiler.passes.fusion import compose_tables, fuse_tables
from tidemill.compiler.passes.liveness import remove_dead
from tidemill.compiler.passes.moves import compose_moves, fold_into_inputs, fold_into_outputs, move_on_host
from tidemill.compiler.passes.weights import fold_padding, fold_permutations, pack_first_layers
from tidemill.config import Config

PASSES = (
    compose_moves,
    fold_padding,
    fold_permutations,
    compose_tables,
    remove_dead,
    fuse_tables,
    remove_dead,
    fold_into_outputs,
    fold_into_inputs,
    move_on_host,
    pack_first_layers,
    remove_dead,
)
"""In this order."""


def run_passes(graph: Graph, config: Config, *, keep_exposed: bool) -> Graph:
    """All passes in order. `keep_exposed` leaves every tensor of `graph.exposed` in place."""
    keep = frozenset(id(port.tensor) for port in graph.exposed) if keep_exposed else frozenset[int]()
    for run in PASSES:
        graph = run(graph, config, keep)
    return graph
