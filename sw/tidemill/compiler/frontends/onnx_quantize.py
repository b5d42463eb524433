"""QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear and Cast of ONNX models."""

from __future__ import annotations

import math

import numpy as np

from tidemill.compiler.frontends.onnx_convert import Converter, handles
from tidemill.compiler.frontends.onnx_model import DTYPES, Node
from tidemill.compiler.frontends.onnx_values import (
    BYTES,
    Activation,
    Constant,
    Pending,
    Quantization,
    Real,
    Value,
    require,
)
from tidemill.compiler.ir import Host


def output_type(node: Node) -> str:
    """Type of a QuantizeLinear without a zero point."""
    number = node.integer("output_dtype", 0)
    require(number == 0 or number in DTYPES, node, f"output_dtype {number} is not supported")
    return DTYPES[number] if number else "uint8"


def byte_axis(node: Node, rank: int) -> int:
    """Attribute `axis`, counted from the front; refuses blocked quantization."""
    require(not node.integer("block_size", 0), node, "blocked quantization is not supported")
    axis = node.integer("axis", 1)
    return axis + rank if axis < 0 else axis


@handles("QuantizeLinear", "com.microsoft.QuantizeLinear")
def quantize_linear(c: Converter, node: Node) -> Value:
    """QuantizeLinear: ends what a float operation began, or a table, or the host's for float32 tensors."""
    x = c.value(node, 0)
    computed = computed_parameters(c, node)
    if computed:
        dtype = c.dtype(computed[1]) if len(computed) > 1 else output_type(node)
        require(dtype in BYTES and c.dtype(x) == "float32", node, f"{c.dtype(x)} to {dtype} is not supported")
        inputs = [c.activation(node, value) for value in (x, *computed)]
        return c.host(node, "onnx.quantize_computed", {"dtype": dtype}, inputs, dtype, x.shape)
    q = c.quantization(node, 1, 2, byte_axis(node, len(x.shape)), output_type(node))
    require(c.dtype(x) == "float32", node, f"its input must be float32, not {c.dtype(x)}")
    if q.axis is not None:
        fits = q.axis < len(x.shape) and x.shape[q.axis] == q.scale.size
        require(fits, node, f"{q.scale.size} scales do not fit axis {q.axis} of {list(x.shape)}")
    if isinstance(x, Constant):
        return Constant(q.quantize(x.array))
    if q.axis is None and q.dtype in BYTES:
        if isinstance(x, Pending):
            return x.quantized(q)
        if isinstance(x, Real):
            return c.table(node, x.activation, q.quantize(x.table).astype(np.int16) - q.offset, q.dtype, q)
    return quantize_on_host(c, node, c.activation(node, x), q)


def quantize_on_host(c: Converter, node: Node, x: Activation, q: Quantization) -> Activation:
    """float32 to held values."""
    attributes = {"scale": q.scale, "zero_point": q.zero_point, "dtype": q.dtype}
    if q.axis is None:
        return c.host(node, "onnx.quantize", attributes, [x], q.dtype, quantization=q)
    attributes["axis"] = q.axis
    c.build.tensor(x)
    y, tensor = c.build.new(node, x.shape, q.dtype, None, q)
    c.build.ops.append(Host(node.name, node.op, [c.build.tensor(x)], [tensor], "onnx.quantize", attributes))
    return y


def computed_parameters(c: Converter, node: Node) -> list[Value]:
    """Scale and zero point where one of them is no constant: they must be scalars. Else nothing."""
    parameters = [value for value in (c.optional(node, 1), c.optional(node, 2)) if value is not None]
    if all(isinstance(value, Constant) for value in parameters):
        return []
    require(all(math.prod(value.shape) == 1 for value in parameters), node, "computed scales must be scalars")
    return parameters


@handles("DequantizeLinear", "com.microsoft.DequantizeLinear")
def dequantize_linear(c: Converter, node: Node) -> Value:
    """DequantizeLinear: nothing is computed until something needs the float32 values."""
    x = c.value(node, 0)
    computed = computed_parameters(c, node)
    if computed:
        require(c.dtype(x) in BYTES, node, f"{c.dtype(x)} data with a computed scale is not supported")
        inputs = [c.activation(node, value) for value in (x, *computed)]
        return c.host(node, "onnx.dequantize_computed", {"dtype": c.dtype(x)}, inputs, "float32", x.shape)
    q = c.quantization(node, 1, 2, byte_axis(node, len(x.shape)), c.dtype(x))
    require(q.dtype == c.dtype(x), node, f"its zero point is {q.dtype}, its input {c.dtype(x)}")
    if q.axis is not None:
        fits = q.axis < len(x.shape) and x.shape[q.axis] == q.scale.size
        require(fits, node, f"{q.scale.size} scales do not fit axis {q.axis} of {list(x.shape)}")
    if isinstance(x, Constant):
        return Constant(q.dequantize(x.array), x.array, q)
    activation = c.activation(node, x)
    if q.axis is None and q.dtype in BYTES:
        if activation.quantization is None:
            activation.quantization = q
        return Real(activation, c.dequantized(q), q)
    attributes = {"scale": q.scale, "zero_point": q.zero_point, "dtype": q.dtype}
    if q.axis is None:
        return c.host(node, "onnx.dequantize", attributes, [activation], "float32")
    y, tensor = c.build.new(node, x.shape, "float32")
    attributes["axis"] = q.axis
    sources = [c.build.tensor(activation)]
    c.build.ops.append(Host(node.name, node.op, sources, [tensor], "onnx.dequantize", attributes))
    return y


@handles("DynamicQuantizeLinear")
def dynamic_quantize_linear(c: Converter, node: Node) -> list[Value]:
    """DynamicQuantizeLinear, on the host: values, scale and zero point."""
    x = c.activation(node, c.value(node, 0))
    require(x.dtype == "float32", node, f"its input must be float32, not {x.dtype}")
    order = x.order
    y, values = c.build.new(node, x.shape, "uint8", order)
    scale, scale_tensor = c.build.new(node, (), "float32", output=1)
    zero, zero_tensor = c.build.new(node, (), "uint8", output=2)
    outputs = [values, scale_tensor, zero_tensor]
    source = [c.build.tensor(x, order)]
    c.build.ops.append(Host(node.name, node.op, source, outputs, "onnx.dynamic_quantize", {}))
    return [y, scale, zero]


@handles("Cast")
def cast(c: Converter, node: Node) -> Value:
    """Cast between numbers; on the host unless nothing changes."""
    number = node.integer("to", 0)
    require(number in DTYPES, node, f"element type {number} is not supported")
    dtype = DTYPES[number]
    x = c.value(node, 0)
    if c.dtype(x) == dtype:
        return x
    activation = c.activation(node, x)
    exact = {"float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool"}
    require({dtype, activation.dtype} <= exact, node, f"{activation.dtype} to {dtype} is not supported")
    return c.host(node, "onnx.cast", {"source": activation.dtype, "dtype": dtype}, [activation], dtype)
