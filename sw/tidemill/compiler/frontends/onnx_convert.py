"""The conversion of ONNX nodes: values by name, what handlers may ask of them, and the table of handlers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tidemill.compiler.frontends.onnx_model import Array, Model, Node
from tidemill.compiler.frontends.onnx_values import (
    BYTES,
    LIMITS,
    Activation,
    Builder,
    Constant,
    Float,
    Order,
    Pending,
    Quantization,
    Real,
    Unknown,
    Value,
    held_bytes,
    identity,
    inverse,
    require,
)
from tidemill.compiler.ir import Host, Requantize, Table, Tensor
from tidemill.golden.requant import float_scale
from tidemill.isa import RequantMode

Handler = Callable[["Converter", Node], Value | list[Value]]
HANDLERS: dict[str, Handler] = {}
"""What converts a node, by `Node.key`."""


def handles(*keys: str) -> Callable[[Handler], Handler]:
    """Register a handler for operators."""

    def register(handler: Handler) -> Handler:
        for key in keys:
            HANDLERS[key] = handler
        return handler

    return register


class Converter:
    """The state of one conversion."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.build = Builder()
        self.values: dict[str, Value] = {}
        self.last: dict[str, Node] = {}
        """The node that made each value."""
        self.notes: dict[int, str] = {}
        """A remark for the report, by node index."""

    # ---- inputs of a node

    def value(self, node: Node, index: int) -> Value:
        """Input `index`, which must be there."""
        found = self.optional(node, index)
        if found is None:
            raise node.error(f"input {index} is missing")
        return found

    def optional(self, node: Node, index: int) -> Value | None:
        """Input `index`, None where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        name = node.inputs[index]
        if name not in self.values:
            raise node.error(f"input {name!r} is not computed by an earlier node")
        return self.values[name]

    def constant(self, node: Node, index: int, what: str) -> Array:
        """Input `index`, which must be a constant."""
        found = self.value(node, index)
        if not isinstance(found, Constant):
            raise node.error(f"{what} ({node.inputs[index]!r}) must be a constant")
        return found.array

    def optional_constant(self, node: Node, index: int, what: str) -> Array | None:
        """Input `index`, a constant or left out."""
        return None if self.optional(node, index) is None else self.constant(node, index, what)

    def scalar(self, node: Node, index: int, what: str) -> Any:
        """Input `index`, a constant of one element."""
        array = self.constant(node, index, what)
        require(array.size == 1, node, f"{what} must have one element, not {array.size}")
        return array.reshape(-1)[0]

    def ints(self, node: Node, name: str, index: int) -> list[int] | None:
        """Integers that are attribute `name` in older operator sets and input `index` in newer ones."""
        if node.get(name) is not None:
            return node.ints(name)
        found = self.optional_constant(node, index, name)
        if found is None:
            return None
        require(found.dtype.kind in "iu" and found.ndim <= 1, node, f"{name} must be a list of integers")
        return [int(item) for item in found.reshape(-1)]

    def dtype(self, value: Value) -> str:
        """Element type of a value."""
        if isinstance(value, Constant):
            return str(value.array.dtype)
        return value.dtype if isinstance(value, Activation) else "float32"

    # ---- quantization

    def quantization(self, node: Node, scale: int, zero_point: int, axis: int | None, dtype: str) -> Quantization:
        """From the constant inputs `scale` and `zero_point` (which may be left out: 0 of type `dtype`)."""
        scales = self.constant(node, scale, "the scale")
        zero = self.optional_constant(node, zero_point, "the zero point")
        require(scales.dtype == np.float32, node, f"scales must be float32, not {scales.dtype}")
        if zero is None:
            zero = np.zeros(scales.shape, dtype=dtype)
        kind = str(zero.dtype)
        require(kind in LIMITS, node, f"quantization to {kind} is not supported")
        require(zero.size == scales.size, node, "scale and zero point must have equal shapes")
        valid = np.isfinite(scales) & (scales > 0)
        require(bool(valid.all()), node, f"scales must be positive and finite, not {scales[~valid][:1]}")
        if scales.size == 1:
            return Quantization(scales.reshape(()), zero.astype(np.int64).reshape(()), kind)
        require(scales.ndim == 1 and axis is not None, node, f"scales must be a scalar or a list, not {scales.shape}")
        return Quantization(scales, zero.astype(np.int64).reshape(-1), kind, axis)

    def requantize(
        self, node: Node, scales: Array, target: Quantization, low: float = -math.inf, high: float = math.inf
    ) -> Requantize:
        """int32 to `target` by float32 `scales` (one, or one a channel), the result within low..high real."""
        try:
            pairs = [float_scale(value) for value in np.asarray(scales, dtype=np.float32).reshape(-1)]
        except ValueError as error:
            raise node.error(str(error)) from None
        multipliers, shifts = (np.array(column, dtype=np.int32) for column in zip(*pairs, strict=True))
        qmin, qmax = self.bounds(target, low, high)
        single = len(pairs) == 1
        return Requantize(
            int(multipliers[0]) if single else multipliers,
            int(shifts[0]) if single else shifts,
            zero_point=target.held_zero_point,
            qmin=qmin,
            qmax=qmax,
            mode=RequantMode.ONNX,
        )

    @staticmethod
    def bounds(target: Quantization, low: float, high: float) -> tuple[int, int]:
        """(qmin, qmax) of held values within the real bounds low..high."""
        qmin, qmax = target.limits
        if low > -math.inf:
            qmin = int(target.quantize(np.float32(low)))
        if high < math.inf:
            qmax = int(target.quantize(np.float32(high)))
        return qmin - target.offset, qmax - target.offset

    # ---- forms of values

    def activation(self, node: Node, value: Value, name: str = "") -> Activation:
        """The value as a tensor: a constant becomes one, a float function of int8 is looked up on the host."""
        if isinstance(value, Activation):
            return value
        if isinstance(value, Constant):
            return self.build.constant(name or f"{node.name}/constant", value.array)
        if isinstance(value, Real):
            return self.lookup(node, value)
        if isinstance(value, Pending):
            return value.as_float()
        raise node.error("an input comes from a node that is not supported")

    def byte(self, node: Node, index: int, what: str = "input") -> Activation:
        """Input `index`, which must be int8 or uint8."""
        found = self.value(node, index)
        require(self.dtype(found) in BYTES, node, f"{what} must be int8 or uint8, not {self.dtype(found)}")
        return self.activation(node, found, node.inputs[index])

    def real(self, value: Value) -> Real | None:
        """The value as a function of one int8 tensor, if it is one."""
        if isinstance(value, Real):
            return value
        if isinstance(value, Constant) and value.quantization is not None and value.quantized is not None:
            q = value.quantization
            if q.dtype in BYTES and q.axis is None and value.array.size > 1:
                return Real(self.build.constant("constant", value.quantized), self.dequantized(q), q)
        return None

    @staticmethod
    def dequantized(q: Quantization) -> Float:
        """float32 [256] of the held bytes."""
        return q.dequantize(held_bytes(q.offset))

    def lookup(self, node: Node, value: Real) -> Activation:
        """float32 values by table, on the host."""
        return self.host(node, "onnx.lookup", {"table": value.table}, [value.activation], "float32")

    # ---- operations

    def host(
        self,
        node: Node,
        function: str,
        attributes: dict[str, Any],
        inputs: list[Activation],
        dtype: str,
        shape: tuple[int, ...] | None = None,
        quantization: Quantization | None = None,
    ) -> Activation:
        """One output of a host function. Without `shape` it is elementwise: any physical order, that of the input."""
        if shape is None and len(inputs) == 1:
            order: Order = inputs[0].order
            shape = inputs[0].shape
        else:
            order = identity(len(inputs[0].shape))
            shape = inputs[0].shape if shape is None else shape
        tensors = [self.build.tensor(a, order if len(a.shape) == len(order) else None) for a in inputs]
        result_order = order if len(order) == len(shape) else identity(len(shape))
        activation, tensor = self.build.new(node, shape, dtype, result_order, quantization)
        self.build.ops.append(Host(node.name, node.op, tensors, [tensor], function, attributes))
        return activation

    def table(self, node: Node, x: Activation, table: Array, dtype: str, q: Quantization | None) -> Activation:
        """Held bytes by a table of held bytes; x itself where the table changes nothing."""
        table = np.asarray(table, dtype=np.int8)
        unchanged = np.array_equal(table, held_bytes(0))
        order = x.order
        source = self.build.tensor(x, order)
        if unchanged and source.data is None:
            if dtype == x.dtype and (x.quantization is None) == (q is None):
                return x
            return Activation(x.name, x.shape, dtype, x.tensors, quantization=q)
        activation, tensor = self.build.new(node, x.shape, dtype, order, q)
        self.build.ops.append(Table(node.name, node.op, [source], [tensor], table))
        return activation

    def shared_order(self, inputs: list[Activation], rank: int) -> Order:
        """A physical order for an elementwise operation: that of the largest input of full rank that has one."""
        full = [a for a in inputs if len(a.shape) == rank]
        varying = [a for a in full if not a.tensors or next(iter(a.tensors.values())).data is None] or full
        if not varying:
            return identity(rank)
        return max(varying, key=lambda a: (a.size, bool(a.tensors))).order

    def aligned(self, a: Activation, order: Order) -> Tensor:
        """The form of `a` that broadcasts against physical `order`, as numpy would in logical order."""
        rank, missing = len(order), len(order) - len(a.shape)
        if not missing:
            return self.build.tensor(a, order)
        if order == identity(rank):
            return self.build.tensor(a)
        shape = (*[1] * missing, *a.shape)
        return self.build.tensor(self.reshaped(a, shape), order)

    def reshaped(self, a: Activation, shape: tuple[int, ...], node: Node | None = None) -> Activation:
        """The same elements in logical order with another shape."""
        if shape == a.shape:
            return a
        name = node.outputs[0] if node is not None else f"{a.name}/{'x'.join(map(str, shape))}"
        result = Activation(name, shape, a.dtype, quantization=a.quantization)
        order = identity(len(a.shape)) if identity(len(a.shape)) in a.tensors else a.order
        source = self.build.tensor(a, order)
        if source.data is not None:
            tensor = Tensor(name, shape, source.dtype, data=source.data.transpose(inverse(order)).reshape(shape))
        else:
            tensor = Tensor(name, shape, source.dtype, source.scale, source.zero_point)
            index = self.build.logical_index(a, order).reshape(shape)
            self.build.move(node.name if node else name, node.op if node else "Reshape", [source], index, tensor)
        result.tensors[identity(len(shape))] = tensor
        return result

    def logical(self, a: Activation) -> Activation:
        """`a` with only its form in logical order."""
        return Activation(a.name, a.shape, a.dtype, {identity(len(a.shape)): self.build.tensor(a)})

    def unknown(self, node: Node) -> bool:
        """Whether an input comes from a node that could not be understood."""
        return any(isinstance(self.values.get(name), Unknown) for name in node.inputs)


def broadcast(node: Node, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that numpy broadcasting gives. Raises ModelError where it does not."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise node.error(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast") from None
