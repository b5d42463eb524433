"""The .tmb file: a program on disk (a compiled model has the same frame, see `compiler.model_file`).

bytes 0:8    magic "TIDEMILL"
bytes 8:10   format version, little-endian
bytes 10:18  length of the payload, little-endian
bytes 18:50  SHA-256 of the payload
bytes 50:    payload: a MessagePack map of configuration, words, buffers, relocations, semaphores and source lines
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgpack

from tidemill.config import ISA_VERSION, Config, ConfigError
from tidemill.files import write_whole
from tidemill.isa import BY_OPCODE, INSTRUCTION_BYTES
from tidemill.program import DTYPES, BufferDecl, Program, Relocation, SourceLine

MAGIC = b"TIDEMILL"
FORMAT_VERSION = 1
_HEADER_BYTES = len(MAGIC) + 2 + 8 + 32


MODEL_KIND = "model"
"""Entry `kind` of the payload of a compiled model; programs have no such entry."""

Decoded = TypeVar("Decoded")


class KindError(ValueError):
    """The file is whole, but holds something else."""


class ProgramFileError(ValueError):
    """A file that is not a program this version can read; the message names the file and why."""


def frame(payload: dict[str, Any]) -> bytes:
    """Header and packed `payload`: the content of a .tmb file."""
    packed: bytes = msgpack.packb(payload)
    header = MAGIC + FORMAT_VERSION.to_bytes(2, "little") + len(packed).to_bytes(8, "little")
    return header + hashlib.sha256(packed).digest() + packed


def unframe(content: bytes, name: str, decode: Callable[[dict[str, Any]], Decoded]) -> Decoded:
    """`decode` of the payload in `content`; raises ProgramFileError, which calls it `name`, where it is wrong."""

    def fail(why: str) -> ProgramFileError:
        return ProgramFileError(f"{name}: {why}")

    if content[: len(MAGIC)] != MAGIC[: len(content)] or not content:
        raise fail("not a Tidemill program (wrong magic)")
    if len(content) < _HEADER_BYTES:
        raise fail(f"truncated: {len(content)} bytes, the header alone has {_HEADER_BYTES}")
    version = int.from_bytes(content[8:10], "little")
    if version != FORMAT_VERSION:
        raise fail(f"format version {version}, this release reads version {FORMAT_VERSION}")
    length, payload = int.from_bytes(content[10:18], "little"), content[_HEADER_BYTES:]
    if len(payload) != length:
        state = "truncated" if len(payload) < length else "too long"
        raise fail(f"{state}: {len(payload)} of {length} payload bytes")
    if hashlib.sha256(payload).digest() != content[18:_HEADER_BYTES]:
        raise fail("corrupted: the checksum does not match")
    try:
        return decode(msgpack.unpackb(payload))
    except (ConfigError, KindError) as error:
        raise fail(str(error)) from None
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, msgpack.UnpackException) as error:
        raise fail(f"malformed payload: {error}") from None


def to_bytes(program: Program) -> bytes:
    """The content of the .tmb file of `program`."""
    return frame(encode_program(program))


def from_bytes(content: bytes, name: str = "program") -> Program:
    """The program in `content`; raises ProgramFileError, which calls it `name`."""
    return unframe(content, name, decode_program)


def save(program: Program, path: str | Path) -> None:
    """Write `program` to `path`; the file appears complete or not at all."""
    write_whole(path, to_bytes(program))


def load(path: str | Path) -> Program:
    """Read the program at `path`; raises ProgramFileError, and OSError where the file cannot be opened."""
    return from_bytes(Path(path).read_bytes(), str(path))


def encode_program(program: Program) -> dict[str, Any]:
    """A program as numbers, strings, bytes, lists and maps."""
    return {
        "isa": ISA_VERSION,
        "config": dataclasses.asdict(program.config),
        "words": b"".join(word.to_bytes(INSTRUCTION_BYTES, "little") for word in program.words),
        "buffers": [[b.name, b.dtype, list(b.shape), b.data] for b in program.buffers.values()],
        "relocations": [[r.index, r.field, r.buffer] for r in program.relocations],
        "semaphores": list(program.semaphores),
        "source": [[s.file, s.line, s.text] for s in program.source],
    }


def decode_program(payload: dict[str, Any]) -> Program:
    """The inverse of `encode_program`. Raises KindError, ConfigError, or what a malformed payload leads to."""
    if payload.get("kind") == MODEL_KIND:
        raise KindError("a compiled model, not a program; run it with: tidemill infer")
    if payload["isa"] != ISA_VERSION:
        raise ValueError(f"ISA version {payload['isa']}, this release has version {ISA_VERSION}")
    raw = payload["words"]
    if len(raw) % INSTRUCTION_BYTES:
        raise ValueError(f"{len(raw)} bytes are no whole number of instructions")
    words = tuple(
        int.from_bytes(raw[i : i + INSTRUCTION_BYTES], "little") for i in range(0, len(raw), INSTRUCTION_BYTES)
    )
    buffers: dict[str, BufferDecl] = {}
    for name, dtype, shape, data in payload["buffers"]:
        if dtype not in DTYPES:
            raise ValueError(f"buffer {name!r} has the unknown type {dtype!r}")
        buffers[name] = BufferDecl(name, dtype, tuple(int(size) for size in shape), data)
        if data is not None and len(data) != buffers[name].nbytes:
            raise ValueError(f"buffer {name!r} has {len(data)} bytes of data, not {buffers[name].nbytes}")
    relocations = tuple(Relocation(*entry) for entry in payload["relocations"])
    for relocation in relocations:
        if relocation.buffer not in buffers:
            raise ValueError(f"a relocation names the unknown buffer {relocation.buffer!r}")
        BY_OPCODE[words[relocation.index] & 0xFF].field(relocation.field)
    source = tuple(SourceLine(*entry) for entry in payload["source"])
    if source and len(source) != len(words):
        raise ValueError(f"{len(source)} source lines for {len(words)} instructions")
    return Program(Config(**payload["config"]), words, buffers, relocations, tuple(payload["semaphores"]), source)
