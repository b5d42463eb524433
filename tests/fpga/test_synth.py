"""Synthesis for ECP5: the smallest NPU keeps every promise, and designs that break one are reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from click.testing import CliRunner

from tidemill_fpga.netlist import Usage, combinational_paths
from tidemill_fpga.synth import BIG_MEMORY, budget_problems, main, memory_problems, path_problems
from tidemill_fpga.unit import UnitReport, synthesize, unit_designs
from tidemill_verif.elaborate import to_rtlil


class Mixed(wiring.Component):
    """`sum` is registered, `through` adds `a` and `b` without a register, `wire` is `b` itself."""

    def __init__(self) -> None:
        super().__init__({"a": In(8), "b": In(8), "sum": Out(8), "through": Out(8), "wire": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.sync += self.sum.eq(self.a + self.b)
        m.d.comb += [self.through.eq(self.a + self.sum), self.wire.eq(self.b[0])]
        return m


class Lookup(wiring.Component):
    """A memory of 16 bits a word, with a registered address and one read port, synchronous or not."""

    def __init__(self, depth: int, *, asynchronous: bool) -> None:
        self._depth = depth
        self._asynchronous = asynchronous
        address = (depth - 1).bit_length()
        super().__init__({"i_addr": In(address), "i_data": In(16), "i_en": In(1), "o_data": Out(16)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = memory.Memory(shape=16, depth=self._depth, init=[])
        read = storage.read_port(domain="comb" if self._asynchronous else "sync")
        write = storage.write_port()
        addr = Signal.like(self.i_addr)
        m.d.sync += [addr.eq(self.i_addr), self.o_data.eq(read.data)]
        m.d.comb += [read.addr.eq(addr), write.addr.eq(addr), write.data.eq(self.i_data), write.en.eq(self.i_en)]
        return m


class Registers(wiring.Component):
    """A memory of more than `BIG_MEMORY` bits with three write ports, which no RAM of the device has."""

    def __init__(self) -> None:
        super().__init__({"i_addr": In(6), "j_addr": In(6), "i_data": In(18), "o_data": Out(18)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.storage = storage = memory.Memory(shape=18, depth=64, init=[])
        read, first, second, third = storage.read_port(), *(storage.write_port() for _ in range(3))
        m.d.comb += [
            read.addr.eq(self.i_addr),
            first.addr.eq(self.i_addr),
            second.addr.eq(self.j_addr),
            third.addr.eq(self.i_addr ^ self.j_addr),
            self.o_data.eq(read.data),
        ]
        for port in (first, second, third):
            m.d.comb += [port.data.eq(self.i_data), port.en.eq(1)]
        return m


def report(component: wiring.Component) -> UnitReport:
    return synthesize(to_rtlil(component, "unit"), "unit")


def test_combinational_path_is_reported() -> None:
    unit = report(Mixed())
    assert unit.paths == (("a", "through"), ("b", "wire"))
    assert path_problems(unit)[0].startswith("unit: combinational path from input a to output through")


def test_asynchronous_memory_is_reported() -> None:
    unit = report(Lookup(512, asynchronous=True))
    assert unit.memories[0].asynchronous
    assert any("read port without a clock" in problem for problem in memory_problems(unit))


def test_memory_in_flip_flops_is_reported() -> None:
    unit = report(Registers())
    assert unit.memories[0].cell == "flip-flops"
    assert any("became flip-flops" in problem for problem in memory_problems(unit))


@pytest.mark.parametrize(("depth", "cell"), [(16, "TRELLIS_DPR16X4"), (512, "DP16KD")])
def test_synchronous_memory_lands_in_a_ram(depth: int, cell: str) -> None:
    unit = report(Lookup(depth, asynchronous=False))
    assert unit.paths == ()
    assert memory_problems(unit) == []
    assert [(found.path, found.bits, found.cell) for found in unit.memories] == [("unit.storage", 16 * depth, cell)]
    assert (unit.usage.bram > 0) == (cell == "DP16KD")
    assert (unit.usage.dram > 0) == (cell == "TRELLIS_DPR16X4")


def test_small_memories_may_be_anything() -> None:
    unit = report(Lookup(BIG_MEMORY // 16, asynchronous=True))
    assert memory_problems(unit) == []


def test_combinational_cells_chain_and_registers_cut() -> None:
    lut = {"type": "LUT4", "port_directions": {"A": "input", "Z": "output"}}
    ff = {"type": "TRELLIS_FF", "port_directions": {"DI": "input", "Q": "output"}}
    ram = {"type": "TRELLIS_DPR16X4", "port_directions": {"DI": "input", "RAD": "input", "DO": "output"}}
    module = {
        "ports": {
            "i": {"direction": "input", "bits": [2]},
            "j": {"direction": "input", "bits": [3]},
            "x": {"direction": "output", "bits": [5, "0"]},
            "y": {"direction": "output", "bits": [6]},
            "z": {"direction": "output", "bits": [7]},
        },
        "cells": {
            "first": lut | {"connections": {"A": [2], "Z": [4]}},
            "second": lut | {"connections": {"A": [4], "Z": [5]}},
            "register": ff | {"connections": {"DI": [2], "Q": [6]}},
            "ram": ram | {"connections": {"DI": [2], "RAD": [3], "DO": [7]}},
        },
    }
    assert combinational_paths(module) == [("i", "x"), ("j", "z")]


def test_budget() -> None:
    assert budget_problems("base", Usage(lut4=59_999, bram=199)) == []
    assert len(budget_problems("base", Usage(lut4=60_000, bram=200))) == 2
    assert budget_problems("tiny", Usage(lut4=10**6)) == []


def test_units_are_the_direct_submodules() -> None:
    rtlil = "".join(f"module \\{name}\nend\n" for name in ("top", "top.a", "top.a.x", "top.b", "top.ab"))
    units = unit_designs(rtlil)
    assert list(units) == ["a", "b", "ab"]
    assert "top.a.x" in units["a"]
    assert "top.ab" not in units["a"]


@pytest.mark.timeout(1500)
def test_tiny_keeps_every_promise(tmp_path: Path) -> None:
    page = tmp_path / "area.md"
    result = CliRunner().invoke(main, ["--preset", "tiny", "--json", "--markdown", str(page)])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["problems"] == []
    tiny = answer["presets"]["tiny"]
    assert {unit["name"] for unit in tiny["units"]} >= {"top.matrix", "top.vector", "top.load", "top.scratchpad"}
    assert tiny["total"]["dsp"] >= 16
    assert f"| total | {tiny['total']['lut4']:,} |" in page.read_text()
