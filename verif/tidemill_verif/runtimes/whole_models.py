"""Whole models as references: TensorFlow Lite Micro and ONNX Runtime, with the tensors between the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from tflite_micro.python.tflite_micro import runtime
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

Array = NDArray[Any]

_QUANTIZED = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32)
_BYTES = {
    schema.TensorType.INT16: 2,
    schema.TensorType.INT32: 4,
    schema.TensorType.FLOAT32: 4,
    schema.TensorType.INT64: 8,
    schema.TensorType.UINT64: 8,
    schema.TensorType.UINT32: 4,
}


class TfliteModel:
    """A TFLite model in TensorFlow Lite Micro, which keeps the state of streaming models from one call to the next.

    Variables start with what the subgraph of CALL_ONCE assigns at the first call; a variable that nothing assigns
    starts with its zero point in every byte (measured; MicroResourceVariables::Allocate). Interpreter.reset() is not
    used: it sets every variable to its zero point and does not run CALL_ONCE again (measured).
    """

    def __init__(self, model: str | Path | bytes, *, preserve_all: bool = True) -> None:
        """`model`: a file or its bytes. `preserve_all`: make every computed tensor readable."""
        self._data = model if isinstance(model, bytes) else Path(model).read_bytes()
        parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(self._data, 0))
        graph = parsed.subgraphs[0]
        self.inputs = [int(index) for index in graph.inputs]
        """Tensor indices of the inputs."""
        self.outputs = [int(index) for index in graph.outputs]
        """Tensor indices of the outputs."""
        self.names = {index: tensor.name.decode() for index, tensor in enumerate(graph.tensors) if tensor.name}
        """Names of the tensors; a file may repeat a name or leave it out."""
        self.shapes = [tuple(int(size) for size in graph.tensors[index].shape) for index in self.inputs]
        """Shapes of the inputs."""
        computed = {int(index) for node in graph.operators for index in node.outputs} if preserve_all else set()
        self._computed = sorted(i for i in computed if graph.tensors[i].type != schema.TensorType.RESOURCE)
        self._preserve_all = preserve_all
        elements = sum(
            int(np.prod(tensor.shape)) * _BYTES.get(tensor.type, 1)
            for subgraph in parsed.subgraphs
            for tensor in subgraph.tensors
            if tensor.shape is not None
        )
        self._arena = 4 * elements + 512 * sum(len(subgraph.tensors) for subgraph in parsed.subgraphs) + (1 << 18)
        self.reset()
        self.dtypes = [np.dtype(self._interpreter.get_input_details(i)["dtype"]) for i in range(len(self.inputs))]
        """Types of the inputs."""

    def reset(self) -> None:
        """Back to the state before the first call."""
        config = runtime.InterpreterConfig
        self._interpreter = runtime.Interpreter.from_bytes(
            self._data,
            arena_size=self._arena,
            intrepreter_config=config.kPreserveAllTensors if self._preserve_all else config.kAllocationRecording,
        )

    def __call__(self, *values: Array) -> dict[int, Array]:
        """One inference on the inputs in the file's order: {tensor index in subgraph 0: value}.

        Has all outputs and, with `preserve_all`, every tensor that a node computes, except resource handles.
        """
        for position, (value, shape) in enumerate(zip(values, self.shapes, strict=True)):
            if value.shape != shape:
                raise ValueError(f"input {position} has shape {list(value.shape)}, not {list(shape)}")
            self._interpreter.set_input(np.ascontiguousarray(value), position)
        self._interpreter.invoke()
        result = {index: np.array(self._interpreter.GetTensor(index, 0)["tensor_data"]) for index in self._computed}
        for position, index in enumerate(self.outputs):
            result[index] = np.array(self._interpreter.get_output(position))
        return result


def run_tflite(
    model: str | Path | bytes, inputs: Sequence[Array | Sequence[Array]], *, preserve_all: bool = True
) -> list[dict[int, Array]]:
    """Run the model on each of `inputs`, an array or one array for each input, in order and with state kept.

    The results are those of TfliteModel.__call__.
    """
    loaded = TfliteModel(model, preserve_all=preserve_all)
    return [loaded(value) if isinstance(value, np.ndarray) else loaded(*value) for value in inputs]


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _with_integer_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model whose int8, uint8 and int32 tensors are all outputs."""
    copy = onnx.shape_inference.infer_shapes(model)
    known = {value.name: value for value in copy.graph.value_info}
    present = {value.name for value in copy.graph.output}
    for name in (name for node in copy.graph.node for name in node.output):
        if name in known and name not in present and known[name].type.tensor_type.elem_type in _QUANTIZED:
            copy.graph.output.append(known[name])
    return copy


def run_onnx(
    model: str | Path | bytes | onnx.ModelProto, inputs: Sequence[Mapping[str, Array]], *, intermediates: bool = True
) -> list[dict[str, Array]]:
    """Run an ONNX model on the CPU, optimized as by default and with int8 QDQ models allowed: {tensor name: value}.

    `intermediates` adds the integer tensors between nodes: they are where fused groups of nodes meet, so making them
    outputs leaves the arithmetic alone. This is checked: RuntimeError, which names the tensor, where an output of the
    model changes. Float tensors inside a group are not exposed.
    """
    if isinstance(model, (str, Path)):
        model = onnx.load(str(model))
    elif isinstance(model, bytes):
        model = onnx.load_from_string(model)
    plain = _session(model)
    names = [value.name for value in plain.get_outputs()]
    feeds = [dict(value) for value in inputs]
    results = [dict(zip(names, map(np.asarray, plain.run(names, feed)), strict=True)) for feed in feeds]
    if not intermediates:
        return results
    exposed = _session(_with_integer_outputs(model))
    all_names = [value.name for value in exposed.get_outputs()]
    full = [dict(zip(all_names, map(np.asarray, exposed.run(all_names, feed)), strict=True)) for feed in feeds]
    for before, after in zip(results, full, strict=True):
        for name in names:
            if not np.array_equal(before[name], after[name], equal_nan=before[name].dtype.kind == "f"):
                raise RuntimeError(f"output {name!r} changes when the tensors between nodes are read")
    return full
