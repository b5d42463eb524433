"""The rules of the NPU's bus ports for Python; `axi_rules.h` has them, `docs/verification/bus-faults.md` lists them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import ClassVar

from tidemill.config import Config
from tidemill.csr import bit, offset
from tidemill.isa import INSTRUCTION_BYTES
from tidemill_verif.cache import build_once, content_key
from tidemill_verif.toolchain import ToolchainError, build_env

HEADER = Path(__file__).with_name("axi_rules.h")
SOURCE = Path(__file__).with_name("axi_rules.cpp")
PATIENCE = 16
"""Cycles within which the machine answers a register access: a write takes 3, a read 5."""

RULES = {
    "axi.reset": ("A3.1.2", "the NPU's VALIDs are low in reset and in the first cycle after it"),
    "axi.hold": ("A3.2.1", "ARVALID, AWVALID, WVALID stay high until READY"),
    "axi.stable": ("A3.2.1", "the payloads of AR, AW, W hold while VALID waits for READY"),
    "axi.burst": ("A3.4.1", "full-width beats, INCR; the machine also promises aligned addresses"),
    "axi.length": (
        "A3.4.1",
        "at most 256 beats; the machine promises `max_burst`, or one instruction where that is longer",
    ),
    "axi.4k": ("A3.4.1", "no burst crosses 4 KiB"),
    "axi.attributes": ("A4, A7.4, A8.1", "the machine promises normal bufferable, unprivileged, no lock, QoS 0"),
    "axi.id": ("A5.2", "the machine promises read ID 0 (fetch) or 1 (load), write ID 0"),
    "axi.wlast": ("A3.4.1", "WLAST on beat AWLEN + 1, and there only: as many beats as the burst has"),
    "axi.early-data": ("A3.3.1", "AXI allows data before its address; the machine promises AWVALID first"),
    "axi.strobe": ("A3.4.3", "the machine promises whole beats; once off in a drain strobes stay off to its end"),
    "axi.outstanding": ("A5.3", "`max_outstanding` loads, as many writes, twice `max_burst` fetch beats"),
    "axi.window": ("contract", "loads, stores and fetches inside the windows and the program of the latest start"),
    "axi.idle": ("contract", "nothing begins or is in flight before a start or while STATUS says idle"),
    "mem.reset": ("A3.1.2", "the memory's VALIDs are low in reset"),
    "mem.hold": ("A3.2.1", "RVALID, BVALID stay high until READY"),
    "mem.stable": ("A3.2.1", "the payloads of R, B hold while VALID waits for READY"),
    "mem.unasked": ("A3.3.1, A5.3", "R after its AR, B after AW and the last beat of W; the ID of a burst in flight"),
    "mem.rlast": ("A3.4.1", "RLAST on beat ARLEN + 1, and there only"),
    "mem.response": ("A3.4.4", "no EXOKAY without exclusive access"),
    "lite.reset": ("A3.1.2", "the NPU's BVALID and RVALID are low in reset and in the first cycle after it"),
    "lite.hold": ("A3.2.1", "BVALID, RVALID stay high until READY"),
    "lite.stable": ("A3.2.1", "the payloads of B, R hold while VALID waits for READY"),
    "lite.unasked": ("A3.3.1", "one B after an AW and a W, one R after an AR"),
    "lite.response": ("B1.1.1", "no EXOKAY; the machine promises OKAY"),
    "lite.one": ("contract", "one write and one read at a time"),
    "lite.late": ("contract", "a register access is answered within 16 cycles"),
    "host.reset": ("A3.1.2", "the host's VALIDs are low in reset"),
    "host.hold": ("A3.2.1", "AWVALID, WVALID, ARVALID stay high until READY"),
    "host.stable": ("A3.2.1", "the payloads of AW, W, AR hold while VALID waits for READY"),
}
"""Every rule: where it comes from (paragraph of ARM IHI 0022 issue E, or the machine's own contract), and what it says.
`axi`: the NPU on the AXI4 port, `mem`: the memory there; `lite`: the NPU on the AXI4-Lite port, `host`: its host."""

u32, Bytes16 = ctypes.c_uint32, ctypes.c_uint8 * 16


class Limits(ctypes.Structure):
    """What one NPU may do beyond the AXI specification's own limits; see `axi_rules.h`."""

    _fields_ = tuple(
        (name, u32)
        for name in (
            "bus_bytes", "max_burst", "fetch_burst", "load_bursts", "fetch_beats", "write_bursts", "has_registers",
            "prog_addr", "prog_len", "read_base", "read_limit", "write_base", "write_limit", "control", "status",
            "start_bit", "active_bits", "patience",
        )
    )  # fmt: skip

    @classmethod
    def of(cls, config: Config) -> Limits:
        """Those of the whole NPU of `config`, both ports watched."""
        registers = ("prog_addr", "prog_len", "read_base", "read_limit", "write_base", "write_limit", "control")
        return cls(
            bus_bytes=config.axi_bytes,
            max_burst=config.max_burst,
            fetch_burst=max(config.max_burst, INSTRUCTION_BYTES // config.axi_bytes),
            load_bursts=config.max_outstanding,
            fetch_beats=2 * config.max_burst,
            write_bursts=config.max_outstanding,
            has_registers=1,
            **{name: offset(name.upper()) for name in (*registers, "status")},
            start_bit=bit("CONTROL", "start"),
            active_bits=bit("STATUS", "busy") | bit("STATUS", "resetting"),
            patience=PATIENCE,
        )


class Address(ctypes.Structure):
    """Payload of AR and AW."""

    _fields_ = tuple((name, u32) for name in ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos"))


class WriteData(ctypes.Structure):
    """Payload of W."""

    _fields_ = (("data", Bytes16), ("strb", u32), ("last", u32))


class ReadData(ctypes.Structure):
    """Payload of R."""

    _fields_ = (("data", Bytes16), ("id", u32), ("resp", u32), ("last", u32))


class Response(ctypes.Structure):
    """Payload of B."""

    _fields_ = (("id", u32), ("resp", u32))


class LiteAddress(ctypes.Structure):
    """Payload of AXI4-Lite's AR and AW."""

    _fields_ = (("addr", u32), ("prot", u32))


class LiteWrite(ctypes.Structure):
    """Payload of AXI4-Lite's W."""

    _fields_ = (("data", u32), ("strb", u32))


class LiteRead(ctypes.Structure):
    """Payload of AXI4-Lite's R."""

    _fields_ = (("data", u32), ("resp", u32))


class LiteResponse(ctypes.Structure):
    """Payload of AXI4-Lite's B."""

    _fields_ = (("resp", u32),)


def _channel(payload: type[ctypes.Structure]) -> type[ctypes.Structure]:
    fields = (("valid", u32), ("ready", u32), ("payload", payload))
    return type(f"{payload.__name__}Channel", (ctypes.Structure,), {"_fields_": fields})


class Axi4(ctypes.Structure):
    """The AXI4 port in one cycle: channels `ar`, `aw`, `w`, `r`, `b` of `valid`, `ready`, `payload`."""

    CHANNELS: ClassVar = {"ar": Address, "aw": Address, "w": WriteData, "r": ReadData, "b": Response}
    _fields_ = tuple((name, _channel(payload)) for name, payload in CHANNELS.items())


class Lite(ctypes.Structure):
    """The AXI4-Lite port in one cycle: channels `aw`, `w`, `b`, `ar`, `r`."""

    CHANNELS: ClassVar = {
        "aw": LiteAddress, "w": LiteWrite, "b": LiteResponse, "ar": LiteAddress, "r": LiteRead
    }  # fmt: skip
    _fields_ = tuple((name, _channel(payload)) for name, payload in CHANNELS.items())


class AxiRules:
    """Checks the two ports of one NPU; the caller shows it every clock cycle of each port that it has."""

    def __init__(self, limits: Limits) -> None:
        self._lib = _library()
        self._handle = self._lib.rules_open(ctypes.byref(limits))

    def axi4(self, now: Axi4, *, reset: bool = False) -> None:
        """The AXI4 port in the next cycle; `reset`: the reset was high in it."""
        self._lib.rules_axi4(self._handle, reset, ctypes.byref(now))

    def lite(self, now: Lite, *, reset: bool = False) -> None:
        """The AXI4-Lite port in the next cycle."""
        self._lib.rules_lite(self._handle, reset, ctypes.byref(now))

    @property
    def violation(self) -> str:
        """The first rule broken, `<rule>: <what happened>`; empty where there is none."""
        return str(self._lib.rules_violation(self._handle).decode())

    def __del__(self) -> None:
        self._lib.rules_close(self._handle)


@cache
def _library() -> ctypes.CDLL:
    """The compiled rules; raises `ToolchainError` where the compiler is missing or fails."""
    key = content_key(HEADER.read_bytes(), SOURCE.read_bytes())
    lib = ctypes.CDLL(str(build_once("axi-rules", key, _build) / "librules.so"))
    for name, result, arguments in (
        ("rules_open", ctypes.c_void_p, [ctypes.c_void_p]),
        ("rules_close", None, [ctypes.c_void_p]),
        ("rules_axi4", None, [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]),
        ("rules_lite", None, [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]),
        ("rules_violation", ctypes.c_char_p, [ctypes.c_void_p]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _build(folder: Path) -> None:
    environment = build_env()
    command = [shutil.which("g++", path=environment["PATH"]) or "g++", "-std=c++20", "-O2", "-fPIC", "-shared"]
    command += [str(SOURCE), "-o", str(folder / "librules.so")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ToolchainError(f"cannot compile {SOURCE.name}: {result.stderr.strip()[-2000:]}")
