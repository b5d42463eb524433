"""Drivers of many cells that a placement puts far apart, made several: one near each group of what they drive.

Yosys merges equal cells, and nextpnr leaves the netlist as it is; so a register that steers every lane of a row has one
place on the die, and its wire crosses all of it. Replication by position is an ordinary step of physical synthesis.
"""

from __future__ import annotations

import copy
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tidemill_verif.cache import content_key, tree_key

Place: TypeAlias = tuple[int, int]
"""Column and row of a tile."""

_BEL = re.compile(r"X(\d+)/Y(\d+)/")
_PACKED = re.compile(r"\$(CCU2_COMB|DPRAM_COMB|DPRAM_RAMW)\d*$")
"""What nextpnr-ecp5 adds to the name of a cell that it splits."""


class _Sink(NamedTuple):
    cell: str
    port: str
    bit: int


@dataclass(frozen=True)
class Replication:
    """What is replicated.

    Members
    -------
    outputs : mapping of str to str: types of cells that may have copies, and the port that drives. Copies of an
        earlier type are sinks of what a later one drives: logic first, then registers.
    clocks : collection of str: ports that a clock drives; nets with one stay whole.
    reach : int: tiles from end to end, columns and rows added, that a group of sinks may spread over.
    least : int: sinks of a group; smaller ones are not split off.
    """

    outputs: Mapping[str, str]
    clocks: frozenset[str]
    reach: int = 24
    least: int = 8

    @property
    def key(self) -> str:
        """Hash of what is replicated and how: this file is part of it, so that no cache outlives a change here."""
        return content_key(repr(self), tree_key(Path(__file__)))

    def apply(self, netlist: Path, placed: Path) -> int:
        """Rewrite `netlist` (JSON of Yosys, module `top`) by the places in `placed` (JSON of nextpnr for the same
        netlist). Every copy has the inputs and the start value of its cell. Returns the number of copies."""
        design = json.loads(netlist.read_text())
        module, places = design["modules"]["top"], read_places(placed)
        copies = sum(self._split(module, places, kind, port) for kind, port in self.outputs.items())
        netlist.write_text(json.dumps(design))
        return copies

    def _split(
        self, module: dict[str, dict[str, dict[str, object]]], places: dict[str, Place], kind: str, port: str
    ) -> int:
        cells, names = module["cells"], module["netnames"]
        drivers, sinks = _connections(cells)
        fresh = 1 + max((*drivers, *sinks))
        copies = 0
        for net in sorted(drivers.keys() & sinks.keys()):
            driver, output = drivers[net]
            if (cells[driver]["type"], output) != (kind, port) or driver not in places:
                continue
            placed = [sink for sink in sinks[net] if sink.cell in places]
            if len(placed) < 2 * self.least or any(sink.port in self.clocks for sink in sinks[net]):
                continue
            x, y = places[driver]
            groups = self._groups(placed, places)
            # The cell itself keeps the nearest, and whatever has no place.
            groups.sort(key=lambda group: min(_apart((x, y), places[sink.cell]) for sink in group))
            for index, group in enumerate(groups[1:], 1):
                name = f"{driver}$copy{index}"
                cells[name] = copy.deepcopy(cells[driver])
                _connect(cells, _Sink(name, port, 0), fresh)
                names[f"{name}.{port}"] = {"hide_name": 1, "bits": [fresh], "attributes": {}}
                for sink in group:
                    _connect(cells, sink, fresh)
                places[name] = _middle(group, places)
                fresh += 1
                copies += 1
        return copies

    def _groups(self, sinks: list[_Sink], places: Mapping[str, Place]) -> list[list[_Sink]]:
        """`sinks`, halved across their longer side until each part is within reach."""
        columns, rows = zip(*(places[sink.cell] for sink in sinks), strict=True)
        wide, high = max(columns) - min(columns), max(rows) - min(rows)
        if wide + high <= self.reach or len(sinks) < 2 * self.least:
            return [sinks]
        axis = 0 if wide >= high else 1
        ordered = sorted(sinks, key=lambda sink: (places[sink.cell][axis], sink))
        half = len(ordered) // 2
        return self._groups(ordered[:half], places) + self._groups(ordered[half:], places)


def read_places(placed: Path) -> dict[str, Place]:
    """Places of the cells in nextpnr's JSON, by the name that Yosys gave them."""
    result: dict[str, Place] = {}
    for name, cell in json.loads(placed.read_text())["modules"]["top"]["cells"].items():
        if match := _BEL.match(cell["attributes"].get("NEXTPNR_BEL", "")):
            result[_PACKED.sub("", name)] = (int(match[1]), int(match[2]))
    return result


def _connections(
    cells: Mapping[str, dict[str, object]],
) -> tuple[dict[int, tuple[str, str]], dict[int, list[_Sink]]]:
    """Drivers and sinks by net; constants are no nets."""
    drivers: dict[int, tuple[str, str]] = {}
    sinks: defaultdict[int, list[_Sink]] = defaultdict(list)
    for name, cell in cells.items():
        directions: dict[str, str] = cell["port_directions"]  # type: ignore[assignment]
        connections: dict[str, list[int | str]] = cell["connections"]  # type: ignore[assignment]
        for port, bits in connections.items():
            for index, bit in enumerate(bits):
                if not isinstance(bit, int):
                    continue
                if directions[port] == "input":
                    sinks[bit].append(_Sink(name, port, index))
                else:
                    drivers[bit] = (name, port)
    return drivers, dict(sinks)


def _connect(cells: Mapping[str, dict[str, object]], sink: _Sink, net: int) -> None:
    connections: dict[str, list[int | str]] = cells[sink.cell]["connections"]  # type: ignore[assignment]
    connections[sink.port][sink.bit] = net


def _middle(sinks: list[_Sink], places: Mapping[str, Place]) -> Place:
    columns, rows = zip(*(places[sink.cell] for sink in sinks), strict=True)
    return sum(columns) // len(columns), sum(rows) // len(rows)


def _apart(one: Place, other: Place) -> int:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
