"""Reading TFLite files: the flatbuffer as checked records.

The flatbuffers package does not verify what it reads, so a damaged file can point anywhere. Here every vector is read
as one block whose bounds are known, every index is checked against its table, and whatever else goes wrong while
reading ends in a ModelError that names the file.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from tidemill.compiler.ir import ModelError

IDENTIFIER = b"TFL3"
"""Bytes 4 to 7 of a TFLite file."""
MAX_ELEMENTS = 1 << 24
"""Largest tensor, elements."""
MAX_RANK = 8
MAX_NAME = 512
"""Characters of a name that are kept."""

DTYPES = {
    "FLOAT32": "float32",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "RESOURCE": "resource",
}
"""numpy name of the tensor types that numpy has, by TFLite name; `resource` is a handle of a variable."""


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


_TYPES = _names(tflite.TensorType)
_OPERATORS = _names(tflite.BuiltinOperator)
_OPTIONS = _names(tflite.BuiltinOptions)


@dataclass(frozen=True)
class FileTensor:
    """A tensor of a subgraph. `dtype` is a value of `DTYPES`, or the TFLite name in lower case for other types.

    `scales` and `zero_points` have one entry, or one for each index of axis `axis`, or none.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int
    data: NDArray[Any] | None


@dataclass(frozen=True)
class Node:
    """An operator of a subgraph; `inputs` holds -1 for an input left out. `kind` names the class of `options`."""

    index: int
    operator: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kind: str
    options: dict[str, Any]
    name: str


@dataclass(frozen=True)
class Subgraph:
    """One graph: its tensors, its nodes in order, and the indices of its inputs and outputs."""

    tensors: list[FileTensor]
    nodes: list[Node]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class ModelFile:
    """A file: subgraph 0 is the model."""

    name: str
    subgraphs: list[Subgraph] = field(default_factory=list)


def read(data: bytes, name: str) -> ModelFile:
    """The records of a TFLite file with the contents `data`; `name` stands for it in errors. Raises ModelError."""
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ModelError(f"{name}: not a TFLite file (no identifier TFL3 at byte 4)")
    try:
        return _Reader(data, name).model()
    except ModelError:
        raise
    except (struct.error, ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError) as error:
        # what flatbuffers and numpy raise for offsets outside the file
        raise ModelError(f"{name}: the file is damaged or cut off ({error})") from error


class _Reader:
    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name

    def damaged(self, what: str) -> ModelError:
        return ModelError(f"{self.name}: the file is damaged or cut off ({what})")

    def count(self, length: int, what: str) -> range:
        """Indices of a vector of `length` offsets."""
        if not 0 <= length <= len(self.data) // 4:
            raise self.damaged(f"{length} {what} in {len(self.data)} bytes")
        return range(length)

    def vector(self, table: Any, field_name: str) -> NDArray[Any]:
        """A vector of numbers; empty where the file leaves it out."""
        values = getattr(table, field_name + "AsNumpy")()
        return np.zeros(0, dtype=np.int32) if isinstance(values, int) else np.asarray(values)

    def integers(self, table: Any, field_name: str) -> tuple[int, ...]:
        return tuple(self.vector(table, field_name).tolist())

    def text(self, value: bytes | None) -> str:
        return (value or b"").decode("utf-8", errors="replace")[:MAX_NAME]

    def model(self) -> ModelFile:
        model = tflite.Model.GetRootAs(self.data, 0)
        if model.Version() != 3:
            raise ModelError(f"{self.name}: TFLite schema version {model.Version()}; only version 3 is known")
        operators = [
            self.operator(model.OperatorCodes(i)) for i in self.count(model.OperatorCodesLength(), "operator codes")
        ]
        subgraphs = [
            self.subgraph(model, model.Subgraphs(i), operators)
            for i in self.count(model.SubgraphsLength(), "subgraphs")
        ]
        if not subgraphs:
            raise self.damaged("no subgraph")
        return ModelFile(self.name, subgraphs)

    def operator(self, code: Any) -> str:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _OPERATORS.get(number, f"operator {number}")
        return f"custom operator {self.text(code.CustomCode())!r}" if name == "CUSTOM" else name

    def subgraph(self, model: Any, graph: Any, operators: list[str]) -> Subgraph:
        tensors = [self.tensor(model, graph.Tensors(i), i) for i in self.count(graph.TensorsLength(), "tensors")]
        nodes = [
            self.node(graph.Operators(i), i, operators, tensors)
            for i in self.count(graph.OperatorsLength(), "operators")
        ]
        inputs, outputs = self.integers(graph, "Inputs"), self.integers(graph, "Outputs")
        for index in (*inputs, *outputs):
            if not 0 <= index < len(tensors):
                raise self.damaged(f"tensor {index} of {len(tensors)} at the border of a subgraph")
        return Subgraph(tensors, nodes, inputs, outputs)

    def tensor(self, model: Any, tensor: Any, index: int) -> FileTensor:
        name = self.text(tensor.Name())
        label = f"tensor {index} {name!r}"
        kind = _TYPES.get(tensor.Type(), f"type {tensor.Type()}")
        dtype = DTYPES.get(kind, kind.lower())
        shape = self.integers(tensor, "Shape")
        if len(shape) > MAX_RANK or any(size < 0 for size in shape):
            raise ModelError(f"{self.name}: {label} has shape {list(shape)[:16]}")
        if math.prod(shape) > MAX_ELEMENTS:
            raise ModelError(f"{self.name}: {label} has shape {list(shape)}: at most {MAX_ELEMENTS} elements fit")
        scales: NDArray[Any] = np.zeros(0, dtype=np.float32)
        zero_points: NDArray[Any] = np.zeros(0, dtype=np.int64)
        axis = 0
        quantization = tensor.Quantization()
        if quantization is not None:
            scales = self.vector(quantization, "Scale").astype(np.float32)
            zero_points = self.vector(quantization, "ZeroPoint").astype(np.int64)
            axis = quantization.QuantizedDimension()
        if zero_points.size not in (0, scales.size):
            raise ModelError(f"{self.name}: {label} has {scales.size} scales and {zero_points.size} zero points")
        if not (np.isfinite(scales).all() and (scales >= 0).all()):
            raise ModelError(f"{self.name}: {label} has a scale that is not a positive number")
        if zero_points.size == 0:
            zero_points = np.zeros(scales.size, dtype=np.int64)
        data = self.buffer(model, tensor.Buffer(), label)
        if data is not None and tensor.Sparsity() is not None:
            raise ModelError(f"{self.name}: {label} is sparse: store it dense")
        values = None if data is None else self.values(data, kind, shape, label)
        return FileTensor(
            index, name, shape, self.integers(tensor, "ShapeSignature"), dtype, scales, zero_points, axis, values
        )

    def buffer(self, model: Any, index: int, label: str) -> NDArray[np.uint8] | None:
        """The bytes of a constant; None for a tensor without content."""
        if not 0 <= index < model.BuffersLength():
            raise self.damaged(f"{label} is in buffer {index} of {model.BuffersLength()}")
        buffer = model.Buffers(index)
        if buffer is None:
            raise self.damaged(f"no buffer {index}")
        if buffer.Offset() > 1:
            # data outside the flatbuffer
            end = buffer.Offset() + buffer.Size()
            if end > len(self.data):
                raise self.damaged(f"{label} ends at byte {end} of {len(self.data)}")
            return np.frombuffer(self.data, np.uint8, buffer.Size(), buffer.Offset())
        content = self.vector(buffer, "Data").astype(np.uint8)
        return content if content.size else None

    def values(self, data: NDArray[np.uint8], kind: str, shape: tuple[int, ...], label: str) -> NDArray[Any] | None:
        """A constant's array; None for types that numpy does not have, which no operator takes."""
        if kind not in DTYPES or kind == "RESOURCE":
            return None
        dtype = np.dtype(DTYPES[kind]).newbyteorder("<")
        if data.size != math.prod(shape) * dtype.itemsize:
            raise ModelError(
                f"{self.name}: {label} has {data.size} bytes of data; {DTYPES[kind]} {list(shape)} takes "
                f"{math.prod(shape) * dtype.itemsize}"
            )
        if dtype == np.bool_:
            return np.asarray(data.reshape(shape) != 0)
        return np.frombuffer(data.tobytes(), dtype).astype(dtype.newbyteorder("=")).reshape(shape)

    def node(self, node: Any, index: int, operators: list[str], tensors: list[FileTensor]) -> Node:
        code = node.OpcodeIndex()
        if not 0 <= code < len(operators):
            raise self.damaged(f"node {index} has operator code {code} of {len(operators)}")
        inputs, outputs = self.integers(node, "Inputs"), self.integers(node, "Outputs")
        for number in (*inputs, *outputs):
            if not -1 <= number < len(tensors) or (number < 0 and number in outputs):
                raise self.damaged(f"node {index} ({operators[code]}) has tensor {number} of {len(tensors)}")
        kind = _OPTIONS.get(node.BuiltinOptionsType(), "unknown")
        options: dict[str, Any] = {}
        table = node.BuiltinOptions()
        if kind not in ("NONE", "unknown") and table is not None:
            options = self.options(kind, table)
        name = tensors[outputs[0]].name if outputs else ""
        return Node(index, operators[code], inputs, outputs, kind, options, name)

    def options(self, kind: str, table: Any) -> dict[str, Any]:
        """The fields of an options table, by their names in the schema."""
        options = getattr(tflite, kind)()
        options.Init(table.Bytes, table.Pos)
        names = [name for name, member in vars(type(options)).items() if name[0].isupper() and callable(member)]
        fields: dict[str, Any] = {}
        for name in names:
            if name == "Init" or name.endswith(("HasIdentifier", "AsNumpy", "IsNone", "Length")):
                continue
            if name + "AsNumpy" in names:
                fields[name] = self.integers(options, name)
            else:
                value = getattr(options, name)()
                fields[name] = self.text(value) if isinstance(value, bytes) else value
        return fields
