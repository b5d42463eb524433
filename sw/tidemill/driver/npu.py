"""The driver: places programs in a device's DRAM, runs them and reports what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from tidemill.config import DEFAULT_PRESET, ISA_VERSION, Config
from tidemill.config import preset as preset_config
from tidemill.csr import BY_NAME, COUNTERS, MAGIC, Cause, Unit, bit, counter_offsets, offset
from tidemill.driver.buffers import ARENA_BASE, Arena, Buffer, check_dtype
from tidemill.driver.device import Device, open_device
from tidemill.driver.errors import BufferMismatch, DeviceError, HardwareError, ProgramMismatch, Timeout
from tidemill.isa import BY_OPCODE, INSTRUCTION_BYTES, EncodingError, decode
from tidemill.program import BUFFER_ALIGNMENT, Program

DEFAULT_TIMEOUT = 1_000_000_000
"""Cycles a program may take."""
PROGRESS_CYCLES = 20_000
"""Cycles between two reports of a run's progress."""
RESET_CYCLES = 100_000
"""Cycles a soft reset may take."""


@dataclass(frozen=True)
class Result:
    """What a run left: `outputs` by buffer name, `counters` by name (`csr.COUNTERS`)."""

    outputs: dict[str, np.ndarray]
    counters: dict[str, int]

    @property
    def cycles(self) -> int:
        """Cycles from start to done."""
        return self.counters["CYCLES"]


class LoadedProgram:
    """A program in DRAM. `buffers` by name; `address` is where its instructions start; `window` the first and last
    byte its transfers may touch: its buffers, or all DRAM where it declares none."""

    def __init__(self, program: Program, device: Device, arena: Arena) -> None:
        self.program = program
        self._arena = arena
        relative = program.layout(0)
        end = max((relative[name] + decl.nbytes for name, decl in program.buffers.items()), default=0)
        data_bytes = -(-end // BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT
        self._size = data_bytes + len(program.words) * INSTRUCTION_BYTES
        self._base = arena.allocate(self._size)
        self.address = self._base + data_bytes
        self.window = (self._base, self.address - 1) if data_bytes else (0, device.mem_size - 1)
        addresses = program.layout(self._base)
        self.buffers = {
            name: Buffer(device, name, addresses[name], decl.shape, decl.dtype)
            for name, decl in program.buffers.items()
        }
        device.mem_write(self.address, program.image(addresses))
        for name, decl in program.buffers.items():
            if decl.data is not None:
                device.mem_write(addresses[name], decl.data)

    def buffer(self, name: str) -> Buffer:
        """The buffer called `name`; `BufferMismatch` lists the known ones."""
        if name not in self.buffers:
            known = ", ".join(self.buffers) or "none"
            raise BufferMismatch(f"the program has no buffer {name!r}; its buffers: {known}")
        return self.buffers[name]

    def free(self) -> None:
        """Give the DRAM back; the program cannot run any more."""
        self._arena.release(self._base, self._size)
        self.buffers = {}

    def describe(self, index: int) -> tuple[str, str]:
        """(text, location) of instruction `index`, empty where unknown."""
        program = self.program
        if not 0 <= index < len(program.words):
            return "", ""
        if index < len(program.source) and program.source[index].text:
            source = program.source[index]
            return source.text.strip(), f"{source.file}:{source.line}" if source.file else ""
        return _text(program.words[index]), ""


def _text(word: int) -> str:
    """Mnemonic and fields that differ from their defaults."""
    try:
        decoded = decode(word)
    except EncodingError:
        op = BY_OPCODE.get(word & 0xFF)
        return f"{op.mnemonic if op else '.word'} {word:#034x}"
    shown = (
        f"{field.name}={decoded.values[field.name]}"
        for field in decoded.op.all_fields[1:]
        if decoded.values[field.name] != field.default
    )
    return f"{decoded.op.mnemonic} {', '.join(shown)}".rstrip()


class Npu:
    """An open NPU; a context manager that closes its device.

    Raises `ProgramMismatch` where the device's registers name another configuration than `device.config`.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.config: Config = device.config
        self._check_identity()
        self._arena = Arena(ARENA_BASE, device.mem_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the device."""
        self.device.close()

    def _read(self, name: str) -> int:
        return self.device.csr_read(offset(name))

    def _write(self, name: str, value: int) -> None:
        self.device.csr_write(offset(name), value)

    def _check_identity(self) -> None:
        magic = self._read("MAGIC")
        if magic != MAGIC:
            raise DeviceError(f"no Tidemill NPU answers: register MAGIC reads {magic:#010x}, not {MAGIC:#010x}")
        version = self._read("ISA_VERSION")
        if version != ISA_VERSION:
            raise ProgramMismatch(f"the device has ISA version {version}, this software has {ISA_VERSION}")
        number = self._read("CONFIG_HASH")
        if number != self.config.hash:
            raise ProgramMismatch(
                f"the device was built for configuration {number:#010x}, "
                f"not {self.config.name!r} ({self.config.hash:#010x})"
            )

    def alloc(self, name: str | None, shape: Iterable[int], dtype: str | np.dtype | type) -> Buffer:
        """A buffer of its own in DRAM; its content is arbitrary. Raises `OutOfMemory`, `BufferMismatch`."""
        shape, dtype = tuple(shape), check_dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        address = self._arena.allocate(nbytes)
        return Buffer(self.device, name or f"buffer at {address:#x}", address, shape, dtype)

    def free(self, buffer: Buffer) -> None:
        """Give back a buffer of `alloc`."""
        self._arena.release(buffer.address, buffer.nbytes)

    def load(self, program: Program) -> LoadedProgram:
        """Place `program` and its buffers in DRAM and write its constants.

        Raises `ProgramMismatch` for a program of another configuration, `OutOfMemory`.
        """
        if program.config.hash != self.config.hash:
            raise ProgramMismatch(
                f"the program is for configuration {program.config.name!r} ({program.config.hash:#010x}), "
                f"the device is {self.config.name!r} ({self.config.hash:#010x})"
            )
        return LoadedProgram(program, self.device, self._arena)

    def run(
        self,
        loaded: LoadedProgram,
        inputs: Mapping[str, ArrayLike] | None = None,
        outputs: Iterable[str] | None = None,
        *,
        timeout_cycles: int = DEFAULT_TIMEOUT,
        watchdog: int = BY_NAME["WATCHDOG"].reset,
        on_irq: Callable[[int], None] | None = None,
        part: tuple[int, int] | None = None,
        on_cycles: Callable[[int], None] | None = None,
    ) -> Result:
        """Write `inputs`, run the program to its end and read `outputs`.

        `part` runs only `count` instructions from instruction `first` on, given as (first, count); they end with
        `halt`.

        Buffers keep their content from run to run, so only what changed needs to be given. `outputs` None reads
        every buffer that is neither a constant nor in `inputs`. `watchdog` is in cycles, 0 switches it off. `on_irq`
        is called with the code of `irq` instructions as the host sees them: the latest where several came at once.
        `on_cycles` is called every PROGRESS_CYCLES with the cycles so far.
        Raises `BufferMismatch`, `HardwareError` and `Timeout`; after the last two the machine is reset and usable.
        """
        inputs = inputs or {}
        decls = loaded.program.buffers
        if outputs is None:
            outputs = [name for name, decl in decls.items() if decl.data is None and name not in inputs]
        results = {name: loaded.buffer(name) for name in outputs}
        for name, array in inputs.items():
            buffer = loaded.buffer(name)
            if decls[name].data is not None:
                raise BufferMismatch(f"buffer {name!r} is a constant of the program, not an input")
            buffer.write(array)
        self._start(loaded, watchdog, on_irq is not None, part or (0, len(loaded.program.words)))
        self._wait(loaded, timeout_cycles, on_irq, on_cycles)
        return Result({name: buffer.read() for name, buffer in results.items()}, self.counters())

    def _start(self, loaded: LoadedProgram, watchdog: int, user: bool, part: tuple[int, int]) -> None:
        first, last = loaded.window
        enabled = bit("IRQ_ENABLE", "done") | bit("IRQ_ENABLE", "error")
        enabled |= bit("IRQ_ENABLE", "user") if user else 0
        for name, value in (
            ("PROG_ADDR", loaded.address + part[0] * INSTRUCTION_BYTES),
            ("PROG_LEN", part[1]),
            ("READ_BASE", first),
            ("READ_LIMIT", last),
            ("WRITE_BASE", first),
            ("WRITE_LIMIT", last),
            ("WATCHDOG", watchdog),
            ("IRQ_STATUS", (1 << len(BY_NAME["IRQ_STATUS"].bits)) - 1),
            ("IRQ_ENABLE", enabled),
            ("CONTROL", bit("CONTROL", "start")),
        ):
            self._write(name, value)

    def _wait(
        self,
        loaded: LoadedProgram,
        timeout_cycles: int,
        on_irq: Callable[[int], None] | None,
        on_cycles: Callable[[int], None] | None,
    ) -> None:
        """Until done. Raises `HardwareError`, `Timeout`."""
        start = self._cycles()
        while True:
            passed = self._cycles() - start
            if on_cycles is not None:
                on_cycles(passed)
            left = timeout_cycles - passed
            if left <= 0 or not self.device.run(left if on_cycles is None else min(left, PROGRESS_CYCLES)):
                if left > PROGRESS_CYCLES and on_cycles is not None:
                    continue
                self.soft_reset()
                raise Timeout(timeout_cycles)
            status, events = self._read("STATUS"), self._read("IRQ_STATUS")
            if status & bit("STATUS", "error"):
                error = self._error(loaded)
                self.soft_reset()
                raise error
            if on_irq is not None and events & bit("IRQ_STATUS", "user"):
                self._write("IRQ_STATUS", bit("IRQ_STATUS", "user"))
                on_irq(self._read("USER_CODE"))
            if status & bit("STATUS", "done"):
                self._write("IRQ_STATUS", events)
                return

    def _cycles(self) -> int:
        low = counter_offsets()["CYCLES"]
        return self.device.csr_read(low) | self.device.csr_read(low + 4) << 32

    def _error(self, loaded: LoadedProgram) -> HardwareError:
        index = (self._read("ERROR_PC") - loaded.address & 0xFFFF_FFFF) // INSTRUCTION_BYTES
        cause, unit, info = Cause(self._read("ERROR_CAUSE")), Unit(self._read("ERROR_UNIT")), self._read("ERROR_INFO")
        text, location = ("", "") if cause is Cause.SEM_OVERFLOW else loaded.describe(index)
        names = enumerate(loaded.program.semaphores) if unit is Unit.SYNC else ()
        semaphores = tuple(name for number, name in names if info >> number & 1)
        return HardwareError(cause, unit, index, info, text, location, semaphores)

    def soft_reset(self) -> None:
        """Stop whatever runs; afterwards the machine is idle without errors. DRAM and local memories keep their
        content. Raises `DeviceError` where the reset does not finish."""
        self._write("IRQ_ENABLE", 0)
        self._write("CONTROL", bit("CONTROL", "soft_reset"))
        step = 64
        for _ in range(RESET_CYCLES // step):
            if not self._read("STATUS") & bit("STATUS", "resetting"):
                self._write("IRQ_STATUS", (1 << len(BY_NAME["IRQ_STATUS"].bits)) - 1)
                return
            self.device.run(step)
        raise DeviceError(f"the soft reset did not finish within {RESET_CYCLES} cycles")

    def counters(self) -> dict[str, int]:
        """All counters of the latest run, by name."""
        values = {}
        for counter, base in zip(COUNTERS, counter_offsets().values(), strict=True):
            words = (self.device.csr_read(base + 4 * word) << 32 * word for word in range(counter.width // 32))
            values[counter.name] = sum(words)
        return values


def open_npu(name: str = "iss", *, preset: str | None = None, config: Config | None = None, **options: object) -> Npu:
    """Open the device called `name` for a preset (default `base`) or a configuration.

    `options` are the device's, for example `mem_size`, `read_latency`, `bandwidth`. Raises `DeviceError`, and
    `ConfigError` for an unknown preset.
    """
    if preset is not None and config is not None:
        raise DeviceError("give a preset or a config, not both")
    chosen = config if config is not None else preset_config(preset or DEFAULT_PRESET)
    device = open_device(name, chosen, **options)
    try:
        return Npu(device)
    except DeviceError:
        device.close()
        raise
