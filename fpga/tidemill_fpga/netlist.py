"""What a mapped ECP5 netlist says: the cells it takes, and the paths through it that meet no register."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_SEQUENTIAL = frozenset({"TRELLIS_FF", "DP16KD", "PDPW16KD"})
"""Cells whose outputs come from registers alone."""

_DISTRIBUTED_RAM = "TRELLIS_DPR16X4"
"""Its write side is clocked; from the read address to the data it is a look-up table."""


@dataclass(frozen=True)
class Usage:
    """Cells of an ECP5.

    Members
    -------
    lut4 : int: four-input tables, those of carry chains included (two a CCU2C); without distributed RAM.
    ff : int: flip-flops.
    dsp : int: 18 x 18 multipliers.
    bram : int: block RAMs of 18 Kbit (DP16KD).
    dram : int: distributed RAMs of 16 x 4 bits.
    """

    lut4: int = 0
    ff: int = 0
    dsp: int = 0
    bram: int = 0
    dram: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.lut4 + other.lut4,
            self.ff + other.ff,
            self.dsp + other.dsp,
            self.bram + other.bram,
            self.dram + other.dram,
        )


def usage(module: dict[str, Any]) -> Usage:
    """The cells of `module`, a flat module of yosys's JSON format."""
    cells = Counter(cell["type"] for cell in module["cells"].values())
    return Usage(
        lut4=cells["LUT4"] + 2 * cells["CCU2C"],
        ff=cells["TRELLIS_FF"],
        dsp=cells["MULT18X18D"],
        bram=cells["DP16KD"] + cells["PDPW16KD"],
        dram=cells[_DISTRIBUTED_RAM],
    )


def combinational_paths(module: dict[str, Any]) -> list[tuple[str, str]]:
    """Pairs (input port, output port) of `module` with a path between them that meets no register.

    Cells of unknown type count as combinational, so the answer errs on the side of reporting.
    """
    fanout: dict[int, set[int]] = defaultdict(set)
    for cell in module["cells"].values():
        for sources, sinks in _arcs(cell):
            for bit in sources:
                fanout[bit] |= sinks
    ports = {name: _bits(port["bits"]) for name, port in module["ports"].items()}
    inputs = [name for name, port in module["ports"].items() if port["direction"] != "output"]
    outputs = [name for name, port in module["ports"].items() if port["direction"] != "input"]
    pairs = []
    for source in inputs:
        reached = set(ports[source])
        frontier = list(reached)
        while frontier:
            new = fanout.get(frontier.pop(), set()) - reached
            reached |= new
            frontier += new
        pairs += [(source, sink) for sink in outputs if sink != source and reached & ports[sink]]
    return pairs


def _arcs(cell: dict[str, Any]) -> Iterator[tuple[set[int], set[int]]]:
    """Sets of bits (from, to) of `cell` with a combinational path between them."""
    kind = cell["type"]
    if kind in _SEQUENTIAL or kind.startswith("$scopeinfo"):
        return
    if kind == "MULT18X18D" and cell["parameters"].get("REG_OUTPUT_CLK", "NONE") != "NONE":
        return
    sources: set[int] = set()
    sinks: set[int] = set()
    for port, direction in cell["port_directions"].items():
        if direction == "output":
            sinks |= _bits(cell["connections"][port])
        elif kind != _DISTRIBUTED_RAM or port == "RAD":
            sources |= _bits(cell["connections"][port])
    yield sources, sinks


def _bits(connection: list[Any]) -> set[int]:
    """The nets of `connection`; constants are text and no nets."""
    return {bit for bit in connection if isinstance(bit, int)}
