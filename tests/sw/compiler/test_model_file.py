"""Compiled models on disk: what is read equals what was written, and damaged files are refused."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidemill import program_file
from tidemill.builder import ProgramBuilder, spad
from tidemill.compiler import model_file
from tidemill.compiler.compiled import Border, CompiledModel, HostStep, NpuStep, OpInfo, Value, Variable
from tidemill.config import preset
from tidemill.program_file import ProgramFileError

HEADER_BYTES = 50
MUTATIONS = 300


def program() -> Any:
    """Two buffers, a constant, a transfer and two segments."""
    builder = ProgramBuilder(preset("tiny"))
    x = builder.buffer("t0.x", "int8", (2, 4, 4))
    builder.buffer("const0", "int8", (4, 4), np.arange(16, dtype=np.int8).reshape(4, 4))
    builder.ld_run(dst=spad(0), dram=x, n0=8)
    builder.halt()
    builder.halt()
    return builder.build()


def model() -> CompiledModel:
    """One of everything that a file can hold."""
    rng = np.random.default_rng(1)
    index = np.where(np.arange(32) % 5 == 0, -1, rng.permutation(32)).reshape(4, 8)
    attributes = {"axes": [1, 2], "scale": np.float32(0.5), "name": "n", "flag": True, "taps": rng.normal(size=(2, 3))}
    return CompiledModel(
        name="everything",
        program=program(),
        steps=(
            NpuStep(0, 2, 100, (0,)),
            HostStep(1, "tflite.dequantize", attributes, (0, np.array([1.5, -2], np.float32)), (1,)),
            NpuStep(2, 1, 0, (2,)),
        ),
        values=(Value("x", (4, 8), "int8", "t0.x"), Value("y", (4, 8), "float32", None), Value("c", (), "int64", None)),
        inputs=(Border("in", 0, (32,), "uint8", 0.25, 3, 128, index.astype(np.int64), -7),),
        outputs=(Border("out", 1, (4, 8), "float32", None, 0, 0, None, 0),),
        exposed=(Border("mid", 1, (32,), "float32", None, 0, 0, np.arange(32)[::-1].copy(), 0),),
        variables=(Variable("state", 0, rng.integers(-128, 128, (4, 8)).astype(np.int8)),),
        ops=(
            OpInfo("a", "CONV_2D", "Conv2D", 1000),
            OpInfo("b", "DEQUANTIZE", "Host", 0),
            OpInfo("c", "ADD", "Add", 0),
        ),
        arena_bytes=4096,
        arena_bound=4000,
    )


def same(a: Any, b: Any) -> bool:
    """Equal in values, and in the types of arrays."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def test_what_is_read_equals_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "m.tmb"
    model_file.save(model(), path)
    assert same(model_file.load(path), model())
    assert same(model_file.load_any(path), model())
    assert not same(dataclasses.replace(model(), arena_bytes=1), model())
    assert list(tmp_path.iterdir()) == [path]


def test_an_index_takes_little_room() -> None:
    index = np.arange(96 * 96 * 27).reshape(96, 96, 27).transpose(1, 0, 2).copy()
    border = dataclasses.replace(model().inputs[0], index=index, shape=(index.size,))
    values = (Value("x", index.shape, "int8", None), *model().values[1:])
    large = dataclasses.replace(model(), inputs=(border,), values=values, variables=(), exposed=())
    content = model_file.to_bytes(large)
    assert len(content) < index.nbytes / 100
    np.testing.assert_array_equal(model_file.from_bytes(content).inputs[0].index, index)


@pytest.mark.parametrize(
    "array",
    [
        np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max, 0, -1]),
        np.zeros((0, 3), np.int64),
        np.array(7),
        np.array([1e-300, np.inf, -0.0]),
        np.array([[True, False]]),
        np.array([2**31 - 1, -(2**31)], np.int32),
        np.asfortranarray(np.arange(12).reshape(3, 4)),
    ],
)
def test_arrays_of_any_type_come_back(array: np.ndarray) -> None:
    step = HostStep(1, "tflite.dequantize", {"array": array}, (0,), (1,))
    content = model_file.to_bytes(dataclasses.replace(model(), steps=(step,)))
    read = model_file.from_bytes(content).steps[0]
    assert isinstance(read, HostStep)
    assert same(read.attributes["array"], array)


def test_a_model_is_no_program_and_the_reverse(tmp_path: Path) -> None:
    model_file.save(model(), tmp_path / "m.tmb")
    program_file.save(program(), tmp_path / "p.tmb")
    with pytest.raises(ProgramFileError, match=r"m\.tmb: a compiled model, not a program; run it with: tidemill infer"):
        program_file.load(tmp_path / "m.tmb")
    with pytest.raises(ProgramFileError, match=r"p\.tmb: a program, not a compiled model; run it with: tidemill run"):
        model_file.load(tmp_path / "p.tmb")
    assert model_file.load_any(tmp_path / "p.tmb") == program()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": (NpuStep(2, 5, 0, (0,)),)}, "instructions 2 to 7 of 3"),
        ({"steps": (NpuStep(0, 1, 0, (9,)),)}, r"a step names operations \(9,\) of 3"),
        ({"steps": (HostStep(1, "tflite.dequantize", {}, (8,), (1,)),)}, "tflite.dequantize names value 8 of 3"),
        ({"steps": (HostStep(1, "other.thing", {}, (0,), (1,)),)}, "it needs the host function 'other.thing'"),
        ({"values": (Value("x", (4, 8), "int8", "gone"), *model().values[1:])}, "the unknown buffer 'gone'"),
        ({"inputs": (Border("in", 0, (31,), "int8", None, 0, 0, None, 0),)}, "border 'in' has 31 elements"),
        ({"outputs": (Border("o", 1, (2,), "int8", None, 0, 0, np.array([0, 32]), 0),)}, "an index that does not fit"),
        ({"variables": (Variable("s", 0, np.zeros(3, np.int8)),)}, "variable 's' has 3 elements"),
        ({"arena_bytes": "many"}, "arena_bytes is a str"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    content = model_file.to_bytes(dataclasses.replace(model(), **change))
    with pytest.raises(ProgramFileError, match=rf"^broken\.tmb: .*{message}"):
        model_file.from_bytes(content, "broken.tmb")


def refusal(content: bytes) -> str | None:
    """The error that reading `content` ends with, if any."""
    try:
        model_file.from_bytes(content, "damaged.tmb")
    except ProgramFileError as error:
        return str(error)
    return None


@pytest.mark.parametrize("signed", [False, True])
def test_damaged_files_are_refused_with_one_error(signed: bool) -> None:
    """Cut, lengthened and bit-flipped content; `signed`: with a checksum that fits; flips that only change a name
    or a number are no damage then."""
    content = model_file.to_bytes(model())
    rng = np.random.default_rng(2)
    accepted = 0
    for number in range(MUTATIONS):
        start = HEADER_BYTES if signed else 0
        damaged = bytearray(content)
        match number % 3:
            case 0:
                damaged = damaged[: int(rng.integers(start, len(content)))]
            case 1:
                damaged[int(rng.integers(start, len(content)))] ^= 1 << int(rng.integers(8))
            case 2:
                first = int(rng.integers(start, len(content)))
                damaged[first : first + 8] = rng.bytes(int(rng.integers(9)))
        if bytes(damaged) == content:
            continue
        if signed:
            payload = bytes(damaged[HEADER_BYTES:])
            damaged[10:HEADER_BYTES] = len(payload).to_bytes(8, "little") + hashlib.sha256(payload).digest()
        message = refusal(bytes(damaged))
        accepted += message is None
        assert message is None or (message.startswith("damaged.tmb: ") and "\n" not in message), f"mutation {number}"
    assert accepted < MUTATIONS // 4 if signed else accepted == 0
