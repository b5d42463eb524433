"""Networks that onnxruntime quantized, in all forms: the graph's meaning equals onnxruntime's results exactly."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from tidemill.compiler import reference
from tidemill.compiler.frontends.onnx import inspect_onnx, load_onnx
from tidemill.compiler.ir import Conv2D, Host, Move
from tidemill_verif.onnx_networks import images, quantized, residual_network
from tidemill_verif.onnx_random import run_onnxruntime

FORMS = list(itertools.product(["QDQ", "QOperator"], ["QInt8", "QUInt8"], [False, True]))


@pytest.mark.parametrize("pooling", ["GlobalAveragePool", "MaxPool", "AveragePool"])
@pytest.mark.parametrize(("form", "activations", "per_channel"), FORMS)
def test_network_equals_onnxruntime(
    form: str, activations: str, per_channel: bool, pooling: str, tmp_path: Path
) -> None:
    data = quantized(residual_network(3, pooling), tmp_path, form, activations, per_channel, 4)
    graph = load_onnx(data, "network")
    for image in images(5, 6):
        (expected,) = run_onnxruntime(data, {"x": image})
        assert np.array_equal(reference.evaluate(graph, {"x": image}).outputs["y"], expected)


def test_network_moves_nothing_but_what_the_layers_need(tmp_path: Path) -> None:
    graph = load_onnx(quantized(residual_network(3), tmp_path, "QDQ", "QInt8", True, 4), "network")
    assert [op.function for op in graph.ops if isinstance(op, Host)] == ["onnx.quantize", "onnx.lookup"]
    moves = [op.source for op in graph.ops if isinstance(op, Move) and not op.is_reshape]
    assert moves == ["Concat"]
    assert sum(isinstance(op, Conv2D) for op in graph.ops) == 4


def test_report_names_the_place_of_every_node(tmp_path: Path) -> None:
    data = quantized(residual_network(3), tmp_path, "QDQ", "QUInt8", False, 4)
    reports = inspect_onnx(data, "network")
    assert [report.index for report in reports] == list(range(len(reports)))
    places = {report.name: report.where for report in reports}
    assert places["c1_node"] == places["sum_node"] == places["y_node"] == "npu"
    assert {report.where for report in reports} == {"npu", "border", "constant"}
    borders = [report.op for report in reports if report.where == "border"]
    assert sorted(borders) == ["DequantizeLinear", "QuantizeLinear"]
