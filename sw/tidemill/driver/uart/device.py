"""The device `uart:PORT`: an NPU on a board behind a serial line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import parse_qsl

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from tidemill.config import PRESETS, Config
from tidemill.csr import BY_NAME, bit, counter_offsets, offset
from tidemill.driver.errors import DeviceError, OutOfMemory
from tidemill.driver.uart.errors import PortError, WrongBitstream
from tidemill.driver.uart.link import SerialLink
from tidemill.driver.uart.protocol import CSR_BASE, IRQ, LINK_BASE, MAX_WORDS, MEMORY_BASE, WINDOW_BYTES, Register

DEFAULT_BAUD = 1_000_000
DEFAULT_PATIENCE = 0.5
"""Seconds."""
SIMULATED_LATENCY, SIMULATED_BANDWIDTH = 20, 1.0
"""Values of the options of simulated memories that a board takes without a word: the defaults."""
_RESET_POLLS = 100
"""Looks at a soft reset, each longer than one should take."""
_SLOW = 1.0
"""Seconds above which a transfer shows its progress."""
_POLL = (0.0005, 0.02)
"""Shortest and longest pause between two looks at the interrupt line, in seconds."""


class Address(NamedTuple):
    """What stands behind `uart:`."""

    port: str
    baud: int
    patience: float


def parse_address(text: str) -> Address:
    """PORT[?baud=N][&patience=SECONDS]. Raises `PortError`."""
    port, _, options = text.partition("?")
    if not port:
        raise PortError("device 'uart' needs a port: uart:PORT, for example uart:/dev/ttyUSB0?baud=1000000")
    values = {"baud": float(DEFAULT_BAUD), "patience": DEFAULT_PATIENCE}
    for name, value in parse_qsl(options, keep_blank_values=True):
        if name not in values:
            raise PortError(f"{port}: unknown option {name!r}; options: {', '.join(values)}")
        try:
            values[name] = float(int(value)) if name == "baud" else float(value)
        except ValueError:
            values[name] = 0.0
        low, high = (1200, 20_000_000) if name == "baud" else (0.01, 60)
        if not low <= values[name] <= high:
            raise PortError(f"{port}: {name} must be {low} to {high}, not {value!r}")
    return Address(port, int(values["baud"]), values["patience"])


def _preset_name(number: int) -> str:
    names = [name for name, config in PRESETS.items() if config.hash == number]
    return f"{number:#010x} ({names[0]!r})" if names else f"{number:#010x}"


class UartDevice:
    """A board's NPU; see `driver.device.Device` for the methods. All raise `LinkError` where the link fails.

    Raises `PortError`, `NoAnswer`, `NotTidemill`, and `WrongBitstream` for a board of another configuration.
    """

    def __init__(self, config: Config, address: Address) -> None:
        self.config = config
        self.link = SerialLink(*address)
        registers = self.link.registers()
        self.mem_size = registers[Register.MEMORY_SIZE]
        self._clock_hz = registers[Register.CLOCK_HZ]
        self._bytes_per_second = self._clock_hz / registers[Register.DIVISOR] / 10
        if registers[Register.CONFIG_HASH] != config.hash:
            self.link.close()
            raise WrongBitstream(
                f"{address.port}: the board's bitstream is for configuration "
                f"{_preset_name(registers[Register.CONFIG_HASH])}, not {config.name!r} ({config.hash:#010x}): "
                "load another bitstream, or choose the board's configuration (--preset)"
            )
        try:
            self._reset()
        except DeviceError:
            self.link.close()
            raise

    def _reset(self) -> None:
        """Stop whatever an earlier host left running. Raises `DeviceError` where the machine does not stop."""
        self.csr_write(offset("IRQ_ENABLE"), 0)
        self.csr_write(offset("CONTROL"), bit("CONTROL", "soft_reset"))
        for _ in range(_RESET_POLLS):
            if not self.csr_read(offset("STATUS")) & bit("STATUS", "resetting"):
                self.csr_write(offset("IRQ_STATUS"), (1 << len(BY_NAME["IRQ_STATUS"].bits)) - 1)
                return
        raise DeviceError(f"{self.link.port}: the NPU did not finish its reset")

    def _check_range(self, addr: int, n: int) -> None:
        if addr < 0 or addr + n > self.mem_size:
            raise OutOfMemory(
                f"bytes {addr:#x} to {addr + n - 1:#x} are not in the board's memory of {self.mem_size} bytes"
            )

    def mem_write(self, addr: int, data: bytes) -> None:
        """Write `data` to memory from byte address `addr`. Raises `OutOfMemory`."""
        self._check_range(addr, len(data))
        if not data:
            return
        first, end = addr & -4, addr + len(data) + 3 & -4
        # Words that are written in part keep their other bytes.
        head = self._read_words(first, 1)[: addr - first] if addr != first else b""
        rest = end - addr - len(data)
        tail = self._read_words(end - 4, 1)[4 - rest :] if rest else b""
        words = np.frombuffer(head + data + tail, "<u4")
        with self._progress("writing memory", len(data)) as advance:
            for start in range(0, len(words), MAX_WORDS):
                part = words[start : start + MAX_WORDS]
                self.link.write(MEMORY_BASE + first + 4 * start, part)
                advance(part.nbytes)

    def mem_read(self, addr: int, n: int) -> bytes:
        """Read `n` bytes of memory from byte address `addr`. Raises `OutOfMemory`."""
        self._check_range(addr, n)
        if not n:
            return b""
        first, end = addr & -4, addr + n + 3 & -4
        parts = []
        with self._progress("reading memory", n) as advance:
            for start in range(first, end, 4 * MAX_WORDS):
                part = self._read_words(start, min(MAX_WORDS, (end - start) // 4))
                parts.append(part)
                advance(len(part))
        return b"".join(parts)[addr - first :][:n]

    def _read_words(self, addr: int, count: int) -> bytes:
        return self.link.read(MEMORY_BASE + addr, count).astype("<u4").tobytes()

    @contextmanager
    def _progress(self, what: str, size: int) -> Iterator[Callable[[int], None]]:
        """A bar for long transfers on a terminal; the value is called with the bytes that have passed."""
        console = Console(stderr=True)
        if not console.is_terminal or size < _SLOW * self._bytes_per_second:
            yield lambda _: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(what, total=size)
            yield lambda passed: progress.advance(task, passed)

    def csr_read(self, offset: int) -> int:
        """Read the 32-bit register at byte `offset`."""
        return int(self.link.read(_register(offset), 1)[0])

    def csr_write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at byte `offset`."""
        self.link.write(_register(offset), np.array([value & 0xFFFF_FFFF], np.uint32))

    def _interrupt(self) -> bool:
        return bool(int(self.link.read(LINK_BASE, len(Register))[Register.STATUS]) & IRQ)

    def _cycles(self) -> int:
        low, high = self.link.read(_register(counter_offsets()["CYCLES"]), 2)
        return int(low) | int(high) << 32

    def run(self, max_cycles: int) -> bool:
        """Wait until the interrupt line is high, `max_cycles` have passed, or the machine stands still; returns
        whether the line is high."""
        pause, longest = _POLL
        begun, first, latest = time.monotonic(), -1, -1
        while not self._interrupt():
            if time.monotonic() - begun >= max_cycles / self._clock_hz:
                # The counter decides: a simulated board's clock is not the clock on the wall.
                cycles = self._cycles()
                first = cycles if first < 0 else first
                if cycles == latest or cycles - first >= max_cycles:
                    return self._interrupt()
                latest = cycles
            time.sleep(min(pause, max_cycles / self._clock_hz))
            pause = min(2 * pause, longest)
        return True

    def close(self) -> None:
        """Give the board free and close the port."""
        self.link.close()


def _register(offset: int) -> int:
    if not 0 <= offset < WINDOW_BYTES or offset % 4:
        raise DeviceError(f"a register's offset must be a multiple of 4 below {WINDOW_BYTES:#x}, not {offset:#x}")
    return CSR_BASE + offset


def open_device(
    config: Config,
    *,
    port: str = "",
    mem_size: int = 0,
    read_latency: int = SIMULATED_LATENCY,
    bandwidth: float = SIMULATED_BANDWIDTH,
) -> UartDevice:
    """Open `uart:port`, where `port` is PORT[?baud=N][&patience=SECONDS].

    `mem_size`: bytes of memory that are needed. `read_latency` and `bandwidth` belong to simulated memories; anything
    but their defaults is refused. Raises `DeviceError`, `OutOfMemory`.
    """
    if (read_latency, bandwidth) != (SIMULATED_LATENCY, SIMULATED_BANDWIDTH):
        raise DeviceError("a board's memory has the speed it has: read_latency and bandwidth are for simulated devices")
    device = UartDevice(config, parse_address(port))
    if mem_size > device.mem_size:
        device.close()
        raise OutOfMemory(f"{port}: {mem_size} bytes of memory are needed, the board has {device.mem_size}")
    return device
