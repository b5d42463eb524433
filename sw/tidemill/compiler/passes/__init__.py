"""Graph to graph: what runs on the machine as one operation becomes one operation."""

from __future__ import annotations

from tidemill.compiler.ir import Graph
from tidemill.config import Config


def run_passes(graph: Graph, config: Config, *, keep_exposed: bool) -> Graph:
    """All passes in order. `keep_exposed` leaves every tensor of `graph.exposed` in place."""
    return graph
