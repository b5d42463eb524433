"""A compiled model on disk: a .tmb file whose payload has the entry `kind` = "model".

The frame (magic, version, length, SHA-256) is that of `program_file`. The payload holds the program, compressed, and
the records of `compiled.CompiledModel` as lists of their fields. Arrays are MessagePack extensions: type, shape and
compressed bytes; integers take the narrowest type that holds them, indices are stored as differences.
"""

from __future__ import annotations

import dataclasses
import math
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.compiled import Border, CompiledModel, HostStep, NpuStep, OpInfo, Value, Variable
from tidemill.compiler.host import FUNCTIONS
from tidemill.files import write_whole
from tidemill.program import Program
from tidemill.program_file import MODEL_KIND, KindError, decode_program, encode_program, frame, unframe

_ARRAY = 1
"""MessagePack extension: [dtype, stored dtype, differences, shape, zlib bytes]."""
_NARROW = ("int8", "int16", "int32")
_LARGEST = 1 << 32
"""Bytes an array of a file may have."""

Record = TypeVar("Record")


def save(model: CompiledModel, path: str | Path) -> None:
    """Write `model` to `path`; the file appears complete or not at all."""
    write_whole(path, to_bytes(model))


def load(path: str | Path) -> CompiledModel:
    """Read the model at `path`; raises ProgramFileError, and OSError where the file cannot be opened."""
    return from_bytes(Path(path).read_bytes(), str(path))


def load_any(path: str | Path) -> CompiledModel | Program:
    """Read the compiled model or the program at `path`; raises ProgramFileError, OSError."""
    return unframe(Path(path).read_bytes(), str(path), _decode_any)


def load_program(path: str | Path) -> Program:
    """The program at `path`, or that of the compiled model there; raises ProgramFileError, OSError."""
    loaded = load_any(path)
    return loaded.program if isinstance(loaded, CompiledModel) else loaded


def to_bytes(model: CompiledModel) -> bytes:
    """The content of the .tmb file of `model`."""
    payload: dict[str, Any] = {
        "kind": MODEL_KIND,
        "program": zlib.compress(msgpack.packb(encode_program(model.program)), 1),
        "steps": [[type(step).__name__, *_fields(step)] for step in model.steps],
    }
    for name, record in _RECORDS.items():
        payload[name] = [_fields(entry) for entry in getattr(model, name) if isinstance(entry, record)]
    for field in dataclasses.fields(model):
        payload.setdefault(field.name, getattr(model, field.name))
    return frame(_plain(payload))


def from_bytes(content: bytes, name: str = "model") -> CompiledModel:
    """The model in `content`; raises ProgramFileError, which calls it `name`."""
    return unframe(content, name, _decode)


_RECORDS: dict[str, type] = {
    "values": Value,
    "inputs": Border,
    "outputs": Border,
    "exposed": Border,
    "variables": Variable,
    "ops": OpInfo,
}
"""Fields of `CompiledModel` that are tuples of records."""


def _fields(record: Any) -> list[Any]:
    """Values of a dataclass, in order."""
    return [getattr(record, field.name) for field in dataclasses.fields(record)]


def _plain(value: Any) -> Any:
    """`value` with everything that MessagePack does not know replaced."""
    match value:
        case np.ndarray():
            return _pack_array(value)
        case np.generic():
            return value.item()
        case dict():
            return {key: _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
    return value


def _pack_array(array: NDArray[Any]) -> msgpack.ExtType:
    dtype, stored, differences = array.dtype, array.reshape(-1), False
    if dtype == np.int64 and array.size:
        steps = np.diff(stored, prepend=0)
        differences = int(np.abs(steps).max()) <= int(np.abs(stored).max())
        stored = steps if differences else stored
        low, high = int(stored.min()), int(stored.max())
        fitting = (n for n in _NARROW if np.iinfo(n).min <= low and high <= np.iinfo(n).max)
        stored = stored.astype(next(fitting, "int64"))
    data = zlib.compress(stored.astype(stored.dtype.newbyteorder("<"), copy=False).tobytes(), 6)
    entry = [dtype.name, stored.dtype.name, differences, list(array.shape), data]
    return msgpack.ExtType(_ARRAY, msgpack.packb(entry))


def _unpack_array(entry: bytes) -> NDArray[Any]:
    name, stored_name, differences, shape, data = msgpack.unpackb(entry)
    dtype, stored = np.dtype(name), np.dtype(stored_name).newbyteorder("<")
    if dtype.hasobject or stored.hasobject or any(size < 0 for size in shape):
        raise ValueError(f"an array of {name} {shape}")
    nbytes = math.prod(shape) * stored.itemsize
    if nbytes > _LARGEST:
        raise ValueError(f"an array of {nbytes} bytes")
    try:
        raw = zlib.decompressobj().decompress(data, nbytes + 1)
    except zlib.error as error:
        raise ValueError(f"an array cannot be unpacked: {error}") from None
    if len(raw) != nbytes:
        raise ValueError(f"an array of {nbytes} bytes has {len(raw)}")
    values = np.frombuffer(raw, stored)
    return (np.cumsum(values, dtype=np.int64) if differences else values).astype(dtype).reshape(shape)


def _arrays(value: Any) -> Any:
    """`value` with every packed array unpacked."""
    match value:
        case msgpack.ExtType(code=code, data=data):
            if code != _ARRAY:
                raise ValueError(f"extension {code}")
            return _unpack_array(data)
        case dict():
            return {key: _arrays(entry) for key, entry in value.items()}
        case list():
            return [_arrays(entry) for entry in value]
    return value


def _decode_any(payload: dict[str, Any]) -> CompiledModel | Program:
    return _decode(payload) if payload.get("kind") == MODEL_KIND else decode_program(payload)


def _decode(payload: dict[str, Any]) -> CompiledModel:
    if payload.get("kind") != MODEL_KIND:
        raise KindError("a program, not a compiled model; run it with: tidemill run")
    try:
        packed = zlib.decompress(payload.pop("program"))
    except zlib.error as error:
        raise ValueError(f"the program cannot be unpacked: {error}") from None
    content = _arrays(payload)
    fields: dict[str, Any] = {"program": decode_program(msgpack.unpackb(packed))}
    fields["steps"] = tuple(_step(*entry) for entry in content["steps"])
    for name, record in _RECORDS.items():
        fields[name] = tuple(_record(record, entry) for entry in content[name])
    for field in dataclasses.fields(CompiledModel):
        if field.name not in fields:
            fields[field.name] = _checked(content[field.name], str(field.type), field.name)
    model = CompiledModel(**fields)
    _check(model)
    return model


_STEPS: dict[str, type[NpuStep] | type[HostStep]] = {"NpuStep": NpuStep, "HostStep": HostStep}


def _step(kind: str, *values: Any) -> NpuStep | HostStep:
    step: NpuStep | HostStep = _record(_STEPS[kind], list(values))
    return step


def _record(record: type[Record], values: Sequence[Any]) -> Record:
    """A dataclass from its values; lists of numbers become tuples. Raises ValueError for a value of a wrong type."""
    fields = dataclasses.fields(record)  # type: ignore[arg-type]
    if len(values) != len(fields):
        raise ValueError(f"{len(values)} values for the {len(fields)} of {record.__name__}")
    named = zip(values, fields, strict=True)
    return record(*(_checked(value, str(field.type), f"{record.__name__}.{field.name}") for value, field in named))


_TYPES: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int,
    "float": lambda value: isinstance(value, (int, float)),
    "None": lambda value: value is None,
    "tuple": lambda value: isinstance(value, list),
    "dict": lambda value: isinstance(value, dict),
    "NDArray": lambda value: isinstance(value, np.ndarray),
}


def _checked(value: Any, annotation: str, what: str) -> Any:
    """`value` as its annotation has it. Raises ValueError."""
    heads = re.sub(r"\[.*\]|\s", "", annotation).split("|")
    if not any(_TYPES[head](value) for head in heads):
        raise ValueError(f"{what} is a {type(value).__name__}")
    return tuple(value) if isinstance(value, list) and "tuple" in heads else value


def _check(model: CompiledModel) -> None:
    """Raises ValueError where numbers of the model point nowhere, so that a session can trust them."""
    words, buffers = len(model.program.words), model.program.buffers
    for value in model.values:
        if value.buffer is not None and value.buffer not in buffers:
            raise ValueError(f"value {value.name!r} lies in the unknown buffer {value.buffer!r}")
        if value.data is not None and (value.data.shape, value.data.dtype) != (value.shape, np.dtype(value.dtype)):
            raise ValueError(f"value {value.name!r} is {value.data.dtype} {value.data.shape}")
        np.dtype(value.dtype)

    def known(number: Any, what: str) -> Value:
        if type(number) is not int or not 0 <= number < len(model.values):
            raise ValueError(f"{what} names value {number!r} of {len(model.values)}")
        return model.values[number]

    for borders, incoming in ((model.inputs, True), (model.outputs, False), (model.exposed, False)):
        for border in borders:
            value = known(border.value, f"border {border.name!r}")
            inner, outer = math.prod(value.shape), math.prod(border.shape)
            np.dtype(border.dtype)
            size, limit = (inner, outer) if incoming else (outer, inner)
            index = border.index
            if index is None and inner != outer:
                raise ValueError(f"border {border.name!r} has {outer} elements, its tensor {inner}")
            if index is not None and (
                index.size != size or (index.size and not -1 <= index.min() <= index.max() < limit)
            ):
                raise ValueError(f"border {border.name!r} has an index that does not fit")
    for variable in model.variables:
        if math.prod(known(variable.value, f"variable {variable.name!r}").shape) != variable.initial.size:
            raise ValueError(f"variable {variable.name!r} has {variable.initial.size} elements")
    for step in model.steps:
        if isinstance(step, NpuStep):
            if not (step.first >= 0 and step.count > 0 and step.first + step.count <= words):
                raise ValueError(f"instructions {step.first} to {step.first + step.count} of {words}")
            numbers = step.ops
        else:
            if step.function not in FUNCTIONS:
                raise KindError(f"it needs the host function {step.function!r}, which this release does not have")
            for source in (*step.inputs, *step.outputs):
                if not isinstance(source, np.ndarray):
                    known(source, step.function)
            numbers = (step.op,)
        if any(type(number) is not int or not 0 <= number < len(model.ops) for number in numbers):
            raise ValueError(f"a step names operations {numbers} of {len(model.ops)}")
