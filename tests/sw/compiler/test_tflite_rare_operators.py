"""Rare TFLite operators equal TensorFlow Lite Micro, on the NPU or on the host.

`OPERATOR_SEEDS` (default 8) is the number of random models of each operator.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.compiler.frontends.tflite import inspect_tflite, load_tflite
from tidemill.compiler.ir import ModelError
from tidemill.compiler.ports import InputError
from tidemill.compiler.reference import evaluate
from tidemill_verif.runtimes.tflite_cases import options
from tidemill_verif.runtimes.tflite_models import Tensor, build
from tidemill_verif.runtimes.tflite_rare_cases import CASES
from tidemill_verif.runtimes.whole_models import TfliteModel

SEEDS = int(os.environ.get("OPERATOR_SEEDS", "8"))
Array = NDArray[Any]


def draw(tensor: Tensor, rng: np.random.Generator) -> Array:
    if tensor.dtype is np.float32:
        return rng.normal(0, 50, tensor.shape).astype(np.float32)
    if tensor.dtype is np.bool_:
        return rng.integers(0, 2, tensor.shape).astype(np.bool_)
    limit = 5 if tensor.dtype is np.int32 else 128
    return rng.integers(-limit, limit, tensor.shape).astype(tensor.dtype)


def check(file: bytes, calls: list[list[Array]]) -> None:
    graph, model, states = load_tflite(file, "m"), TfliteModel(file), None
    for inputs in calls:
        expected = model(*inputs)
        named = {port.name: value for port, value in zip(graph.inputs, inputs, strict=True)}
        result = evaluate(graph, named, states)
        states = result.states
        for port in graph.outputs:
            assert port.tensor_index is not None
            np.testing.assert_array_equal(result.outputs[port.name], expected[port.tensor_index].reshape(port.shape))


@pytest.mark.parametrize("operator", CASES)
def test_operators_equal_the_runtime(operator: str) -> None:
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        case = CASES[operator](rng)
        fed = [tensor for tensor in case.inputs if tensor.data is None and not tensor.variable]
        check(case.file, [[draw(tensor, rng) for tensor in fed] for _ in range(4 if operator == "SVDF" else 2)])


def place(file: bytes) -> str:
    return inspect_tflite(file, "m")[0].where


INT32 = np.int32
X = Tensor((3, 4), [0.1], 5)
ROWS = Tensor((2,), [], 0, INT32)


def test_picking_by_indices_that_are_inputs_runs_on_the_host() -> None:
    rng = np.random.default_rng(1)
    table = Tensor((3, 4), [0.1], 5, np.int8, rng.integers(-128, 128, (3, 4)).astype(np.int8))
    y, rows = Tensor((2, 4), [0.1], 5), np.array([2, 0], dtype=INT32)
    for file in (
        build("GATHER", options("GatherOptions", axis=0), [table, ROWS], [y]),
        build("EMBEDDING_LOOKUP", None, [ROWS, Tensor((3, 4), [0.1], 0, np.int8, table.data)], [y]),
    ):
        assert place(file) == "host"
        check(file, [[rows]])
    update = build("DYNAMIC_UPDATE_SLICE", None, [X, Tensor((1, 2), [0.1], 5), ROWS], [X])
    check(update, [[draw(X, rng), np.array([[7, 8]], dtype=np.int8), np.array([1, 9], dtype=INT32)]])
    graph = load_tflite(build("GATHER", options("GatherOptions", axis=0), [table, ROWS], [y]), "m")
    with pytest.raises(InputError, match=r"gathers element 3 or 0 of 0\.\.2"):
        evaluate(graph, {"t1": np.array([0, 3], dtype=INT32)})


def test_logic_and_selection_of_inputs() -> None:
    rng = np.random.default_rng(2)
    truth = Tensor((3, 4), [], 0, np.bool_)
    for operator in ("LOGICAL_AND", "LOGICAL_OR"):
        check(build(operator, None, [truth, truth], [truth]), [[draw(truth, rng), draw(truth, rng)]])
    check(build("LOGICAL_NOT", None, [truth], [truth]), [[draw(truth, rng)]])
    check(build("SELECT_V2", None, [truth, X, X], [X]), [[draw(truth, rng), draw(X, rng), draw(X, rng)]])
    axes = Tensor((1,), [], 0, INT32, np.array([1], dtype=INT32))
    every = build("REDUCE_ALL", options("ReducerOptions"), [truth, axes], [Tensor((3,), [], 0, np.bool_)])
    check(every, [[draw(truth, rng)]])


@pytest.mark.parametrize("operator", ["MEAN", "SUM", "REDUCE_MAX"])
def test_reductions_of_all_axes(operator: str) -> None:
    rng = np.random.default_rng(3)
    axes = Tensor((4,), [], 0, INT32, np.arange(4, dtype=INT32))
    x = Tensor((2, 3, 4, 5), [0.05], 3)
    y = Tensor((1, 1, 1, 1), x.scales if operator == "REDUCE_MAX" else [0.4], 3)
    check(build(operator, options("ReducerOptions", keepDims=True), [x, axes], [y]), [[draw(x, rng)]])


def test_one_scale_for_all_weights_multiplies_in_double() -> None:
    """Layers of one weight whose float32 product of scales lies on the other side of a half."""
    rng = np.random.default_rng(4)
    sx, sw = (np.exp2(rng.uniform(-7, -2, 200_000)).astype(np.float32) for _ in range(2))
    weight, value, half = (
        rng.integers(1, 128, sx.size),
        rng.integers(1, 128, sx.size),
        rng.integers(0, 99, sx.size) + 0.5,
    )
    double = sx.astype(np.float64) * sw
    sy = (double * weight * value / half).astype(np.float32)
    exact, single = (v * weight * value / sy.astype(np.float64) for v in (double, (sx * sw).astype(np.float64)))
    found = np.flatnonzero((exact < half) != (single < half))[:20]
    assert found.size == 20
    for case in found:
        x, y = Tensor((256, 1), [float(sx[case])]), Tensor((256, 1), [float(sy[case])])
        w = Tensor((1, 1), [float(sw[case])], 0, np.int8, np.full((1, 1), weight[case], dtype=np.int8))
        file = build("FULLY_CONNECTED", options("FullyConnectedOptions"), [x, w], [y])
        check(file, [[np.arange(-128, 128, dtype=np.int8)[:, None]]])


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (build("NEG", None, [X], [X]), "NEG.*not supported"),
        (
            build("DIV", options("DivOptions"), [X, Tensor((1,), [1.0], 3, np.int8, np.array([3], np.int8))], [X]),
            "has zeros",
        ),
        (build("LOG_SOFTMAX", None, [X], [X]), "expected 0.0625 and 127"),
        (
            build("GATHER", options("GatherOptions"), [X, Tensor((1,), [], 0, INT32, np.array([3], INT32))], [X]),
            r"gathers element 3 or 3 of 0\.\.2",
        ),
    ],
)
def test_what_cannot_be_compiled_is_named(file: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_tflite(file, "m")
