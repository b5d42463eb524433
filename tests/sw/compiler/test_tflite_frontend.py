"""Graphs of TFLite files equal TensorFlow Lite Micro in every tensor that a node computes.

`OPERATOR_SEEDS` (default 8) is the number of random models of each operator.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.compiler.frontends import inspect_model, load_model
from tidemill.compiler.frontends.tflite import load_tflite
from tidemill.compiler.ir import Graph, Host, ModelError
from tidemill.compiler.reference import evaluate
from tidemill_verif.runtimes.tflite_cases import CASES, draw_inputs, options
from tidemill_verif.runtimes.tflite_models import Tensor, build
from tidemill_verif.runtimes.whole_models import TfliteModel

SEEDS = int(os.environ.get("OPERATOR_SEEDS", "8"))
MODELS = (
    "ad01_int8",
    "hello_world_int8",
    "kws_dscnn_int8",
    "micro_speech_quantized",
    "person_detect",
    "resnet8_int8",
    "vww_96_int8",
)
WAKE_WORDS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")


def model_file(name: str) -> Path:
    """A model of the folder TIDEMILL_MODELS."""
    folder = os.environ.get("TIDEMILL_MODELS")
    if not folder:
        pytest.skip("TIDEMILL_MODELS names no folder with models")
    found = sorted(Path(folder).rglob(f"{name}.tflite"))
    if not found:
        pytest.skip(f"no {name}.tflite in TIDEMILL_MODELS")
    return found[0]


def wake_word_file(name: str) -> Path:
    package = pytest.importorskip("pymicro_wakeword")
    return next(Path(package.__file__).parent.rglob(f"{name}.tflite"))


def compare(graph: Graph, model: TfliteModel, calls: list[list[NDArray[Any]]]) -> None:
    """Every output and every exposed tensor of each call, state kept."""
    states = None
    for number, values in enumerate(calls):
        expected = model(*values)
        named = {port.name: value for port, value in zip(graph.inputs, values, strict=True)}
        actual = evaluate(graph, named, states, keep=True)
        states = actual.states
        for ports, results in ((graph.exposed, actual.exposed), (graph.outputs, actual.outputs)):
            for port in ports:
                assert port.tensor_index is not None
                wanted = expected[port.tensor_index]
                assert results[port.name].dtype == wanted.dtype
                different = np.count_nonzero(results[port.name] != wanted.reshape(port.shape))
                assert different == 0, f"call {number}: {different} elements of {port.name} differ"


def random_calls(graph: Graph, count: int, seed: int) -> list[list[NDArray[Any]]]:
    rng = np.random.default_rng(seed)
    return [[rng.integers(-128, 128, port.shape).astype(np.int8) for port in graph.inputs] for _ in range(count)]


@pytest.mark.parametrize("name", MODELS)
def test_models_equal_the_runtime_in_every_tensor(name: str) -> None:
    path = model_file(name)
    graph = load_model(path)
    assert len(graph.exposed) == sum(report.where != "constant" for report in inspect_model(path))
    assert not any(isinstance(op, Host) for op in graph.ops)
    compare(graph, TfliteModel(path), random_calls(graph, 3, seed=1))


@pytest.mark.parametrize("name", WAKE_WORDS)
def test_wake_words_equal_the_runtime_as_streams(name: str) -> None:
    path = wake_word_file(name)
    graph = load_model(path)
    assert len(graph.states) == 6
    compare(graph, TfliteModel(path), random_calls(graph, 60, seed=2))


@pytest.mark.parametrize("operator", CASES)
def test_operators_equal_the_runtime(operator: str) -> None:
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        case = CASES[operator](rng)
        graph = load_tflite(case.file, operator)
        compare(graph, TfliteModel(case.file), [draw_inputs(case, rng) for _ in range(2)])


def test_a_constant_matrix_makes_a_product_a_layer() -> None:
    rng = np.random.default_rng(5)
    w = Tensor((7, 5), [0.02], 3, np.int8, rng.integers(-128, 128, (7, 5)).astype(np.int8))
    x, y = Tensor((2, 4, 7), [0.1], -9), Tensor((2, 4, 5), [0.3], 4)
    file = build("BATCH_MATMUL", options("BatchMatMulOptions"), [x, w], [y])
    values = rng.integers(-128, 128, x.shape).astype(np.int8)
    result = evaluate(load_tflite(file, "m"), {"t0": values}).outputs["t2"]
    # the same product of two activations in the runtime
    both = [x, Tensor((2, 7, 5), w.scales, w.zero_point)]
    model = TfliteModel(build("BATCH_MATMUL", options("BatchMatMulOptions"), both, [y]))
    assert w.data is not None
    np.testing.assert_array_equal(result, model(values, np.broadcast_to(w.data, (2, 7, 5)))[2])


def test_tile_repeats_and_space_to_batch_pads_with_the_zero_point() -> None:
    x = np.arange(6, dtype=np.int8).reshape(1, 2, 3, 1)
    counts = np.array([2, 1, 2, 1], dtype=np.int32)
    inputs = [Tensor(x.shape, [0.1], 7), Tensor((4,), [], 0, np.int32, counts)]
    file = build("TILE", None, inputs, [Tensor((2, 2, 6, 1), [0.1], 7)])
    result = evaluate(load_tflite(file, "m"), {"t0": x}).outputs["t2"]
    np.testing.assert_array_equal(result[:, 0, :, 0], [[0, 1, 2, 0, 1, 2]] * 2)
    blocks, pads = np.array([1, 2], dtype=np.int32), np.array([[0, 0], [1, 0]], dtype=np.int32)
    constants = [Tensor(v.shape, [], 0, np.int32, v) for v in (blocks, pads)]
    file = build("SPACE_TO_BATCH_ND", None, [inputs[0], *constants], [Tensor((2, 2, 2, 1), [0.1], 7)])
    result = evaluate(load_tflite(file, "m"), {"t0": x}).outputs["t3"]
    np.testing.assert_array_equal(result[..., 0], [[[7, 1], [7, 4]], [[0, 2], [3, 5]]])


def softmax_model(x: Tensor, y: Tensor) -> bytes:
    return build("SOFTMAX", options("SoftmaxOptions", beta=1.0), [x], [y])


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (softmax_model(Tensor((1, 4), [], 0, np.float32), Tensor((1, 4), [], 0, np.float32)), "quantize the model"),
        (softmax_model(Tensor((1, 4), [0.1], 0, np.uint8), Tensor((1, 4), [0.1], 0, np.uint8)), "uint8 activations"),
        (softmax_model(Tensor((1, 4), [0.1]), Tensor((1, 4), [0.1])), "expected 1/256"),
        (softmax_model(Tensor((1, 4), [0.1]), Tensor((1, 5), [1 / 256], -128)), r"has shape \[1, 5\], not \[1, 4\]"),
        (softmax_model(Tensor((1, 4), [0.1, 0.2]), Tensor((1, 4), [1 / 256], -128)), "scales"),
        (build("FLOOR_MOD", None, [Tensor((1, 4), [0.1])], [Tensor((1, 4), [0.1])]), "FLOOR_MOD.*not supported"),
        (
            build("RESHAPE", None, [Tensor((1, 4), [0.1])], [Tensor((1, 5), [0.1])]),
            "makes 4 elements into shape",
        ),
    ],
)  # fmt: skip
def test_an_unsupported_node_is_named(file: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(file)
    with pytest.raises(ModelError, match=message) as failure:
        load_model(path)
    assert str(path) in str(failure.value)
