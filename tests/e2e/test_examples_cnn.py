"""The committed networks of examples/: the NPU's bytes are those of the runtime that each file was quantized for.

All test images on the hardware: `python examples/run.py fashion_mnist --device rtl --images 10000`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tidemill as tm
from tidemill.compiler.frontends import load_model
from tidemill.compiler.reference import evaluate
from tidemill.demo.digits.network import load_split
from tidemill_verif.runtimes.whole_models import TfliteModel, run_onnx

EXAMPLES = Path(__file__).parents[2] / "examples"
FORMS = ("qdq_int8.onnx", "qdq_uint8.onnx", "qoperator_int8.onnx", "qoperator_uint8.onnx", "int8.tflite")
IMAGES = 64
ON_ISS = 20
ON_RTL = 3
MODELS = [(network, form) for network in ("fashion_mnist", "digits_cnn") for form in FORMS]

Array = NDArray[Any]


@cache
def images(network: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The first test images, float32 [IMAGES, 1, height, width] from 0 to 1, and their labels."""
    if network == "digits_cnn":
        split = load_split()
        return (split.test_images[:IMAGES, None] / 16).astype(np.float32), split.test_labels[:IMAGES]
    with np.load(EXAMPLES / network / "test_images.npz") as arrays:
        return arrays["pixels"][:, None].astype(np.float32) / 255, arrays["labels"].astype(np.int64)


@cache
def expected(network: str, form: str) -> tuple[list[Array], list[Array]]:
    """Every image as the file takes it, and the runtime's output."""
    path = EXAMPLES / network / form
    pixels, _ = images(network)
    if form == "int8.tflite":  # its input has the scale 1 / 255 and the zero point -128
        inputs: list[Array] = list((np.rint(pixels * 255) - 128).astype(np.int8)[:, None])
        runtime = TfliteModel(path, preserve_all=False)
        return inputs, [runtime(x)[runtime.outputs[0]] for x in inputs]
    inputs = list(pixels[:, None])
    return inputs, [result["logits"] for result in run_onnx(path, [{"image": x} for x in inputs], intermediates=False)]


def differing(results: list[Array], wanted: list[Array]) -> list[int]:
    """Numbers of the images whose outputs differ in type, shape or any byte."""
    pairs = zip(results, wanted, strict=True)
    return [
        number
        for number, (a, b) in enumerate(pairs)
        if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes())
    ]


@pytest.mark.parametrize(("network", "form"), MODELS)
def test_graph_means_what_the_runtime_computes(network: str, form: str) -> None:
    inputs, wanted = expected(network, form)
    graph = load_model(EXAMPLES / network / form)
    (source,), (result,) = graph.inputs, graph.outputs
    assert differing([evaluate(graph, {source.name: x}).outputs[result.name] for x in inputs], wanted) == []


@pytest.mark.parametrize(("device", "count"), [("iss", ON_ISS), ("rtl", ON_RTL)])
@pytest.mark.parametrize(("network", "form"), MODELS)
def test_device_returns_the_runtime_s_bytes(network: str, form: str, device: str, count: int) -> None:
    inputs, wanted = expected(network, form)
    with tm.compile(EXAMPLES / network / form, preset="base", device=device) as model:
        results = [np.asarray(model(x)) for x in inputs[:count]]
    assert differing(results, wanted[:count]) == []


@pytest.mark.parametrize(("network", "form"), MODELS)
def test_quantized_network_still_classifies(network: str, form: str) -> None:
    _, outputs = expected(network, form)
    guesses = np.concatenate(outputs).argmax(axis=1)
    assert np.mean(guesses == images(network)[1]) >= {"fashion_mnist": 0.8, "digits_cnn": 0.95}[network]
