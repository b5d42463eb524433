"""Netlists with wrong cells in them, each switched on by its number: what a comparison must catch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tidemill_fpga.gate_level.netlist import MODULE
from tidemill_verif.cache import build_once, content_key, tree_key

SELECTOR = "wrong_cell"
"""Input of the netlist: number of the cell that is wrong, from 1; 0 for none."""
SELECTOR_BITS = 8

KINDS = {
    "LUT4": "one entry of its table inverted",
    "PFUMX": "its two inputs exchanged",
    "MULT18X18D": "operand A unsigned",
    "TRELLIS_FF": "its clock enable ignored",
    "SB_LUT4": "its input I0 inverted",
    "SB_CARRY": "its carry input inverted",
    "SB_MAC16": "its registers stand still",
    "SB_DFFE": "its clock enable ignored",
    "SB_DFFESR": "its clock enable ignored",
    "SB_DFFESS": "its clock enable ignored",
}
"""Types of cells that are spoiled, and how."""

_LUT4 = re.compile(r"^  LUT4 #\(\n    \.INIT\((16'h[0-9a-f]+)\)\n  \) (\S+) +\(\n")
_PINS = {
    "PFUMX": (re.compile(r"\.C0\((.*)\)"), r".C0(\1 ^ {on})"),
    "MULT18X18D": (re.compile(r"\.SIGNEDA\(1'h1\)"), ".SIGNEDA(~{on})"),
    "TRELLIS_FF": (re.compile(r"\.CE\((?!1'h1)(.*)\)"), r".CE(\1 | {on})"),
    "SB_LUT4": (re.compile(r"\.I0\((?!1'h)(.*)\)"), r".I0((\1 ^ {on}))"),
    "SB_CARRY": (re.compile(r"\.CI\((?!1'h)(.*)\)"), r".CI((\1 ^ {on}))"),
    "SB_MAC16": (re.compile(r"\.CE\(1'h1\)"), ".CE(~{on})"),
    **{f"SB_DFFE{kind}": (re.compile(r"\.E\((.*)\)"), r".E((\1 | {on}))") for kind in ("", "SR", "SS")},
}
_CELL = re.compile(rf"^  ({'|'.join(KINDS)}) (?:#\(\n.*?\n  \) )?\S+ +\(\n.*?^  \);\n", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(rf"^module {MODULE}\(", re.MULTILINE)


@dataclass(frozen=True)
class WrongCell:
    """Cell number `number` of a spoiled netlist: its type, what is wrong with it, its place among those of its type."""

    number: int
    kind: str
    fault: str
    index: int

    def __str__(self) -> str:
        return f"{self.kind} number {self.index}: {self.fault}"


def spoil(netlist: Path, count: int, seed: int) -> tuple[Path, list[WrongCell]]:
    """The netlist of a cached folder with `count` cells, chosen by `seed`, that can be made wrong one at a time by its
    new port `SELECTOR`; at least one of each type in `KINDS` where there are as many. Returns its folder."""
    if not 1 <= count < 1 << SELECTOR_BITS:
        raise ValueError(f"1 to {(1 << SELECTOR_BITS) - 1} wrong cells fit a netlist, not {count}")
    text = (netlist / f"{MODULE}.v").read_text()
    rng = Random(f"tidemill wrong cells {seed}")
    found: dict[str, list[re.Match[str]]] = {kind: [] for kind in KINDS}
    for cell in _CELL.finditer(text):
        if cell[1] == "LUT4" or _PINS[cell[1]][0].search(cell[0]):
            found[cell[1]].append(cell)
    kinds = [kind for kind in KINDS if found[kind]]
    chosen: dict[int, WrongCell] = {}
    changed: list[tuple[int, int, str]] = []
    for number in range(1, count + 1):
        kind = kinds[number - 1] if number <= len(kinds) else rng.choices(kinds, [len(found[k]) for k in kinds])[0]
        index = rng.choice([i for i, cell in enumerate(found[kind]) if cell.start() not in chosen])
        cell = found[kind][index]
        on = f"({SELECTOR} == {SELECTOR_BITS}'d{number})"
        chosen[cell.start()] = WrongCell(number, kind, KINDS[kind], index)
        changed.append((cell.start(), cell.end(), _spoiled(cell[0], kind, on, rng.randrange(16))))

    def build(folder: Path) -> None:
        parts, end = [], 0
        for start, stop, cell_text in sorted(changed):
            parts += [text[end:start], cell_text]
            end = stop
        whole = "".join([*parts, text[end:]])
        whole = _HEADER.sub(f"module {MODULE}({SELECTOR}, ", whole)
        head, rest = whole.split(";\n", 1)
        (folder / f"{MODULE}.v").write_text(f"{head};\n  input [{SELECTOR_BITS - 1}:0] {SELECTOR};\n{rest}")

    key = content_key(netlist.name, str(count), str(seed), tree_key(Path(__file__)))
    return build_once("gate-wrong", key, build), sorted(chosen.values(), key=lambda cell: cell.number)


def _spoiled(cell: str, kind: str, on: str, entry: int) -> str:
    if kind == "LUT4":
        return _LUT4.sub(rf"  WRONG_LUT4 #(.INIT(\1), .ENTRY(4'd{entry})) \2 (\n    .wrong{on},\n", cell)
    pin, replacement = _PINS[kind]
    return pin.sub(replacement.format(on=on), cell)
