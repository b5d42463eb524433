"""Elementwise ONNX nodes: functions of one int8 tensor become tables, functions of two sums or products of tables, and
the rest float32 or integer numpy on the host where that equals ONNX Runtime.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tidemill.compiler.frontends.onnx_convert import Converter, broadcast, handles
from tidemill.compiler.frontends.onnx_functions import BINARY, UNARY, unary_function
from tidemill.compiler.frontends.onnx_model import Array, Node, check_size
from tidemill.compiler.frontends.onnx_values import (
    BYTES,
    Activation,
    Constant,
    Float,
    Pending,
    Quantization,
    Real,
    Value,
    require,
)
from tidemill.compiler.ir import Add, Host, MinMax, Mul, Requantize, Tensor
from tidemill.golden import affine, elementwise

EXACT = ("Relu", "Clip", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Sqrt", "LeakyRelu", "HardSigmoid")
"""Functions of float32 whose every result is the one of IEEE 754 arithmetic."""
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
OF_INTEGERS = ("Relu", "Clip", "Abs", "Neg", "Sign")
NUMBERS = (*INTEGERS, "float32", "float64")


def on_host(
    c: Converter, node: Node, function: str, attributes: dict[str, Any], values: list[Value], dtype: str
) -> Value:
    """A numpy function on the host: `attributes` say the types in the model, of the inputs and the result."""
    inputs = [c.activation(node, value) for value in values]
    shape = broadcast(node, *(a.shape for a in inputs))
    check_size(shape, f"node {node.name!r} ({node.op}): its result")
    order = c.shared_order(inputs, len(shape))
    y, tensor = c.build.new(node, shape, dtype, order)
    known = {**attributes, "inputs": [a.dtype for a in inputs], "dtype": dtype}
    tensors = [c.aligned(a, order) for a in inputs]
    c.build.ops.append(Host(node.name, node.op, tensors, [tensor], function, known))
    return y


# ---- one operand


@handles(*sorted(set(UNARY) - {"Identity"}))
def unary(c: Converter, node: Node) -> Value:
    """A function of one operand: a table where the operand is a function of an int8 tensor."""
    x = c.value(node, 0)
    dtype = c.dtype(x)
    if dtype in BYTES and node.op in OF_INTEGERS:
        function, _ = unary_function(c, node, dtype)
        activation = c.activation(node, x)
        model = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int16) + activation.offset
        table = function(model.astype(dtype)).astype(dtype).astype(np.int16) - activation.offset
        return c.table(node, activation, table, dtype, None)
    function, attributes = unary_function(c, node, dtype)
    if isinstance(x, Constant):
        return Constant(function(x.array))
    if dtype != "float32":
        require(
            dtype in NUMBERS and node.op in ("Relu", "Clip", "Abs", "Neg", "Sign", "Floor", "Ceil"), node, no(dtype)
        )
    if isinstance(x, Real):
        return Real(x.activation, function(x.table))
    if isinstance(x, Pending):
        if node.op in ("Relu", "Clip"):
            low, high = attributes["low"], attributes["high"]
            return dataclasses.replace(
                x, low=min(max(x.low, low), high), high=max(min(x.high, high), low), made=[], node=x.node
            )
        if x.apply is not None:
            return x.apply(function)
    exact = node.op in EXACT or dtype != "float32"
    require(exact, node, "of float32 data that no QuantizeLinear follows, it is not computed exactly")
    return on_host(c, node, "onnx.unary", {"function": node.op, **attributes}, [x], dtype)


def no(dtype: str) -> str:
    """Why a type is refused."""
    return f"{dtype} data is not supported"


@handles("PRelu")
def prelu(c: Converter, node: Node) -> Value:
    """PRelu with one slope for all; slopes per channel run on the host."""
    slope = c.constant(node, 1, "the slope")
    x = c.value(node, 0)
    require(c.dtype(x) == "float32" and slope.dtype == np.float32, node, no(c.dtype(x)))
    if isinstance(x, Real) and slope.size == 1:
        alpha = slope.reshape(())
        return Real(x.activation, np.where(x.table < 0, x.table * alpha, x.table).astype(np.float32))
    return on_host(c, node, "onnx.binary", {"function": "PRelu"}, [x, Constant(slope)], "float32")


@handles("com.microsoft.QLinearSigmoid", "com.microsoft.QLinearLeakyRelu")
def qlinear_unary(c: Converter, node: Node) -> Value:
    """A table between two quantizations (QlinearBuildLookupTable)."""
    x = c.byte(node, 0)
    qx = c.quantization(node, 1, 2, None, x.dtype)
    qy = c.quantization(node, 3, 4, None, x.dtype)
    plain = dataclasses.replace(node, op=node.op.removeprefix("QLinear"))
    function, _ = unary_function(c, plain, "float32")
    table = qy.quantize(function(c.dequantized(qx))).astype(np.int16) - qy.offset
    return c.table(node, x, table, qy.dtype, qy)


# ---- two operands


@handles("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Mod", "BitShift", "And", "Or", "Xor")
def binary(c: Converter, node: Node) -> Value:
    """Arithmetic of two operands (Max and Min: any number)."""
    values = [c.value(node, i) for i in range(len(node.inputs))]
    variadic = node.op in ("Max", "Min")
    require(len(values) == 2 or (variadic and values != []), node, f"it has {len(values)} operands")
    if len(values) == 1:
        return values[0]
    dtypes = {c.dtype(value) for value in values}
    require(len(dtypes) == 1, node, f"its operands differ in type: {sorted(dtypes)}")
    (dtype,) = dtypes
    allowed = ("bool",) if node.op in ("And", "Or", "Xor") else NUMBERS
    require(dtype in allowed, node, no(dtype))
    result = values[0]
    for other in values[1:]:
        result = pairwise(c, node, result, other, dtype)
    return result


def pairwise(c: Converter, node: Node, a: Value, b: Value, dtype: str) -> Value:
    """One operation of two operands of type `dtype`."""
    shape = broadcast(node, a.shape, b.shape)
    check_size(shape, f"node {node.name!r} ({node.op}): its result")
    if isinstance(a, Constant) and isinstance(b, Constant):
        return Constant(np.asarray(BINARY[node.op](a.array, b.array)))
    if dtype in BYTES and node.op in ("Max", "Min"):
        return min_max(c, node, c.activation(node, a), c.activation(node, b), node.op == "Max", dtype, None)
    if dtype == "float32" and node.op in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
        function = BINARY[node.op]
        ra, rb = c.real(a), c.real(b)
        if ra is not None and rb is not None:
            return pair(c, node, ra, rb, shape, function)
        if isinstance(a, Real) and isinstance(b, Constant) and b.array.size == 1 and shape == a.shape:
            return Real(a.activation, function(a.table, b.array.reshape(())))
        if isinstance(b, Real) and isinstance(a, Constant) and a.array.size == 1 and shape == b.shape:
            return Real(b.activation, function(a.array.reshape(()), b.table))
        both = [v for v in (a, b) if isinstance(v, Pending)]
        constant = [v for v in (a, b) if isinstance(v, Constant) and v.array.size == 1]
        if both and constant and both[0].apply is not None and shape == both[0].shape:
            number, first = constant[0].array.reshape(()), isinstance(a, Pending)
            return both[0].apply(lambda x: function(x, number) if first else function(number, x))
    attributes: dict[str, Any] = {"function": node.op}
    if node.op == "Mod":
        attributes["fmod"] = node.integer("fmod", 0)
        require(dtype in INTEGERS or attributes["fmod"] == 1, node, "floats need fmod=1")
    if node.op == "BitShift":
        attributes["function"] = "BitShift" + node.text("direction", "")
        require(attributes["function"] in ("BitShiftLEFT", "BitShiftRIGHT"), node, "its direction is unknown")
        require(dtype.startswith("u"), node, no(dtype))
    require(node.op != "Pow" or dtype not in ("float32", "float64"), node, "Pow of floats is not exact")
    return on_host(c, node, "onnx.binary", attributes, [a, b], dtype)


@handles("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def comparison(c: Converter, node: Node) -> Value:
    """A comparison, on the host."""
    values = [c.value(node, i) for i in (0, 1)]
    require(all(c.dtype(v) in (*NUMBERS, "bool") for v in values), node, no(c.dtype(values[0])))
    if all(isinstance(v, Constant) for v in values):
        arrays = [v.array for v in values if isinstance(v, Constant)]
        return Constant(np.asarray(BINARY[node.op](*arrays)))
    return on_host(c, node, "onnx.binary", {"function": node.op}, values, "bool")


@handles("Where")
def where(c: Converter, node: Node) -> Value:
    """A choice, on the host."""
    values = [c.value(node, i) for i in (0, 1, 2)]
    require(c.dtype(values[1]) in (*NUMBERS, "bool"), node, no(c.dtype(values[1])))
    return on_host(c, node, "onnx.where", {}, values, c.dtype(values[1]))


def min_max(
    c: Converter, node: Node, a: Activation, b: Activation, maximum: bool, dtype: str, q: Quantization | None
) -> Activation:
    """Elementwise minimum or maximum of held bytes."""
    a_tensor, b_tensor, y, tensor = operands(c, node, a, b, dtype, q)
    c.build.ops.append(MinMax(node.name, node.op, [a_tensor, b_tensor], [tensor], maximum))
    return y


def operands(
    c: Converter, node: Node, a: Activation, b: Activation, dtype: str, q: Quantization | None
) -> tuple[Tensor, Tensor, Activation, Tensor]:
    """Both operands in one physical order, and the result."""
    shape = broadcast(node, a.shape, b.shape)
    order = c.shared_order([a, b], len(shape))
    y, tensor = c.build.new(node, shape, dtype, order, q)
    return c.aligned(a, order), c.aligned(b, order), y, tensor


def pair(
    c: Converter, node: Node, a: Real, b: Real, shape: tuple[int, ...], function: Callable[[Array, Array], Array]
) -> Pending:
    """A function of two bytes that waits for its quantization."""
    with np.errstate(all="ignore"):
        plain = np.asarray(function(a.table[:, None], b.table), dtype=np.float32)
    return pending_pair(c, node, a, b, shape, plain, direct=True)


def pending_pair(
    c: Converter, node: Node, a: Real, b: Real, shape: tuple[int, ...], values: Float, direct: bool
) -> Pending:
    """`values` [256, 256] of bytes of a and b; `direct` while they are the node's own results."""

    def finish(target: Quantization, low: float, high: float) -> Activation:
        limited = np.clip(values, np.float32(low), np.float32(high))
        return quantized_pair(c, node, a, b, limited, target, low, high, direct)

    def as_float() -> Activation:
        y = on_host(c, node, "onnx.binary", {"function": node.op}, [a, b], "float32")
        assert isinstance(y, Activation)
        return y if direct else on_host_table(c, node, a, b, values)

    def apply(after: Callable[[Float], Float]) -> Pending:
        return pending_pair(c, node, a, b, shape, after(values), direct=False)

    return Pending(node, shape, finish, as_float, apply)


def on_host_table(c: Converter, node: Node, a: Real, b: Real, values: Array) -> Activation:
    """float32 or held bytes by a table of two bytes, on the host."""
    dtype = "float32" if values.dtype == np.float32 else "int8"
    a_tensor, b_tensor, y, tensor = operands(c, node, a.activation, b.activation, dtype, None)
    attributes = {"table": values}
    c.build.ops.append(Host(node.name, node.op, [a_tensor, b_tensor], [tensor], "onnx.pair", attributes))
    return y


def implied(target: Quantization, low: float, high: float) -> bool:
    """Whether the type's range implies the limits: ONNX Runtime then drops them (ReluQuantFusion, ClipQuantFusion)."""
    smallest, largest = target.dequantize(np.array(target.limits))
    return bool(low <= smallest and high >= largest)


def quantized_pair(
    c: Converter,
    node: Node,
    a: Real,
    b: Real,
    values: Float,
    target: Quantization,
    low: float,
    high: float,
    direct: bool,
) -> Activation:
    """A sum or product on the NPU where that gives the reference's bytes for all 65,536 pairs, else a host table."""
    exact = target.quantize(values).astype(np.int16) - target.offset
    qa, qb = a.quantization, b.quantization
    linear = direct and same_types(a, b, target) and node.op in ("Add", "Mul", "Sub")
    if linear and qa is not None and qb is not None:
        fused = node.op != "Sub" and implied(target, low, high)
        limits = c.bounds(target, low, high)
        y, exact_fused = linear_pair(c, node, node.op, a.activation, b.activation, (qa, qb, target), fused, limits)
        if y is not None:
            return y
        if fused:
            exact = exact_fused
    if node.op in ("Max", "Min") and direct:
        # quantization keeps the order, so each operand may be quantized first
        ends, kind, offset = (np.float32(low), np.float32(high)), target.dtype, np.int16(target.offset)
        parts = [
            c.table(node, r.activation, target.quantize(np.clip(r.table, *ends)) - offset, kind, target) for r in (a, b)
        ]
        return min_max(c, node, parts[0], parts[1], node.op == "Max", target.dtype, target)
    y = on_host_table(c, node, a, b, exact.astype(np.int8))
    return Activation(y.name, y.shape, target.dtype, y.tensors, quantization=target)


def same_types(a: Real, b: Real, target: Quantization) -> bool:
    """Both operands and the result have one type: ONNX Runtime fuses only those."""
    return a.activation.dtype == b.activation.dtype == target.dtype


def linear_pair(
    c: Converter,
    node: Node,
    kind: str,
    a: Activation,
    b: Activation,
    parameters: tuple[Quantization, Quantization, Quantization],
    fused: bool,
    limits: tuple[int, int],
) -> tuple[Activation | None, Array]:
    """Add, Sub or Mul as the NPU's operation, None where no parameters are exact; and the exact bytes [256, 256]."""
    if fused and runs_swapped(a.shape, b.shape):
        y, exact = linear_pair(c, node, kind, b, a, (parameters[1], parameters[0], parameters[2]), fused, limits)
        return y, exact.T
    qa, qb, qy = (affine.Affine(float(q.scale), q.held_zero_point) for q in parameters)
    target = parameters[2]
    unsigned = target.dtype == "uint8"
    low, high = limits
    found: elementwise.Addition | elementwise.Multiplication | None = None
    if kind == "Mul":
        values = affine.INT8.astype(np.int64)
        products = (values[:, None] - qa.zero_point) * (values - qb.zero_point)
        if fused:
            exact = elementwise.qlinear_mul(products, qa, qb, qy, unsigned=unsigned)
        else:
            first, second = (affine.dequantize(values, q) for q in (qa, qb))
            exact = affine.quantize(first[:, None] * second, qy).astype(np.int64)
    elif fused:
        exact = elementwise.qlinear_add(qa, qb, qy, unsigned=unsigned)
    else:
        exact = elementwise.float_sum(qa, qb, qy, subtract=kind == "Sub", unsigned=unsigned)
    exact = np.clip(exact, low, high)
    try:
        if kind == "Mul":
            found = elementwise.onnx_mul(qa, qb, qy, unsigned=unsigned, qmin=low, qmax=high)
        else:
            found = elementwise.onnx_add(
                qa, qb, qy, subtract=kind == "Sub", fused=fused, unsigned=unsigned, qmin=low, qmax=high
            )
    except ValueError:
        return None, exact
    every = affine.INT8
    if not np.array_equal(found(every[:, None], every), exact):
        return None, exact
    rq = Requantize(**dataclasses.asdict(found.requantization))
    a_tensor, b_tensor, y, tensor = operands(c, node, a, b, target.dtype, target)
    if isinstance(found, elementwise.Addition):
        c.build.ops.append(Add(node.name, node.op, [a_tensor, b_tensor], [tensor], found.table_a, found.table_b, rq))
    else:
        c.build.ops.append(Mul(node.name, node.op, [a_tensor, b_tensor], [tensor], found.zero_a, found.zero_b, rq))
    return y, exact


def runs_swapped(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether ONNX Runtime exchanges the operands: it does where the first one is a single value along a row."""
    rank = max(len(a), len(b))
    first, second = ((1,) * (rank - len(shape)) + shape for shape in (a, b))
    for i in reversed(range(rank)):
        if max(first[i], second[i]) > 1:
            return first[i] == 1
    return False


@handles("com.microsoft.QLinearAdd", "com.microsoft.QLinearMul")
def qlinear_binary(c: Converter, node: Node) -> Value:
    """QLinearAdd and QLinearMul."""
    a, b = c.byte(node, 0), c.byte(node, 3)
    qa = c.quantization(node, 1, 2, None, a.dtype)
    qb = c.quantization(node, 4, 5, None, b.dtype)
    qy = c.quantization(node, 6, 7, None, a.dtype)
    require(a.dtype == b.dtype == qy.dtype, node, "its operands and its result differ in type")
    kind = node.op.removeprefix("QLinear")
    limits = (-128, 127)
    y, exact = linear_pair(c, node, kind, a, b, (qa, qb, qy), True, limits)
    if y is not None:
        return y
    ra, rb = (Real(x, c.dequantized(q), q) for x, q in ((a, qa), (b, qb)))
    made = on_host_table(c, node, ra, rb, exact.astype(np.int8))
    return Activation(made.name, made.shape, qy.dtype, made.tensors, quantization=qy)
