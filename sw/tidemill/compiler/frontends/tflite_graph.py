"""What the operator handlers of the TFLite front end share: the graph under construction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler import ir, reference
from tidemill.compiler.frontends.tflite_file import MAX_ELEMENTS, FileTensor, Node, Subgraph
from tidemill.compiler.ir import ModelError
from tidemill.golden.affine import Affine, activation_range

Array = NDArray[Any]

UINT8_OFFSET = 128
"""A uint8 tensor is held as int8: its values and zero point less this."""

_ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")
"""Names of TFLite's ActivationFunctionType by number."""


@dataclass
class Variable:
    """A resource variable: its tensor when the call starts, and its latest value."""

    name: str
    read: ir.Tensor
    value: ir.Tensor


class GraphBuilder:
    """Tensors and operations of one subgraph, made node by node in the order of the file.

    Handlers call `error` for what they cannot convert, `value` and `constant` for inputs, `output` for the tensor that
    they make, and `emit` for the operations.
    """

    def __init__(self, name: str, subgraph: Subgraph, initializing: bool = False) -> None:
        self.name = name
        self.subgraph = subgraph
        self.initializing = initializing
        """Whether this is the subgraph of CALL_ONCE."""
        self.ops: list[ir.Op] = []
        self.values: dict[int, ir.Tensor] = {}
        self.initial: dict[str, Array] = {}
        """Contents of variables that the initialisation subgraph assigns, by name."""
        self.handles: dict[int, str] = {}
        """Name of the variable of each resource tensor."""
        self.variables: dict[str, Variable] = {}

    def error(self, node: Node, reason: str) -> ModelError:
        """The error to raise for `node`."""
        return ModelError(f"{self.name}: node {node.index} ({node.operator} {node.name!r}): {reason}")

    # Inputs

    def file_tensor(self, node: Node, position: int) -> FileTensor:
        """The file's record of an input that must be there."""
        if not self.has(node, position):
            raise self.error(node, f"input {position} is missing")
        return self.subgraph.tensors[node.inputs[position]]

    def has(self, node: Node, position: int) -> bool:
        """Whether the node has input number `position`."""
        return position < len(node.inputs) and node.inputs[position] >= 0

    def value(self, node: Node, position: int, types: Sequence[str] = ("int8",)) -> ir.Tensor:
        """The tensor of an input, whose type in the model must be one of `types`."""
        record = self.file_tensor(node, position)
        if record.dtype not in types:
            raise self.type_error(node, record, types)
        return self.tensor(node, record)

    def type_error(self, node: Node, record: FileTensor, types: Sequence[str]) -> ModelError:
        """The error for an input or output of a type that the node does not take."""
        if record.dtype == "float32" and "int8" in types:
            weights = any(
                self.subgraph.tensors[i].dtype == "int8" and self.subgraph.tensors[i].data is not None
                for i in node.inputs
                if i >= 0
            )
            only = " and int8 weights: quantize the activations too" if weights else ": quantize the model to int8"
            return self.error(node, f"float32 activations{only} (full integer quantization)")
        if record.dtype == "uint8" and "int8" in types:
            return self.error(node, "uint8 activations: quantize the model to int8 (uint8 is for its borders only)")
        if record.dtype == "int16" and "int8" in types:
            return self.error(node, "int16 activations: quantize the model to int8 activations")
        return self.error(node, f"tensor {record.name!r} is {record.dtype}; supported: {', '.join(types)}")

    def tensor(self, node: Node, record: FileTensor) -> ir.Tensor:
        """The graph's tensor of a record: a constant, or what an earlier node made."""
        if record.index in self.values:
            return self.values[record.index]
        if record.data is None:
            raise self.error(node, f"reads tensor {record.name!r} before anything writes it")
        tensor = self.new_tensor(record)
        tensor.data = lowered(record.data)
        self.values[record.index] = tensor
        return tensor

    def new_tensor(self, record: FileTensor) -> ir.Tensor:
        """A tensor with the name, shape and quantization of a record."""
        scale = float(record.scales[0]) if record.scales.size else None
        zero_point = int(record.zero_points[0]) if record.zero_points.size else 0
        if record.dtype == "uint8":
            return ir.Tensor(record.name, record.shape, "int8", scale, zero_point - UINT8_OFFSET)
        return ir.Tensor(record.name, record.shape, record.dtype, scale, zero_point)

    def constant(self, node: Node, position: int, types: Sequence[str] = ("int32", "int64")) -> Array:
        """The array of an input that must be a constant of one of `types`."""
        tensor = self.value(node, position, types)
        if tensor.data is None:
            raise self.error(node, f"input {position} ({tensor.name!r}) must be a constant")
        return tensor.data

    def integers(self, node: Node, position: int) -> list[int]:
        """A constant input of at most one axis as a list of numbers."""
        values = self.constant(node, position)
        if values.ndim > 1 or values.size > 64:
            raise self.error(node, f"input {position} has shape {list(values.shape)}; expected a short list of numbers")
        return [int(value) for value in values.reshape(-1)]

    def quantization(self, node: Node, record: FileTensor) -> Affine:
        """Scale and zero point of an int8 or uint8 tensor (lowered), quantized as a whole."""
        if record.scales.size != 1:
            count = record.scales.size or "no"
            raise self.error(node, f"tensor {record.name!r} has {count} scales; an activation has one")
        scale, zero_point = float(record.scales[0]), int(record.zero_points[0])
        if record.dtype == "uint8":
            zero_point -= UINT8_OFFSET
        if scale < np.finfo(np.float32).tiny or not -128 <= zero_point <= 127:
            raise self.error(
                node, f"tensor {record.name!r} has scale {scale:g} and zero point {int(record.zero_points[0])}"
            )
        return Affine(scale, zero_point)

    def input_quantization(self, node: Node, position: int) -> Affine:
        """Scale and zero point of an input."""
        return self.quantization(node, self.file_tensor(node, position))

    def output_quantization(self, node: Node, position: int = 0) -> Affine:
        """Scale and zero point of an output."""
        return self.quantization(node, self.subgraph.tensors[node.outputs[position]])

    # Options

    def option(self, node: Node, kind: str, name: str, default: Any = None) -> Any:
        """Field `name` of the options, which must be a `kind`; `default` where the file has none, if one is given."""
        if node.kind not in (kind, "NONE"):
            raise self.error(node, f"has options of type {node.kind}, not {kind}")
        if name in node.options:
            return node.options[name]
        if default is None:
            raise self.error(node, f"has no {kind}")
        return default

    def activation(self, node: Node, kind: str) -> ir.Pair:
        """(qmin, qmax) of the fused activation."""
        number = self.option(node, kind, "FusedActivationFunction", 0)
        name = _ACTIVATIONS[number] if 0 <= number < len(_ACTIVATIONS) else str(number)
        low, high = activation_range(name, self.output_quantization(node))
        if low > high:
            raise self.error(node, f"the activation {name} leaves no value: {low}..{high}")
        return low, high

    def axis(self, node: Node, axis: int, rank: int) -> int:
        """`axis`, counted from the end where negative, as 0 .. rank - 1."""
        if not -rank <= axis < rank:
            raise self.error(node, f"axis {axis} of a tensor with {rank} axes")
        return axis % rank

    # Outputs

    def output(
        self, node: Node, shape: Sequence[int], position: int = 0, types: Sequence[str] = ("int8",)
    ) -> ir.Tensor:
        """The tensor of an output, which must have `shape` and one of `types` in the file."""
        if position >= len(node.outputs):
            raise self.error(node, f"output {position} is missing")
        record = self.subgraph.tensors[node.outputs[position]]
        if record.dtype not in types:
            raise self.type_error(node, record, types)
        if record.shape != tuple(shape):
            raise self.error(node, f"output {record.name!r} has shape {list(record.shape)}, not {list(shape)}")
        return self.define(node, record)

    def define(self, node: Node, record: FileTensor) -> ir.Tensor:
        """A new tensor for `record`, written by `node`."""
        if record.index in self.values or record.data is not None:
            raise self.error(node, f"writes tensor {record.name!r}, which has a value already")
        if not 0 < math.prod(record.shape) <= MAX_ELEMENTS:
            raise self.error(
                node, f"output {record.name!r} has shape {list(record.shape)}: 1 to {MAX_ELEMENTS} elements"
            )
        tensor = self.values[record.index] = self.new_tensor(record)
        return tensor

    def alias(self, node: Node, record: FileTensor, tensor: ir.Tensor) -> None:
        """Let `record`, an output of `node`, be the value of `tensor`."""
        if record.index in self.values or record.data is not None:
            raise self.error(node, f"writes tensor {record.name!r}, which has a value already")
        if record.shape != tensor.shape or lowered_type(record.dtype) != tensor.dtype:
            raise self.error(node, f"{record.name!r} is {record.dtype}{list(record.shape)}, not {tensor!r}")
        self.values[record.index] = tensor

    def temporary(self, node: Node, suffix: str, shape: Sequence[int], like: ir.Tensor) -> ir.Tensor:
        """A tensor that the model does not have, with the type and quantization of `like`."""
        if not 0 < math.prod(shape) <= MAX_ELEMENTS:
            raise self.error(node, f"needs a tensor of shape {list(shape)}; at most {MAX_ELEMENTS} elements fit")
        return ir.Tensor(f"{node.name}/{suffix}", tuple(shape), like.dtype, like.scale, like.zero_point)

    # Operations

    def emit(self, op: ir.Op) -> ir.Tensor:
        """Add an operation, or compute it now where all its inputs are constants; returns its first output."""
        if op.inputs and all(tensor.data is not None for tensor in op.inputs):
            results = reference.run(op, [tensor.data for tensor in op.inputs if tensor.data is not None])
            for tensor, value in zip(op.outputs, results, strict=True):
                tensor.data = value
        else:
            self.ops.append(op)
        return op.y

    def move(self, node: Node, inputs: list[ir.Tensor], output: ir.Tensor, index: Array, fill: int = 0) -> ir.Tensor:
        """Emit a Move; `index` has the output's elements."""
        movable = ("int8", "int32")
        if output.dtype not in movable and any(tensor.data is None for tensor in inputs):
            raise self.error(node, f"moves {output.dtype}; supported: {', '.join(movable)}")
        flat = np.ascontiguousarray(index, dtype=np.int64).reshape(output.shape)
        return self.emit(ir.Move(node.name, node.operator, inputs, [output], flat, fill))

    def reshaped(self, node: Node, tensor: ir.Tensor, shape: Sequence[int]) -> ir.Tensor:
        """`tensor` with another shape of as many elements: itself, or moved."""
        if tensor.shape == tuple(shape):
            return tensor
        output = self.temporary(node, "reshape", shape, tensor)
        return self.move(node, [tensor], output, np.arange(tensor.size))

    def transposed(self, node: Node, tensor: ir.Tensor, order: Sequence[int]) -> ir.Tensor:
        """`tensor` with its axes in another order: itself, or moved."""
        if list(order) == list(range(len(order))):
            return tensor
        index = indices(tensor).transpose(order)
        return self.move(node, [tensor], self.temporary(node, "transpose", index.shape, tensor), index)

    def produced(self, tensor: ir.Tensor) -> ir.Tensor:
        """`tensor` where an operation makes it, else a copy that one makes: for outputs and variables."""
        if any(tensor in op.outputs for op in self.ops):
            return tensor
        output = replace(tensor, data=None)
        self.ops.append(ir.Move(tensor.name, "copy", [tensor], [output], indices(tensor)))
        return output


def indices(tensor: ir.Tensor) -> Array:
    """The position of every element in the flattened tensor, in the tensor's shape."""
    return np.arange(tensor.size, dtype=np.int64).reshape(tensor.shape)


def lowered_type(dtype: str) -> str:
    """How the graph holds a type of a model: uint8 as int8."""
    return "int8" if dtype == "uint8" else dtype


def lowered(data: Array) -> Array:
    """A constant as the graph holds it."""
    return (data.astype(np.int16) - UINT8_OFFSET).astype(np.int8) if data.dtype == np.uint8 else data
