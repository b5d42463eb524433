"""Drivers of many cells get copies, and the netlist stays what it was."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Elaboratable, Module, Signal

from tidemill_fpga.families.ecp5 import Ecp5
from tidemill_fpga.families.replication import Replication
from tidemill_fpga.gate_level.equivalence import compare
from tidemill_fpga.tools import QUIET

LANES = 96


class Steered(Elaboratable):
    """A register, and a table of two others, that steer every lane of a row."""

    def __init__(self) -> None:
        self.i = Signal(3)
        self.o = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        negate = Signal()
        one = Signal()
        other = Signal()
        lanes = Signal(LANES)
        results = Signal(LANES)
        m.d.sync += [
            negate.eq(self.i[0]),
            one.eq(self.i[1]),
            other.eq(self.i[2]),
            lanes.eq(Cat(self.i[0] ^ self.o, lanes)),
        ]
        with m.If(one & other):
            m.d.sync += results.eq(lanes ^ negate.replicate(LANES))
        m.d.comb += self.o.eq(results.xor())
        return m


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `netlist.json` and the places of its cells, `placed.json`."""
    folder = tmp_path_factory.mktemp("replication")
    top = Steered()
    family = Ecp5("LFE5U-25F", "BG381", "6")
    (folder / "design.il").write_text(rtlil.convert(top, name="top", ports=[top.i, top.o], emit_src=False))
    (folder / "pins").write_text(family.free_pins(100))
    family.synthesize(folder, QUIET)
    shutil.copyfile(folder / "netlist.json", folder / "before.json")
    family.place(folder, 100, QUIET)
    return folder


def replicated(placed: Path, folder: Path, reach: int) -> int:
    for name in ("before.json", "netlist.json", "placed.json"):
        shutil.copyfile(placed / name, folder / name)
    replication = dataclasses.replace(Ecp5.replication, reach=reach)
    return replication.apply(folder / "netlist.json", folder / "placed.json")


def cells(file: Path) -> dict[str, dict[str, object]]:
    return json.loads(file.read_text())["modules"]["top"]["cells"]


def sinks(file: Path) -> dict[str, int]:
    """How many inputs each cell drives."""
    table = cells(file)
    drives: dict[int, str] = {}
    for name, cell in table.items():
        for port, bits in cell["connections"].items():
            drives |= {bit: name for bit in bits if cell["port_directions"][port] == "output"}
    counts = dict.fromkeys(table, 0)
    for cell in table.values():
        for port, bits in cell["connections"].items():
            for bit in bits:
                if cell["port_directions"][port] == "input" and bit in drives:
                    counts[drives[bit]] += 1
    return counts


def test_drivers_that_reach_far_are_replicated(placed: Path, tmp_path: Path) -> None:
    copies = replicated(placed, tmp_path, reach=3)
    before, after = cells(tmp_path / "before.json"), cells(tmp_path / "netlist.json")
    new = after.keys() - before.keys()
    assert len(new) == copies
    # The register that every lane takes, and the enable of every lane.
    assert {after[name]["type"] for name in new} == {"TRELLIS_FF", "LUT4"}
    assert max(sinks(tmp_path / "before.json").values()) >= LANES
    assert max(sinks(tmp_path / "netlist.json").values()) < LANES // 2


def test_drivers_within_reach_stay_alone(placed: Path, tmp_path: Path) -> None:
    assert replicated(placed, tmp_path, reach=400) == 0
    assert cells(tmp_path / "netlist.json") == cells(tmp_path / "before.json")


def keep(text: str) -> str:
    return text


def cross(text: str) -> str:
    """The netlist with the input of one copied register taken from elsewhere."""
    design = json.loads(text)
    module = design["modules"]["top"]["cells"]
    name = next(name for name, cell in sorted(module.items()) if "$copy" in name and cell["type"] == "TRELLIS_FF")
    other = next(cell for name, cell in sorted(module.items()) if "lanes" in name and cell["type"] == "TRELLIS_FF")
    module[name]["connections"]["DI"] = other["connections"]["Q"]
    return json.dumps(design)


@pytest.mark.parametrize(("change", "equal"), [(keep, True), (cross, False)])
def test_the_netlist_is_proved_equal(placed: Path, tmp_path: Path, change: Callable[[str], str], equal: bool) -> None:
    replicated(placed, tmp_path, reach=3)
    netlist = tmp_path / "netlist.json"
    netlist.write_text(change(netlist.read_text()))
    # Without the empty modules that the netlist brings for its cells, so that the models take their place.
    gold, gate = (f"read_json {name}.json\ndelete =A:blackbox" for name in ("before", "netlist"))
    proven, points = compare(gold, gate, tmp_path)
    assert points >= 1
    assert (proven == points) == equal


def test_a_clock_is_not_replicated(tmp_path: Path) -> None:
    replication = Replication({"TRELLIS_FF": "Q"}, frozenset({"CLK"}), reach=0, least=1)
    places = {f"sink{index}": (index, 0) for index in range(8)} | {"divider": (0, 0)}
    cell = {"type": "TRELLIS_FF", "port_directions": {"Q": "output", "CLK": "input"}}
    netlist = {"divider": {**cell, "connections": {"Q": [2]}}} | {
        name: {**cell, "connections": {"CLK": [2]}} for name in places if name != "divider"
    }
    file, where = tmp_path / "netlist.json", tmp_path / "placed.json"
    file.write_text(json.dumps({"modules": {"top": {"cells": netlist, "netnames": {}}}}))
    bels = {name: {"attributes": {"NEXTPNR_BEL": f"X{x}/Y{y}/SLICEA.FF0"}} for name, (x, y) in places.items()}
    where.write_text(json.dumps({"modules": {"top": {"cells": bels}}}))
    assert replication.apply(file, where) == 0
