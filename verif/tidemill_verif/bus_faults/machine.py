"""A Verilated NPU under test: runs scenarios and judges what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from tidemill.config import Config
from tidemill.csr import BY_NAME, COUNTERS, Access, Cause, Unit, bit, counter_offsets, offset
from tidemill.driver.device import Device, ErrorRange
from tidemill.driver.errors import DeviceError
from tidemill.isa import BY_OPCODE, INSTRUCTION_BYTES
from tidemill.iss.device import IssDevice
from tidemill_verif.bus_faults.workloads import MEM_SIZE, PROGRAM, WORKLOADS, Bytes, Workload
from tidemill_verif.rtl_device import RtlDevice

BUSY, DONE, ERROR, RESETTING = (bit("STATUS", name) for name in ("busy", "done", "error", "resetting"))
START, SOFT_RESET = bit("CONTROL", "start"), bit("CONTROL", "soft_reset")
PATIENT = 500_000
"""A watchdog that no scenario outlasts."""
LIMIT = 4_000_000
"""Cycles in which everything ends where the bus answers."""
WORK = ("INSTRUCTIONS", "MATRIX_ROWS", "VECTOR_ROWS", "READ_BEATS", "WRITE_BEATS")
"""Counters that do not depend on timing."""
ERROR_REGISTERS = ("ERROR_CAUSE", "ERROR_UNIT", "ERROR_PC", "ERROR_INFO")
NEVER = 1 << 40
"""Cycles of a hold that does not end by itself."""

Report = tuple[Cause, Unit, int, int]
"""Cause, unit, index of the instruction, info."""


class Wrong(AssertionError):
    """The machine did what its contract rules out; the message says what."""


@dataclass(frozen=True)
class Timing:
    """The memory's options of `RtlDevice.set_timing`."""

    read_latency: int = 20
    write_latency: int = 6
    bandwidth: float = 1.0
    stall_probability: float = 0.0
    seed: int = 0
    interleave: bool = False
    early_data: bool = False


@dataclass(frozen=True)
class Action:
    """What happens `at` a number of cycles after the start.

    `kind`: `soft_reset`, `hard_reset` of `cycles`, `start` (ignored unless the machine is idle), `hold` of a channel
    for `cycles`.
    """

    at: int
    kind: str
    channel: str = ""
    cycles: int = 0


@dataclass(frozen=True)
class Scenario:
    """One disturbance of one program, and the program that must run perfectly afterwards."""

    name: str
    workload: str
    timing: Timing = Timing()
    errors: tuple[ErrorRange, ...] = ()
    illegal: tuple[int, int] | None = None
    """(index, word): this word stands in place of an instruction."""
    actions: tuple[Action, ...] = ()
    watchdog: int = PATIENT
    recovery: str = "gemm"


@dataclass
class Machine:
    """The NPU of one configuration, opened by `make` with `mem_size` bytes of DRAM, and what it does without
    disturbance. Raises `Wrong` where that is wrong."""

    config: Config
    make: Callable[..., RtlDevice] | None = None
    rtl: RtlDevice = field(init=False)

    def __post_init__(self) -> None:
        self.rtl = (self.make or partial(RtlDevice, self.config))(mem_size=MEM_SIZE)
        self.workloads = {name: make(self.config) for name, make in WORKLOADS.items()}
        self.simulated: dict[object, Report | None] = {}
        """What the simulator reports for a source of errors, None where the program does not meet it."""
        self.calm = {name: self._undisturbed(workload) for name, workload in self.workloads.items()}
        """Counters of each program on an undisturbed machine."""

    def close(self) -> None:
        """Free the hardware."""
        self.rtl.close()

    @cached_property
    def cycles(self) -> dict[str, int]:
        """Cycles of each program on an undisturbed machine."""
        return {name: counters["CYCLES"] for name, counters in self.calm.items()}

    def run(self, scenario: Scenario) -> str:
        """Run a scenario; returns how its program ended: `done`, `aborted` or a cause. Raises `Wrong`."""
        try:
            outcome = self._disturb(scenario)
            self._settle()
            self.recover(scenario.recovery)
        except (Wrong, DeviceError) as error:
            raise Wrong(f"{error} in {scenario}") from error
        return outcome

    def recover(self, name: str) -> None:
        """The program `name` on a calm bus: every byte and every counter as on an undisturbed machine."""
        workload = self.workloads[name]
        self.rtl.set_errors(())
        self.rtl.set_timing()
        self._release()
        self.begin(workload, PATIENT)
        if not self.rtl.run(LIMIT) or self._read("STATUS") != DONE:
            raise Wrong(f"recovery: STATUS is {self._read('STATUS'):#x}")
        self._write("IRQ_STATUS", 7)
        self._complete(workload, workload.before, "recovery")
        counters = self._counters()
        for counter, value in self.calm[name].items():
            if counters[counter] != value:
                raise Wrong(f"recovery: {counter} is {counters[counter]}, not {value}")

    def begin(self, workload: Workload, watchdog: int, before: Bytes | None = None) -> None:
        """Put a program and its data into DRAM (or `before`) and start it."""
        self.rtl.memory[:] = workload.before if before is None else before
        _start(self.rtl, workload, watchdog)

    # ---- the disturbance

    def _disturb(self, scenario: Scenario) -> str:
        workload = self.workloads[scenario.workload]
        before = workload.before if scenario.illegal is None else workload.with_word(*scenario.illegal)
        self.rtl.set_timing(**vars(scenario.timing))
        self.rtl.set_errors(scenario.errors)
        self.begin(workload, scenario.watchdog, before)
        began, reset = self.rtl.cycle, ""
        for action in scenario.actions:
            self.rtl.step(max(0, began + action.at - self.rtl.cycle))
            if action.kind == "hold":
                self.rtl.hold(action.channel, action.cycles)
            elif action.kind == "hard_reset":
                self.rtl.reset(action.cycles)
                self._check_registers_reset()
            else:
                self._write("CONTROL", {"start": START, "soft_reset": SOFT_RESET}[action.kind])
            reset = action.kind if action.kind.endswith("reset") else reset
        stuck = any(action.cycles == NEVER for action in scenario.actions)
        self._wait_idle(40_000 + 4 * scenario.watchdog if stuck else LIMIT, stuck=stuck)
        status = self._read("STATUS")
        if stuck and status & (BUSY | RESETTING):
            self._check_stuck(workload, before, reset)
            self._release()
            self._wait_idle(LIMIT)
            status = self._read("STATUS")
        return self._judge(scenario, workload, before, status, reset)

    def _wait_idle(self, limit: int, *, stuck: bool = False) -> None:
        """Until neither busy nor resetting; `stuck`: or until nothing more can happen."""
        step, end = 50, self.rtl.cycle + limit
        while self._read("STATUS") & (BUSY | RESETTING):
            if self.rtl.cycle > end:
                if stuck:
                    return
                raise Wrong(f"a hang: STATUS is {self._read('STATUS'):#x} after {limit} cycles")
            self.rtl.step(step)
            step = min(2 * step, 5000)

    def _check_stuck(self, workload: Workload, before: Bytes, reset: str) -> None:
        """A bus that does not answer: the error is reported, the registers answer, only the drain cannot end. After
        `halt` the watchdog no longer counts: then the program's work is complete."""
        status = self._read("STATUS")
        if not (self.rtl.in_flight or self.rtl.ports["m_axi__arvalid"]):
            raise Wrong(f"STATUS is {status:#x} though nothing is in flight")
        if reset:
            if status != RESETTING:
                raise Wrong(f"STATUS is {status:#x} in a drain that cannot end")
            return
        if status == BUSY:
            self._complete(workload, before, "a drain after halt that cannot end")
            return
        if status != BUSY | ERROR or self._report()[0] is not Cause.WATCHDOG:
            raise Wrong(f"STATUS is {status:#x}, {self._report()} on a bus that does not answer")
        if not self._read("IRQ_STATUS") & bit("IRQ_STATUS", "error") or not self.rtl.ports["irq"]:
            raise Wrong("no error interrupt on a bus that does not answer")

    def _judge(self, scenario: Scenario, workload: Workload, before: Bytes, status: int, reset: str) -> str:
        candidates = self._candidates(scenario, workload, before)
        bitten = any(action.cycles > scenario.watchdog for action in scenario.actions if action.kind == "hold")
        if status == DONE:
            if candidates:
                raise Wrong(f"done, though {candidates} was due")
            self._complete(workload, before, "done")
            self._check_work(workload)
            return "done"
        self._partial(workload, before)
        if status == 0 and reset:
            return "aborted"
        if status != ERROR:
            raise Wrong(f"STATUS is {status:#x}")
        if not self._read("IRQ_STATUS") & bit("IRQ_STATUS", "error"):
            raise Wrong("an error without its interrupt")
        report = self._report()
        if report not in candidates and not (bitten and self._is_watchdog(workload, report)):
            raise Wrong(f"{report} reported, not one of {candidates}")
        return report[0].name

    def _settle(self) -> None:
        """Back to the state after a reset, by the contract's means."""
        self._write("IRQ_STATUS", 7)
        if self._read("STATUS") & ERROR:
            self._write("CONTROL", SOFT_RESET)
            self._wait_idle(LIMIT)
            if self._read("STATUS"):
                raise Wrong(f"STATUS is {self._read('STATUS'):#x} after a soft reset")
            for name in ERROR_REGISTERS:
                if self._read(name):
                    raise Wrong(f"{name} is {self._read(name):#x} after a soft reset")
        if self._read("IRQ_STATUS") or self.rtl.ports["irq"]:
            raise Wrong("an interrupt out of nothing")
        self.rtl.step(40)
        if self.rtl.in_flight:
            raise Wrong(f"{self.rtl.in_flight} bursts in flight on an idle machine")

    # ---- registers and memory

    def _read(self, name: str) -> int:
        return self.rtl.csr_read(offset(name))

    def _write(self, name: str, value: int) -> None:
        self.rtl.csr_write(offset(name), value)

    def _report(self) -> Report:
        return _report(self.rtl)

    def _counters(self) -> dict[str, int]:
        return {counter.name: self.rtl.registers[counter.name] for counter in COUNTERS}

    def _release(self) -> None:
        for channel in ("ar", "r", "aw", "w", "b"):
            self.rtl.hold(channel, 0)

    def _check_registers_reset(self) -> None:
        for name, register in BY_NAME.items():
            value = self._read(name)
            if register.access is Access.RO and name in ("ISA_VERSION", "CONFIG_HASH", "CONFIG_SHAPE"):
                continue
            if value != register.reset:
                raise Wrong(f"{name} is {value:#x} after a hard reset")

    def _complete(self, workload: Workload, before: Bytes, when: str) -> None:
        """DRAM is exactly what the program leaves."""
        expected = np.where(workload.outputs, workload.after, before)
        if not np.array_equal(self.rtl.memory, expected):
            at = int(np.flatnonzero(self.rtl.memory != expected)[0])
            raise Wrong(f"{when}: byte {at:#x} is {self.rtl.memory[at]:#x}, not {expected[at]:#x}")

    def _partial(self, workload: Workload, before: Bytes) -> None:
        """Every beat of the outputs is either untouched or right; nothing else has changed."""
        beats = (-1, self.config.axi_bytes)
        memory = self.rtl.memory.reshape(beats)
        expected = np.where(workload.outputs, workload.after, before).reshape(beats)
        fine = (memory == before.reshape(beats)).all(1) | (memory == expected).all(1)
        if not fine.all():
            raise Wrong(
                f"the beat at {int(np.flatnonzero(~fine)[0]) * self.config.axi_bytes:#x} is neither old nor new"
            )

    def _check_work(self, workload: Workload) -> None:
        counters = self._counters()
        for name in WORK:
            if counters[name] != self.calm[workload.name][name]:
                raise Wrong(f"{name} is {counters[name]}, not {self.calm[workload.name][name]}")

    def _undisturbed(self, workload: Workload) -> dict[str, int]:
        """Counters of a run on a calm bus, those of the work equal to the simulator's."""
        self.begin(workload, PATIENT)
        if not self.rtl.run(LIMIT):
            raise Wrong(f"{workload.name} does not end")
        self._write("IRQ_STATUS", 7)
        self._complete(workload, workload.before, workload.name)
        counters = self._counters()
        with_iss = IssDevice(self.config, mem_size=MEM_SIZE)
        with_iss.mem_write(0, workload.before.tobytes())
        _start(with_iss, workload, PATIENT)
        if not with_iss.run(LIMIT):
            raise Wrong(f"{workload.name} does not end on the simulator")
        for name in WORK:
            if (expected := with_iss.csr_read(counter_offsets()[name])) != counters[name]:
                raise Wrong(f"{workload.name}: {name} is {counters[name]}, {expected} on the simulator")
        return counters

    # ---- what an error may report

    def _candidates(self, scenario: Scenario, workload: Workload, before: Bytes) -> set[Report]:
        """What the simulator reports for each source of errors alone: which comes first depends on the timing."""
        reports = set()
        for source in scenario.errors:
            key = (workload.name, source)
            if key not in self.simulated:
                self.simulated[key] = self._simulate(workload, workload.before, (source,))
            reports.add(self.simulated[key])
        if scenario.illegal is not None:
            place = (workload.name, scenario.illegal)
            if place not in self.simulated:
                self.simulated[place] = self._simulate(workload, before, ())
            reports.add(self.simulated[place])
        return {report for report in reports if report is not None}

    def _simulate(self, workload: Workload, before: Bytes, errors: tuple[ErrorRange, ...]) -> Report | None:
        device = IssDevice(self.config, mem_size=MEM_SIZE, errors=errors)
        device.mem_write(0, before.tobytes())
        _start(device, workload, PATIENT)
        if not device.run(LIMIT):
            raise Wrong(f"the simulator does not end {workload.name} with {errors}")
        return _report(device) if device.csr_read(offset("STATUS")) & ERROR else None

    def _is_watchdog(self, workload: Workload, report: Report) -> bool:
        """Whether the report names an instruction that waits: an engine's with its wait mask, or the frontend's."""
        cause, unit, index, info = report
        if cause is not Cause.WATCHDOG or not 0 <= index < len(workload.words):
            return False
        word = workload.words[index]
        if unit is Unit.FRONTEND:
            return info == 0
        masks = [spec for spec in BY_OPCODE[word & 0xFF].all_fields if spec.name == "wait"]
        return unit is Unit.SYNC and any(info == word >> spec.lo & (1 << spec.width) - 1 != 0 for spec in masks)


def _start(device: Device, workload: Workload, watchdog: int) -> None:
    first, last = workload.window
    for name, value in {
        "PROG_ADDR": PROGRAM,
        "PROG_LEN": len(workload.words),
        "READ_BASE": first,
        "READ_LIMIT": last,
        "WRITE_BASE": first,
        "WRITE_LIMIT": last,
        "WATCHDOG": watchdog,
        "IRQ_ENABLE": bit("IRQ_ENABLE", "done") | bit("IRQ_ENABLE", "error"),
        "CONTROL": START,
    }.items():
        device.csr_write(offset(name), value)


def _report(device: Device) -> Report:
    cause, unit, pc, info = (device.csr_read(offset(name)) for name in ERROR_REGISTERS)
    return Cause(cause), Unit(unit), (pc - PROGRAM) // INSTRUCTION_BYTES, info
