"""TFLite operators on truth values and types: comparisons, logic, selection, casts. All but constant choices run on the
host."""

from __future__ import annotations

import numpy as np

from tidemill.compiler import ir
from tidemill.compiler.frontends.tflite_elementwise import operands
from tidemill.compiler.frontends.tflite_file import Node
from tidemill.compiler.frontends.tflite_graph import GraphBuilder, indices
from tidemill.compiler.frontends.tflite_moves import same_quantization
from tidemill.golden.elementwise import tflite_comparison_table

EXACT_TYPES = ("bool", "int32", "int64", "float32")
"""Types whose values are compared as they are."""


def compare(b: GraphBuilder, node: Node) -> None:
    """EQUAL, LESS and the like, of real values where the inputs are int8."""
    first, second, y = operands(b, node, ("int8", *EXACT_TYPES), ("bool",))
    if first.dtype != second.dtype:
        raise b.error(node, f"compares {first.dtype} with {second.dtype}")
    attributes: dict[str, object] = {"function": node.operator}
    if first.dtype == "int8":
        qa, qb = (b.input_quantization(node, i) for i in (0, 1))
        attributes |= {"a": tflite_comparison_table(qa), "b": tflite_comparison_table(qb)}
    b.emit(ir.Host(node.name, node.operator, [first, second], [y], "tflite.compare", attributes))


def logical(b: GraphBuilder, node: Node) -> None:
    """LOGICAL_AND and LOGICAL_OR."""
    first, second, y = operands(b, node, ("bool",), ("bool",))
    b.emit(
        ir.Host(node.name, node.operator, [first, second], [y], "tflite.compare", {"function": node.operator})
    )  # fmt: skip


def logical_not(b: GraphBuilder, node: Node) -> None:
    """LOGICAL_NOT."""
    x = b.value(node, 0, ("bool",))
    y = b.output(node, x.shape, types=("bool",))
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.logical_not", {}))


def select(b: GraphBuilder, node: Node) -> None:
    """SELECT_V2: a Move where the condition is a constant."""
    types = ("int8", "int16", "float32")
    condition, x, z = b.value(node, 0, ("bool",)), b.value(node, 1, types), b.value(node, 2, types)
    try:
        shape = np.broadcast_shapes(condition.shape, x.shape, z.shape)
    except ValueError:
        shapes = ", ".join(str(list(t.shape)) for t in (condition, x, z))
        raise b.error(node, f"inputs {shapes} do not broadcast") from None
    y = b.output(node, shape, types=types)
    if not x.dtype == z.dtype == y.dtype:
        raise b.error(node, f"selects from {x.dtype} and {z.dtype} for {y.dtype}")
    if y.dtype == "int8":
        for position in (1, 2):
            same_quantization(b, node, position)
    if condition.data is not None and y.dtype == "int8":
        b.move(node, [x, z], y, np.where(condition.data, indices(x), indices(z) + x.size))
        return
    b.emit(ir.Host(node.name, node.operator, [condition, x, z], [y], "tflite.select", {}))


def cast(b: GraphBuilder, node: Node) -> None:
    """CAST of the stored numbers; scales do not count."""
    x = b.value(node, 0, ("int8", "int16", "int32", "float32", "bool"))
    y = b.output(node, x.shape, types=("int8", "int16", "int32", "float32"))
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.cast", {"dtype": y.dtype}))


HANDLERS = {
    "EQUAL": compare,
    "NOT_EQUAL": compare,
    "GREATER": compare,
    "GREATER_EQUAL": compare,
    "LESS": compare,
    "LESS_EQUAL": compare,
    "LOGICAL_AND": logical,
    "LOGICAL_OR": logical,
    "LOGICAL_NOT": logical_not,
    "SELECT_V2": select,
    "CAST": cast,
}
"""By operator name."""
