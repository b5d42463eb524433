"""Damaged and foreign model files end in one ModelError, soon, or in a graph that can be evaluated.

`FUZZ` (default 1200) is the number of damaged TFLite files.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

from tidemill.compiler.frontends import inspect_model, load_model
from tidemill.compiler.frontends.tflite import inspect_tflite, load_tflite
from tidemill.compiler.ir import ModelError
from tidemill.compiler.reference import evaluate
from tidemill_verif.runtimes.tflite_cases import CASES

FUZZ = int(os.environ.get("FUZZ", "1200"))
SECONDS = 3.0
"""Longest time for one file; it takes milliseconds on a free machine."""
OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "STRIDED_SLICE", "MEAN", "AVERAGE_POOL_2D", "PADV2")


def small_models() -> dict[str, bytes]:
    """Real models where they are at hand, and models of one operator always."""
    models = {name: CASES[name](np.random.default_rng(3)).file for name in OPERATORS}
    folder = os.environ.get("TIDEMILL_MODELS")
    files = sorted(Path(folder).rglob("*.tflite")) if folder else []
    wanted = ("hello_world_int8", "micro_speech_quantized", "kws_dscnn_int8")
    models.update({path.stem: path.read_bytes() for path in files if path.stem in wanted})
    try:
        import pymicro_wakeword
    except ImportError:
        return models
    path = next(Path(str(pymicro_wakeword.__file__)).parent.rglob("alexa.tflite"))
    return models | {"alexa": path.read_bytes()}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut off in one of five, else with one to four bits flipped."""
    if rng.random() < 0.2:
        return content[: rng.randrange(len(content))]
    flipped = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def test_damaged_tflite_files_give_one_error_or_a_graph() -> None:
    rng = random.Random(2024)
    models = small_models()
    outcomes = {"graph": 0, "error": 0, "nameless error": 0}
    for number in range(FUZZ):
        name = sorted(models)[number % len(models)]
        content = damaged(models[name], rng)
        start = time.process_time()
        try:
            graph = load_tflite(content, "damaged.tflite")
        except ModelError as error:
            named = str(error).startswith("damaged.tflite: ")
            outcomes["error" if named else "nameless error"] += 1
        else:
            evaluate(graph, {port.name: np.zeros(port.shape, port.dtype) for port in graph.inputs})
            assert len(inspect_tflite(content, "damaged.tflite")) > 0
            outcomes["graph"] += 1
        assert time.process_time() - start < SECONDS, f"{name}, file {number}"
    assert outcomes["nameless error"] == 0
    assert min(outcomes["graph"], outcomes["error"]) > FUZZ // 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.tflite", b"", "empty"),
        ("text.txt", b"not a model at all", "neither a TFLite nor an ONNX file"),
        ("short.tflite", b"\x1c\0\0", "not a TFLite file"),
        ("other.tflite", b"\x1c\0\0\0ABCD" + bytes(100), "not a TFLite file"),
        ("zeros.tflite", b"\x1c\0\0\0TFL3" + bytes(100), "damaged|version"),
    ],
)
def test_a_file_that_is_no_model_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for function in (load_model, inspect_model):
        with pytest.raises(ModelError, match=message) as failure:
            function(path)
        assert str(path) in str(failure.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing\.tflite: No such file"):
        load_model(tmp_path / "missing.tflite")
    with pytest.raises(ModelError, match="Is a directory"):
        load_model(tmp_path)
