"""The ONNX front end: quantized ONNX models, QOperator and QDQ, as graphs.

The meaning is what ONNX Runtime computes with its default optimizations and `session.qdqisint8allowed=1`. Float32
values between DequantizeLinear and QuantizeLinear are never computed where an integer operation gives the same bytes;
where none does, the node becomes a host operation with the same float32 results, or the model is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tidemill.compiler.frontends import (  # the modules register their handlers
    onnx_elementwise,
    onnx_layers,
    onnx_means,
    onnx_moves,
    onnx_pools,
    onnx_quantize,
)
from tidemill.compiler.frontends.onnx_convert import HANDLERS, Converter, handles
from tidemill.compiler.frontends.onnx_graph import FOLDABLE, fold, hoist_quantization, is_float, live_nodes
from tidemill.compiler.frontends.onnx_model import Model, Node, NodeError, read_model
from tidemill.compiler.frontends.onnx_values import (
    Activation,
    Constant,
    Order,
    Unknown,
    Value,
    channels_last,
    identity,
)
from tidemill.compiler.frontends.report import NodeReport
from tidemill.compiler.ir import Graph, Host, ModelError, Op, Port
from tidemill.compiler.validate import validate

MODULES = (onnx_elementwise, onnx_layers, onnx_means, onnx_moves, onnx_pools, onnx_quantize)
"""What knows the operators."""
CHANNELS_LAST = {"Conv", "QLinearConv", "ConvInteger", "MaxPool", "AveragePool", "QLinearAveragePool", "Resize"}
"""Operators that want their 3-D or 4-D input with the channels last."""
TRANSPARENT = {"QuantizeLinear", "DequantizeLinear", "Relu", "Clip", "Identity", "Cast", "Pad", "DynamicQuantizeLinear"}
"""Operators that keep the order of their input."""


def load_onnx(data: bytes, name: str, dims: Mapping[str, int] | None = None, folder: Path | None = None) -> Graph:
    """The graph of the ONNX file `data`; `name` names it in errors.

    `dims` gives the sizes of symbolic dimensions by name; the first axis is 1 otherwise. Tensors in other files are
    read from `folder`. Raises ModelError for a file or a model that cannot be used.
    """
    model = read_model(data, name, dims, folder)
    if is_float(model):
        raise ModelError(f"{name}: a float model: quantize it to 8 bits first (QDQ or QOperator form)")
    hoist_quantization(model)
    live = live_nodes(model)
    converter = start(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for node in model.nodes:
            if node.index in live:
                convert(converter, node)
        graph = finish(converter)
    validate(graph)
    return graph


def start(model: Model) -> Converter:
    """A converter that knows the model's inputs and constants."""
    converter = Converter(model)
    for name, array in model.constants.items():
        converter.values[name] = Constant(array)
    for border in model.inputs:
        assert border.shape is not None
        order = preferred_order(model, border.name, len(border.shape))
        converter.values[border.name] = converter.build.input(border.name, border.shape, border.dtype, order)
    return converter


def preferred_order(model: Model, name: str, rank: int) -> Order:
    """Channels last where the first operators behind the input want that."""
    pending, seen = [name], {name}
    while pending and rank in (3, 4):
        for node in model.consumers.get(pending.pop(), []):
            if node.op in CHANNELS_LAST:
                return channels_last(rank)
            if node.op in TRANSPARENT:
                fresh = set(node.outputs) - seen
                pending += fresh
                seen |= fresh
    return identity(rank)


def convert(converter: Converter, node: Node) -> None:
    """Give the values of one node's outputs. Raises ModelError."""
    inputs = [converter.optional(node, i) for i in range(len(node.inputs))]
    known = [value.array if isinstance(value, Constant) else None for value in inputs]
    folds = all(value is None or isinstance(value, Constant) for value in inputs)
    quantized = any(isinstance(value, Constant) and value.quantized is not None for value in inputs)
    results: Value | list[Value]
    if folds and not node.domain and node.op in FOLDABLE and not quantized:
        results = [Constant(array) for array in fold(node, known)]
    elif node.key in HANDLERS:
        try:
            results = HANDLERS[node.key](converter, node)
        except ModelError as error:
            if str(error).startswith(("node ", converter.model.name)):
                raise
            raise node.error(str(error)) from None
        except (ValueError, IndexError, TypeError, OverflowError, AssertionError, MemoryError) as error:
            raise node.error(f"it is not valid: {error}") from None
    else:
        where = f" of domain {node.domain!r}" if node.domain else ""
        raise node.error(f"the operator{where} is not supported")
    values = results if isinstance(results, list) else [results]
    for name, value in zip(node.outputs, values, strict=False):
        if name:
            converter.values[name] = value
            converter.last[name] = node


def finish(converter: Converter) -> Graph:
    """The graph, after every node is converted."""
    model, build = converter.model, converter.build
    outputs: list[Port] = []
    for border in model.outputs:
        value = converter.values.get(border.name)
        if value is None:
            raise ModelError(f"{model.name}: output {border.name!r} is not computed by any node")
        node = converter.last.get(border.name)
        if node is None:
            if not isinstance(value, (Activation, Constant)):
                raise ModelError(f"{model.name}: output {border.name!r} is not computed by any node")
            activation = value if isinstance(value, Activation) else build.constant(border.name, value.array)
        else:
            activation = converter.activation(node, value, border.name)
        if (border.shape is not None and border.shape != activation.shape) or border.dtype != activation.dtype:
            declared = f"{border.dtype}{list(border.shape or ())}"
            raise ModelError(
                f"{model.name}: output {border.name!r} is declared as {declared} "
                f"but computed as {activation.dtype}{list(activation.shape)}"
            )
        outputs.append(build.output(border.name, activation))
    inputs = [build.port(activation) for activation, _ in list(build.inputs.values())]
    return Graph(model.name, build.ops, inputs, outputs, exposed=exposed(converter, outputs))


def exposed(converter: Converter, outputs: list[Port]) -> list[Port]:
    """The int8 and uint8 values between nodes under their names in the model."""
    known = {port.name for port in outputs}
    made = {id(tensor) for op in converter.build.ops for tensor in op.outputs}
    ports = []
    for name, value in converter.values.items():
        if isinstance(value, Activation) and value.held == "int8" and name not in known:
            tensor = next(iter(value.tensors.values()), None)
            if tensor is not None and id(tensor) in made:
                ports.append(converter.build.output(name, value))
    return ports


@handles("Constant")
def constant(c: Converter, node: Node) -> Value:
    """Constant."""
    for name, value in node.attributes.items():
        if name == "value":
            return Constant(np.asarray(value))
        if name in ("value_int", "value_ints"):
            return Constant(np.asarray(value, dtype=np.int64))
        if name in ("value_float", "value_floats"):
            return Constant(np.asarray(value, dtype=np.float32))
    raise node.error("its value is missing or of a type that is not supported")


@handles("Shape")
def shape(c: Converter, node: Node) -> Value:
    """Shape: known here."""
    sizes = c.value(node, 0).shape
    end = node.get("end")
    return Constant(np.array(sizes[node.integer("start", 0) : end], dtype=np.int64))


def inspect_onnx(
    data: bytes, name: str, dims: Mapping[str, int] | None = None, folder: Path | None = None
) -> list[NodeReport]:
    """Where each node of an ONNX file would run, also nodes that cannot. Raises ModelError for a damaged file."""
    model = read_model(data, name, dims, folder)
    order = {node.index: node for node in model.nodes}
    hoist_quantization(model)
    live = live_nodes(model)
    converter = start(model)
    errors: dict[int, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for node in model.nodes:
            try:
                if node.index not in live:
                    continue
                if converter.unknown(node):
                    raise node.error("its input comes from a node that is not supported")
                convert(converter, node)
            except NodeError as error:
                errors.setdefault(error.index, error.why)
                errors.setdefault(node.index, f"its input cannot be computed: {error}")
                converter.values.update({output: Unknown() for output in node.outputs if output})
        for border in model.outputs:
            value, producer = converter.values.get(border.name), converter.last.get(border.name)
            if value is not None and producer is not None and not isinstance(value, Unknown):
                try:
                    converter.activation(producer, value, border.name)
                except NodeError as error:
                    errors.setdefault(error.index, error.why)
    made: dict[str, list[Op]] = {}
    for op in converter.build.ops:
        made.setdefault(op.name, []).append(op)
    return [
        report(order[i], made.get(order[i].name, []), errors.get(i), i in live, converter.notes.get(i, ""))
        for i in sorted(order)
    ]


def report(node: Node, ops: Sequence[Op], error: str | None, live: bool, note: str) -> NodeReport:
    """What became of a node."""
    hosts = sorted({op.function for op in ops if isinstance(op, Host)})
    if error is not None:
        where, why = "unsupported", error
    elif not live:
        where, why = "constant", "no output needs it"
    elif hosts:
        border = node.op in ("QuantizeLinear", "DequantizeLinear")
        where, why = "border" if border else "host", f"host function {', '.join(hosts)}"
    elif ops:
        where, why = "npu", " + ".join(dict.fromkeys(type(op).__name__ for op in ops))
    else:
        where, why = "constant", "nothing to run: computed when compiling, or part of a neighbour"
    return NodeReport(node.index, node.name, node.op, where, f"{why}; {note}" if note else why)
