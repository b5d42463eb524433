"""What can go wrong between a host and an NPU."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.csr import CAUSE_DOC, Cause, Unit


class DeviceError(Exception):
    """Base of all errors of devices and the driver."""


class ProgramMismatch(DeviceError):
    """A program, or an expectation, for another configuration than the device's."""


class OutOfMemory(DeviceError):
    """The device's DRAM has no room for a buffer or a program."""


class BufferMismatch(DeviceError, ValueError):
    """An array that does not fit its buffer, or a buffer that does not exist."""


class Timeout(DeviceError):
    """A program was still running after `cycles`; the machine has been reset."""

    def __init__(self, cycles: int) -> None:
        super().__init__(f"the program did not finish within {cycles} cycles; the machine has been reset")
        self.cycles = cycles


@dataclass(eq=False)
class HardwareError(DeviceError):
    """The machine stopped a program; it has been reset and works again.

    `index` is the position of the offending instruction, `instruction` its text, `location` its source
    (`file:line`, empty where unknown); `info` depends on `cause`, see `csr.CSRS`. `semaphores` are the names of those
    that `info` is a mask of. SEM_OVERFLOW belongs to no instruction: its `index` is 0, `instruction` empty.
    """

    cause: Cause
    unit: Unit
    index: int
    info: int
    instruction: str = ""
    location: str = ""
    semaphores: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        at = "" if self.cause is Cause.SEM_OVERFLOW else f" at instruction {self.index}"
        what = f": {self.instruction}" if self.instruction else ""
        names = f": {', '.join(self.semaphores)}" if self.semaphores else ""
        return (
            f"{where}{self.cause.name} in {self.unit.name}{at}{what}: "
            f"{CAUSE_DOC[self.cause]} (info {self.info:#x}{names})"
        )
