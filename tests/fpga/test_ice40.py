"""The iCE40 UltraPlus: what a board of it is made of, and what does not fit is said."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import io
from click.testing import CliRunner

from tidemill.cli import main
from tidemill.config import preset
from tidemill_fpga.boards import find_board
from tidemill_fpga.build import Builder
from tidemill_fpga.families.family import FitError
from tidemill_fpga.families.ice40 import Ice40Up, pll_settings
from tidemill_fpga.families.ice40_memory import SpramMemory, sprams
from tidemill_fpga.families.ice40_multipliers import multiplier_pairs
from tidemill_fpga.gate_level.behaviour import statements
from tidemill_fpga.gate_level.equivalence import compare
from tidemill_fpga.gate_level.multipliers import MultiplierPair, every_pair, pair_products
from tidemill_fpga.gate_level.netlist import MODULE, netlist
from tidemill_fpga.gate_level.wrong import spoil
from tidemill_fpga.tools import QUIET


def test_the_board_elaborates_with_the_cells_of_the_family() -> None:
    board = replace(find_board("icebreaker"), family=Ice40Up("sg48", bounded=False))
    design, pins = Builder(board, preset("tiny"), board.mhz).elaborate()
    assert design.count("cell \\SB_MAC16 ") == 8
    assert design.count("cell \\SB_SPRAM256KA ") == 2
    assert design.count("cell \\SB_PLL40_PAD ") == 1
    assert "set_io clk12_0__io 35" in pins
    assert "set_frequency clk12_0__io 12" in pins


class Echo(Elaboratable):
    """The board's clock, and its serial line through a register."""

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        board = find_board("icebreaker")
        assert board.family.clock(m, platform.request("clk12", 0, dir="-"), 12e6, board.mhz) == board.mhz
        serial = platform.request("uart", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", serial.rx)
        m.submodules.tx = tx = io.Buffer("o", serial.tx)
        line = Signal()
        m.d.sync += line.eq(rx.i)
        m.d.comb += tx.o.eq(line)
        return m


def test_a_design_becomes_a_bitstream(tmp_path: Path) -> None:
    board = find_board("icebreaker")
    plan = board.platform().prepare(Echo(), "top", emit_src=False)
    (tmp_path / "design.il").write_text(plan.files["top.il"])
    (tmp_path / "pins").write_text(board.family.constraints(plan))
    board.family.synthesize(tmp_path, QUIET)
    routed = board.family.route(tmp_path, 1, board.mhz, QUIET)
    board.family.pack(tmp_path, QUIET)
    assert routed.mhz >= board.mhz
    assert routed.used["ICESTORM_PLL"] == 1
    assert (tmp_path / "bitstream").read_bytes().startswith(b"\xff\x00\x00\xff\x7e\xaa\x99\x7e")


@pytest.mark.parametrize("command", ["build", "report"])
def test_an_npu_that_does_not_fit_is_refused_before_the_long_part(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--board", "icebreaker", "--preset", "tiny"])
    assert result.exit_code == 1
    assert "Error: configuration 'tiny' does not fit the iCE40UP5K: the smallest one that is not" in result.output
    assert "the device has 5,280" in result.output


def test_the_local_memory_takes_half_of_the_single_port_rams() -> None:
    family = Ice40Up("sg48")
    family.check(preset("micro"), 64 << 10)
    with pytest.raises(FitError, match="memory of 131072 bytes and the local memory need 6 SB_SPRAM256KA"):
        family.check(preset("micro"), 128 << 10)


def test_the_sequential_npu_elaborates_with_the_cells_of_the_family() -> None:
    board = find_board("icebreaker")
    design, _ = Builder(board, preset(board.preset), board.mhz).elaborate()
    assert board.preset == "micro"
    assert design.count("cell \\SB_SPRAM256KA ") == 4
    assert design.count("cell \\SB_MAC16 ") == 2


@pytest.mark.parametrize(("source", "mhz"), [(12, 24), (12, 30), (12, 48), (12, 20), (100, 33), (12, 25)])
def test_the_pll_makes_the_clock_within_its_limits(source: float, mhz: float) -> None:
    settings = pll_settings(source, mhz)
    assert settings.vco_mhz == pytest.approx(source / (settings.reference + 1) * (settings.feedback + 1))
    assert settings.mhz == pytest.approx(settings.vco_mhz / 2**settings.output)
    assert 0.98 * mhz <= settings.mhz <= mhz * (1 + 1e-6)
    assert 533 <= settings.vco_mhz <= 1066
    assert 10 <= source / (settings.reference + 1) <= 133


@pytest.mark.parametrize("mhz", [12, 300])
def test_a_clock_that_the_pll_cannot_make_is_an_error(mhz: float) -> None:
    with pytest.raises(FitError, match=f"the clock of {mhz} MHz cannot be made from 12 MHz; the iCE40's PLL makes"):
        pll_settings(12, mhz)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "tiny",
            4096,
            "no memory of 4096 bytes on a bus of 32 bits; must be a multiple of 65536 bytes, at most 131072",
        ),
        ("tiny", 1 << 18, "no memory of 262144 bytes"),
        ("base", 65536, "no memory of 65536 bytes on a bus of 64 bits; must be a multiple of 131072 bytes"),
    ],
)
def test_memories_that_single_port_rams_cannot_make_are_refused(name: str, size: int, message: str) -> None:
    with pytest.raises(FitError, match=message):
        SpramMemory(preset(name), size)


@pytest.mark.parametrize("latency", [1, 3])
def test_both_products_of_a_cell_are_right_for_every_pair(latency: int) -> None:
    a, b = every_pair(8, 8)
    order = np.random.default_rng(latency).permutation(len(a))
    first, second = (np.stack([values, values[order]], axis=1) for values in (a, b))
    np.testing.assert_array_equal(pair_products(latency, first, second), first * second)


def test_statements_are_equivalent_to_the_cell_models(tmp_path: Path) -> None:
    gold = cells_of_every_type(seed=5)
    gate = statements(gold)
    assert "SB_" not in gate
    (tmp_path / "gold.v").write_text(gold)
    (tmp_path / "gate.v").write_text(gate)
    proven, points = compare("read_verilog gold.v", "read_verilog gate.v", tmp_path, 500, "ice40up5k")
    assert proven == points > 30


def cells_of_every_type(seed: int) -> str:
    """A module with cells of every type that become statements, written as Yosys writes it."""
    rng = Random(seed)
    cells: list[str] = []

    def cell(kind: str, parameters: str, inputs: str, output: str) -> None:
        pins = {pin: f"i[{rng.randrange(16)}]" if rng.random() < 0.8 else "1'h1" for pin in inputs.split()}
        pins |= {output: f"o[{len(cells)}]"} | ({"C": "clk"} if output == "Q" else {})
        connected = ",\n".join(f"    .{name}({value})" for name, value in pins.items())
        cells.append(f"  {kind} {parameters}_{len(cells)}_ (\n{connected}\n  );\n")

    for _ in range(12):
        cell("SB_LUT4", f"#(\n    .LUT_INIT(16'h{rng.getrandbits(16):04x})\n  ) ", "I0 I1 I2 I3", "O")
        cell("SB_CARRY", "", "I0 I1 CI", "CO")
    for enable, value in product(("", "E"), ("", "SR", "SS")):
        for _ in range(2):
            cell(f"SB_DFF{enable}{value}", "", f"D {enable} {value[1:]}", "Q")
    ports = f"  input clk;\n  input [15:0] i;\n  output [{len(cells) - 1}:0] o;\n  wire [{len(cells) - 1}:0] o;\n"
    return f"module top(clk, i, o);\n{ports}{''.join(cells)}endmodule\n"


def test_memories_take_whole_single_port_rams() -> None:
    assert [sprams(preset("tiny"), size) for size in (1 << 16, 1 << 17)] == [2, 4]
    assert sprams(preset("base"), 1 << 17) == 4


def test_cells_of_the_family_can_be_made_wrong() -> None:
    spoiled, cells = spoil(netlist(MultiplierPair(3), "ice40up5k", {"get_multiplier": multiplier_pairs(1)}), 1, seed=0)
    assert [cell.kind for cell in cells] == ["SB_MAC16"]
    assert ".CE(~(wrong_cell == 8'd1))" in (spoiled / f"{MODULE}.v").read_text()
