"""Tiny TFLite models of one operator, built with the schema that tflite-micro carries, and run by tflite-micro."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray
from tflite_micro.python.tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

_TYPES = {
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.bool_): schema.TensorType.BOOL,
    np.dtype(np.float32): schema.TensorType.FLOAT32,
}


@dataclass(frozen=True)
class Tensor:
    """A quantized tensor; `data` is its content where it is a constant. `scales` has one entry, or one per index of
    `axis`. A `variable` is the memory of an operator."""

    shape: tuple[int, ...]
    scales: Sequence[float]
    zero_point: int = 0
    dtype: type = np.int8
    data: NDArray[Any] | None = None
    axis: int = 0
    variable: bool = False


def build(operator: str, options: object | None, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bytes:
    """A model file of one builtin operator; inputs without data are the model's inputs, in their order."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = []
    for number, tensor in enumerate((*inputs, *outputs)):
        entry = schema.TensorT()
        entry.name = f"t{number}"
        entry.shape = list(tensor.shape)
        entry.type = _TYPES[np.dtype(tensor.dtype)]
        entry.buffer = 0
        entry.isVariable = tensor.variable
        if tensor.data is not None:
            if tensor.data.dtype != tensor.dtype or tensor.data.shape != tensor.shape:
                raise ValueError(f"tensor {number}: data {tensor.data.dtype} {tensor.data.shape} is not {tensor}")
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(tensor.data.tobytes(), dtype=np.uint8)
            entry.buffer = len(model.buffers)
            model.buffers.append(buffer)
        if len(tensor.scales) == 0:
            graph.tensors.append(entry)
            continue
        entry.quantization = schema.QuantizationParametersT()
        entry.quantization.scale = np.asarray(tensor.scales, dtype=np.float32)
        entry.quantization.zeroPoint = np.full(len(tensor.scales), tensor.zero_point, dtype=np.int64)
        entry.quantization.quantizedDimension = tensor.axis
        graph.tensors.append(entry)
    fed = [number for number, tensor in enumerate(inputs) if tensor.data is None and not tensor.variable]
    node = schema.OperatorT()
    node.opcodeIndex = 0
    node.inputs = list(range(len(inputs)))
    node.outputs = [len(inputs) + number for number in range(len(outputs))]
    if options is not None:
        node.builtinOptions = options
        node.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    graph.operators = [node]
    graph.inputs, graph.outputs = fed, node.outputs
    model.subgraphs = [graph]
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 3 if operator in ("CONV_2D", "DEPTHWISE_CONV_2D") else 4 if operator == "FULLY_CONNECTED" else 2
    model.operatorCodes = [code]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(
    operator: str, options: object, inputs: Sequence[Tensor], output: Tensor, *values: NDArray[np.int8]
) -> NDArray[np.int8]:
    """Run one builtin operator: `values` feed the inputs without data, in their order; the result is the output."""
    content = build(operator, options, inputs, [output])
    elements = sum(int(np.prod(tensor.shape)) for tensor in (*inputs, output))
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=16 * elements + (1 << 16))
    for index, value in enumerate(values):
        interpreter.set_input(np.ascontiguousarray(value), index)
    interpreter.invoke()
    return interpreter.get_output(0)
