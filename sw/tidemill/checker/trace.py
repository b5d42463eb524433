"""Runs a program's control flow: the instructions each engine gets, with registers added and what they touch."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.checker.access import Access, Settings, accesses, out_of_range
from tidemill.checker.findings import Finding, where
from tidemill.isa import BY_MNEMONIC, Decoded, EncodingError, Engine, decode
from tidemill.operands import REQUIRED_SPACE
from tidemill.program import Program

MAX_INSTRUCTIONS = 500_000
"""Instructions the checker executes before it gives up."""

CONFIGURATION = (
    "ld.stride", "ld.dst", "st.stride", "st.src", "mx.act", "mx.acc", "vx.dims", "vx.astride", "vx.bstride",
)  # fmt: skip
"""Instructions that set what later instructions touch."""

_WORD = 1 << 32


@dataclass(frozen=True)
class Step:
    """One dispatched instruction: an engine's, `fence` or `halt`. `buffer` is the buffer a DRAM access lies in (empty:
    absolute address; None: no DRAM access)."""

    index: int
    engine: Engine
    mnemonic: str
    wait: int
    signal: int
    mask: int
    accesses: tuple[Access, ...]
    buffer: str | None


@dataclass(frozen=True)
class _Number:
    """A register's value: `value` bytes into `buffer` (empty: a plain number)."""

    value: int
    buffer: str = ""


class _Stop(Exception):
    """Execution ends here, with a finding."""


def trace(program: Program, max_instructions: int) -> tuple[list[Step], list[Finding]]:
    """Dispatched instructions in order, and errors of single instructions."""
    machine = _Machine(program)
    machine.run(max_instructions)
    return machine.steps, machine.findings


class _Machine:
    def __init__(self, program: Program) -> None:
        self.program, self.config = program, program.config
        self.steps: list[Step] = []
        self.findings: list[Finding] = []
        self._registers = [_Number(0)] * 16
        self._settings: Settings = {
            name: {field.name: field.default or 0 for field in BY_MNEMONIC[name].fields} for name in CONFIGURATION
        }
        self._loops: list[tuple[int, int]] = []
        self._relocations = {(r.index, r.field): r.buffer for r in program.relocations}
        self._decoded: dict[int, Decoded] = {}
        self._pending_weights = False
        self._cache: dict[tuple[object, ...], tuple[Access, ...]] = {}
        self._configured: dict[Engine, dict[str, int]] = {}

    def run(self, limit: int) -> None:
        """Execute until halt, an error that stops the machine, or `limit` instructions."""
        index = 0
        try:
            for _ in range(limit):
                if index >= len(self.program.words):
                    self._stop(max(0, index - 1), "PC_RANGE", "execution runs past the end of the program: no halt")
                next_index = self._step(index)
                if next_index is None:
                    return
                index = next_index
        except _Stop:
            return
        message = f"program is longer than {limit} executed instructions; only those were checked"
        self.findings.append(Finding("warning", "limit", message, index))

    def _report(self, index: int, kind: str, message: str) -> None:
        self.findings.append(Finding("error", kind, message, index))

    def _stop(self, index: int, kind: str, message: str) -> None:
        self._report(index, kind, message)
        raise _Stop

    def _decode(self, index: int) -> Decoded:
        if index not in self._decoded:
            try:
                self._decoded[index] = decode(self.program.words[index])
            except EncodingError as error:
                cause, _, rest = str(error).partition(": ")
                self._stop(index, cause, rest)
        return self._decoded[index]

    def _step(self, index: int) -> int | None:
        decoded = self._decode(index)
        mnemonic, values = decoded.op.mnemonic, decoded.values
        if decoded.op.engine is not Engine.CONTROL:
            self._dispatch(index, decoded)
        elif mnemonic in ("fence", "halt"):
            mask = values.get("engines", 15)
            self.steps.append(Step(index, Engine.CONTROL, mnemonic, 0, 0, mask, (), None))
            if mnemonic == "halt":
                return None
        elif mnemonic == "loop":
            return self._loop(index, values)
        elif mnemonic == "endloop":
            if not self._loops:
                self._stop(index, "LOOP", "endloop without loop")
            start, left = self._loops.pop()
            if left > 1:
                self._loops.append((start, left - 1))
                return start + 1
        elif mnemonic in ("addi", "add", "sub", "slli"):
            self._scalar(index, mnemonic, values)
        return index + 1

    def _loop(self, index: int, values: dict[str, int]) -> int:
        if len(self._loops) >= self.config.loop_depth:
            self._stop(index, "LOOP", f"loops nested deeper than loop_depth = {self.config.loop_depth}")
        if not self._loops and values["length"] + 1 > self.config.ibuf_depth:
            self._stop(index, "LOOP", f"loop body of {values['length'] + 1} instructions; ibuf_depth is "
                       f"{self.config.ibuf_depth}")  # fmt: skip
        plus = self._registers[values["rs"]]
        if plus.buffer:
            self._stop(index, "LOOP", f"the loop count depends on the address of buffer {plus.buffer!r}")
        count = (values["count"] + plus.value) & 0xFFFF
        if count == 0:
            return index + values["length"] + 1
        self._loops.append((index, count))
        return index + 1

    def _scalar(self, index: int, mnemonic: str, values: dict[str, int]) -> None:
        left = self._registers[values["rs"]]
        if mnemonic == "addi":
            right = _Number(values["imm"], self._relocations.get((index, "imm"), ""))
        elif mnemonic == "slli":
            right = _Number(values["amount"])
        else:
            right = self._registers[values["rt"]]
        if mnemonic == "sub" and right.buffer and right.buffer == left.buffer:
            result = _Number(left.value - right.value)
        elif (
            (left.buffer and right.buffer)
            or (mnemonic == "slli" and left.buffer)
            or (mnemonic == "sub" and right.buffer)
        ):
            self._stop(index, "address", f"{mnemonic} of a buffer's address gives no address that can be checked")
        elif mnemonic == "slli":
            result = _Number(left.value << right.value)
        else:
            sign = -1 if mnemonic == "sub" else 1
            result = _Number(left.value + sign * right.value, left.buffer or right.buffer)
        if values["rd"]:
            self._registers[values["rd"]] = _Number(result.value % _WORD, result.buffer)

    def _dispatch(self, index: int, decoded: Decoded) -> None:
        op, values, buffer = decoded.op, dict(decoded.values), None
        for field in op.fields:
            if field.index is None:
                continue
            number = self._registers[values[field.index]]
            base = self._relocations.get((index, field.name), "")
            if number.buffer and (field.name != "dram" or base):
                self._stop(index, "address", f"field {field.name!r} adds the address of buffer {number.buffer!r}")
            values[field.name] = (values[field.name] + number.value) % (1 << field.width)
            if field.name == "dram":
                buffer = base or number.buffer
                if buffer and values["dram"] >= _WORD // 2:
                    values["dram"] -= _WORD
        if op.mnemonic in self._settings:
            self._settings[op.mnemonic] = {field.name: values[field.name] for field in op.fields}
            self._configured.setdefault(op.engine, {})[op.mnemonic] = index
        self._weights(index, op.mnemonic, values)
        settings = tuple(self._configured.get(op.engine, {}).items())
        key = (index, settings, *(values[field.name] for field in op.fields if field.index))
        if key not in self._cache:
            self._cache[key] = self._checked(index, op.mnemonic, values, buffer)
        self.steps.append(
            Step(index, op.engine, op.mnemonic, values["wait"], values["signal"], 0, self._cache[key], buffer)
        )

    def _weights(self, index: int, mnemonic: str, values: dict[str, int]) -> None:
        if mnemonic == "mx.wload":
            if self._pending_weights:
                self._stop(
                    index,
                    "ILLEGAL_OPERAND",
                    "a second mx.wload before an mx.run with swap=1 took the first one's weights",
                )
            self._pending_weights = True
        elif mnemonic == "mx.run" and values["swap"]:
            if not self._pending_weights:
                self._stop(
                    index,
                    "ILLEGAL_OPERAND",
                    "mx.run with swap=1 but no mx.wload before it; give swap=0 to keep the weights",
                )
            self._pending_weights = False

    def _checked(self, index: int, mnemonic: str, values: dict[str, int], buffer: str | None) -> tuple[Access, ...]:
        """The instruction's accesses; those that leave their memory or buffer are reported and left out."""
        for (name, field), space in REQUIRED_SPACE.items():
            if name == mnemonic and (values[field] >> 15) != (space == "acc"):
                self._report(index, "LOCAL_RANGE", f"{mnemonic} field {field!r} does not lie in {space}")
                return ()
        good = []
        for access in accesses(self.config, mnemonic, values, self._settings):
            if access.space == "dram":
                problem = self._dram(access, mnemonic, buffer)
            else:
                row = out_of_range(self.config, access)
                limit = (self.config.acc_rows if access.space == "acc" else self.config.spad_rows) - 1
                problem = None if row is None else ("LOCAL_RANGE", f"{access.space} row {row} is not in 0..{limit}")
            if problem is None:
                good.append(access)
            else:
                self._report(index, problem[0], f"{where(self.program, index)}: {problem[1]}")
        return tuple(good)

    def _dram(self, access: Access, mnemonic: str, buffer: str | None) -> tuple[str, str] | None:
        low, high = access.nest.extent
        beat = self.config.axi_bytes
        if mnemonic == "st.run" and any(
            value % beat for value in (access.nest.start, *(stride for count, stride in access.nest.dims if count > 1))
        ):
            return "MISALIGNED", f"store to addresses that are no multiples of the bus width ({beat} bytes)"
        if not buffer:
            return None
        size = self.program.buffers[buffer].nbytes
        if low < 0 or high >= size:
            return "WINDOW", f"bytes {low}..{high} of buffer {buffer!r} are not in 0..{size - 1}"
        if mnemonic == "st.run" and self.program.buffers[buffer].data is not None:
            return "constant", f"stores into buffer {buffer!r}, which is a constant"
        return None
