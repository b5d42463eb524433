"""The TFLite front end: an int8 model file to a graph, one operator after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tidemill.compiler import ir
from tidemill.compiler.frontends import (
    tflite_conv,
    tflite_elementwise,
    tflite_file,
    tflite_gather,
    tflite_logic,
    tflite_moves,
    tflite_reduce,
    tflite_state,
    tflite_svdf,
)
from tidemill.compiler.frontends.report import NodeReport
from tidemill.compiler.frontends.tflite_file import MAX_ELEMENTS, FileTensor, ModelFile, Node
from tidemill.compiler.frontends.tflite_graph import UINT8_OFFSET, GraphBuilder
from tidemill.compiler.ir import ModelError
from tidemill.compiler.validate import validate

Handler = Callable[[GraphBuilder, Node], None]

HANDLERS: dict[str, Handler] = {
    **tflite_conv.HANDLERS,
    **tflite_elementwise.HANDLERS,
    **tflite_moves.HANDLERS,
    **tflite_reduce.HANDLERS,
    **tflite_state.HANDLERS,
    **tflite_gather.HANDLERS,
    **tflite_logic.HANDLERS,
    **tflite_svdf.HANDLERS,
}
"""f(builder, node) by operator name: emits the operations of a node or raises ModelError or ValueError."""

BORDER_TYPES = ("int8", "uint8", "int16", "int32", "int64", "float32", "bool")
"""Types of a model's inputs that arrays have; which of them a node takes is the node's matter."""


def load_tflite(data: bytes, name: str) -> ir.Graph:
    """The graph of a TFLite file with the contents `data`; `name` stands for it in errors.

    Raises ModelError for a damaged file and for the first node that cannot be compiled, with the number of others.
    """
    builder, _, errors = _convert(tflite_file.read(data, name))
    if errors:
        others = f" (and {len(errors) - 1} more nodes that cannot be compiled)" if len(errors) > 1 else ""
        raise ModelError(f"{errors[0]}{others}")
    graph = _graph(builder)
    validate(graph)
    return graph


def inspect_tflite(data: bytes, name: str) -> list[NodeReport]:
    """Where each node of a TFLite file would run. Raises ModelError for a damaged file."""
    return _convert(tflite_file.read(data, name))[1]


def _convert(file: ModelFile) -> tuple[GraphBuilder, list[NodeReport], list[ModelError]]:
    """All nodes of subgraph 0; a node that cannot be converted leaves tensors of unknown value and an error."""
    builder = GraphBuilder(file.name, file.subgraphs[0])
    for index in builder.subgraph.inputs:
        builder.values[index] = _input(builder, builder.subgraph.tensors[index])
    reports, errors = [], []
    for node in builder.subgraph.nodes:
        start = len(builder.ops)
        try:
            _handle(builder, file, node)
            where, why = _place(builder, node, builder.ops[start:])
        except ModelError as error:
            errors.append(error)
            where, why = "unsupported", str(error).partition("): ")[2] or str(error)
            del builder.ops[start:]
            for index in node.outputs:
                record = builder.subgraph.tensors[index]
                builder.values[index] = builder.new_tensor(record)
        reports.append(NodeReport(node.index, node.name, node.operator, where, why))
    return builder, reports, errors


def _handle(builder: GraphBuilder, file: ModelFile, node: Node) -> None:
    try:
        if node.operator == "CALL_ONCE":
            _call_once(builder, file, node)
        elif node.operator in HANDLERS:
            HANDLERS[node.operator](builder, node)
        else:
            raise builder.error(node, "this operator is not supported")
    except ModelError:
        raise
    except ValueError as error:
        # golden models refuse scales out of range
        raise builder.error(node, str(error)) from error


def _call_once(builder: GraphBuilder, file: ModelFile, node: Node) -> None:
    """CALL_ONCE: the subgraph's assignments are the variables' initial values."""
    number = builder.option(node, "CallOnceOptions", "InitSubgraphIndex")
    if builder.initializing or not 0 < number < len(file.subgraphs):
        raise builder.error(node, f"calls subgraph {number} of {len(file.subgraphs)}")
    inner = GraphBuilder(f"{builder.name}: subgraph {number}", file.subgraphs[number], initializing=True)
    for step in inner.subgraph.nodes:
        _handle(inner, file, step)
    builder.initial.update(inner.initial)


def _place(builder: GraphBuilder, node: Node, ops: Sequence[ir.Op]) -> tuple[str, str]:
    """(where, why) of a node that became `ops`."""
    hosts = [op for op in ops if isinstance(op, ir.Host)]
    if hosts:
        border = node.operator in ("QUANTIZE", "DEQUANTIZE")
        return ("border" if border else "host"), f"host function {hosts[0].function}"
    if ops:
        return "npu", " + ".join(type(op).__name__ for op in ops)
    variable = node.operator in ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
    return "constant", "variable kept between calls" if variable else "computed when compiling"


def _input(builder: GraphBuilder, record: FileTensor) -> ir.Tensor:
    """A tensor for a model input of a known size."""
    where = f"{builder.name}: input {record.name!r}"
    if any(size < 0 for size in record.signature[1:]):
        raise ModelError(f"{where} has the dynamic shape {list(record.signature)}: give every size but the batch's")
    if record.dtype not in BORDER_TYPES or record.data is not None:
        raise ModelError(f"{where} is a {'constant' if record.data is not None else record.dtype}")
    if not 0 < math.prod(record.shape) <= MAX_ELEMENTS:
        raise ModelError(f"{where} has shape {list(record.shape)}: 1 to {MAX_ELEMENTS} elements")
    if record.dtype in ("int8", "uint8"):
        _check_quantization(where, record)
    return builder.new_tensor(record)


def _check_quantization(where: str, record: FileTensor) -> None:
    limits = np.iinfo(record.dtype)
    points = record.zero_points
    if record.scales.size != 1 or not (record.scales > 0).all() or not limits.min <= points[0] <= limits.max:
        raise ModelError(
            f"{where} has scales {record.scales[:4].tolist()} and zero points {points[:4].tolist()}; "
            f"expected one positive scale and a zero point of {record.dtype}"
        )


def _port(record: FileTensor, tensor: ir.Tensor, name: str) -> ir.Port:
    return ir.Port(
        name,
        tensor,
        record.shape,
        record.dtype,
        float(record.scales[0]) if record.scales.size else None,
        int(record.zero_points[0]) if record.zero_points.size else 0,
        UINT8_OFFSET if record.dtype == "uint8" else 0,
        tensor_index=record.index,
    )


def _ports(builder: GraphBuilder, indices: Sequence[int]) -> list[ir.Port]:
    """Ports named as the model's tensors; the index makes names unique where they are not."""
    names = [builder.subgraph.tensors[index].name or f"tensor{index}" for index in indices]
    return [
        _port(
            builder.subgraph.tensors[index],
            builder.values[index],
            name if names.count(name) == 1 else f"{name}:{index}:{position}",
        )
        for position, (index, name) in enumerate(zip(indices, names, strict=True))
    ]


def _graph(builder: GraphBuilder) -> ir.Graph:
    subgraph = builder.subgraph
    if len(set(subgraph.inputs)) != len(subgraph.inputs) or not subgraph.outputs:
        raise ModelError(f"{builder.name}: the model has the inputs {subgraph.inputs} and outputs {subgraph.outputs}")
    states = tflite_state.states(builder)
    exposed = dict.fromkeys(
        index
        for node in subgraph.nodes
        for index in node.outputs
        if index in builder.values and builder.values[index].data is None
    )
    shown = _ports(builder, list(exposed))
    for index in subgraph.outputs:
        if index not in builder.values:
            record = subgraph.tensors[index]
            raise ModelError(f"{builder.name}: nothing writes the output {record.name!r}")
        builder.values[index] = builder.produced(builder.values[index])
    return ir.Graph(
        builder.name,
        builder.ops,
        _ports(builder, subgraph.inputs),
        _ports(builder, subgraph.outputs),
        states,
        shown,
    )
