"""Netlists do what the RTL does, and a wrong cell is caught."""

from __future__ import annotations

import re
import subprocess
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest
from click.testing import CliRunner

from tidemill.config import Config
from tidemill.driver.errors import DeviceError
from tidemill.driver.npu import open_npu
from tidemill_fpga.gate_level import campaign, equivalence
from tidemill_fpga.gate_level.__main__ import main
from tidemill_fpga.gate_level.behaviour import CellError, statements
from tidemill_fpga.gate_level.device import open_netlist
from tidemill_fpga.gate_level.multipliers import corner_pairs, every_pair, products
from tidemill_fpga.gate_level.netlist import CELL_FLAGS, CELLS, npu_netlist
from tidemill_fpga.gate_level.programs import Comparison
from tidemill_fpga.gate_level.wrong import SELECTOR, SELECTOR_BITS, WrongCell, spoil
from tidemill_verif.toolchain import build_env, verilator_bin

SMALLEST = Config(
    "smallest", 4, 4, spad_rows=1024, acc_rows=256, requant_lanes=1, axi_data_width=32, ibuf_depth=32,
    max_outstanding=1, queue_depth=2, loop_depth=1,
)  # fmt: skip
WRONG, WRONG_SEED = 24, 1
"""Not every wrong entry of a table matters: enough of them that some are caught."""


@pytest.mark.timeout(1500)
def test_netlist_equals_the_simulator_and_wrong_cells_are_caught() -> None:
    netlist, cells = spoil(npu_netlist(SMALLEST, "ecp5"), WRONG, WRONG_SEED)
    memory = campaign.needed_memory(SMALLEST)
    gates = open_netlist(SMALLEST, netlist, {SELECTOR: SELECTOR_BITS}, mem_size=memory)
    comparison = Comparison(gates)
    parts = [campaign.digits(gates, 1), *campaign.programs(comparison, 6, seed=0)]
    assert [part for part in parts if part.failure] == []
    comparison.close()
    gates.close()
    for kind in ("LUT4", "TRELLIS_FF"):
        assert any(is_caught(netlist, cell) for cell in cells if cell.kind == kind), f"no wrong {kind} was caught"


def is_caught(netlist: Path, cell: WrongCell) -> bool:
    gates = open_netlist(SMALLEST, netlist, {SELECTOR: SELECTOR_BITS}, mem_size=campaign.needed_memory(SMALLEST))
    try:
        return campaign.caught(gates, cell, 6, seed=0) != ""
    finally:
        gates.close()


def test_carry_chain_multiplier_is_right_for_every_pair() -> None:
    a, b = every_pair(8, 8)
    assert len(a) == 1 << 16
    np.testing.assert_array_equal(products("fabric", 8, 8, 3, a, b), a * b)


@pytest.mark.parametrize(("bits", "latency"), [(16, 3), (17, 1)])
def test_dsp_multiplier_is_right_at_corners_and_at_random(bits: int, latency: int) -> None:
    a, b = corner_pairs(bits, bits, 20_000, seed=bits)
    np.testing.assert_array_equal(products("dsp", bits, bits, latency, a, b), a * b)


@pytest.mark.parametrize(
    ("cell", "parameter", "message"),
    [
        ("MULT18X18D", '.REG_PIPELINE_CLK("CLK0")', "MULT18X18D: pipeline register with clock CLK0 is not modelled"),
        ("MULT18X18D", '.REG_OUTPUT_CLK("CLK1")', "MULT18X18D: output register with clock CLK1 is not modelled"),
        ("DP16KD", '.REGMODE_A("OUTREG")', "DP16KD: output registers OUTREG, NOREG at 18 bits are not modelled"),
        ("DP16KD", ".DATA_WIDTH_A(18), .DATA_WIDTH_B(36)", "DP16KD: 36 bits at port B with 18 at port A"),
    ],
)
def test_parameters_that_are_not_modelled_end_the_build(
    cell: str, parameter: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "top.v").write_text(f"module top;\n  {cell} #({parameter}) dut ();\nendmodule\n")
    result = subprocess.run(
        [verilator_bin() / "verilator", "--lint-only", *CELL_FLAGS, "--top-module", "top", tmp_path / "top.v",
         CELLS / f"{cell}.v"],
        env=build_env(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode != 0
    assert message in result.stderr


def test_a_block_is_equivalent_and_one_with_a_wrong_table_is_not(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.mkdir()
    wrong.mkdir()
    result = equivalence.prove("skid buffer", right)
    assert result.closed, result
    spoiled = equivalence.prove("skid buffer", wrong, spoil=invert_an_entry)
    assert not spoiled.failure
    assert 0 < spoiled.proven < spoiled.points


def test_statements_are_equivalent_to_the_cell_models(tmp_path: Path) -> None:
    gold = cells_of_every_type(seed=7)
    gate = statements(gold)
    assert not re.search("LUT4|PFUMX|L6MUX21|CCU2C|TRELLIS_FF", gate)
    (tmp_path / "gold.v").write_text(gold)
    (tmp_path / "gate.v").write_text(gate)
    proven, points = equivalence.compare("read_verilog gold.v", "read_verilog gate.v", tmp_path)
    assert proven == points > 60


def cells_of_every_type(seed: int) -> str:
    """A module with cells of every type that become statements, written as Yosys writes it."""
    rng = Random(seed)
    cells, nets = [], 0

    def cell(kind: str, parameters: dict[str, str], inputs: str, outputs: str) -> None:
        nonlocal nets
        pins = {pin: f"i[{rng.randrange(16)}]" if rng.random() < 0.8 else "1'h1" for pin in inputs.split()}
        for pin in outputs.split():
            pins[pin] = f"o[{nets}]"
            nets += 1
        if kind == "TRELLIS_FF":
            pins["CLK"] = "clk"
        given, connected = (
            ",\n".join(f"    .{name}({value})" for name, value in fields.items()) for fields in (parameters, pins)
        )
        cells.append(
            f"  {kind} {f'#({chr(10)}{given}{chr(10)}  ) ' if given else ''}_{len(cells)}_ (\n{connected}\n  );\n"
        )

    for _ in range(12):
        cell("LUT4", {"INIT": f"16'h{rng.getrandbits(16):04x}"}, "A B C D", "Z")
        tables = {f"INIT{half}": f"16'h{rng.getrandbits(16):04x}" for half in (0, 1)}
        cell("CCU2C", {**tables, "INJECT1_0": '"NO"', "INJECT1_1": '"NO"'}, "CIN A0 B0 C0 D0 A1 B1 C1 D1", "S0 S1 COUT")
    for _ in range(3):
        cell("PFUMX", {}, "ALUT BLUT C0", "Z")
        cell("L6MUX21", {}, "D0 D1 SD", "Z")
    for enable, value in product(("1", "CE", "INV"), ("SET", "RESET")):
        fields = {"CEMUX": enable, "CLKMUX": "CLK", "GSR": "DISABLED", "LSRMUX": "LSR", "REGSET": value}
        quoted = {name: f'"{text}"' for name, text in fields.items()}
        cell("TRELLIS_FF", quoted, "CE DI LSR", "Q")
        cell("TRELLIS_FF", {**quoted, "SRMODE": '"LSR_OVER_CE"'}, "CE DI LSR", "Q")
    ports = f"  input clk;\n  input [15:0] i;\n  output [{nets - 1}:0] o;\n  wire [{nets - 1}:0] o;\n"
    return f"module top(clk, i, o);\n{ports}{''.join(cells)}endmodule\n"


def test_cells_that_are_not_modelled_are_refused() -> None:
    ff = '  TRELLIS_FF #(\n    .CLKMUX("INV")\n  ) ff (\n    .CLK(clk)\n  );\n'
    with pytest.raises(CellError, match='TRELLIS_FF with CLKMUX "INV" is not modelled; only "CLK"'):
        statements(f"module top(clk);\n{ff}endmodule\n")


def invert_an_entry(gates: str) -> str:
    """The netlist with the lowest entry of its first table inverted."""
    head, tail = gates.split(".INIT(16'h", 1)
    return f"{head}.INIT(16'h{int(tail[:4], 16) ^ 1:04x}{tail[4:]}"


def test_device_options() -> None:
    with pytest.raises(DeviceError, match="no gate-level simulation for family 'virtex2'; known families: ecp5"):
        open_npu("gates", preset="tiny", family="virtex2")


def test_command_refuses_bad_input() -> None:
    assert "is not in the range" in CliRunner().invoke(main, ["--wrong", "300"]).output
    result = CliRunner().invoke(equivalence.main, ["flux capacitor"])
    assert result.exit_code == 2
    assert "unknown block 'flux capacitor'; known blocks: processing element" in result.output
