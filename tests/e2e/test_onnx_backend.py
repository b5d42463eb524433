"""ONNX's backend node tests: the quantized group and the cases of integers and movements.

All others: python -m tidemill_verif.onnx_node_tests.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tidemill.onnx_backend import TidemillBackend
from tidemill_verif.onnx_node_tests import OPERATORS, QUANTIZED, run, summary

FAST = "qlinear|integer|quantizelinear|_u?int8$|^test_(concat|reshape|transpose|slice|split|squeeze|gather|pad)"


def test_node_tests_pass_or_are_refused_with_a_reason() -> None:
    results = run(FAST)
    assert {result.operator for result in results} <= OPERATORS
    failed = [f"{result.name}: {result.why}" for result in results if result.outcome == "failed"]
    assert failed == []
    quantized = [result for result in results if result.operator in QUANTIZED]
    assert summary(quantized)["passed"] >= 21
    assert summary(results)["passed"] >= 103
    assert all(result.why for result in results if result.outcome != "passed")


@pytest.mark.parametrize(
    "name",
    ["qlinearconv", "qlinearmatmul_3D_int8_float32", "convinteger_without_padding", "max_int8"],
)
def test_cases_that_must_pass(name: str) -> None:
    (result,) = run(f"^test_{name}$")
    assert result.outcome == "passed", result.why


def test_backend_runs_single_nodes() -> None:
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    a, b = np.array([[1, 255]], dtype=np.uint8), np.array([[3], [2]], dtype=np.uint8)
    (y,) = TidemillBackend.run_node(node, [a, b])
    assert np.array_equal(y, [[513]])
    assert y.dtype == np.int32


def test_backend_binds_parameters_again_when_they_change() -> None:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
    s = helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, [2])
    graph = helper.make_graph([helper.make_node("QuantizeLinear", ["x", "s"], ["y"])], "g", [x, s], [y])
    prepared = TidemillBackend.prepare(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )
    values = np.array([2, 4], dtype=np.float32)
    assert np.array_equal(prepared.run([values, np.float32(1)])[0], [2, 4])
    assert np.array_equal(prepared.run({"x": values, "s": np.float32(2)})[0], [1, 2])
    with pytest.raises(ValueError, match="takes 2 inputs, not 1"):
        prepared.run([values])
    assert not TidemillBackend.supports_device("CUDA")
