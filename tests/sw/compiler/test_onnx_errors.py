"""ONNX files that cannot be used end in one clear ModelError each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tidemill.compiler import reference
from tidemill.compiler.frontends.onnx import inspect_onnx, load_onnx
from tidemill.compiler.ir import ModelError
from tidemill_verif.onnx_networks import quantized, residual_network
from tidemill_verif.onnx_random import ModelWriter


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return quantized(residual_network(1), tmp_path_factory.mktemp("onnx"), "QDQ", "QInt8", True, 2)


def error_of(data: bytes) -> str:
    """The message of the ModelError that loading raises: one line."""
    with pytest.raises(ModelError) as raised:
        load_onnx(data, "model.onnx")
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_empty_and_foreign_files() -> None:
    for data in (b"", b"\0" * 64, b"not a model", b"\x08\x08"):
        assert error_of(data).startswith("model.onnx: not an ONNX file")


def test_float_model_says_to_quantize_it() -> None:
    message = error_of(residual_network(1).SerializeToString())
    assert message == "model.onnx: a float model: quantize it to 8 bits first (QDQ or QOperator form)"


def test_float_layer_in_a_quantized_model_is_named() -> None:
    writer = ModelWriter(0, np.int8)
    image = writer.input(1, 2, 4, 4, values=np.zeros((1, 2, 4, 4), dtype=np.float32))
    layer = writer.node("Conv", [image, writer.constant(np.zeros((2, 2, 1, 1), dtype=np.float32))])
    message = error_of(writer.model(writer.quantize(layer)))
    assert f"node {layer!r} (Conv)" in message
    assert "float32, not quantized" in message


def test_layer_whose_result_stays_float_is_refused() -> None:
    writer = ModelWriter(0, np.int8)
    weights = writer.dequantize(writer.constant(writer.integers(2, 2, 1, 1)))
    layer = writer.node("Conv", [writer.dequantize(writer.input(1, 2, 4, 4)), weights])
    assert "not quantized by a QuantizeLinear" in error_of(writer.model(layer, np.float32))


@pytest.mark.parametrize(("operator", "domain"), [("LSTM", ""), ("Nothing", "com.example")])
def test_unknown_operator_is_named(operator: str, domain: str) -> None:
    node = helper.make_node(operator, ["x", "w", "r"], ["y"], name="layer", domain=domain)
    if operator == "LSTM":
        node.attribute.append(helper.make_attribute("hidden_size", 1))
    shapes = {"x": [1, 1, 1], "w": [1, 4, 1], "r": [1, 4, 1]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    quantizer = helper.make_node("QuantizeLinear", ["y", "s"], ["z"])
    graph = helper.make_graph(
        [node, quantizer],
        "g",
        inputs,
        [helper.make_tensor_value_info("z", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.float32(1), "s")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    assert error_of(data).startswith(f"node 'layer' ({operator}): the operator")
    reports = inspect_onnx(data, "model.onnx")
    assert [report.where for report in reports] == ["unsupported", "unsupported"]


def _one_node(shape: list[str | int]) -> bytes:
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.float32(1), "s")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_symbolic_batch_is_one_and_other_sizes_must_be_given() -> None:
    assert load_onnx(_one_node(["N", 4]), "model.onnx").inputs[0].shape == (1, 4)
    message = error_of(_one_node(["N", "length"]))
    assert message == "model.onnx: input 'x': axis 1 (length) is not fixed: give its size, as in dims={'length': 1}"
    assert load_onnx(_one_node(["N", "length"]), "model.onnx", {"length": 7, "N": 2}).inputs[0].shape == (2, 7)


def test_giant_dimensions_are_refused_before_anything_is_allocated() -> None:
    assert "elements at most" in error_of(_one_node([1 << 20, 1 << 20]))


def test_external_data_needs_its_folder(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(_one_node([4]))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32([0.5]), "s"))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert "is in another file" in error_of(path.read_bytes())
    graph = load_onnx(path.read_bytes(), "m.onnx", folder=tmp_path)
    values = np.array([0, 1, 2, 255], dtype=np.uint8)
    assert np.array_equal(reference.evaluate(graph, {"x": values}).outputs["y"], values)
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match="external data"):
        load_onnx(path.read_bytes(), "m.onnx", folder=tmp_path)


def flip_bits(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bits inverted."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    """Only the beginning."""
    return data[: int(rng.integers(len(data)))]


OPERATORS = ["Softmax", "Transpose", "Pad", "Slice", "AveragePool", "Sub", "Max", "Tile"]


def change_fields(data: bytes, rng: np.random.Generator) -> bytes:
    """Valid messages with other numbers, names, operators and contents."""
    model = onnx.load_model_from_string(data)
    graph = model.graph
    for _ in range(int(rng.integers(1, 4))):
        node = graph.node[int(rng.integers(len(graph.node)))]
        constant = graph.initializer[int(rng.integers(len(graph.initializer)))]
        number = int(rng.choice([0, -1, 1, 2, 7, 1 << 20, 1 << 31, 1 << 62, -(1 << 40)]))
        kind = int(rng.integers(6))
        if kind == 0 and node.attribute:
            attribute = node.attribute[int(rng.integers(len(node.attribute)))]
            attribute.i = number
            for i in range(len(attribute.ints)):
                attribute.ints[i] = number
        elif kind == 1 and constant.dims:
            constant.dims[0] = number
        elif kind == 2:
            node.input[0] = str(
                rng.choice([c.name for c in graph.initializer] + [o for n in graph.node for o in n.output])
            )
        elif kind == 3:
            node.op_type = str(
                rng.choice(["Softmax", "Transpose", "Pad", "Slice", "AveragePool", "Sub", "Max", "Tile"])
            )
        elif kind == 4:
            graph.input[0].type.tensor_type.shape.dim[1].dim_value = abs(number)
        else:
            constant.data_type = int(rng.integers(20))
    return model.SerializeToString()


@pytest.mark.parametrize("mutate", [flip_bits, truncate, change_fields])
def test_damaged_files_end_in_a_graph_or_an_error(
    network: bytes, mutate: Callable[[bytes, np.random.Generator], bytes]
) -> None:
    for seed in range(200):
        data = mutate(network, np.random.default_rng(seed))
        start = time.monotonic()
        message = ""
        try:
            load_onnx(data, "model.onnx")
        except ModelError as error:
            message = str(error)
        assert "\n" not in message, f"seed {seed}"
        assert time.monotonic() - start < 2, f"seed {seed}"
