"""The instruction stream a kernel writes: sequential, without semaphores.

A kernel emits instructions as if one engine did everything, one after another. What each instruction touches follows
from the instruction itself (`checker.access`), so `schedule` can let the engines run beside each other and place the
semaphores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tidemill.builder import encode_operands
from tidemill.checker.access import Access, accesses
from tidemill.checker.trace import CONFIGURATION
from tidemill.config import Config
from tidemill.isa import BY_MNEMONIC, Engine, decode
from tidemill.iss.timing import Timing
from tidemill.operands import BufferRef
from tidemill.program import BUFFER_ALIGNMENT, DTYPES, BufferDecl

SETTINGS = (*CONFIGURATION, "vx.quant")
"""Configuration that is skipped where it would repeat what holds already."""


@dataclass(frozen=True)
class Instruction:
    """One emitted engine instruction; `word` has no semaphores yet. `buffer` is what its DRAM field names. `cycles`
    is how long it occupies its engine, `latency` how long until its effects are complete (estimates). `op` is the
    number of the operation it belongs to."""

    mnemonic: str
    engine: Engine
    word: int
    buffer: str | None
    accesses: tuple[Access, ...]
    cycles: int
    latency: int
    op: int


class Stream:
    """Collects instructions and buffers. Methods as `ProgramBuilder`'s (`stream.ld_run(...)`), without wait and
    signal; loops and registers do not exist here: programs are unrolled."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.timing = Timing()
        self.instructions: list[Instruction] = []
        self.buffers: dict[str, BufferDecl] = {}
        self.ends: list[int] = []
        """Number of instructions at the end of each segment."""
        self._constants: dict[tuple[str, tuple[int, ...], bytes], BufferRef] = {}
        self._op = 0
        self._reset()

    def _reset(self) -> None:
        self._settings = {name: {f.name: f.default or 0 for f in BY_MNEMONIC[name].fields} for name in SETTINGS}

    def buffer(self, name: str, dtype: str, shape: tuple[int, ...], data: bytes | None = None) -> BufferRef:
        """Declare a DRAM buffer."""
        if name in self.buffers:
            raise ValueError(f"buffer {name!r} exists")
        self.buffers[name] = BufferDecl(name, dtype, shape, data)
        return BufferRef(name, self.buffers[name].nbytes)

    def constant(self, array: np.ndarray, name: str = "") -> BufferRef:
        """A constant in DRAM, int8 or int32; equal ones are shared."""
        data = np.ascontiguousarray(array).astype(DTYPES[array.dtype.name], copy=False)
        key = (array.dtype.name, array.shape, data.tobytes())
        if key not in self._constants:
            label = f"const{len(self._constants)}" + (f".{name}" if name else "")
            self._constants[key] = self.buffer(label, array.dtype.name, array.shape, key[2])
        return self._constants[key]

    @contextmanager
    def operation(self, number: int) -> Iterator[None]:
        """Instructions inside belong to operation `number`."""
        self._op = number
        yield

    def end_segment(self) -> None:
        """Everything so far completes before what follows: the host takes over in between."""
        self.ends.append(len(self.instructions))
        self._reset()

    def __getattr__(self, name: str) -> Callable[..., None]:
        mnemonic = name.replace("_", ".", 1)
        if name.startswith("_") or mnemonic not in BY_MNEMONIC:
            raise AttributeError(f"Stream has no instruction or attribute {name!r}")
        return partial(self.emit, mnemonic)

    def emit(self, mnemonic: str, **operands: Any) -> None:
        """Append one instruction; operands by field name. Raises BuildError."""
        op = BY_MNEMONIC[mnemonic]
        word, buffers = encode_operands(self.config, op, operands)
        values = dict(decode(word).values)
        if mnemonic in self._settings:
            setting = {field.name: values[field.name] for field in op.fields}
            if self._settings[mnemonic] == setting:
                return
            self._settings[mnemonic] = setting
        touched = tuple(accesses(self.config, mnemonic, values, self._settings))
        cycles, latency = self._cost(mnemonic, values)
        self.instructions.append(
            Instruction(mnemonic, op.engine, word, buffers.get("dram"), touched, cycles, latency, self._op)
        )

    def _cost(self, mnemonic: str, values: dict[str, int]) -> tuple[int, int]:
        config, timing = self.config, self.timing
        if mnemonic in ("ld.run", "st.run"):
            lines = values["n1"] * values["n2"]
            space_bytes = config.acc_row_bytes if values["dst" if "dst" in values else "src"] >> 15 else config.dim
            beats = lines * -(-values["n0"] * space_bytes // config.axi_bytes)
            if mnemonic == "st.run":
                return beats + lines, beats + lines + timing.store_setup + timing.store_pipeline + timing.write_latency
            local = self._settings["ld.dst"]
            padding = lines * (local["pad_lo"] + local["pad_hi"])
            busy = max(beats, lines) + padding
            return busy, busy + timing.load_setup + timing.read_latency + timing.load_pipeline
        if mnemonic == "mx.wload":
            return config.rows, config.rows + timing.wload_setup + timing.wload_pipeline
        if mnemonic == "mx.run":
            act = self._settings["mx.act"]
            rows = act["n0"] * act["n1"] * act["n2"]
            return rows + timing.run_gap, rows + 2 * config.rows + timing.run_pipeline
        if mnemonic.startswith("vx.") and "post" in values:
            dims = self._settings["vx.dims"]
            window = dims["k0"] * dims["k1"]
            lanes = config.cols // config.requant_lanes if values["post"] else 1
            busy = dims["n0"] * dims["n1"] * max(window, lanes) + timing.vector_setup + timing.vector_pipeline
            return busy, busy + (lanes + timing.vector_requant if values["post"] else 0)
        return timing.config, timing.config


def aligned(nbytes: int) -> int:
    """`nbytes` rounded up to what buffers are aligned to."""
    return -(-nbytes // BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT
