"""Models by name, the inputs they take, and the reference runtimes on whole models."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pymicro_features import MicroFrontend
from tflite_micro.python.tflite_micro import runtime

from tidemill.cli import main
from tidemill.models import InputError, ModelNotFound, WrongChecksum, audio, find, load_manifest
from tidemill.models.inputs import load_input, load_inputs
from tidemill.models.store import FOLDER_VARIABLE
from tidemill_verif.runtimes.whole_models import TfliteModel, run_onnx, run_tflite

FOLDER = os.environ.get(FOLDER_VARIABLE)
needs_folder = pytest.mark.skipif(not FOLDER, reason=f"{FOLDER_VARIABLE} names no folder of models")
WAKE_WORDS = [name for name, entry in load_manifest().items() if entry.package]
IN_FOLDER = [name for name, entry in load_manifest().items() if entry.repository]
MODELS = [name for name, entry in load_manifest().items() if entry.kind == "model"]


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No models anywhere and no network; returns the folder of the cache."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr("tidemill.models.store.cache_folder", lambda: tmp_path / "cache")

    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    return tmp_path / "cache"


def model(name: str) -> Path:
    if load_manifest()[name].repository and not FOLDER:
        pytest.skip(f"{FOLDER_VARIABLE} names no folder of models")
    return find(name, download=False)


# Files by name


def test_entries_are_complete() -> None:
    for entry in load_manifest().values():
        assert len(entry.sha256) == 64, entry.name
        assert entry.bytes > 0
        assert entry.licence
        assert entry.input
        assert bool(entry.repository) != bool(entry.package)
        assert not entry.repository or len(entry.commit) == 40
        assert entry.url.startswith("https://") == bool(entry.repository)
    assert len({entry.sha256 for entry in load_manifest().values()}) == len(load_manifest())


@needs_folder
@pytest.mark.parametrize("name", IN_FOLDER)
def test_folder_has_what_the_manifest_says(name: str) -> None:
    if not (Path(str(FOLDER)) / load_manifest()[name].file).exists():
        pytest.skip(f"{name} is not in the folder")
    path = find(name, download=False)
    assert path.stat().st_size == load_manifest()[name].bytes


@pytest.mark.parametrize("name", WAKE_WORDS)
def test_wake_words_come_from_their_package(nowhere: Path, name: str) -> None:
    assert find(name).stat().st_size == load_manifest()[name].bytes


def test_folder_is_searched_by_path_and_by_name(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = find("alexa").read_bytes()
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "alexa.tflite").write_bytes(content)
    assert find("alexa") == tmp_path / "alexa.tflite"
    (tmp_path / "wake_words").mkdir()
    (tmp_path / "wake_words" / "alexa.tflite").write_bytes(content)
    assert find("alexa") == tmp_path / "wake_words" / "alexa.tflite"


def test_corrupted_file_is_refused(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(find("alexa").read_bytes())
    content[1000] ^= 1
    (tmp_path / "alexa.tflite").write_bytes(content)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(WrongChecksum, match=r"alexa\.tflite: this is not alexa"):
        find("alexa")


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(ModelNotFound, match=r"'nope'; known are resnet8_int8, .*okay_nabu"):
        find("nope")


def test_offline_says_where_it_looked(nowhere: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"cache.*resnet8_int8\.tflite, and cannot be downloaded .*no network"):
        find("resnet8_int8")
    with pytest.raises(ModelNotFound, match="tidemill models get resnet8_int8"):
        find("resnet8_int8", download=False)
    result = CliRunner().invoke(main, ["models", "get", "resnet8_int8"])
    assert result.exit_code == 1
    assert result.output.startswith("tidemill: error: resnet8_int8 is not in")
    assert not nowhere.exists()


class _Answer:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, size: int) -> bytes:
        block, self._content = self._content[:size], self._content[size:]
        return block


def test_download_is_kept_only_when_it_is_right(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = load_manifest()["hello_world_int8"]
    content = np.random.default_rng(1).bytes(entry.bytes)
    asked = []

    def answer(url: str, timeout: float) -> _Answer:
        asked.append(url)
        return _Answer(content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    with pytest.raises(WrongChecksum):
        find(entry.name)
    assert not nowhere.exists()
    assert asked == [entry.url]
    monkeypatch.setattr(
        "tidemill.models.store.entry",
        lambda name: type(entry)(**{**vars(entry), "sha256": hashlib.sha256(content).hexdigest()}),
    )
    seen: list[tuple[int, int]] = []
    path = find(entry.name, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert seen[-1] == (entry.bytes, entry.bytes)
    find(entry.name)
    assert len(asked) == 2


def test_command_lists_and_copies(nowhere: Path, tmp_path: Path) -> None:
    listed = CliRunner().invoke(main, ["models", "list"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in load_manifest())
    result = CliRunner().invoke(main, ["models", "get", "alexa", "-o", str(tmp_path / "a.tflite")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.tflite").read_bytes() == find("alexa").read_bytes()


# Sound


def sounds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    found = {f"loudness {a}": np.clip(rng.normal(0, a, 8000), -32768, 32767) for a in (0, 1, 30, 3000, 30000)}
    found["extremes"] = rng.choice(np.array([-32768, 0, 32767]), 8000)
    found["lowest"] = np.full(2000, -32768)
    found["sweep"] = 20000 * np.sin(np.arange(16000) ** 2 * 5e-5)
    found["lowest in the middle"] = rng.normal(0, 20, 8000)
    for start in range(0, 8000 - audio.WINDOW, audio.WAKE_WORD.step):  # the window's factor is 1 at 239 and 240
        found["lowest in the middle"][start + 200 : start + 240] = 9000
        found["lowest in the middle"][start + rng.integers(239, 241)] = -32768
    return {name: value.astype(np.int16) for name, value in found.items()}


def preprocessor(samples: np.ndarray) -> np.ndarray:
    interpreter = runtime.Interpreter.from_file(str(model("audio_preprocessor_int8")))
    rows = []
    for start in range(0, len(samples) - audio.WINDOW + 1, audio.MICRO_SPEECH.step):
        interpreter.set_input(samples[start : start + audio.WINDOW].reshape(1, -1), 0)
        interpreter.invoke()
        rows.append(interpreter.get_output(0))
    return np.array(rows)


@needs_folder
@pytest.mark.parametrize("name", sounds())
def test_micro_speech_features_are_those_of_the_preprocessor_model(name: str) -> None:
    samples = sounds()[name]
    np.testing.assert_array_equal(audio.micro_speech_features(samples), preprocessor(samples))


@pytest.mark.parametrize("name", sounds())
def test_wake_word_features_are_those_of_pymicro_features(name: str) -> None:
    data, rows, front_end = sounds()[name].tobytes(), [], MicroFrontend()
    while len(data) >= 2 * audio.WAKE_WORD.step:
        result = front_end.process_samples(data[: 2 * audio.WAKE_WORD.step])
        data = data[2 * result.samples_read :]
        rows += [result.features] if result.features else []
    mine = audio.FrontEnd(audio.WAKE_WORD).process(sounds()[name]) * 0.0390625
    np.testing.assert_array_equal(mine, np.array(rows))


def test_front_end_takes_sound_in_pieces() -> None:
    samples = sounds()["sweep"]
    whole = audio.FrontEnd(audio.WAKE_WORD).process(samples)
    front_end = audio.FrontEnd(audio.WAKE_WORD)
    parts = [front_end.process(part) for part in np.split(samples, [7, 500, 501, 3333, 9000])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    front_end.reset()
    np.testing.assert_array_equal(front_end.process(samples), whole)
    with pytest.raises(InputError, match="float64"):
        front_end.process(np.zeros(3))


@needs_folder
@pytest.mark.parametrize(("sound", "label"), [("silence", 0), ("noise", 0), ("yes", 2), ("no", 3)])
def test_words_are_heard(sound: str, label: int) -> None:
    heard = TfliteModel(model("micro_speech_quantized"))
    features = load_input(model(f"{sound}_wav"), (1, 1960), np.int8, (0.101715684, -128))
    assert heard(features)[heard.outputs[0]][0].argmax() == label


@needs_folder
@pytest.mark.parametrize(("image", "label"), [("no_person", 0), ("person", 1)])
def test_person_is_found(image: str, label: int) -> None:
    seen = TfliteModel(model("person_detect"))
    pixels = load_input(model(f"{image}_bmp"), (1, 96, 96, 1), np.int8, pixels="bytes")
    assert seen(pixels)[seen.outputs[0]][0].argmax() == label


# Input files


def test_npy_in_all_forms(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    value = np.random.default_rng(2).integers(-128, 128, (3, 1, 4, 5), dtype=np.int8)
    np.save(path, value)
    np.testing.assert_array_equal(load_inputs(path, (1, 4, 5), np.int8), value)
    np.save(path, value[0, 0])
    np.testing.assert_array_equal(load_input(path, (1, 4, 5), np.int8), value[0])
    np.save(path, np.array([[0.5, -0.5, 0.24, 100.0, -100.0]]))
    np.testing.assert_array_equal(load_input(path, (1, 5), np.int8, (1.0, 3)), [[4, 2, 3, 103, -97]])
    np.testing.assert_array_equal(load_input(path, (1, 5), np.uint8, (0.5, 3)), [[4, 2, 3, 203, 0]])


def test_images_in_all_forms(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    for name in ("x.png", "x.bmp"):
        Image.fromarray(pixels).save(tmp_path / name)
        np.testing.assert_array_equal(load_input(tmp_path / name, (1, 4, 6, 3), np.uint8)[0], pixels)
    path = tmp_path / "x.png"
    np.testing.assert_array_equal(load_input(path, (1, 4, 6, 3), np.int8)[0], pixels.astype(int) - 128)
    np.testing.assert_array_equal(
        load_input(path, (1, 4, 6, 3), np.int8, pixels="bytes")[0], (pixels.astype(int) + 128) % 256 - 128
    )
    np.testing.assert_array_equal(
        load_input(path, (1, 4, 6, 3), np.int8, (1 / 255, -128), pixels="unit")[0], pixels.astype(int) - 128
    )
    planes = load_input(path, (1, 3, 4, 6), np.float32, pixels="unit", layout="NCHW")[0]
    np.testing.assert_array_equal(planes, (pixels / np.float32(255)).transpose(2, 0, 1))
    assert load_input(path, (1, 8, 8, 1), np.int8, resize=True).shape == (1, 8, 8, 1)


def test_wave_gives_steps_of_a_stream(tmp_path: Path) -> None:
    samples = sounds()["sweep"]
    path = tmp_path / "x.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes(samples.tobytes())
    steps = load_inputs(path, (1, 3, 40), np.int8, (0.1019607857, -128))
    expected = audio.wake_word_features(samples, 0.1019607857, -128)
    np.testing.assert_array_equal(steps.reshape(-1, 40), expected[: 3 * len(steps)])
    assert steps.shape == (32, 1, 3, 40)
    with pytest.raises(InputError, match="32 inputs"):
        load_input(path, (1, 3, 40), np.int8, (0.1, -128))
    with pytest.raises(InputError, match=r"give the features as \.npy"):
        load_inputs(path, (1, 49, 10, 1), np.int8)


def test_unusable_inputs_name_the_file(tmp_path: Path) -> None:
    np.save(tmp_path / "shape.npy", np.zeros((2, 3), np.int8))
    np.save(tmp_path / "type.npy", np.zeros((1, 4), np.int32))
    np.save(tmp_path / "nan.npy", np.full((1, 4), np.nan))
    np.savez(tmp_path / "archive.npz", x=np.zeros(4))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    Image.new("L", (5, 4)).save(tmp_path / "size.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "size.png").read_bytes()[:40])
    for name in ("text.npy", "text.png", "text.wav", "text.txt"):
        (tmp_path / name).write_text("no input")
    with wave.open(str(tmp_path / "rate.wav"), "wb") as file:
        file.setparams((2, 2, 44100, 0, "NONE", "not compressed"))
        file.writeframes(bytes(400))
    with wave.open(str(tmp_path / "short.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes(bytes(400))
    for name, shape in {
        "shape.npy": (1, 4), "type.npy": (1, 4), "nan.npy": (1, 4), "archive.npy": (1, 4), "text.npy": (1, 4),
        "size.png": (1, 4, 4, 1), "cut.png": (1, 4, 5, 1), "text.png": (1, 4, 5, 1), "text.wav": (1, 3, 40),
        "rate.wav": (1, 3, 40), "short.wav": (1, 3, 40), "text.txt": (1, 4),
    }.items():  # fmt: skip
        with pytest.raises(InputError) as caught:
            load_inputs(tmp_path / name, shape, np.int8)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(InputError, match="2 channels"):
        load_inputs(tmp_path / "size.png", (1, 4, 5, 2), np.int8)
    with pytest.raises(FileNotFoundError):
        load_inputs(tmp_path / "missing.npy", (1, 4), np.int8)


# Reference runtimes


@pytest.mark.parametrize("name", MODELS)
def test_tflite_micro_runs_every_model_with_all_tensors(name: str) -> None:
    path = model(name)
    reference = TfliteModel(path)
    rng = np.random.default_rng(7)
    limits = np.iinfo(reference.dtypes[0])
    values = [
        rng.integers(limits.min, limits.max + 1, reference.shapes[0]).astype(reference.dtypes[0]) for _ in range(3)
    ]
    first = [reference(value) for value in values]
    reference.reset()
    again = [reference(value) for value in values]
    plain = run_tflite(path, values, preserve_all=False)
    assert set(reference.outputs) == set(plain[0]) < set(first[0])
    for one, two, three in zip(first, again, plain, strict=True):
        for output in reference.outputs:
            np.testing.assert_array_equal(one[output], two[output])
            np.testing.assert_array_equal(one[output], three[output])


def test_streams_keep_their_state_and_start_at_the_zero_point() -> None:
    reference = TfliteModel(model("okay_nabu"))
    value = np.random.default_rng(8).integers(-128, 128, (1, 3, 40), dtype=np.int8)
    read, joined = 57, 58  # READ_VARIABLE of the last two windows, and these before the new ones
    results = [reference(value) for _ in range(2)]
    np.testing.assert_array_equal(results[0][read], np.full((1, 2, 1, 40), -128))
    np.testing.assert_array_equal(results[1][read], results[0][joined][:, -2:])


def test_onnxruntime_shows_the_tensors_between_nodes() -> None:
    rng = np.random.default_rng(9)
    constants = {
        "s": np.float32(0.05), "z": np.int8(3), "ws": np.float32(0.01), "wz": np.int8(0),
        "w": rng.integers(-127, 128, (4, 3, 3, 3), dtype=np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(network)
    feed = {"x": rng.normal(0, 1, (1, 3, 6, 6)).astype(np.float32)}
    (full,), (plain,) = run_onnx(network, [feed]), run_onnx(network.SerializeToString(), [feed], intermediates=False)
    assert set(plain) == {"y"}
    assert set(full) == {"y", "xq", "cq"}
    np.testing.assert_array_equal(full["y"], (full["cq"].astype(np.float32) - 3) * np.float32(0.05))
    np.testing.assert_array_equal(full["xq"], np.clip(np.rint(feed["x"] / np.float32(0.05)) + 3, -128, 127))
