"""Gowin: what boards are made of, what is refused before the long part, and multipliers of both kinds cell by cell."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import io
from click.testing import CliRunner

from tidemill.cli import main
from tidemill.config import preset
from tidemill_fpga.boards import find_board
from tidemill_fpga.build import Builder
from tidemill_fpga.families.family import FitError
from tidemill_fpga.families.gowin import Gowin, pll_settings
from tidemill_fpga.families.gowin_multipliers import dsp_multiplier
from tidemill_fpga.gate_level.behaviour import statements
from tidemill_fpga.gate_level.device import Gates
from tidemill_fpga.gate_level.equivalence import compare
from tidemill_fpga.gate_level.multipliers import corner_pairs, every_pair, products
from tidemill_fpga.gate_level.netlist import MODULE, cell_counts, cell_models, netlist
from tidemill_hdl.memory.scratchpad import Scratchpad
from tidemill_hdl.prim.multiplier import Multiplier
from tidemill_verif.runner import run_bench

BELOW_TINY = preset("tiny").replace(name="below tiny", spad_rows=2048)


def test_the_large_device_makes_its_multipliers_of_tables() -> None:
    board = find_board("tang-mega-138k")
    design, pins = Builder(board, preset("tiny"), board.mhz).elaborate()
    assert "cell \\MULT" not in design
    assert "cell \\rPLL" not in design
    assert 'IO_LOC "clk50_0__io" P16;' in pins
    assert 'IO_LOC "uart_0__tx__io" N16;' in pins


def test_the_small_device_uses_its_multipliers_and_its_pll() -> None:
    board = find_board("tang-primer-20k")
    design, pins = Builder(board, BELOW_TINY, 36.0).elaborate()
    assert design.count("cell \\MULT9X9 ") == 16
    assert design.count("cell \\rPLL ") == 1
    assert 'IO_LOC "clk27_0__io" H11;' in pins


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board", "tang-primer-20k", "--preset", "tiny"], "configuration 'tiny' needs "),
        (["--board", "tang-primer-20k", "--preset", "tiny"], " flip-flops or more; GW2A-18C has 15,552"),
        (["--board", "tang-primer-20k", "--preset", "base"], "'base' with 16384 bytes of memory needs "),
        (["--board", "tang-mega-138k", "--preset", "large"], "bytes of memory needs "),
    ],
)
def test_what_cannot_fit_is_refused_before_the_long_part(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["build", *arguments])
    assert result.exit_code == 1
    assert message in result.output


@pytest.mark.parametrize(("source", "mhz"), [(27, 27.5), (27, 36), (27, 50), (27, 60), (27, 100)])
def test_the_pll_makes_the_clock_within_its_limits(source: float, mhz: float) -> None:
    settings = pll_settings(source, mhz)
    assert settings.mhz == pytest.approx(source * settings.feedback / settings.reference)
    assert 0.98 * mhz <= settings.mhz <= mhz * (1 + 1e-6)
    assert 500 < settings.mhz * settings.output < 1250
    assert 3 <= source / settings.reference <= 500
    assert settings.reference <= 64
    assert settings.feedback <= 64


def test_clocks_out_of_reach_are_errors() -> None:
    with pytest.raises(
        FitError, match=r"the clock of 700 MHz cannot be made from 27 MHz to 2%; the rPLL makes 3\.91 to"
    ):
        pll_settings(27, 700)
    large = Gowin("GW5AST-138C", "GW5AST-LV138FPG676AC1/I0")
    with pytest.raises(FitError, match="the clock of 100 MHz cannot be made; GW5AST-138C runs at its pin's, 50 MHz"):
        large.clock(Module(), io.SimulationPort("i", 1), 50e6, 100)


def test_factors_that_no_block_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="no DSP block multiplies 19 x 8 bits; at most 18 x 18"):
        dsp_multiplier(Multiplier(19, 8))


def test_statements_are_equivalent_to_the_cell_models(tmp_path: Path) -> None:
    gold = cells_of_every_type(seed=3)
    gate = statements(gold)
    assert not re.search("LUT|DFF|ALU|BUF|VCC|GND", gate)
    (tmp_path / "gold.v").write_text(gold)
    (tmp_path / "gate.v").write_text(gate)
    proven, points = compare("read_verilog gold.v", "read_verilog gate.v", tmp_path, 500, "gw5a")
    assert proven == points > 40


def cells_of_every_type(seed: int) -> str:
    """A module with cells of every type that become statements, written as Yosys writes it."""
    rng = Random(seed)
    cells: list[str] = []
    nets = 0

    def cell(kind: str, parameters: str, inputs: str, outputs: str) -> None:
        nonlocal nets
        pins = {pin: f"i[{rng.randrange(16)}]" if rng.random() < 0.8 else "1'h1" for pin in inputs.split()}
        for pin in outputs.split():
            pins |= {pin: f"o[{nets}]"} | ({"CLK": "clk"} if pin == "Q" else {})
            nets += 1
        connected = ",\n".join(f"    .{name}({value})" for name, value in pins.items())
        cells.append(f"  {kind} {parameters}_{len(cells)}_ (\n{connected}\n  );\n")

    for _ in range(4):
        for count in range(1, 5):
            table = f"#(\n    .INIT({1 << count}'h{rng.getrandbits(1 << count):x})\n  ) "
            cell(f"LUT{count}", table, " ".join(f"I{index}" for index in range(count)), "F")
            cell(f"MUX2_LUT{count + 4}", "", "I0 I1 S0", "O")
        cell("ALU", "#(\n    .ALU_MODE(32'sd2)\n  ) ", "I0 I1 I3 CIN", "SUM COUT")
    for enable, (kind, reset) in product(("", "E"), (("", ""), ("R", "RESET"), ("S", "SET"))):
        for _ in range(2):
            cell(f"DFF{kind}{enable}", "", f"D {'CE' if enable else ''} {reset}", "Q")
    cell("IBUF", "", "I", "O")
    cell("OBUF", "", "I", "O")
    cell("VCC", "", "", "V")
    cell("GND", "", "", "G")
    ports = f"  input clk;\n  input [15:0] i;\n  output [{nets - 1}:0] o;\n  wire [{nets - 1}:0] o;\n"
    return f"module top(clk, i, o);\n{ports}{''.join(cells)}endmodule\n"


@pytest.mark.parametrize(("kind", "latency"), [("gw2a-dsp", 1), ("gw2a-dsp", 3), ("gw5a-tables", 3)])
def test_every_product_of_8_bits_is_right(kind: str, latency: int) -> None:
    a, b = every_pair(8, 8)
    order = np.random.default_rng(latency).permutation(len(a))
    a, b = a[order], b[order]
    assert np.array_equal(products(kind, 8, 8, latency, a, b), a * b)


@pytest.mark.parametrize(("kind", "latency"), [("gw2a-dsp", 2), ("gw2a-inferred", 1), ("gw5a-tables", 3)])
def test_products_of_17_bits_are_right(kind: str, latency: int) -> None:
    a, b = corner_pairs(17, 17, 20_000, seed=latency)
    assert np.array_equal(products(kind, 17, 17, latency, a, b), a * b)


def test_the_scratchpad_serves_its_ports_after_mapping() -> None:
    scratchpad = Scratchpad(preset("tiny"))
    mapped = netlist(scratchpad, "gw5a", {})
    assert cell_counts(mapped)["DPX9B"] == 8
    run_bench(
        Gates(scratchpad),
        bench="tidemill_verif.benches.scratchpad",
        name="scratchpad-gw5a",
        params={"preset": "tiny"},
        seed=1,
        sources=(mapped / f"{MODULE}.v", *cell_models("gw5a")),
    )
