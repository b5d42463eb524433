"""Operations that the user wants on the host although the NPU has a kernel for them."""

from __future__ import annotations

from dataclasses import replace

from tidemill.compiler.ir import Graph, Host, Op, Softmax


def softmax_on_host(graph: Graph) -> Graph:
    """Every softmax becomes a host operation with the same bytes: the program ends earlier, the host works more."""
    ops: list[Op] = []
    for op in graph.ops:
        if isinstance(op, Softmax):
            attributes = {"scale": op.input_scale, "beta": op.beta}
            ops.append(Host(op.name, op.source, op.inputs, op.outputs, "softmax", attributes))
        else:
            ops.append(op)
    return replace(graph, ops=ops)
