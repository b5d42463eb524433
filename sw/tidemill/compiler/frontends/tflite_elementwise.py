"""TFLite operators on single elements: tables, sums, products, comparisons, and changes of quantization."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tidemill.compiler import ir
from tidemill.compiler.frontends.tflite_file import Node
from tidemill.compiler.frontends.tflite_graph import GraphBuilder, indices
from tidemill.golden import elementwise, tables
from tidemill.golden.affine import INT8, Affine, Int8, Requantization
from tidemill.golden.requant import quantize_multiplier

IDENTITY = quantize_multiplier(1.0)
"""Multiplier and shift that change nothing."""


def requantize_of(parameters: Requantization) -> ir.Requantize:
    """The golden model's parameters as the graph holds them."""
    return ir.Requantize(
        parameters.multiplier,
        parameters.shift,
        parameters.zero_point,
        parameters.qmin,
        parameters.qmax,
        parameters.mode,
        parameters.bias,
        parameters.preshift,
    )


def _apply(b: GraphBuilder, node: Node, x: ir.Tensor, y: ir.Tensor, table: Int8) -> None:
    """Emit the table, or a Move where it changes nothing."""
    if np.array_equal(table, INT8):
        b.move(node, [x], y, indices(x))
    else:
        b.emit(ir.Table(node.name, node.operator, [x], [y], table))


def unary(table: Callable[[GraphBuilder, Node, Affine, Affine], Int8]) -> Callable[[GraphBuilder, Node], None]:
    """The handler of a function of one element, given its table for the quantizations of input and output."""

    def handler(b: GraphBuilder, node: Node) -> None:
        x = b.value(node, 0)
        y = b.output(node, x.shape)
        _apply(b, node, x, y, table(b, node, b.input_quantization(node, 0), b.output_quantization(node)))

    return handler


def fixed_output(b: GraphBuilder, node: Node, wanted: Affine) -> None:
    """Refuse an output whose quantization is not the one that the operator always has."""
    actual = b.output_quantization(node)
    if actual != wanted:
        raise b.error(
            node,
            f"its output has scale {actual.scale:g} and zero point {actual.zero_point}; "
            f"expected {wanted.scale:g} and {wanted.zero_point}",
        )


def _relu6(b: GraphBuilder, node: Node, x: Affine, y: Affine) -> Int8:
    if x != y:
        raise b.error(node, "input and output must have the same scale and zero point")
    return tables.tflite_relu6(x)


def _leaky_relu(b: GraphBuilder, node: Node, x: Affine, y: Affine) -> Int8:
    alpha = float(b.option(node, "LeakyReluOptions", "Alpha"))
    if not np.isfinite(alpha):
        raise b.error(node, f"alpha is {alpha}")
    return tables.tflite_leaky_relu(x, y, alpha)


def _logistic(b: GraphBuilder, node: Node, x: Affine, y: Affine) -> Int8:
    fixed_output(b, node, Affine(1 / 256, -128))
    return tables.tflite_logistic(x)


def _tanh(b: GraphBuilder, node: Node, x: Affine, y: Affine) -> Int8:
    fixed_output(b, node, Affine(1 / 128, 0))
    return tables.tflite_tanh(x)


def quantize(b: GraphBuilder, node: Node) -> None:
    """QUANTIZE: int8 or uint8 to int8 or uint8 by table; from float32 on the host."""
    x = b.value(node, 0, ("int8", "uint8", "float32"))
    y = b.output(node, x.shape, types=("int8", "uint8"))
    to = b.output_quantization(node)
    if x.dtype == "float32":
        attributes = {"scale": to.scale, "zero_point": to.zero_point}
        b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.quantize", attributes))
    else:
        _apply(b, node, x, y, tables.tflite_quantize(b.input_quantization(node, 0), to))


def dequantize(b: GraphBuilder, node: Node) -> None:
    """DEQUANTIZE to float32, on the host."""
    x = b.value(node, 0, ("int8", "uint8"))
    y = b.output(node, x.shape, types=("float32",))
    scale, zero_point = b.input_quantization(node, 0)
    attributes = {"scale": scale, "zero_point": zero_point}
    b.emit(ir.Host(node.name, node.operator, [x], [y], "tflite.dequantize", attributes))


def operands(
    b: GraphBuilder, node: Node, types: Sequence[str] = ("int8",), results: Sequence[str] = ("int8",)
) -> tuple[ir.Tensor, ir.Tensor, ir.Tensor]:
    """Both inputs (one of `types`) and the output (one of `results`) of an operator that broadcasts."""
    first, second = b.value(node, 0, types), b.value(node, 1, types)
    try:
        shape = np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise b.error(node, f"inputs {list(first.shape)} and {list(second.shape)} do not broadcast") from None
    return first, second, b.output(node, shape, types=results)


def _quantizations(b: GraphBuilder, node: Node) -> tuple[Affine, Affine, Affine]:
    return b.input_quantization(node, 0), b.input_quantization(node, 1), b.output_quantization(node)


def add(b: GraphBuilder, node: Node) -> None:
    """ADD and SUB."""
    first, second, y = operands(b, node)
    compute = elementwise.tflite_add if node.operator == "ADD" else elementwise.tflite_sub
    qmin, qmax = b.activation(node, "AddOptions" if node.operator == "ADD" else "SubOptions")
    sums = compute(*_quantizations(b, node), qmin=qmin, qmax=qmax)
    rq = requantize_of(sums.requantization)
    b.emit(ir.Add(node.name, node.operator, [first, second], [y], sums.table_a, sums.table_b, rq))


def mul(b: GraphBuilder, node: Node) -> None:
    """MUL."""
    first, second, y = operands(b, node)
    qmin, qmax = b.activation(node, "MulOptions")
    product = elementwise.tflite_mul(*_quantizations(b, node), qmin=qmin, qmax=qmax)
    rq = requantize_of(product.requantization)
    b.emit(ir.Mul(node.name, node.operator, [first, second], [y], product.zero_a, product.zero_b, rq))


def div(b: GraphBuilder, node: Node) -> None:
    """DIV, on the host; by table where one operand is one number."""
    first, second, y = operands(b, node)
    qa, qb, qy = _quantizations(b, node)
    qmin, qmax = b.activation(node, "DivOptions")
    if second.data is not None and np.any(second.data == qb.zero_point):
        raise b.error(node, f"divides by {second.name!r}, which has zeros")
    for x, other in ((first, second), (second, first)):
        if other.data is not None and np.all(other.data == other.data.flat[0]) and x.shape == y.shape:
            number = other.data.flat[:1]
            numerator, divisor = (INT8, number) if x is first else (number, INT8)
            _apply(b, node, x, y, elementwise.tflite_div(numerator, divisor, qa, qb, qy, qmin=qmin, qmax=qmax))
            return
    attributes = {"a": list(qa), "b": list(qb), "y": list(qy), "qmin": qmin, "qmax": qmax}
    b.emit(ir.Host(node.name, node.operator, [first, second], [y], "tflite.div", attributes))


def add_n(b: GraphBuilder, node: Node) -> None:
    """ADD_N of tensors with one scale and zero point: two as a sum, more on the host."""
    inputs = [b.value(node, i) for i in range(len(node.inputs))]
    if len(inputs) < 2 or len({x.shape for x in inputs}) != 1:
        raise b.error(node, f"adds {inputs}; expected two or more of one shape")
    y = b.output(node, inputs[0].shape)
    before, after = b.input_quantization(node, 0), b.output_quantization(node)
    if any(b.input_quantization(node, i) != before for i in range(len(inputs))):
        raise b.error(node, "its inputs must have the same scale and zero point")
    if len(inputs) == 2:
        sums = elementwise.tflite_add_two(before, after)
        rq = requantize_of(sums.requantization)
        b.emit(ir.Add(node.name, node.operator, inputs, [y], sums.table_a, sums.table_b, rq))
        return
    attributes = {"x": list(before), "y": list(after)}
    b.emit(ir.Host(node.name, node.operator, inputs, [y], "tflite.add_n", attributes))


def squared_difference(b: GraphBuilder, node: Node) -> None:
    """SQUARED_DIFFERENCE, on the host."""
    first, second, y = operands(b, node)
    attributes = {
        name: list(values) for name, values in zip(("a", "b", "y"), _quantizations(b, node), strict=True)
    }  # fmt: skip
    b.emit(ir.Host(node.name, node.operator, [first, second], [y], "tflite.squared_difference", attributes))


def min_max(b: GraphBuilder, node: Node) -> None:
    """MINIMUM and MAXIMUM of the integers: one scale and zero point for all."""
    first, second, y = operands(b, node)
    if len(set(_quantizations(b, node))) != 1:
        raise b.error(node, "inputs and output must have the same scale and zero point")
    b.emit(ir.MinMax(node.name, node.operator, [first, second], [y], node.operator == "MAXIMUM"))


def prelu(b: GraphBuilder, node: Node) -> None:
    """PRELU with constant alphas: a table where they are all alike.

    Elsewhere y = positive[x] + (negative part of x) * alpha, each with its own requantization; one of the two is the
    output's zero point, so that the sum of both less the zero point is exact.
    """
    x, alphas = b.value(node, 0), b.constant(node, 1, ("int8",))
    y = b.output(node, x.shape)
    qx, qa, qy = _quantizations(b, node)
    if np.broadcast_shapes(x.shape, alphas.shape) != x.shape:
        raise b.error(node, f"alpha {list(alphas.shape)} does not broadcast to {list(x.shape)}")
    if np.all(alphas == alphas.flat[0]):
        _apply(b, node, x, y, tables.tflite_prelu(qx, qy, qa, int(alphas.flat[0])))
        return
    positive = np.where(qx.zero_point <= INT8, tables.tflite_prelu(qx, qy, qa, 0), qy.zero_point).astype(np.int8)
    below = b.temporary(node, "below", x.shape, x)
    scaled, above = (b.temporary(node, suffix, x.shape, y) for suffix in ("negative", "positive"))
    _apply(b, node, x, below, np.minimum(INT8, np.int8(qx.zero_point)))
    real = float(np.float32(qx.scale)) * float(np.float32(qa.scale)) / float(np.float32(qy.scale))
    rq = ir.Requantize(*quantize_multiplier(real), qy.zero_point)
    alpha = b.tensor(node, b.file_tensor(node, 1))
    b.emit(ir.Mul(node.name, node.operator, [below, alpha], [scaled], qx.zero_point, qa.zero_point, rq))
    b.emit(ir.Table(node.name, node.operator, [x], [above], positive))
    numbers = INT8.astype(np.int32)
    both = ir.Requantize(*IDENTITY)
    b.emit(ir.Add(node.name, node.operator, [above, scaled], [y], numbers - qy.zero_point, numbers, both))


HANDLERS = {
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
    "ADD": add,
    "SUB": add,
    "MUL": mul,
    "DIV": div,
    "ADD_N": add_n,
    "SQUARED_DIFFERENCE": squared_difference,
    "MINIMUM": min_max,
    "MAXIMUM": min_max,
    "PRELU": prelu,
    "RELU": unary(lambda b, node, x, y: tables.tflite_relu(x, y)),
    "RELU6": unary(_relu6),
    "LEAKY_RELU": unary(_leaky_relu),
    "ABS": unary(lambda b, node, x, y: tables.tflite_abs(x, y)),
    "RSQRT": unary(lambda b, node, x, y: tables.tflite_rsqrt(x, y)),
    "ELU": unary(lambda b, node, x, y: tables.tflite_elu(x, y)),
    "HARD_SWISH": unary(lambda b, node, x, y: tables.tflite_hard_swish(x, y)),
    "LOGISTIC": unary(_logistic),
    "TANH": unary(_tanh),
}
"""By operator name."""
