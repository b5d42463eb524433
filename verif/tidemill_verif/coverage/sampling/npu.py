"""Samples the points of `plan/npu.py` on the Verilated machine: programs, instructions as engines take and complete
them, errors."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import uuid
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tidemill.config import Config
from tidemill.csr import Cause, Unit, bit, offset
from tidemill.isa import ACC_SPACE, BY_OPCODE, ENGINES, INSTRUCTION_BYTES, SIGNAL, WAIT, Engine, decode
from tidemill.iss.frontend import Frontend
from tidemill.iss.memory import MachineFault
from tidemill_verif.coverage.collect import CODE, code_wanted, folder, hit
from tidemill_verif.coverage.isa_bins import operand_hits
from tidemill_verif.coverage.plan import PLAN
from tidemill_verif.coverage.plan.npu import ERRORS
from tidemill_verif.coverage.plan.sync import DONES, ENGINE_NAMES
from tidemill_verif.coverage.point import join
from tidemill_verif.coverage.sampling.sync import bits
from tidemill_verif.toolchain import build_env, verilator_bin

MATRIX, WEIGHTS = ENGINES.index(Engine.MATRIX), DONES.index("weights")
_CONCURRENT = PLAN["npu.operand_concurrent"].bin_set
_EVENT = np.dtype([("cycle", "<u8"), ("kind", "<u4"), ("word", "<u4", 4)], align=True)
_COMPLETIONS = 4
_MAX_STEPS = 200_000
_OFFSETS = {name: offset(name) for name in (
    "PROG_ADDR", "PROG_LEN", "READ_BASE", "READ_LIMIT", "WRITE_BASE", "WRITE_LIMIT")}  # fmt: skip
_START, _SOFT_RESET = bit("CONTROL", "start"), bit("CONTROL", "soft_reset")
_DONE, _ERROR = bit("STATUS", "done"), bit("STATUS", "error")


class NpuSampler:
    """Follows one device. `memory` is its DRAM; the library must be a build with coverage."""

    def __init__(self, config: Config, lib: ctypes.CDLL, handle: int | None, memory: NDArray[np.uint8]) -> None:
        lib.tm_probe_count.restype, lib.tm_probe_count.argtypes = ctypes.c_uint64, [ctypes.c_void_p]
        lib.tm_probe_events.restype, lib.tm_probe_events.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
        lib.tm_probe_clear.restype, lib.tm_probe_clear.argtypes = None, [ctypes.c_void_p]
        self._config, self._lib, self._handle, self._memory = config, lib, handle, memory
        self._registers = dict.fromkeys(_OFFSETS.values(), 0)
        self._cause = Cause.NONE
        self._running = self._ended = False
        self._program = b""
        self._seen: set[tuple[int, int]] = set()
        self._bins: dict[int, tuple[str, ...]] = {}

    def wrote(self, at: int, value: int) -> None:
        """The host writes a register."""
        if at in self._registers:
            self._registers[at] = value
        elif at == offset("CONTROL"):
            if value & _SOFT_RESET:
                if self._running and not self._ended:
                    hit("npu.end", "soft reset")
                self._finish()
            elif value & _START and not self._running:
                self._finish()
                first = self._registers[_OFFSETS["PROG_ADDR"]]
                length = INSTRUCTION_BYTES * self._registers[_OFFSETS["PROG_LEN"]]
                self._program = self._memory[first : first + length].tobytes()
                self._running = True

    def read(self, at: int, value: int) -> None:
        """The host has read a register."""
        if at == offset("STATUS") and self._running and value & (_DONE | _ERROR):
            hit("npu.end", "halt" if value & _DONE else "error")
            if value & _DONE:
                self._executed()
                self._finish()
            self._ended = True
        elif at == offset("ERROR_CAUSE"):
            self._cause = Cause(value)
        elif at == offset("ERROR_UNIT") and self._cause is not Cause.NONE:
            name = join(Unit(value).name, self._cause.name)
            if name in ERRORS:
                hit("npu.error", name)

    def close(self) -> None:
        """Sample what is left and keep the code coverage."""
        self._finish()
        target = folder()
        if target is None or not code_wanted():
            return
        (target / CODE).mkdir(parents=True, exist_ok=True)
        kept = target / CODE / f"npu-{self._config.name}-{os.getpid()}.dat"
        part = kept.with_name(f"{uuid.uuid4().hex}.part")
        write = self._lib.tm_coverage_write
        write.restype, write.argtypes = None, [ctypes.c_void_p, ctypes.c_char_p]
        write(self._handle, str(part).encode())
        if kept.exists():
            merged = part.with_suffix(".merged")
            command = [verilator_bin() / "verilator_coverage", "--write", merged, kept, part]
            subprocess.run(command, env=build_env(), check=True, capture_output=True)
            part.unlink()
            part = merged
        part.rename(kept)

    def _executed(self) -> None:
        """Sample the instructions of a program that came to its halt."""
        frontend = Frontend(self._config)
        frontend.start(self._program, len(self._program) // INSTRUCTION_BYTES)
        seen: set[int] = set()
        depth = 0
        for _ in range(_MAX_STEPS):
            at = frontend.pc
            try:
                instruction = frontend.current()
                if at not in seen:
                    seen.add(at)
                    hit("npu.opcode", instruction.mnemonic)
                    hit("npu.operand", *self._operands(instruction.word))
                if instruction.mnemonic == "halt":
                    return
                goes_back = frontend.step(instruction)
            except MachineFault:
                return
            if instruction.mnemonic == "loop" and frontend.pc == at + 1:
                depth += 1
                hit("npu.loop_depth", depth)
            elif instruction.mnemonic == "endloop" and not goes_back:
                depth -= 1

    def _operands(self, word: int) -> tuple[str, ...]:
        found = self._bins.get(word)
        if found is None:
            decoded = decode(word)
            found = self._bins[word] = tuple(operand_hits(decoded.op, decoded.values))
        return found

    def _finish(self) -> None:
        """Sample the events since the last call."""
        count = self._lib.tm_probe_count(self._handle)
        if count:
            data = ctypes.string_at(self._lib.tm_probe_events(self._handle), count * _EVENT.itemsize)
            self._lib.tm_probe_clear(self._handle)
            self._sample(np.frombuffer(data, _EVENT))
        self._running = self._ended = False

    def _sample(self, events: NDArray[np.void]) -> None:
        inside: list[list[int]] = [[] for _ in ENGINES]
        state: list[dict[str, int]] = [{}, {}]
        words = [int.from_bytes(raw.tobytes(), "little") for raw in events["word"]]
        hit("npu.engines", "none")
        for kind, word in zip(events["kind"].tolist(), words, strict=True):
            if kind == _COMPLETIONS:
                self._completed(inside, word)
            else:
                self._taken(inside, kind, word)
                if kind < len(state):
                    self._transfer(state[kind], kind, word)
            busy = [name for name, queue in zip(ENGINE_NAMES, inside, strict=True) if queue]
            hit("npu.engines", "+".join(busy) or "none")

    def _taken(self, inside: list[list[int]], engine: int, word: int) -> None:
        name = ENGINE_NAMES[engine]
        hit("npu.wait", *(join(name, number) for number in bits(word >> WAIT.lo & 0xFFFF)))
        self._rows(name, word)
        inside[engine].append(word)
        for other, queue in enumerate(inside):
            if other != engine and queue:
                self._together(word, other)
                for running in queue:
                    self._together(running, engine)

    def _together(self, word: int, other: int) -> None:
        """Sample `word` inside its engine while `other` is busy."""
        if (word, other) in self._seen:
            return
        self._seen.add((word, other))
        name = ENGINE_NAMES[other]
        hit("npu.concurrent", join(BY_OPCODE[word & 0xFF].mnemonic, name))
        bins = (join(operand, name) for operand in self._operands(word))
        hit("npu.operand_concurrent", *(found for found in bins if found in _CONCURRENT))

    def _completed(self, inside: list[list[int]], dones: int) -> None:
        ports = [port for port in range(len(DONES)) if dones >> port & 1]
        for a, b in itertools.combinations(ports, 2):
            hit("npu.finish", join(DONES[a], DONES[b]))
        for port in ports:
            queue = inside[MATRIX if port == WEIGHTS else port]
            loads = [BY_OPCODE[word & 0xFF].mnemonic == "mx.wload" for word in queue]
            wanted = port == WEIGHTS
            if wanted in loads:
                word = queue.pop(loads.index(wanted))
                hit("npu.signal", *(join(DONES[port], number) for number in bits(word >> SIGNAL.lo & 0xFFFF)))

    def _rows(self, engine: str, word: int) -> None:
        decoded = decode(word)
        for field in decoded.op.fields:
            if field.index is None or field.width != 16:
                continue
            address = decoded.values[field.name]
            if field.name == "b" and decoded.values.get("b_imm"):
                continue
            rows = self._config.acc_rows if address & ACC_SPACE else self._config.spad_rows
            place = {0: "first", rows - 1: "last"}.get(address & (ACC_SPACE - 1))
            if place:
                hit("npu.row", f"{engine}, {'acc' if address & ACC_SPACE else 'spad'} {place}")

    def _transfer(self, state: dict[str, int], engine: int, word: int) -> None:
        """Sample whether a transfer begins or ends at its window's edge."""
        decoded = decode(word)
        values: Mapping[str, int] = decoded.values
        if not decoded.op.mnemonic.endswith(".run"):
            if decoded.op.mnemonic.endswith(".stride"):
                state.update(values)
            return
        name, side = ENGINE_NAMES[engine], ("READ", "WRITE")[engine]
        local = values["dst" if engine == 0 else "src"]
        row = self._config.acc_row_bytes if local & ACC_SPACE else self._config.spad_row_bytes
        if not values["n0"]:
            return
        lines = [
            values["dram"] + p * state.get("s2", 0) + q * state.get("s1", 0)
            for p in {0, values["n2"] - 1} for q in {0, values["n1"] - 1}
        ]  # fmt: skip
        if min(lines) == self._registers[_OFFSETS[f"{side}_BASE"]]:
            hit("npu.window", f"{name}, at base")
        if max(lines) + values["n0"] * row - 1 == self._registers[_OFFSETS[f"{side}_LIMIT"]]:
            hit("npu.window", f"{name}, at limit")
