"""ONNX files: parsing, checking, fixed shapes, and nodes with decoded attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.external_data_helper
import onnx.helper
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
from google.protobuf.message import DecodeError, EncodeError
from numpy.typing import NDArray

from tidemill.compiler.ir import ModelError

Array = NDArray[Any]

SIZE_LIMIT = 1 << 24
"""Most elements of one value; larger ones are refused before anything is allocated."""
OPSETS = range(7, 29)
"""Versions of the default operator set that are understood."""
DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT16: "int16",
    onnx.TensorProto.UINT16: "uint16",
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.UINT32: "uint32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.UINT64: "uint64",
    onnx.TensorProto.BOOL: "bool",
}
"""Element types that have a numpy type of their own."""


class NodeError(ModelError):
    """An error of the node number `index`; `why` is the message without its name."""

    def __init__(self, message: str, index: int, why: str) -> None:
        super().__init__(message)
        self.index = index
        self.why = why


@dataclass(frozen=True)
class Node:
    """A node: `inputs` and `outputs` are value names, "" where an optional one is left out."""

    index: int
    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: onnx.NodeProto
    opset: int

    @property
    def key(self) -> str:
        """Operator type, with its domain unless that is the default one."""
        return f"{self.domain}.{self.op}" if self.domain else self.op

    def error(self, why: str) -> NodeError:
        """The error that names this node, its operator and `why`."""
        return NodeError(f"node {self.name!r} ({self.op}): {why}", self.index, why)

    def get(self, name: str, default: Any = None) -> Any:
        """Attribute `name`."""
        return self.attributes.get(name, default)

    def ints(self, name: str, default: list[int] | None = None) -> list[int] | None:
        """Attribute `name` as a list of integers."""
        value = self.attributes.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
            raise self.error(f"attribute {name!r} must be a list of integers")
        return value

    def integer(self, name: str, default: int) -> int:
        """Attribute `name` as an integer."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise self.error(f"attribute {name!r} must be an integer")
        return value

    def number(self, name: str, default: float) -> np.float32:
        """Attribute `name` as a float32."""
        value = self.attributes.get(name, default)
        if not isinstance(value, (int, float)):
            raise self.error(f"attribute {name!r} must be a number")
        return np.float32(value)

    def text(self, name: str, default: str) -> str:
        """Attribute `name` as a string."""
        value = self.attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True)
class Border:
    """An input or output of the model; `shape` is None for an output without a fixed shape."""

    name: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclass
class Model:
    """A checked model with fixed input shapes."""

    name: str
    nodes: list[Node]
    constants: dict[str, Array]
    inputs: list[Border]
    outputs: list[Border]
    consumers: dict[str, list[Node]] = field(default_factory=dict)
    """Nodes that read each value."""

    def index_consumers(self) -> None:
        """Rebuild `consumers`."""
        self.consumers = {}
        for node in self.nodes:
            for name in node.inputs:
                self.consumers.setdefault(name, []).append(node)


def check_size(shape: tuple[int, ...], what: str) -> None:
    """Raises ModelError for a shape with a negative size or with more than SIZE_LIMIT elements."""
    if any(size < 0 for size in shape) or math.prod(shape) > SIZE_LIMIT:
        raise ModelError(f"{what} has shape {list(shape)}: sizes must be 0 or more, {SIZE_LIMIT} elements at most")


def parse(data: bytes, name: str) -> onnx.ModelProto:
    """The file's protobuf message. Raises ModelError when it is none, or holds no graph."""
    try:
        proto = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name}: not an ONNX file: {error}") from None
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(f"{name}: not an ONNX file: it holds no graph")
    return proto


def read_model(data: bytes, name: str, dims: Mapping[str, int] | None = None, folder: Path | None = None) -> Model:
    """Parse and check the file `data`; symbolic dimensions take their sizes from `dims`, the first axis 1.

    External tensors are read from `folder`. Raises ModelError for whatever is wrong with the file.
    """
    proto = parse(data, name)
    opset = _opset(proto, name)
    for tensor in proto.graph.initializer:
        check_size(tuple(tensor.dims), f"{name}: initializer {tensor.name!r}")
    _load_external(proto, name, folder)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    symbols = dict(dims or {})
    _fix_dimensions(proto.graph, initializers, symbols, name)
    try:
        _check(proto)
        if proto.functions:
            proto = onnx.inliner.inline_local_functions(proto)
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=False)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        DecodeError,
        EncodeError,
        ValueError,
        RuntimeError,
        MemoryError,
        TypeError,
    ) as error:
        first = str(error).strip().splitlines()
        raise ModelError(f"{name}: invalid model: {first[0] if first else type(error).__name__}") from None
    graph = proto.graph
    constants = {tensor.name: array(tensor, f"{name}: initializer {tensor.name!r}") for tensor in graph.initializer}
    if graph.sparse_initializer:
        raise ModelError(f"{name}: sparse initializers are not supported")
    model = Model(
        name,
        [_node(i, node, opset) for i, node in enumerate(graph.node)],
        constants,
        [_border(info, name) for info in graph.input if info.name not in initializers],
        [_border(info, name) for info in graph.output],
    )
    for border in model.inputs:
        assert border.shape is not None
        check_size(border.shape, f"{name}: input {border.name!r}")
    model.index_consumers()
    return model


def array(tensor: onnx.TensorProto, what: str) -> Array:
    """The numpy array of a tensor. Raises ModelError for a malformed one or an element type numpy has not."""
    check_size(tuple(tensor.dims), what)
    if tensor.data_type not in DTYPES:
        raise ModelError(f"{what} has element type {_type_name(tensor.data_type)}, which is not supported")
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        raise ModelError(f"{what}: malformed tensor: {error}") from None


def _type_name(number: int) -> str:
    known = onnx.TensorProto.DataType.values()
    return onnx.TensorProto.DataType.Name(number).lower() if number in known else f"number {number}"


def _opset(proto: onnx.ModelProto, name: str) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    opset = versions[0] if versions else 1
    if opset not in OPSETS:
        raise ModelError(f"{name}: operator set {opset} is not one of {OPSETS.start} to {OPSETS.stop - 1}")
    return opset


def _load_external(proto: onnx.ModelProto, name: str, folder: Path | None) -> None:
    tensors = [t for t in proto.graph.initializer if onnx.external_data_helper.uses_external_data(t)]
    if not tensors:
        return
    if folder is None:
        raise ModelError(f"{name}: initializer {tensors[0].name!r} is in another file: load the model from its folder")
    for tensor in tensors:
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ModelError(f"{name}: initializer {tensor.name!r}: external data: {error}") from None
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _check(proto: onnx.ModelProto) -> None:
    """ONNX's checker. Outputs without a shape, which it refuses, are common and harmless."""
    shapeless = [info.type.tensor_type for info in proto.graph.output if not info.type.tensor_type.HasField("shape")]
    for tensor in shapeless:
        tensor.shape.SetInParent()
    try:
        onnx.checker.check_model(proto)
    finally:
        for tensor in shapeless:
            tensor.ClearField("shape")


def _fix_dimensions(graph: onnx.GraphProto, initializers: set[str], symbols: dict[str, int], name: str) -> None:
    inputs = [info for info in graph.input if info.name not in initializers]
    for info in inputs:
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if dim.dim_param and axis == 0:
                symbols.setdefault(dim.dim_param, 1)
    for info in inputs:
        if not info.type.HasField("tensor_type"):
            raise ModelError(f"{name}: input {info.name!r} is not a tensor")
        if not info.type.tensor_type.HasField("shape"):
            raise ModelError(f"{name}: input {info.name!r} has no shape")
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if dim.HasField("dim_value"):
                continue
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
            elif axis == 0:
                dim.dim_value = 1
            else:
                symbol = dim.dim_param or "?"
                hint = f": give its size, as in dims={{{symbol!r}: 1}}" if dim.dim_param else ""
                raise ModelError(f"{name}: input {info.name!r}: axis {axis} ({symbol}) is not fixed{hint}")
    fixed = [info for info in [*graph.output, *graph.value_info] if info.type.HasField("tensor_type")]
    for info in fixed:
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]


def _border(info: onnx.ValueInfoProto, name: str) -> Border:
    tensor = info.type.tensor_type
    if tensor.elem_type not in DTYPES:
        raise ModelError(f"{name}: {info.name!r} has element type {_type_name(tensor.elem_type)}, not supported")
    shape: tuple[int, ...] | None = None
    if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
    return Border(info.name, DTYPES[tensor.elem_type], shape)


def _node(index: int, proto: onnx.NodeProto, opset: int) -> Node:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    name = proto.name or (proto.output[0] if proto.output else "") or f"{proto.op_type}_{index}"
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            attributes[attribute.name] = array(attribute.t, f"node {name!r}: attribute {attribute.name!r}")
        elif attribute.type in (
            onnx.AttributeProto.INT,
            onnx.AttributeProto.FLOAT,
            onnx.AttributeProto.STRING,
            onnx.AttributeProto.INTS,
            onnx.AttributeProto.FLOATS,
        ):
            value = onnx.helper.get_attribute_value(attribute)
            attributes[attribute.name] = list(value) if attribute.type >= onnx.AttributeProto.FLOATS else value
    return Node(index, name, proto.op_type, domain, tuple(proto.input), tuple(proto.output), attributes, proto, opset)
