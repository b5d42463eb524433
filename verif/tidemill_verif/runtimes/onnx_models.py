"""Tiny ONNX models of one quantized operator, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"


def run(
    operator: str, inputs: list[str], constants: dict[str, Any], feeds: dict[str, NDArray[Any]], **attributes: Any
) -> NDArray[Any]:
    """Run one node whose `inputs` are names of `constants` or `feeds` ("" leaves one out); the result is 8 bits wide.

    Operators that the ONNX standard does not have are taken from com.microsoft.
    """
    domain = "" if operator in ("QLinearConv", "QLinearMatMul") else MICROSOFT
    return run_nodes([helper.make_node(operator, inputs, ["y"], domain=domain, **attributes)], constants, feeds)


def run_float(
    operator: str,
    constants: dict[str, Any],
    feeds: dict[str, NDArray[Any]],
    *,
    optimize: bool = True,
    others: Sequence[str] = (),
    **attributes: Any,
) -> NDArray[Any]:
    """Run DequantizeLinear of every feed, `operator` in float32, QuantizeLinear.

    Feed `a` has the constants `a_scale` and `a_zero`, the result `y_scale` and `y_zero`; `others` are further constant
    inputs of the operator. Without `optimize` no node is fused with another.
    """
    nodes = [helper.make_node("DequantizeLinear", [n, f"{n}_scale", f"{n}_zero"], [f"{n}_real"]) for n in feeds]
    nodes.append(helper.make_node(operator, [*(f"{n}_real" for n in feeds), *others], ["y_real"], **attributes))
    nodes.append(helper.make_node("QuantizeLinear", ["y_real", "y_scale", "y_zero"], ["y"]))
    return run_nodes(nodes, constants, feeds, optimize=optimize)


def run_nodes(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], feeds: dict[str, NDArray[Any]], *, optimize: bool = True
) -> NDArray[Any]:
    """Run a graph with the output `y`, of the type of the first feed, on the CPU."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
    first = next(iter(kinds.values()))
    graph = helper.make_graph(
        nodes,
        "one operator",
        [helper.make_tensor_value_info(name, kinds[name], value.shape) for name, value in feeds.items()],
        [helper.make_tensor_value_info("y", first, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(["y"], feeds)
    return np.asarray(result)
