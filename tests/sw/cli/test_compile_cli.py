"""`tidemill compile`, `infer` and `check-model`: networks in, answers of tflite-micro out, one line per error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tidemill.cli import main
from tidemill_verif.runtimes.tflite_models import Tensor, build, run, schema

INPUTS, CLASSES = 20, 5
RNG = np.random.default_rng(11)
WEIGHTS = RNG.integers(-127, 128, (CLASSES, INPUTS), dtype=np.int8)
BIAS = RNG.integers(-500, 500, CLASSES).astype(np.int32)
LAYER = [
    Tensor((1, INPUTS), [0.05], 3),
    Tensor((CLASSES, INPUTS), [0.02], 0, data=WEIGHTS),
    Tensor((CLASSES,), [0.001], 0, np.int32, BIAS),
]
RESULT = Tensor((1, CLASSES), [0.25], -4)


def expected(x: np.ndarray) -> np.ndarray:
    """tflite-micro's answer."""
    return run("FULLY_CONNECTED", schema.FullyConnectedOptionsT(), LAYER, RESULT, x)


def tidemill(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


def refused(*arguments: object) -> str:
    """The one error line of a command that must fail and leave the directory as it is."""
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), result.exception
    errors = [line for line in result.output.splitlines() if "error:" in line.lower()]
    assert len(errors) == 1, result.output
    assert before == {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    return errors[0]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the model m.tflite, an input x.npy, ten of them in many.npy, and labels.txt."""
    monkeypatch.chdir(tmp_path)
    Path("m.tflite").write_bytes(build("FULLY_CONNECTED", schema.FullyConnectedOptionsT(), LAYER, [RESULT]))
    rng = np.random.default_rng(12)
    np.save("many.npy", rng.integers(-128, 128, (10, 1, INPUTS), dtype=np.int8))
    np.save("x.npy", np.load("many.npy")[0])
    Path("labels.txt").write_text("\n".join(f"class{number}" for number in range(CLASSES)))
    return tmp_path


@pytest.mark.parametrize("model", ["m.tflite", "m.tmb"])
def test_infer_gives_the_answer_of_tflite_micro(model: str) -> None:
    assert "m.tmb: base, 1 operations" in tidemill("compile", "m.tflite")
    output = tidemill("infer", model, "--input", "x.npy", "--output", "y.npy", "--labels", "labels.txt", "--top", 2)
    answer = expected(np.load("x.npy"))
    np.testing.assert_array_equal(np.load("y.npy"), answer)
    first, second = np.argsort(-answer[0].astype(int), kind="stable")[:2]
    real = (answer[0].astype(float) + 4) * 0.25
    assert output.splitlines()[0] == f"class{first} {real[first]:.6g}, class{second} {real[second]:.6g}"
    assert "cycles on iss base" in output


def test_a_file_with_several_inputs_runs_them_all() -> None:
    output = tidemill(
        "infer", "m.tflite", "--input", "many.npy", "--output", "y.npy", "--preset", "tiny", "--workers", 2, "--json"
    )
    many = np.load("many.npy")
    np.testing.assert_array_equal(np.load("y.npy"), np.stack([expected(x) for x in many]))
    figures = json.loads(output)
    assert (figures["inferences"], figures["preset"], len(figures["cycles"])) == (10, "tiny", 10)
    assert figures["best"][0][0]["index"] == int(expected(many[0]).argmax())


def test_the_hardware_gives_the_same() -> None:
    tidemill("infer", "m.tflite", "--input", "x.npy", "--output", "y.npy", "--preset", "tiny", "--device", "rtl")
    np.testing.assert_array_equal(np.load("y.npy"), expected(np.load("x.npy")))


def test_real_numbers_are_quantized() -> None:
    real = np.random.default_rng(13).uniform(-5, 5, (1, INPUTS)).astype(np.float32)
    np.save("real.npy", real)
    tidemill("infer", "m.tflite", "--input", "real.npy", "--output", "y.npy")
    quantized = np.clip(np.round(real.astype(np.float64) / np.float32(0.05)) + 3, -128, 127).astype(np.int8)
    np.testing.assert_array_equal(np.load("y.npy"), expected(quantized))


def test_a_report_has_the_layer_and_the_totals() -> None:
    report = json.loads(tidemill("infer", "m.tflite", "--input", "x.npy", "--report", "--json"))["report"]
    assert report["macs"] == INPUTS * CLASSES
    (layer,) = report["layers"]
    assert (layer["source"], layer["where"], layer["macs"]) == ("FULLY_CONNECTED", "npu", INPUTS * CLASSES)
    assert layer["read_bytes"] >= INPUTS * CLASSES
    assert "bound by" in tidemill("infer", "m.tflite", "--input", "x.npy", "--report")


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ("graph", "Conv2D(t0)"),
        ("fused", "100 MACs"),
        ("dram", "lower bound"),
        ("tiles", "matrix, all weights stay"),
        ("stream", "mx.run"),
        ("program", ".preset base"),
    ],
)
def test_a_stage_is_printed_and_nothing_written(stage: str, text: str) -> None:
    assert text in tidemill("compile", "m.tflite", "--dump", stage)
    assert not Path("m.tmb").exists()


def test_a_batch_is_one_call() -> None:
    tidemill("compile", "m.tflite", "--batch", 10, "--planner", "cpsat")
    many = np.load("many.npy")
    np.save("many.npy", many.reshape(10, INPUTS))
    tidemill("infer", "m.tmb", "--input", "many.npy", "--output", "y.npy")
    np.testing.assert_array_equal(np.load("y.npy"), np.concatenate([expected(x) for x in many]))


def test_check_model_lists_nodes_and_refuses_what_cannot_run() -> None:
    output = tidemill("check-model", "m.tflite", "--preset", "small")
    assert "FULLY_CONNECTED" in output
    assert "m.tflite: small, 1 operations" in output
    x = Tensor((1, 6), [0.1])
    Path("bad.tflite").write_bytes(build("COS", None, [x], [x]))
    figures = CliRunner().invoke(main, ["check-model", "bad.tflite", "--json"])
    assert figures.exit_code == 1
    assert json.loads(figures.stdout)["nodes"][0]["where"] == "unsupported"
    assert refused("check-model", "bad.tflite") == "tidemill: error: bad.tflite: 1 of 1 nodes unsupported"


def test_a_compiled_model_can_be_disassembled_and_checked_but_is_no_program() -> None:
    tidemill("compile", "m.tflite")
    assert "mx.run" in tidemill("disasm", "m.tmb")
    assert "no errors" in tidemill("check", "m.tmb")
    message = "tidemill: error: m.tmb: a compiled model, not a program; run it with: tidemill infer"
    assert refused("run", "m.tmb") == message


def test_wrong_input_is_one_line() -> None:
    tidemill("compile", "m.tflite")
    np.save("shape.npy", np.zeros((1, 7), np.int8))
    np.save("type.npy", np.zeros((1, INPUTS), np.int16))
    Path("text.txt").write_text("what is this")
    Path("cut.tflite").write_bytes(Path("m.tflite").read_bytes()[:300])
    Path("cut.tmb").write_bytes(Path("m.tmb").read_bytes()[:300])
    float32 = Tensor((1, 6), [], 0, np.float32)
    Path("float.tflite").write_bytes(build("ADD", schema.AddOptionsT(), [float32, float32], [float32]))
    infer = ("infer", "m.tmb", "--input", "x.npy")
    for arguments, message in (
        (("compile", "none.tflite"), "none.tflite: No such file or directory"),
        (("compile", "text.txt"), "text.txt: neither a TFLite nor an ONNX file"),
        (("compile", "cut.tflite"), "cut.tflite: "),
        (("compile", "float.tflite"), "float.tflite: "),
        (("compile", "m.tmb"), "m.tmb is compiled already"),
        (("compile", "m.tflite", "-o", "none/m.tmb"), "none: No such file or directory"),
        (("compile", "m.tflite", "--preset", "huge"), "'huge' is not one of"),
        (("infer", "none.tmb", "--input", "x.npy"), "none.tmb: No such file or directory"),
        (("infer", "cut.tmb", "--input", "x.npy"), "cut.tmb: truncated"),
        (("infer", "m.tmb", "--input", "none.npy"), "none.npy: No such file or directory"),
        (("infer", "m.tmb", "--input", "shape.npy"), "shape.npy: shape [1, 7]; the input is [1, 20]"),
        (("infer", "m.tmb", "--input", "type.npy"), "type.npy: type int16; the input is int8"),
        (("infer", "m.tmb", "--input", "q=x.npy"), "the model has no input 'q'; its inputs: t0"),
        (("infer", "m.tmb", "--input", "text.txt"), "text.txt: "),
        ((*infer, "--output", "q=y.npy"), "the model has no output 'q'; its outputs: t3"),
        ((*infer, "--output", "none/y.npy"), "none: No such file or directory"),
        ((*infer, "--preset", "tiny"), "m.tmb is compiled for base, not tiny"),
        ((*infer, "--device", "moon"), "unknown device 'moon'"),
        ((*infer, "--labels", "none.txt"), "none.txt: No such file or directory"),
        (("check-model", "text.txt"), "text.txt: neither a TFLite nor an ONNX file"),
    ):
        error = refused(*arguments)
        assert message in error, f"{arguments}: {error}"
