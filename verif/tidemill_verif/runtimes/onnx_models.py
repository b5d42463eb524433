"""Tiny ONNX models of one quantized operator, run by ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"


def run(
    operator: str, inputs: list[str], constants: dict[str, Any], feeds: dict[str, NDArray[np.int8]], **attributes: Any
) -> NDArray[np.int8]:
    """Run one node whose `inputs` are names of `constants` or `feeds` ("" leaves one out); the result is int8.

    Operators that the ONNX standard does not have are taken from com.microsoft.
    """
    domain = "" if operator in ("QLinearConv", "QLinearMatMul") else MICROSOFT
    node = helper.make_node(operator, inputs, ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        operator,
        [helper.make_tensor_value_info(name, TensorProto.INT8, value.shape) for name, value in feeds.items()],
        [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(["y"], feeds)
    return np.asarray(result)
