"""The Verilated NPU as a Python object: ports, registers, memory, waveforms."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tidemill.config import Config
from tidemill.csr import BY_NAME, counter_offsets
from tidemill.driver.device import DEFAULT_MEM_SIZE, ErrorRange, check_errors, check_options
from tidemill.driver.errors import DeviceError
from tidemill_verif.agents.axi_rules import Limits
from tidemill_verif.cache import is_built
from tidemill_verif.coverage.collect import wanted
from tidemill_verif.coverage.sampling.npu import NpuSampler
from tidemill_verif.rtl_device.build import BuildError, Variant, build_key, library
from tidemill_verif.toolchain import ToolchainError

RESPONSES = {"slverr": 2, "decerr": 3}
"""AXI responses that `errors` can name."""
CHANNELS = ("ar", "r", "aw", "w", "b")
"""Channels of the AXI4 port, in the harness's order."""
CSR_LIMIT = 1000
"""Cycles within which a register access must be answered."""
CHUNK = 1_000_000
"""Cycles run at a time, so that an interrupt from the keyboard is heard."""


def _load(path: Path) -> ctypes.CDLL:
    lib = ctypes.CDLL(str(path))
    u64, i64, ptr, text = ctypes.c_uint64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p
    u32, integer, real = ctypes.c_uint32, ctypes.c_int, ctypes.c_double
    for name, result, arguments in (
        ("tm_open", ptr, [u64, u64, u64, real, real, u64, ptr]),
        ("tm_close", None, [ptr]),
        ("tm_faults_clear", None, [ptr]),
        ("tm_timing", None, [ptr, u64, u64, real, real, u64, integer, integer]),
        ("tm_hold", None, [ptr, integer, u64]),
        ("tm_in_flight", u64, [ptr]),
        ("tm_fault", None, [ptr, u64, u64, integer, integer]),
        ("tm_local_count", integer, [ptr]),
        ("tm_local_name", text, [ptr, integer]),
        ("tm_local_data", ptr, [ptr, integer]),
        ("tm_local_bytes", u64, [ptr, integer]),
        ("tm_reset", None, [ptr, integer]),
        ("tm_memory", ctypes.POINTER(ctypes.c_uint8), [ptr]),
        ("tm_cycle", u64, [ptr]),
        ("tm_violation", text, [ptr]),
        ("tm_step", None, [ptr, u64]),
        ("tm_run", u64, [ptr, u64]),
        ("tm_csr_write", i64, [ptr, u32, u32, u64]),
        ("tm_csr_read", i64, [ptr, u32, u64]),
        ("tm_port_count", integer, [ptr]),
        ("tm_port_name", text, [ptr, integer]),
        ("tm_port_bits", integer, [ptr, integer]),
        ("tm_port_is_input", integer, [ptr, integer]),
        ("tm_port_get", None, [ptr, integer, text]),
        ("tm_port_set", None, [ptr, integer, text]),
        ("tm_trace_open", integer, [ptr, text]),
        ("tm_trace_close", None, [ptr]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


class Ports(MutableMapping[str, int]):
    """The NPU's ports by their Verilog names (`m_axi__araddr`, `irq`, ...) as unsigned integers of any width.

    Setting an input holds until the memory model or a register access drives it; outputs cannot be set.
    """

    def __init__(self, lib: ctypes.CDLL, handle: int) -> None:
        self._lib, self._handle = lib, handle
        count = lib.tm_port_count(handle)
        self._index = {lib.tm_port_name(handle, i).decode(): i for i in range(count)}
        self._bits = {name: lib.tm_port_bits(handle, i) for name, i in self._index.items()}

    def bits(self, name: str) -> int:
        """Width of a port."""
        return self._bits[name]

    def __getitem__(self, name: str) -> int:
        buffer = ctypes.create_string_buffer(64)
        self._lib.tm_port_get(self._handle, self._index[name], buffer)
        return int.from_bytes(buffer.raw, "little") & ((1 << self._bits[name]) - 1)

    def __setitem__(self, name: str, value: int) -> None:
        index, bits = self._index[name], self._bits[name]
        if not self._lib.tm_port_is_input(self._handle, index):
            raise DeviceError(f"port {name!r} is an output")
        if not 0 <= value < 1 << bits:
            raise DeviceError(f"port {name!r}: {value} is not in 0..{(1 << bits) - 1}")
        self._lib.tm_port_set(self._handle, index, value.to_bytes(64, "little"))

    def __delitem__(self, name: str) -> None:
        raise DeviceError("ports cannot be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)


class Registers(Mapping[str, int]):
    """Control and status registers and counters by name, read over the bus at each access."""

    def __init__(self, device: RtlDevice) -> None:
        self._device = device
        self._offsets = {name: csr.offset for name, csr in BY_NAME.items()} | counter_offsets()

    def __getitem__(self, name: str) -> int:
        return self._device.csr_read(self._offsets[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)


class RtlDevice:
    """The Verilated NPU with DRAM beside it; the methods of `driver.device.Device`, and more for looking inside.

    Parameters
    ----------
    config : Config
    mem_size : int, bytes of DRAM from address 0; reads and writes beyond answer DECERR.
    read_latency : int, cycles from a read burst's address to its first beat.
    write_latency : int, cycles from a write burst's last beat to its response.
    bandwidth : float, beats a cycle that DRAM moves, each way; at most 1.
    stall_probability : float, chance of a stall on each channel in each cycle; below 1.
    seed : int, of the stalls.
    errors : ranges of DRAM that answer with an error.
    waves : path ending in .vcd or .fst: write a waveform from the start (a build of its own, and slow).
    variant : another NPU in place of the hardware's own; nothing is sampled for coverage.

    Raises `DeviceError` for impossible options and where the hardware cannot be built. Any breach of the AXI
    protocol by the NPU raises `DeviceError` from `run`.
    """

    def __init__(
        self,
        config: Config,
        mem_size: int = DEFAULT_MEM_SIZE,
        read_latency: int = 20,
        write_latency: int = 6,
        bandwidth: float = 1.0,
        stall_probability: float = 0.0,
        seed: int = 0,
        errors: Iterable[ErrorRange] = (),
        waves: str | Path | None = None,
        variant: Variant | None = None,
    ) -> None:
        _check_timing(mem_size, read_latency, write_latency, bandwidth, stall_probability)
        ranges = check_errors(errors)
        self.config = config
        self.mem_size = mem_size
        self._lib = _load(_library(config, _trace_kind(waves), variant))
        self._handle: int | None = self._lib.tm_open(
            mem_size,
            read_latency,
            write_latency,
            bandwidth,
            stall_probability,
            seed,
            ctypes.byref(Limits.of(config)),
        )
        if self._handle is None:
            raise DeviceError(f"no memory for {mem_size} bytes of DRAM")
        self.set_errors(ranges)
        if waves is not None:
            self._open_waves(Path(waves))
        self.memory: NDArray[np.uint8] = np.ctypeslib.as_array(self._lib.tm_memory(self._handle), (mem_size,))
        """DRAM, shared with the hardware."""
        self.ports = Ports(self._lib, self._handle)
        self.registers = Registers(self)
        sampled = wanted() and variant is None
        self._sampler = NpuSampler(config, self._lib, self._handle, self.memory) if sampled else None
        self.reset()

    @property
    def cycle(self) -> int:
        """Clock cycles since the device was opened."""
        return int(self._lib.tm_cycle(self._handle))

    def reset(self, cycles: int = 4) -> None:
        """Hold the reset of the NPU and of the bus for `cycles`; DRAM keeps its content."""
        self._lib.tm_reset(self._handle, cycles)
        self._check()

    def set_errors(self, errors: Iterable[ErrorRange]) -> None:
        """Ranges of DRAM that answer with an error from now on, in place of those before."""
        self._lib.tm_faults_clear(self._handle)
        for first, last, response, direction in check_errors(errors):
            self._lib.tm_fault(self._handle, first, last, RESPONSES[response], direction == "write")

    def set_timing(
        self,
        *,
        read_latency: int = 20,
        write_latency: int = 6,
        bandwidth: float = 1.0,
        stall_probability: float = 0.0,
        seed: int = 0,
        interleave: bool = False,
        early_data: bool = False,
    ) -> None:
        """Change the memory's timing from now on; the options of the constructor, and two more.

        `interleave`: read beats of bursts with different IDs come in any order. `early_data`: write data may be taken
        before the burst's address. Raises `DeviceError`.
        """
        _check_timing(self.mem_size, read_latency, write_latency, bandwidth, stall_probability)
        self._lib.tm_timing(
            self._handle, read_latency, write_latency, bandwidth, stall_probability, seed, interleave, early_data
        )

    def hold(self, channel: str, cycles: int) -> None:
        """Let the memory's side of a channel (of `CHANNELS`) stand still for `cycles` from now: no READY on ar, aw, w;
        nothing new on r, b. 0 releases it. Raises `DeviceError` for another name."""
        if channel not in CHANNELS:
            raise DeviceError(f"channel must be one of {', '.join(CHANNELS)}, not {channel!r}")
        self._lib.tm_hold(self._handle, CHANNELS.index(channel), cycles)

    @property
    def in_flight(self) -> int:
        """Bursts on the bus that have begun and have not ended."""
        return int(self._lib.tm_in_flight(self._handle))

    def local(self, name: str) -> list[NDArray[np.uint8]]:
        """Views of the arrays called `name` of `build.local_memories`, as uint8 [rows, bytes of one]: `spad` and `acc`
        bank by bank, every copy of the `table` (an entry a row). The machine must be idle while they are used."""
        row_bytes = {"spad": self.config.spad_row_bytes, "acc": self.config.acc_row_bytes, "table": 4}[name]
        found = []
        for index in range(self._lib.tm_local_count(self._handle)):
            if self._lib.tm_local_name(self._handle, index).decode() == name:
                shape = (self._lib.tm_local_bytes(self._handle, index) // row_bytes, row_bytes)
                pointer = ctypes.cast(self._lib.tm_local_data(self._handle, index), ctypes.POINTER(ctypes.c_uint8))
                found.append(np.ctypeslib.as_array(pointer, shape))
        return found

    def step(self, cycles: int = 1) -> None:
        """Run `cycles` clock cycles."""
        self._lib.tm_step(self._handle, cycles)
        self._check()

    def mem_write(self, addr: int, data: bytes) -> None:
        """Write `data` to DRAM from byte address `addr`."""
        self.memory[addr : addr + len(data)] = np.frombuffer(data, np.uint8)

    def mem_read(self, addr: int, n: int) -> bytes:
        """Read `n` bytes of DRAM from byte address `addr`."""
        return self.memory[addr : addr + n].tobytes()

    def csr_read(self, offset: int) -> int:
        """Read the 32-bit register at byte `offset` over AXI4-Lite."""
        value = int(self._lib.tm_csr_read(self._handle, offset, CSR_LIMIT))
        self._check()
        if value < 0:
            raise DeviceError(f"register {offset:#x} did not answer a read within {CSR_LIMIT} cycles")
        if self._sampler is not None:
            self._sampler.read(offset, value)
        return value

    def csr_write(self, offset: int, value: int) -> None:
        """Write the 32-bit register at byte `offset` over AXI4-Lite."""
        if self._sampler is not None:
            self._sampler.wrote(offset, value & 0xFFFF_FFFF)
        response = self._lib.tm_csr_write(self._handle, offset, value & 0xFFFF_FFFF, CSR_LIMIT)
        self._check()
        if response < 0:
            raise DeviceError(f"register {offset:#x} did not answer a write within {CSR_LIMIT} cycles")

    def run(self, max_cycles: int) -> bool:
        """Run until the interrupt line is high or `max_cycles` have passed; returns whether it is high."""
        left = max_cycles
        while left > 0 and not self.ports["irq"]:
            left -= int(self._lib.tm_run(self._handle, min(left, CHUNK)))
            self._check()
        return bool(self.ports["irq"])

    def stop_waves(self) -> None:
        """Finish the waveform file."""
        self._lib.tm_trace_close(self._handle)

    def close(self) -> None:
        """Finish the waveform and free everything."""
        if self._handle is not None:
            if self._sampler is not None:
                self._sampler.close()
            self.memory = np.zeros(0, np.uint8)
            self._lib.tm_close(self._handle)
            self._handle = None

    def _open_waves(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self._lib.tm_trace_open(self._handle, str(path).encode()):
            raise DeviceError(f"cannot write the waveform {path}")

    def _check(self) -> None:
        violation = self._lib.tm_violation(self._handle).decode()
        if violation:
            raise DeviceError(f"AXI protocol breached in {violation}")


def _check_timing(
    mem_size: int, read_latency: int, write_latency: int, bandwidth: float, stall_probability: float
) -> None:
    check_options(mem_size=mem_size, read_latency=read_latency, bandwidth=bandwidth)
    if write_latency < 1:
        raise DeviceError(f"write_latency must be at least 1 cycle, not {write_latency!r}")
    if not 0 <= stall_probability < 1:
        raise DeviceError(f"stall_probability must be at least 0 and below 1, not {stall_probability!r}")


def _trace_kind(waves: str | Path | None) -> str:
    if waves is None:
        return ""
    kind = Path(waves).suffix.removeprefix(".").lower()
    if kind not in ("vcd", "fst"):
        raise DeviceError(f"waves: {str(waves)!r} must end in .vcd or .fst")
    return kind


def _library(config: Config, trace: str, variant: Variant | None) -> Path:
    """The library, built first where it is not in the cache."""
    try:
        console = Console(stderr=True)
        if is_built("rtl", build_key(config, trace, variant)) or not console.is_terminal:
            return library(config, trace, variant)[0]
        with console.status(f"building the hardware of {config.name!r}, once ..."):
            return library(config, trace, variant)[0]
    except (BuildError, ToolchainError) as error:
        raise DeviceError(str(error)) from error
