"""The device `iss`: the simulator behind the driver's device protocol."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tidemill.config import ISA_VERSION, Config
from tidemill.csr import BY_NAME, COUNTERS, CSRS, MAGIC, Access, bit, counter_offsets
from tidemill.driver.device import DEFAULT_MEM_SIZE, ErrorRange, check_errors, check_options
from tidemill.isa import INSTRUCTION_BYTES
from tidemill.iss.engines import Window
from tidemill.iss.machine import Machine
from tidemill.iss.timing import Timing

_U32 = 0xFFFF_FFFF
PROG_LEN_BITS = 24
"""Bits of PROG_LEN that exist."""

_WRITABLE = {csr.offset: csr.name for csr in CSRS if csr.access is Access.RW}
_NAMES = {csr.offset: csr.name for csr in CSRS}
_COUNTER_OF = {
    base + 4 * word: (counter.name, 32 * word)
    for counter, base in zip(COUNTERS, counter_offsets().values(), strict=True)
    for word in range(counter.width // 32)
}


class IssDevice:
    """A simulated NPU with `mem_size` bytes of DRAM; see `driver.device.Device` for the methods.

    Registers that do not exist read zero and ignore writes. A soft reset takes no time.
    """

    def __init__(
        self,
        config: Config,
        mem_size: int = DEFAULT_MEM_SIZE,
        timing: Timing | None = None,
        errors: Iterable[ErrorRange] = (),
    ) -> None:
        self.config = config
        self.mem_size = mem_size
        self._dram = np.zeros(mem_size, np.uint8)
        self._machine = Machine(config, self._dram, timing or Timing(), check_errors(errors))
        self.local = self._machine.local
        """Scratchpad and accumulators, shared with the machine."""
        self._registers = {name: BY_NAME[name].reset for name in _WRITABLE.values()}
        self._irq_status = 0
        self._user_code = 0

    @property
    def memory(self) -> np.ndarray:
        """DRAM (uint8), shared with the machine."""
        return self._dram

    @property
    def table(self) -> np.ndarray:
        """The vector unit's table: int32 [256]."""
        return self._machine.vector.table

    @table.setter
    def table(self, entries: np.ndarray) -> None:
        self._machine.vector.table = entries.astype(np.int32)

    def mem_write(self, addr: int, data: bytes) -> None:
        """Write `data` to DRAM from `addr`."""
        self._dram[addr : addr + len(data)] = np.frombuffer(data, np.uint8)

    def mem_read(self, addr: int, n: int) -> bytes:
        """Read `n` bytes of DRAM from `addr`."""
        return self._dram[addr : addr + n].tobytes()

    def csr_read(self, offset: int) -> int:
        """Read the 32-bit register at byte `offset`."""
        if offset in _COUNTER_OF:
            name, shift = _COUNTER_OF[offset]
            return self._machine.counter(name) >> shift & _U32
        name = _NAMES.get(offset, "")
        if name in self._registers:
            return self._registers[name]
        machine, config = self._machine, self.config
        failure = machine.failure
        match name:
            case "MAGIC":
                return MAGIC
            case "ISA_VERSION":
                return ISA_VERSION
            case "CONFIG_HASH":
                return config.hash
            case "CONFIG_SHAPE":
                return config.rows | config.cols << 8 | config.requant_lanes << 16 | config.axi_bytes << 24
            case "STATUS":
                flags = (("busy", machine.busy), ("done", machine.done), ("error", failure is not None))
                return sum(bit("STATUS", flag) for flag, on in flags if on)
            case "IRQ_STATUS":
                return self._irq_status
            case "USER_CODE":
                return self._user_code
            case "ERROR_CAUSE":
                return failure.cause if failure else 0
            case "ERROR_UNIT":
                return failure.unit if failure else 0
            case "ERROR_PC":
                return self._registers["PROG_ADDR"] + INSTRUCTION_BYTES * failure.index & _U32 if failure else 0
            case "ERROR_INFO":
                return failure.info if failure else 0
            case _:
                return 0

    def csr_write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at byte `offset`."""
        name = _NAMES.get(offset, "")
        if name == "PROG_ADDR":
            value &= -INSTRUCTION_BYTES
        if name == "PROG_LEN":
            value &= (1 << PROG_LEN_BITS) - 1
        if name == "IRQ_ENABLE":
            value &= (1 << len(BY_NAME[name].bits)) - 1
        if name in self._registers:
            self._registers[name] = value & _U32
        elif name == "IRQ_STATUS":
            self._irq_status &= ~value
        elif name == "CONTROL":
            if value & bit("CONTROL", "soft_reset"):
                self._machine.reset()
            elif value & bit("CONTROL", "start"):
                self._start()

    def _start(self) -> None:
        machine, registers = self._machine, self._registers
        if machine.busy or machine.failure is not None:
            return
        self._user_code = 0
        machine.start(
            registers["PROG_ADDR"],
            registers["PROG_LEN"],
            Window(registers["READ_BASE"], registers["READ_LIMIT"]),
            Window(registers["WRITE_BASE"], registers["WRITE_LIMIT"]),
            registers["WATCHDOG"],
        )

    def _interrupt(self) -> bool:
        """Collect the machine's events; the level of the interrupt line."""
        machine = self._machine
        if machine.user_codes:
            self._user_code = machine.user_codes[-1]
            machine.user_codes.clear()
            self._irq_status |= bit("IRQ_STATUS", "user")
        return self._irq_status & self._registers["IRQ_ENABLE"] != 0

    def run(self, max_cycles: int) -> bool:
        """Let at most `max_cycles` pass until the interrupt line is high; returns whether it is."""
        if self._interrupt():
            return True
        machine = self._machine
        if machine.busy:
            machine.advance(max_cycles, self._interrupt)
            if machine.done:
                self._irq_status |= bit("IRQ_STATUS", "done")
            if machine.failure is not None:
                self._irq_status |= bit("IRQ_STATUS", "error")
        return self._interrupt()

    def close(self) -> None:
        """Release the DRAM."""
        self._dram = np.zeros(0, np.uint8)


def open_device(
    config: Config,
    *,
    mem_size: int = DEFAULT_MEM_SIZE,
    read_latency: int = Timing.read_latency,
    bandwidth: float = Timing.bandwidth,
    timing: Timing | None = None,
    errors: Iterable[ErrorRange] = (),
) -> IssDevice:
    """Open the simulator.

    `mem_size` is the DRAM in bytes; `read_latency` (cycles from a read burst's address to its first beat) and
    `bandwidth` (beats a cycle, above 0 to 1) describe the memory and override `timing`; `errors` are ranges of
    DRAM that answer with an error. Raises `DeviceError`.
    """
    check_options(mem_size=mem_size, read_latency=read_latency, bandwidth=bandwidth)
    constants = (timing or Timing()).with_memory(read_latency, bandwidth)
    return IssDevice(config, mem_size, constants, errors)
