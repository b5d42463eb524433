"""`tidemill.compile` and the object it returns: calls, batches, variables, files, reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tidemill as tm
from tidemill.compiler import ir
from tidemill.compiler.reference import evaluate
from tidemill.compiler.report import bound_by
from tidemill.csr import COUNTERS

SHAPE = (1, 5, 4, 20)


def network(host: bool = False) -> ir.Graph:
    """A convolution, and its product with its input; `host` reads the result as real numbers."""
    rng = np.random.default_rng(1)
    x, y, z = ir.Tensor("x", SHAPE), ir.Tensor("y", SHAPE), ir.Tensor("z", SHAPE)
    weights = rng.integers(-127, 128, (20, 3, 3, 20)).astype(np.int16)
    scale = ir.Requantize(1 << 30, -8, 3)
    ops: list[ir.Op] = [
        ir.Conv2D("conv", "CONV_2D", [x], [y], weights, np.zeros(20, np.int32), scale, padding=((1, 1), (1, 1))),
        ir.Mul("mul", "MUL", [x, y], [z], 2, 3, replace(scale, shift=-5)),
    ]
    result = z
    if host:
        result = ir.Tensor("real", SHAPE, "float32")
        ops.append(ir.Host("dequantize", "DEQUANTIZE", [z], [result], "tflite.dequantize", DEQUANTIZE))
    inputs = [ir.Port("in", x, SHAPE, "uint8", 0.5, 130, 128)]
    return ir.Graph("network", ops, inputs, [ir.Port("out", result, SHAPE, result.dtype, 0.25, -1)])


DEQUANTIZE = {"scale": 0.25, "zero_point": -1}


def stream() -> ir.Graph:
    """y = x + state; the state becomes y."""
    x, old, y = (ir.Tensor(name, (1, 18)) for name in ("x", "old", "y"))
    table = np.arange(256).astype(np.int8).astype(np.int32)
    add = ir.Add("add", "ADD", [x, old], [y], table, table, ir.Requantize(1 << 30, 1))
    state = ir.State("sum", old, y, np.arange(18, dtype=np.int8).reshape(1, 18))
    return ir.Graph("stream", [add], [ir.Port("x", x, x.shape, "int8")], [ir.Port("y", y, y.shape, "int8")], [state])


def images(count: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def expected(graph: ir.Graph, inputs: np.ndarray) -> np.ndarray:
    return np.stack([evaluate(graph, {"in": x}).outputs["out"] for x in inputs])


@pytest.mark.parametrize("preset", ["tiny", "base"])
@pytest.mark.parametrize("host", [False, True])
def test_calls_and_batches_give_the_graphs_answers(preset: str, host: bool, tmp_path: Path) -> None:
    graph, x = network(host), images(9)
    answers = expected(graph, x)
    with tm.compile(graph, preset=preset) as model:
        np.testing.assert_array_equal(model(x[0]), answers[0])
        np.testing.assert_array_equal(model([x[1]]), answers[1])
        np.testing.assert_array_equal(model({"in": x[2]}), answers[2])
        seen: list[int] = []
        np.testing.assert_array_equal(model.batch(x, workers=2, progress=seen.append), answers)
        assert seen == list(range(1, 10))
        np.testing.assert_array_equal(model.batch(list(x[:2]), workers=1), answers[:2])
        np.testing.assert_array_equal(model.batch(x[:, 0]), answers[:, 0])
        assert model.batch(x[:0]).shape == (0, *SHAPE)
        model.save(tmp_path / "m.tmb")
    with tm.load_model(tmp_path / "m.tmb") as loaded:
        np.testing.assert_array_equal(loaded(x[3]), answers[3])


def test_a_model_compiled_for_a_batch_takes_any_number() -> None:
    graph, x = network(), images(7)
    with tm.compile(graph, preset="tiny", batch=3) as model:
        assert model.inputs[0].shape == (3, *SHAPE[1:])
        np.testing.assert_array_equal(model(x[:3, 0]), expected(graph, x[:3])[:, 0])
        np.testing.assert_array_equal(model.batch(x[:, 0]), expected(graph, x)[:, 0])


def test_variables_last_until_a_reset() -> None:
    graph = stream()
    steps = np.random.default_rng(3).integers(-9, 10, (12, 1, 18), dtype=np.int8)
    states, answers = None, []
    for x in steps:
        evaluation = evaluate(graph, {"x": x}, states)
        states = evaluation.states
        answers.append(evaluation.outputs["y"])
    with tm.compile(graph, preset="tiny") as model:
        np.testing.assert_array_equal([model(x) for x in steps[:5]], answers[:5])
        model.reset()
        np.testing.assert_array_equal(model.batch(steps), answers)
        model.close()
        np.testing.assert_array_equal(model(steps[0]), answers[0])


def test_intermediate_tensors_can_be_read() -> None:
    graph, x = network(), images(1)[0]
    exposed = [ir.Port("middle", graph.ops[0].y, SHAPE, "int8")]
    with tm.compile(replace(graph, exposed=exposed), preset="tiny", keep_all=True) as model:
        model(x)
        wanted = evaluate(graph, {"in": x}, keep=True).tensors[id(graph.ops[0].y)]
        np.testing.assert_array_equal(model.exposed()["middle"], wanted)


def test_a_variable_is_shown_as_the_call_found_it() -> None:
    graph = stream()
    old = ir.Port("old", graph.ops[0].inputs[1], (1, 18), "int8")
    x = np.ones((1, 18), np.int8)
    with tm.compile(replace(graph, exposed=[old]), preset="tiny", keep_all=True) as model:
        for step in range(3):
            model(x)
            np.testing.assert_array_equal(model.exposed()["old"], graph.states[0].initial + step)


def test_real_numbers_and_wrong_arrays() -> None:
    with tm.compile(network(), preset="tiny") as model:
        real = np.linspace(-80, 80, 400).reshape(SHAPE)
        quantized = model.quantize(real)
        assert quantized.dtype == np.uint8
        np.testing.assert_array_equal(quantized, np.clip(np.rint(np.float32(real) / np.float32(0.5)) + 130, 0, 255))
        y = model(quantized)
        assert isinstance(y, np.ndarray)
        np.testing.assert_array_equal(model.dequantize(y), (y.astype(np.float32) + 1) * np.float32(0.25))
        for x, message in (
            (real, r"input 'in' takes uint8, not float64; quantize it first: model.quantize\(x, 'in'\)"),
            (quantized[0], r"input 'in' takes shape \[1, 5, 4, 20\], not \[5, 4, 20\]"),
            (quantized.astype(np.int8), "input 'in' takes uint8, not int8"),
            ({"other": quantized}, "the model has no input 'other'; its inputs: in"),
        ):
            with pytest.raises(tm.InputError, match=message):
                model(x)
            with pytest.raises(tm.InputError, match=message):
                model.batch([quantized, x])
        with pytest.raises(ValueError, match="the model has no output 'z'; its outputs: 'out'"):
            model.dequantize(y, "z")
    with pytest.raises(ValueError, match="give a preset or a config, not both"):
        tm.compile(network(), preset="tiny", config=tm.preset("base"))


def test_a_report_adds_up(tmp_path: Path) -> None:
    graph, x = network(host=True), images(1)[0]
    with tm.compile(graph, preset="tiny") as model:
        call, report = model.run(x), model.report(x)
        model.save(tmp_path / "m.tmb")
    names = [(layer.name, layer.where) for layer in report.layers]
    assert names == [("conv", "npu"), ("mul", "npu"), ("dequantize", "host")]
    conv, mul, host = report.layers
    assert report.cycles == call.cycles < conv.cycles + mul.cycles
    assert report.overlap_gain == (conv.cycles + mul.cycles) / call.cycles
    assert conv.macs == report.macs == 400 * 9 * 20
    assert conv.utilization == conv.macs / (conv.cycles * 16)
    assert host.seconds > 0
    assert host.cycles == 0
    # The product reads two tensors of 400 bytes and writes one; 20 channels are five blocks of four.
    assert mul.write_bytes == 400
    assert mul.read_bytes >= 800
    assert report.constant_bytes >= 9 * 400
    assert report.as_dict()["layers"][0]["name"] == "conv"
    with tm.load_model(tmp_path / "m.tmb") as loaded:
        whole = loaded.report(x)
    assert (len(whole.layers), whole.layers[0].source, whole.cycles) == (2, "2 operations", call.cycles)


@pytest.mark.parametrize(
    ("counters", "bound"),
    [
        ({"BUSY_MATRIX": 70, "BUSY_LOAD": 65}, "matrix"),
        ({"BUSY_VECTOR": 60}, "vector"),
        ({"BUSY_STORE": 99, "BUSY_LOAD": 98}, "store"),
        ({"BUSY_LOAD": 80, "BUS_READ_WAIT": 40}, "load"),
        ({"BUSY_LOAD": 80, "BUS_READ_WAIT": 41}, "memory"),
        ({"BUSY_LOAD": 59, "FETCH_WAIT": 50}, "fetch"),
        ({"BUSY_LOAD": 59, "BUSY_MATRIX": 59, "FETCH_WAIT": 49}, "latency"),
    ],
)
def test_what_bounds_an_operation(counters: dict[str, int], bound: str) -> None:
    assert bound_by({counter.name: 0 for counter in COUNTERS} | {"CYCLES": 100} | counters) == bound
