"""Verilator's coverage data in terms of the hardware's Python: which lines ran, which signals toggled.

Points of all builds and instances that come from the same place are one point, hit if any of them was. A point's place
is its line of Python, taken from the `src` attributes that `positions.py` puts into the Verilog.

- A **line** point is one way through a branch: a case of `m.If`, `m.Elif`, `m.Else`, `m.Switch` or `m.FSM` as far as it
  assigns one signal, the way past an `m.If` without `m.Else`, and each side of every `Mux`.
- A **toggle** point is one bit of a named signal going up, or going down. Amaranth's unnamed intermediate values
  (`$123`) are no points: what uses them has a name. Of signals of one name and place `name$2` is the second numbered.

What belongs to no line of Python is left out: reset branches (`if (rst)`) and Yosys's own helper statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tidemill_hdl
from tidemill_verif.coverage import probe
from tidemill_verif.positions import NOWHERE

LINE, TOGGLE = "line", "toggle"
KINDS = (LINE, TOGGLE)
RISE, FALL = "rises", "falls"

_HDL = f"/{tidemill_hdl.__name__}/"
"""Folder of the hardware package; which checkout it is in does not matter, a cached build may be another's."""
_PROBE = "/".join(Path(probe.__file__).parts[-3:])
_NAME = r"(\\\S+|[A-Za-z_$][\w$]*)"
_SRC = re.compile(r'\(\* src = "([^"]*)" \*\)')
_MODULE = re.compile(rf"^module {_NAME}\s*\(")
_DECLARATION = re.compile(rf"^  (?:input |output |inout )?(?:wire|reg) (?:signed )?(?:\[\d+:\d+\] )?{_NAME} *(?:=.*)?;")
_ALWAYS = re.compile(r"^  always @(\*|\(posedge)")
_ASSIGNMENT = re.compile(rf"^\s*{_NAME}\s*(?:\[[^\]]*\]\s*)?<?= (.*);")
_BRANCH = re.compile(r"^( *)(end else if \(|end else begin|if \(|casez? \()")
_ITEM = re.compile(r"^( *)(?:\d+'[hbd][^:]*|default):")
_HELPER = "$auto$verilog_backend"
_POINT = re.compile(r"\x01([A-Za-z]+)\x02([^\x01]*)")
_ESCAPE = re.compile(r"__0([0-9a-f]{2})")
_NUMBER = re.compile(r"\$(\d+)")
_TOGGLE = re.compile(r"^(.*?)((?:\[\d+\])*):([01])->[01]$")


@dataclass(frozen=True, order=True)
class CodePoint:
    """`file`, below the hardware package, owns it; `place` is the `file:line` it comes from, `what` tells it from the
    others of that place."""

    file: str
    kind: str
    place: str
    what: str


@dataclass
class _Module:
    """Where things in a Verilog module come from: `src` attributes by name and by line of the Verilog."""

    wires: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    """Name of a wire -> the name of its points; see `_labels`."""
    then: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Line of an `if` or case item -> (place, assigned signal) of its way."""
    otherwise: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Line of an `if` -> (place, assigned signal) of its `else`, or of the way past it."""
    choices: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Line with a `?:` -> (place, how many of the same place stand before it in the module)."""


def _file(src: str) -> str:
    """File below the hardware package that a module from position `src` belongs to, empty for none."""
    if src.partition(":")[0].endswith(f"/{_PROBE}"):
        return probe.OWNER
    return _place(src).partition(":")[0]


def _place(src: str) -> str:
    """`file:line` below the hardware package, empty for a position elsewhere."""
    _, found, place = src.partition("|")[0].rpartition(_HDL)
    return place if found else ""


class VerilogSource:
    """Positions in a Verilog file that `elaborate.verilog_file(positions=True)` wrote.

    `owners` maps a module to the file of the hardware package that it comes from; a module of a library belongs to
    what instantiates it, one of the benches (a wrapper) to nobody.
    """

    def __init__(self, text: str) -> None:
        self.owners: dict[str, str] = {}
        self.modules: dict[str, _Module] = {}
        src, name, start = "", "", 0
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if match := _MODULE.match(line):
                name, start = match[1].removeprefix("\\"), number
                parent = self.owners.get(name.rpartition(".")[0], "")
                library = "/site-packages/" in src
                self.owners[name] = _file(src) or (parent if library else "")
            elif line.startswith("endmodule"):
                self.modules[name] = _read_module(lines, start, number)
            elif match := _SRC.match(line):
                src = match[1]


def _read_module(lines: list[str], start: int, end: int) -> _Module:
    """Positions in `lines[start:end]`; numbers of lines count from 1."""
    module = _Module()
    registers: dict[str, str] = {}
    blocks: list[tuple[int, int]] = []
    counts: dict[str, int] = {}
    src = ""
    for number in range(start, end):
        line = lines[number]
        if match := _DECLARATION.match(line):
            module.wires[match[1].removeprefix("\\")] = _place(src)
        elif _ALWAYS.match(line):
            blocks.append((number, bool(line.startswith("  always @*"))))
            if "posedge" in line and (assigned := _ASSIGNMENT.match(lines[number + 1])):
                registers[assigned[2].strip()] = assigned[1].removeprefix("\\")
        elif " ? " in line and (match := _SRC.search(line)):
            place = _place(match[1])
            module.choices[number + 1] = place, counts.get(place, 0)
            counts[place] = counts.get(place, 0) + 1
        match = _SRC.match(line.strip())
        src = match[1] if match else "" if not line.lstrip().startswith("(*") else src
    for number, combinational in blocks:
        if combinational:
            _read_block(module, lines, number, registers)
    module.labels = _labels(module.wires)
    return module


def _labels(wires: dict[str, str]) -> dict[str, str]:
    """Names that do not change with the build: Amaranth numbers the signals of a module that have one name by whatever
    else is in it; here those from one place count from 1."""
    numbered: dict[tuple[str, str], list[str]] = {}
    for name in sorted(wires, key=lambda name: [int(number) for number in _NUMBER.findall(name)]):
        if _NUMBER.search(name):
            numbered.setdefault((_NUMBER.sub("$", name), wires[name]), []).append(name)
    return {
        name: _NUMBER.sub(f"${rank}", name, count=1)
        for names in numbered.values()
        for rank, name in enumerate(names, 1)
    }


def _read_block(module: _Module, lines: list[str], start: int, registers: dict[str, str]) -> None:
    """Ways through the `always @*` block that starts at `lines[start]`."""
    end = next(number for number in range(start + 1, len(lines)) if lines[number].rstrip() == "  end")
    assigned = next(filter(None, map(_ASSIGNMENT.match, lines[start + 1 : end])), None)
    target = registers.get(assigned[1], assigned[1].removeprefix("\\")) if assigned else ""
    pending: list[str] = []
    chains: dict[int, list[str]] = {}
    last_if: dict[int, int] = {}
    for number in range(start + 1, end):
        line = lines[number]
        if _HELPER in line:
            continue
        if match := _SRC.match(line.strip()):
            pending = [_place(part) if part != NOWHERE else "" for part in match[1].split("|")]
        elif match := _BRANCH.match(line):
            indent, token = len(match[1]), match[2]
            if not token.startswith("end"):
                chains[indent], pending = pending, []
            places = chains[indent]
            if token.startswith("case"):
                continue
            place = places.pop(0) if places else ""
            if token.startswith("end"):
                module.otherwise[last_if[indent]] = place, target
            if "if" in token:
                module.then[number + 1] = place, target
                module.otherwise[number + 1] = place, f"{target}, not taken" if place else ""
                last_if[indent] = number + 1
        elif match := _ITEM.match(line):
            places = chains.get(len(match[1]) - 2, [])
            module.then[number + 1] = places.pop(0) if places else "", target


def _unescape(name: str) -> str:
    """A name as in the Verilog; Verilator writes special characters as `__0` and their code."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name.replace("___05F", "__"))


def read(data: str, source: VerilogSource) -> Iterator[tuple[CodePoint, bool]]:
    """(point, hit) of every point in Verilator's `data`, which is about `source`."""
    for line in data.splitlines():
        if not line.startswith("C "):
            continue
        entry, _, count = line.rpartition("' ")
        fields = dict(_POINT.findall(entry))
        page, _, name = fields["page"].partition("/")
        owner = source.owners.get(name)
        if not owner:
            continue
        point = _point(source.modules[name], owner, page, int(fields["l"]), fields["o"])
        if point is not None:
            yield point, count != "0"


def _point(module: _Module, owner: str, page: str, line: int, what: str) -> CodePoint | None:
    if page == "v_toggle":
        match = _TOGGLE.match(what)
        assert match is not None, what
        name = _unescape(match[1])
        if name.startswith("$"):
            return None
        place = module.wires.get(name) or owner
        return CodePoint(
            owner, TOGGLE, place, f"{module.labels.get(name, name)}{match[2]} {RISE if match[3] == '0' else FALL}"
        )
    if what in ("cond_then", "cond_else"):
        place, index = module.choices.get(line, ("", 0))
        detail = f"choice {index}: {'first' if what == 'cond_then' else 'second'}"
    elif what == "else":
        place, detail = module.otherwise.get(line, ("", ""))
    elif what in ("if", "elsif", "case"):
        place, detail = module.then.get(line, ("", ""))
    else:
        return None
    return CodePoint(owner, LINE, place, detail) if place else None


def merge(points: Iterable[tuple[CodePoint, bool]]) -> dict[CodePoint, bool]:
    """Each point once: hit where it was in any build, instance or run."""
    merged: dict[CodePoint, bool] = {}
    for point, hit in points:
        merged[point] = merged.get(point, False) or hit
    return merged


def read_files(files: Iterable[Path]) -> dict[CodePoint, bool]:
    """The points of Verilator's data files, whose Verilog must still be where they were made."""
    merged: dict[CodePoint, bool] = {}
    sources: dict[str, VerilogSource] = {}
    for file in files:
        text = file.read_text()
        match = re.search(r"\x01f\x02([^\x01]*)", text)
        if match is None:
            continue
        if match[1] not in sources:
            sources[match[1]] = VerilogSource(Path(match[1]).read_text())
        for point, hit in read(text, sources[match[1]]):
            merged[point] = merged.get(point, False) or hit
    return merged
