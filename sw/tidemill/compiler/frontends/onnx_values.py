"""What an ONNX value is while a graph is built: a constant, an integer or float tensor in some physical order, a
function of one int8 tensor, or a result that waits for the QuantizeLinear behind it.

Orders: a physical axis j holds the logical axis order[j]. Transposition only renames; a `Move` is made when an
operation asks for an order that does not exist yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.compiler.frontends.onnx_model import Array, Node, check_size
from tidemill.compiler.ir import Host, ModelError, Move, Op, Port, Tensor

Order = tuple[int, ...]
Float = NDArray[np.float32]

BYTES = ("int8", "uint8")
LIMITS = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(1 << 31), (1 << 31) - 1),
}


def identity(rank: int) -> Order:
    """The order in which physical and logical axes are the same."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """[N, C, ...] with C moved to the end."""
    return (0, *range(2, rank), 1)


def inverse(order: Order) -> Order:
    """The permutation that undoes `order`."""
    return tuple(int(i) for i in np.argsort(order))


@dataclass(eq=False)
class Quantization:
    """real = scale * (value - zero_point); `scale` (float32) and `zero_point` are scalars or 1-D along `axis`."""

    scale: Float
    zero_point: NDArray[np.int64]
    dtype: str
    axis: int | None = None

    @property
    def offset(self) -> int:
        """What the graph subtracts to hold a value as int8."""
        return 128 if self.dtype == "uint8" else 0

    @property
    def held_zero_point(self) -> int:
        """The zero point of the int8 values; only without an axis."""
        return int(self.zero_point) - self.offset

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest value of the type."""
        return LIMITS[self.dtype]

    def _along(self, parameter: Array, rank: int) -> Array:
        if self.axis is None:
            return parameter
        return parameter.reshape([-1 if axis == self.axis else 1 for axis in range(rank)])

    def quantize(self, real: ArrayLike) -> Array:
        """float32 to the type: round(real / scale) + zero_point, halves to even, saturated (MlasQuantizeLinear)."""
        real = np.asarray(real, dtype=np.float32)
        with np.errstate(all="ignore"):
            scaled = np.rint(real / self._along(self.scale, real.ndim))
        low, high = self.limits
        shifted = np.where(np.isnan(scaled), low, scaled.astype(np.float64) + self._along(self.zero_point, real.ndim))
        return np.clip(shifted, low, high).astype(self.dtype)

    def dequantize(self, values: Array) -> Float:
        """The type to float32."""
        values = np.asarray(values)
        shifted = values.astype(np.int64) - self._along(self.zero_point, values.ndim)
        with np.errstate(all="ignore"):
            return np.asarray(shifted.astype(np.float32) * self._along(self.scale, values.ndim), dtype=np.float32)

    def same(self, other: Quantization) -> bool:
        """Equal parameters."""
        return (
            self.dtype == other.dtype
            and self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )


def held_bytes(offset: int) -> Array:
    """The model's value of each held byte, indexed by `value & 255`: int64 [256]."""
    return np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64) + offset


@dataclass(eq=False)
class Constant:
    """A known array. `quantized` and `quantization` are given where it is the result of a DequantizeLinear."""

    array: Array
    quantized: Array | None = None
    quantization: Quantization | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape."""
        return self.array.shape


@dataclass(eq=False)
class Activation:
    """A tensor of the model of type `dtype` with its logical `shape`; int8 and uint8 are held as int8.

    `tensors` are the physical forms that exist. An input of the model has none until one is asked for.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    tensors: dict[Order, Tensor] = field(default_factory=dict)
    preferred: Order | None = None
    quantization: Quantization | None = None

    @property
    def offset(self) -> int:
        """What was subtracted to hold a value as int8."""
        return 128 if self.dtype == "uint8" else 0

    @property
    def held(self) -> str:
        """Type of the graph's tensor."""
        return "int8" if self.dtype in BYTES else self.dtype

    @property
    def order(self) -> Order:
        """A form that exists, or the preferred one of an input that was not used yet."""
        if self.tensors:
            return next(iter(self.tensors))
        return self.preferred or identity(len(self.shape))

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


@dataclass(eq=False)
class Real:
    """float32 values that are `table[byte & 255]` of an int8 or uint8 activation, `table` float32 [256].

    `quantization` is given while the table is that of a DequantizeLinear.
    """

    activation: Activation
    table: Float
    quantization: Quantization | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Logical shape."""
        return self.activation.shape


@dataclass(eq=False)
class Pending:
    """A float32 result whose operation is made when the type behind it is known.

    `finish(target, low, high)` makes it with the result limited to low..high before it is quantized; `as_float` makes
    float32 values that equal the reference's, and raises ModelError where that cannot be. `apply(f)` is the result
    after an elementwise function, where that can still wait.
    """

    node: Node
    shape: tuple[int, ...]
    finish: Callable[[Quantization, float, float], Activation]
    as_float: Callable[[], Activation]
    apply: Callable[[Callable[[Float], Float]], Pending] | None = None
    low: float = -math.inf
    high: float = math.inf
    made: list[tuple[Quantization, Activation]] = field(default_factory=list)

    def quantized(self, target: Quantization) -> Activation:
        """The result as `target`; made once."""
        for known, activation in self.made:
            if known.same(target):
                return activation
        activation = self.finish(target, self.low, self.high)
        self.made.append((target, activation))
        return activation


@dataclass(eq=False)
class Unknown:
    """What a node that could not be understood gives; only while a model is inspected."""

    shape: tuple[int, ...] = ()


Value = Constant | Activation | Real | Pending | Unknown


class Builder:
    """Collects operations and keeps the forms of activations."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.inputs: dict[int, tuple[Activation, Port | None]] = {}

    def input(self, name: str, shape: tuple[int, ...], dtype: str, preferred: Order) -> Activation:
        """An input of the model; it gets the physical form that is asked for first."""
        activation = Activation(name, shape, dtype, preferred=preferred)
        self.inputs[id(activation)] = (activation, None)
        return activation

    def port(self, activation: Activation) -> Port:
        """The border of an input, made now if nobody has used it."""
        self.tensor(activation, activation.order)
        port = self.inputs[id(activation)][1]
        assert port is not None
        return port

    def new(
        self,
        node: Node,
        shape: tuple[int, ...],
        dtype: str,
        order: Order | None = None,
        quantization: Quantization | None = None,
        output: int = 0,
    ) -> tuple[Activation, Tensor]:
        """An activation that `node` makes, and its tensor in `order` (None: logical)."""
        order = identity(len(shape)) if order is None else order
        names = node.outputs
        name = names[output] if output < len(names) and names[output] else node.name
        check_size(shape, f"node {node.name!r} ({node.op}): its result")
        activation = Activation(name, shape, dtype, quantization=quantization)
        tensor = Tensor(name, tuple(shape[axis] for axis in order), activation.held)
        if quantization is not None and quantization.axis is None:
            tensor.scale = float(quantization.scale)
            tensor.zero_point = quantization.held_zero_point
        activation.tensors[order] = tensor
        return activation, tensor

    def constant(self, name: str, values: Array) -> Activation:
        """A constant as an activation."""
        dtype = str(values.dtype)
        held = (values.astype(np.int16) - 128).astype(np.int8) if dtype == "uint8" else values
        activation = Activation(name, values.shape, dtype)
        activation.tensors[identity(values.ndim)] = Tensor(name, held.shape, str(held.dtype), data=held)
        return activation

    def tensor(self, activation: Activation, order: Order | None = None, node: Node | None = None) -> Tensor:
        """The form of `activation` in `order` (None: logical), made by a movement if it does not exist."""
        order = identity(len(activation.shape)) if order is None else order
        if order in activation.tensors:
            return activation.tensors[order]
        shape = tuple(activation.shape[axis] for axis in order)
        if not activation.tensors:
            tensor = Tensor(activation.name, shape, activation.held)
            self._border(activation, tensor, order)
            activation.tensors[order] = tensor
            return tensor
        source_order, source = next(iter(activation.tensors.items()))
        if source.data is not None:
            values = source.data.transpose(inverse(source_order)).transpose(order)
            tensor = Tensor(source.name, shape, source.dtype, data=np.ascontiguousarray(values))
        else:
            index = self.logical_index(activation, source_order).transpose(order)
            suffix = "nhwc" if order == channels_last(len(order)) else "".join(map(str, order))
            tensor = Tensor(f"{activation.name}/{suffix}", shape, source.dtype, source.scale, source.zero_point)
            self.move(f"{activation.name}/{suffix}", "Transpose", [source], index, tensor)
        activation.tensors[order] = tensor
        return tensor

    def _border(self, activation: Activation, tensor: Tensor, order: Order) -> None:
        index = None
        if order != identity(len(order)):
            index = np.arange(activation.size, dtype=np.int64).reshape(activation.shape).transpose(order)
            index = np.ascontiguousarray(index)
        port = Port(activation.name, tensor, activation.shape, activation.dtype, offset=activation.offset, index=index)
        self.inputs[id(activation)] = (activation, port)

    @staticmethod
    def logical_index(activation: Activation, order: Order) -> NDArray[np.int64]:
        """The place of each logical element in the flattened form `order`: int64 of the logical shape."""
        shape = [activation.shape[axis] for axis in order]
        return np.arange(activation.size, dtype=np.int64).reshape(shape).transpose(inverse(order))

    def move(
        self, name: str, source: str, inputs: list[Tensor], index: NDArray[np.int64], output: Tensor, fill: int = 0
    ) -> None:
        """y.flat[i] = concatenated inputs [index.flat[i]] or `fill`: a Move, or on the host for other types."""
        index = np.ascontiguousarray(index, dtype=np.int64)
        if output.dtype in ("int8", "int32"):
            self.ops.append(Move(name, source, inputs, [output], index=index, fill=fill))
        else:
            attributes: dict[str, Any] = {"index": index, "fill": fill}
            self.ops.append(Host(name, source, inputs, [output], "onnx.move", attributes))

    def view(self, tensor: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
        """The elements of `tensor` in order, with another shape."""
        if tensor.shape == shape:
            return tensor
        result = Tensor(name, shape, tensor.dtype, tensor.scale, tensor.zero_point)
        self.move(name, "Reshape", [tensor], np.arange(tensor.size, dtype=np.int64).reshape(shape), result)
        return result

    @staticmethod
    def piece(tensor: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
        """A tensor that an operation writes instead of `tensor`, to be reshaped to it; itself if the shapes agree."""
        if tensor.shape == shape:
            return tensor
        return Tensor(name, shape, tensor.dtype, tensor.scale, tensor.zero_point)

    def output(self, name: str, activation: Activation) -> Port:
        """The border of an output of the model."""
        order = activation.order
        tensor = self.tensor(activation, order)
        index = None
        if order != identity(len(order)):
            index = np.ascontiguousarray(self.logical_index(activation, order))
        scale, zero_point = None, 0
        if activation.quantization is not None and activation.quantization.axis is None:
            scale = float(activation.quantization.scale)
            zero_point = int(activation.quantization.zero_point)
        return Port(
            name, tensor, activation.shape, activation.dtype, scale, zero_point, offset=activation.offset, index=index
        )


def require(condition: bool, node: Node, why: str) -> None:
    """Raises the node's ModelError unless `condition` holds."""
    if not condition:
        raise node.error(why)


__all__ = [
    "BYTES",
    "Activation",
    "Builder",
    "Constant",
    "ModelError",
    "Order",
    "Pending",
    "Quantization",
    "Real",
    "Unknown",
    "Value",
]
