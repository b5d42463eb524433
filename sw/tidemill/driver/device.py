"""Devices: what the driver needs of an NPU, and how one is found by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Protocol

from tidemill.config import Config
from tidemill.driver.errors import DeviceError
from tidemill.extensions import import_object, known_extensions

ENTRY_POINTS = "tidemill.devices"
"""Group of entry points; each names a factory `(config, **options) -> Device`."""

BUILT_IN = {
    "gates": "tidemill_fpga.gate_level:open_device",
    "iss": "tidemill.iss.device:open_device",
    "rtl": "tidemill_verif.rtl_device:open_device",
    "uart": "tidemill.driver.uart.device:open_device",
}
"""Devices known without installation, as `module:attribute`; imported when opened."""

DEFAULT_MEM_SIZE = 64 << 20
"""Bytes of DRAM of a simulated device."""

ErrorRange = tuple[int, int, str, str]
"""Part of a simulated DRAM that answers with an error: (first byte, last byte, "slverr" or "decerr", "read" or
"write")."""


class Device(Protocol):
    """An NPU with its DRAM. The driver does everything through these members.

    Members
    -------
    config : Config: the configuration the device was built for.
    mem_size : int: bytes of DRAM, from address 0.
    """

    config: Config
    mem_size: int

    def mem_write(self, addr: int, data: bytes) -> None:
        """Write `data` to DRAM from byte address `addr`."""

    def mem_read(self, addr: int, n: int) -> bytes:
        """Read `n` bytes of DRAM from byte address `addr`."""

    def csr_read(self, offset: int) -> int:
        """Read the 32-bit register at byte `offset` (`csr.offset`)."""

    def csr_write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at byte `offset`."""

    def run(self, max_cycles: int) -> bool:
        """Wait until the interrupt line is high or `max_cycles` have passed; returns whether it is high."""

    def close(self) -> None:
        """Release the device; nothing may be called afterwards."""


def known_devices() -> dict[str, str]:
    """Name and `module:attribute` of every device; registered ones win over built-in ones."""
    return known_extensions(ENTRY_POINTS, BUILT_IN)


def open_device(name: str, config: Config, **options: object) -> Device:
    """Open the device called `name`; what follows a colon in it (`uart:/dev/ttyUSB0`) is its option `port`. Raises
    `DeviceError` for an unknown name, a device whose package is not installed, and options the device does not have."""
    devices = known_devices()
    name, colon, port = name.partition(":")
    if colon:
        options = {**options, "port": port}
    if name not in devices:
        raise DeviceError(f"unknown device {name!r}; known devices: {', '.join(sorted(devices))}")
    try:
        factory: Callable[..., Device] = import_object(devices[name])
    except ImportError as error:
        raise DeviceError(
            f"device {name!r} needs {devices[name].partition(':')[0]}, which cannot be imported: {error}"
        ) from error
    try:
        inspect.signature(factory).bind(config, **options)
    except TypeError as error:
        raise DeviceError(f"device {name!r} does not take these options: {error}") from error
    return factory(config, **options)


def check_options(*, mem_size: int, read_latency: int, bandwidth: float) -> None:
    """Options that all simulated devices have; raises `DeviceError` for impossible values."""
    if not 0 < mem_size <= 1 << 32 or mem_size % 4096:
        raise DeviceError(f"mem_size must be a multiple of 4096, at most 4 GiB, not {mem_size!r}")
    if read_latency < 1:
        raise DeviceError(f"read_latency must be at least 1 cycle, not {read_latency!r}")
    if not 0 < bandwidth <= 1:
        raise DeviceError(f"bandwidth must be above 0 and at most 1 beat a cycle, not {bandwidth!r}")


def check_errors(errors: Iterable[ErrorRange]) -> tuple[ErrorRange, ...]:
    """The option `errors` of a simulated device; raises `DeviceError` for anything but ranges of DRAM."""
    ranges = tuple(errors)
    for entry in ranges:
        first, last, kind, direction = entry
        if not 0 <= first <= last or kind not in ("slverr", "decerr") or direction not in ("read", "write"):
            raise DeviceError(f"errors must be (first, last, slverr|decerr, read|write), not {entry!r}")
    return ranges
