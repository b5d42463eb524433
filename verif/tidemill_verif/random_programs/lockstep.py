"""Runs a case on the Verilated hardware and on the simulator, and compares what both leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tidemill.config import Config
from tidemill.csr import BY_NAME, Cause, Unit, bit, counter_offsets, offset
from tidemill.driver.errors import DeviceError
from tidemill.iss.device import IssDevice
from tidemill_verif.random_programs.case import MEM_SIZE, Case, Image, image
from tidemill_verif.rtl_device import RtlDevice

REGISTERS = ("STATUS", "IRQ_STATUS", "ERROR_CAUSE", "ERROR_UNIT", "ERROR_PC", "ERROR_INFO", "USER_CODE")
"""Registers that both must agree on."""
WORK = ("INSTRUCTIONS", "MATRIX_ROWS", "VECTOR_ROWS", "READ_BEATS", "WRITE_BEATS")
"""Counters that both must agree on where a program ends without an error."""
MAX_CYCLES = 5_000_000
"""Cycles a program may take: many times more than any of `generate`."""
DONE = bit("STATUS", "done")

Array = NDArray[Any]


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: memories (as in `Image`, `dram` with the program), registers and counters by name.

    `finished` is False where the machine was still busy after the cycles that it may take; `breach` says how the
    hardware broke the AXI protocol, empty where it did not.
    """

    dram: Array
    spad: Array
    acc: Array
    table: Array
    registers: dict[str, int]
    counters: dict[str, int]
    cycles: int
    finished: bool = True
    breach: str = ""

    @property
    def done(self) -> bool:
        """Whether the program came to its halt."""
        return self.finished and self.registers["STATUS"] == DONE

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.breach:
            return f"AXI protocol breached: {self.breach}"
        if not self.finished:
            return f"still busy after {self.cycles} cycles"
        if self.done:
            return "done"
        r = self.registers
        return (
            f"{Cause(r['ERROR_CAUSE']).name} in {Unit(r['ERROR_UNIT']).name} at {r['ERROR_PC']:#x}, "
            f"info {r['ERROR_INFO']:#x}"
        )


@dataclass(frozen=True)
class Difference:
    """The first thing in which two runs differ: `place` is a register, a counter or a memory; for memories `at` is the
    first byte of DRAM, or (row, byte of the row); `rtl` and `iss` the two values; `count` how many bytes differ."""

    place: str
    at: int | tuple[int, int] | None
    rtl: int | str
    iss: int | str
    count: int = 1

    def __str__(self) -> str:
        if self.at is None:
            return f"{self.place}: rtl {self.rtl}, iss {self.iss}"
        where = f"byte {self.at:#x}" if isinstance(self.at, int) else f"row {self.at[0]}, byte {self.at[1]}"
        return f"{self.place} {where}: rtl {self.rtl:#04x}, iss {self.iss:#04x}; {self.count} bytes differ"


class Lockstep:
    """Both devices of one configuration, opened once for many cases; a context manager.

    `rtl` and `iss` run a case and return its `Outcome`; `compare` runs both and returns what differs. Raises
    `DeviceError` where the hardware cannot be built. A case leaves nothing behind for the next one. `make` opens the
    hardware with `mem_size` bytes of DRAM; a program may take `max_cycles`.
    """

    def __init__(
        self, config: Config, make: Callable[..., RtlDevice] | None = None, max_cycles: int = MAX_CYCLES
    ) -> None:
        self.config = config
        self._make = make or partial(RtlDevice, config)
        self._max_cycles = max_cycles
        self._rtl = self._make(mem_size=MEM_SIZE)
        self._iss = IssDevice(config, mem_size=MEM_SIZE)
        self._banks = {name: self._rtl.local(name) for name in ("spad", "acc", "table")}
        self._image: tuple[int, Image] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free both devices."""
        self._banks = {}
        self._rtl.close()
        self._iss.close()

    def compare(self, case: Case) -> Difference | None:
        """Run `case` on both; None where nothing differs."""
        return difference(self.rtl(case), self.iss(case))

    def rtl(self, case: Case) -> Outcome:
        """Run `case` on the hardware. A machine that hangs or breaks the protocol is replaced by a fresh one."""
        device, start = self._rtl, self._contents(case)
        device.memory[:] = start.dram
        device.mem_write(case.address, case.code)
        for name, content in (("spad", start.spad), ("acc", start.acc)):
            rows = content.view(np.uint8)
            for bank, array in enumerate(self._banks[name]):
                array[:] = rows[bank * len(array) : (bank + 1) * len(array)]
        for array in self._banks["table"]:
            array.reshape(-1)[:] = start.table.view(np.uint8)
        device.set_timing(**asdict(case.bus))
        device.set_errors(case.guards)
        breach, finished = "", False
        try:
            finished = run_case(device, case, self._max_cycles)
        except DeviceError as error:
            breach = str(error)
        read = (lambda _: 0) if breach else device.csr_read
        banks = {name: np.concatenate(arrays) for name, arrays in self._banks.items() if name != "table"}
        tables = [array.copy().view(np.int32).reshape(-1) for array in self._banks["table"]]
        odd = next((table for table in tables if not np.array_equal(table, tables[0])), tables[0])
        outcome = Outcome(
            device.memory.copy(), banks["spad"].view(np.int8), banks["acc"].view(np.int32), odd,
            *read_registers(read), finished, breach,
        )  # fmt: skip
        if breach or not finished:
            self._banks = {}
            device.close()
            self._rtl = self._make(mem_size=MEM_SIZE)
            self._banks = {name: self._rtl.local(name) for name in ("spad", "acc", "table")}
        elif not outcome.done:
            _soft_reset(device)
        return outcome

    def iss(self, case: Case) -> Outcome:
        """Run `case` on the simulator."""
        device, start = self._iss, self._contents(case)
        device.memory[:] = start.dram
        device.mem_write(case.address, case.code)
        device.local.spad[:] = start.spad
        device.local.acc[:] = start.acc
        device.table = start.table
        finished = run_case(device, case, self._max_cycles)
        outcome = Outcome(
            device.memory.copy(), device.local.spad.copy(), device.local.acc.copy(), device.table.copy(),
            *read_registers(device.csr_read), finished,
        )  # fmt: skip
        if not outcome.done:
            _soft_reset(device)
        return outcome

    def _contents(self, case: Case) -> Image:
        if self._image is None or self._image[0] != case.image:
            self._image = case.image, image(self.config, case.image)
        return self._image[1]


def run_case(device: RtlDevice | IssDevice, case: Case, max_cycles: int) -> bool:
    """Start the program of `case`, which is in DRAM, and wait; returns whether it ended within `max_cycles`."""
    events = (1 << len(BY_NAME["IRQ_STATUS"].bits)) - 1
    for name, value in (
        ("PROG_ADDR", case.start[0]),
        ("PROG_LEN", case.start[1]),
        ("READ_BASE", case.read_window[0]),
        ("READ_LIMIT", case.read_window[1]),
        ("WRITE_BASE", case.write_window[0]),
        ("WRITE_LIMIT", case.write_window[1]),
        ("WATCHDOG", case.watchdog),
        ("IRQ_STATUS", events),
        ("IRQ_ENABLE", bit("IRQ_ENABLE", "done") | bit("IRQ_ENABLE", "error")),
        ("CONTROL", bit("CONTROL", "start")),
    ):
        device.csr_write(offset(name), value)
    if not device.run(max_cycles):
        return False
    for _ in range(1000):
        if not device.csr_read(offset("STATUS")) & bit("STATUS", "busy"):
            return True
        device.run(1) if isinstance(device, IssDevice) else device.step(10)
    return False


def read_registers(read: Any) -> tuple[dict[str, int], dict[str, int], int]:
    """`REGISTERS` by name, counters of `WORK` by name, and cycles, by `read(offset)`."""
    offsets = counter_offsets()
    registers = {name: read(offset(name)) for name in REGISTERS}
    return registers, {name: read(offsets[name]) for name in WORK}, read(offsets["CYCLES"])


def _soft_reset(device: RtlDevice | IssDevice) -> None:
    device.csr_write(offset("CONTROL"), bit("CONTROL", "soft_reset"))
    for _ in range(100_000):
        if not device.csr_read(offset("STATUS")) & bit("STATUS", "resetting"):
            return
    raise DeviceError("a soft reset does not end")


def difference(rtl: Outcome, iss: Outcome) -> Difference | None:
    """What differs first: the way both ended, memories, registers, counters of work. None where nothing does."""
    if rtl.breach or rtl.end != iss.end or not rtl.finished:
        return Difference("end", None, rtl.end, iss.end)
    for name in ("dram", "spad", "acc", "table"):
        ours, theirs = getattr(rtl, name).view(np.uint8), getattr(iss, name).view(np.uint8)
        if not np.array_equal(ours, theirs):
            wrong = np.argwhere(ours != theirs)
            first = tuple(int(part) for part in wrong[0])
            at = first[0] if len(first) == 1 else (first[0], first[1])
            return Difference(name, at, int(ours[first]), int(theirs[first]), len(wrong))
    for name in REGISTERS:
        if rtl.registers[name] != iss.registers[name]:
            return Difference(name, None, rtl.registers[name], iss.registers[name])
    if rtl.done:
        for name in WORK:
            if rtl.counters[name] != iss.counters[name]:
                return Difference(name, None, rtl.counters[name], iss.counters[name])
    return None
