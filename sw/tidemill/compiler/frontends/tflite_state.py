"""TFLite's resource variables: handles, the subgraph that initialises them, reads and assignments.

Handles and initialisation are resolved here. A read is the tensor that was assigned last, or the variable's value when
the call starts; nothing remains in the graph but its states.
"""

from __future__ import annotations

import numpy as np

from tidemill.compiler import ir
from tidemill.compiler.frontends.tflite_file import Node
from tidemill.compiler.frontends.tflite_graph import GraphBuilder, Variable


def var_handle(b: GraphBuilder, node: Node) -> None:
    """VAR_HANDLE: variables with the same container and name are the same."""
    container = b.option(node, "VarHandleOptions", "Container", "") or ""
    name = b.option(node, "VarHandleOptions", "SharedName", "") or ""
    if len(node.outputs) != 1:
        raise b.error(node, f"has {len(node.outputs)} outputs")
    b.handles[node.outputs[0]] = f"{container}/{name}" if container else name


def _variable(b: GraphBuilder, node: Node) -> str:
    """Name of the variable that the node's first input is a handle of."""
    if not node.inputs or node.inputs[0] not in b.handles:
        raise b.error(node, "its first input is not a handle made by VAR_HANDLE")
    return b.handles[node.inputs[0]]


def _declare(name: str, like: ir.Tensor) -> Variable:
    read = ir.Tensor(name, like.shape, "int8", like.scale, like.zero_point)
    return Variable(name, read, read)


def read_variable(b: GraphBuilder, node: Node) -> None:
    """READ_VARIABLE."""
    name = _variable(b, node)
    if len(node.outputs) != 1:
        raise b.error(node, f"has {len(node.outputs)} outputs")
    record = b.subgraph.tensors[node.outputs[0]]
    if record.dtype != "int8":
        raise b.type_error(node, record, ("int8",))
    b.quantization(node, record)
    if name in b.initial and b.initial[name].shape != record.shape:
        raise b.error(node, f"reads {list(record.shape)} from variable {name!r} of {list(b.initial[name].shape)}")
    if name not in b.variables:
        b.variables[name] = _declare(name, b.new_tensor(record))
    b.alias(node, record, b.variables[name].value)


def assign_variable(b: GraphBuilder, node: Node) -> None:
    """ASSIGN_VARIABLE; in the subgraph of CALL_ONCE, of a constant."""
    name, value = _variable(b, node), b.value(node, 1)
    if b.initializing:
        if value.data is None:
            raise b.error(node, f"initialises variable {name!r} with something that is not a constant")
        b.initial[name] = value.data
        return
    b.input_quantization(node, 1)
    variable = b.variables.setdefault(name, _declare(name, value))
    if variable.read.shape != value.shape:
        raise b.error(node, f"assigns {list(value.shape)} to variable {name!r} of {list(variable.read.shape)}")
    variable.value = value


def states(b: GraphBuilder) -> list[ir.State]:
    """The variables of the graph. Raises ModelError for an initial value of another shape.

    A variable that nothing initialises starts as its zero point (MicroResourceVariables::Allocate).
    """
    found = []
    for name, variable in b.variables.items():
        read = variable.read
        initial = b.initial.get(name, np.full(read.shape, read.zero_point, dtype=np.int8))
        if initial.shape != read.shape:
            raise ir.ModelError(
                f"{b.name}: variable {name!r} is {list(read.shape)} but starts as {list(initial.shape)}"
            )
        write = read if variable.value is read else b.produced(variable.value)
        found.append(ir.State(name, read, write, initial))
    return found


HANDLERS = {
    "VAR_HANDLE": var_handle,
    "READ_VARIABLE": read_variable,
    "ASSIGN_VARIABLE": assign_variable,
}
"""By operator name; CALL_ONCE is where subgraphs are known."""
