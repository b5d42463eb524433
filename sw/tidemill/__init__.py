"""Tidemill: an open NPU and everything around it."""

from tidemill.config import PRESETS, Config, ConfigError, preset
from tidemill.driver.buffers import Buffer
from tidemill.driver.device import Device
from tidemill.driver.errors import (
    BufferMismatch,
    DeviceError,
    HardwareError,
    OutOfMemory,
    ProgramMismatch,
    Timeout,
)
from tidemill.driver.npu import LoadedProgram, Npu, Result
from tidemill.driver.npu import open_npu as open
from tidemill.program import Program

__all__ = [
    "PRESETS",
    "Buffer",
    "BufferMismatch",
    "Config",
    "ConfigError",
    "Device",
    "DeviceError",
    "HardwareError",
    "LoadedProgram",
    "Npu",
    "OutOfMemory",
    "Program",
    "ProgramMismatch",
    "Result",
    "Timeout",
    "open",
    "preset",
]
