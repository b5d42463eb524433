"""ONNX's backend interface: `onnx.backend.base.Backend` over the compiler.

The parameters of a network (weights, scales, zero points, shapes, axes) are fixed when it is compiled. Where a model
takes them as inputs, as the operator tests of ONNX do, the first run binds them, and a run with other values compiles
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
from numpy.typing import NDArray
from onnx.backend.base import Backend, BackendRep

from tidemill.compiler.frontends.onnx import load_onnx
from tidemill.config import DEFAULT_PRESET
from tidemill.model import Model, compile

Array = NDArray[Any]

PARAMETERS: dict[str, tuple[int, ...]] = {
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (1, 2, 3),
    "MatMulInteger": (2, 3),
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "QGemm": (1, 2, 3, 4, 5, 6, 7, 8),
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7),
    "QLinearSigmoid": (1, 2, 3, 4),
    "QLinearLeakyRelu": (1, 2, 3, 4),
    "QLinearAveragePool": (1, 2, 3, 4),
    "QLinearGlobalAveragePool": (1, 2, 3, 4),
    "QLinearSoftmax": (1, 2, 3, 4),
    "Clip": (1, 2),
    "PRelu": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "Gather": (1,),
    "Pad": (1, 2, 3),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
}
"""Inputs that are parameters, by operator."""


def parameter_inputs(graph: onnx.GraphProto) -> set[str]:
    """The graph's inputs that are parameters of its nodes."""
    names = {info.name for info in graph.input} - {tensor.name for tensor in graph.initializer}
    return {
        node.input[index]
        for node in graph.node
        for index in PARAMETERS.get(node.op_type, ())
        if index < len(node.input) and node.input[index] in names
    }


class TidemillRep(BackendRep):
    """A prepared model for the configuration `preset`, run on the device called `npu`."""

    def __init__(self, model: onnx.ModelProto, preset: str = DEFAULT_PRESET, npu: str = "iss") -> None:
        self.model = model
        self.preset, self.npu = preset, npu
        self.parameters = parameter_inputs(model.graph)
        self.compiled: dict[tuple[bytes, ...], Model] = {}
        if not self.parameters:
            self.bind({})

    def bind(self, parameters: Mapping[str, Array]) -> Model:
        """The compiled model with these parameters. Raises ModelError."""
        key = tuple(parameters[name].tobytes() for name in sorted(parameters))
        if key not in self.compiled:
            bound = onnx.ModelProto()
            bound.CopyFrom(self.model)
            kept = [info for info in bound.graph.input if info.name not in parameters]
            del bound.graph.input[:]
            bound.graph.input.extend(kept)
            bound.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in parameters.items())
            graph = load_onnx(bound.SerializeToString(), self.model.graph.name or "model")
            self.compiled[key] = compile(graph, preset=self.preset, device=self.npu)
        return self.compiled[key]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """Outputs for inputs given by name, in the model's order, or as the only one."""
        names = [info.name for info in self.model.graph.input]
        initialized = {tensor.name for tensor in self.model.graph.initializer}
        names = [name for name in names if name not in initialized]
        if isinstance(inputs, Mapping):
            arrays = {name: np.asarray(array) for name, array in inputs.items()}
        else:
            given = inputs if isinstance(inputs, (list, tuple)) else [inputs]
            if len(given) != len(names):
                raise ValueError(f"the model takes {len(names)} inputs, not {len(given)}")
            arrays = {name: np.asarray(array) for name, array in zip(names, given, strict=True)}
        with self.bind({name: arrays[name] for name in sorted(self.parameters) if name in arrays}) as model:
            outputs = model.run({name: array for name, array in arrays.items() if name not in self.parameters}).outputs
        return tuple(outputs[border.name] for border in model.outputs)


class TidemillBackend(Backend):
    """The compiler as an ONNX backend."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> TidemillRep:
        """Compile a model; `preset` and `npu` (the device, "iss" or "rtl") are keywords. Raises ModelError for one that
        is not supported."""
        if not cls.supports_device(device):
            raise ValueError(f"device must be CPU, not {device!r}")
        return TidemillRep(model, **kwargs)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Array, ...]:
        """Compile and run once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Array, ...]:
        """Run one node on arrays; `outputs_info` are (dtype, shape) of its outputs, inferred where it is left out."""
        arrays = [np.asarray(array) for array in inputs]
        names = list(dict.fromkeys(name for name in node.input if name))
        infos = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip(names, arrays, strict=True)
        ]
        outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
        if outputs_info is not None:
            outputs = [
                onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
                for name, (dtype, shape) in zip(node.output, outputs_info, strict=True)
            ]
        graph = onnx.helper.make_graph([node], node.op_type, infos, outputs)
        opset = onnx.helper.make_opsetid(node.domain, kwargs.get("opset_version", 21) if not node.domain else 1)
        opsets = [opset] if not node.domain else [opset, onnx.helper.make_opsetid("", 21)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return cls.run_model(onnx.shape_inference.infer_shapes(model), arrays, device)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """CPU only: the network's host parts and the simulated NPU are there."""
        return device.partition(":")[0] == "CPU"
