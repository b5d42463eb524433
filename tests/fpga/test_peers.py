"""Arrays take the same steps; published ones come from the commit that is named."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from tidemill_fpga.families.ecp5_multipliers import dsp_multiplier
from tidemill_fpga.families.family import FitError, Routed
from tidemill_fpga.netlist import Usage
from tidemill_fpga.peers.__main__ import main
from tidemill_fpga.peers.arrays import shapes
from tidemill_fpga.peers.measure import Array, Measured, known, measure
from tidemill_fpga.peers.page import markdown, peer_table, shape_table
from tidemill_fpga.peers.placement import place, placed
from tidemill_fpga.peers.published import AXIS, TINY_TPU, Published, PublishedArray
from tidemill_fpga.tools import ToolError
from tidemill_hdl.matrix.array import SystolicArray

_VERILOG = """\
module sums #(parameter N = 2) (input clk, input rstn, input [8*N-1:0] x, output reg [8*N-1:0] y);
  genvar i;
  generate for (i = 0; i < N; i = i + 1) begin : lane
    wire [7:0] p;
    vendor_block multiplier (.a(x[8*i +: 8]), .p(p));
    always @(posedge clk) if (!rstn) y[8*i +: 8] <= 0; else y[8*i +: 8] <= p;
  end endgenerate
endmodule
"""


@pytest.fixture
def clone(tmp_path: Path) -> tuple[Path, Published]:
    """A git repository whose newest commit is not the published one."""
    folder = tmp_path / "clone"
    (folder / "rtl").mkdir(parents=True)

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        command = ["git", "-C", str(folder), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    for text in (_VERILOG, "module other; endmodule\n"):
        (folder / "rtl" / "sums.v").write_text(text)
        git("add", ".")
        git("commit", "-q", "-m", "sums")
    array = Published(
        name="sums",
        repository="somebody/sums",
        commit=git("rev-parse", "HEAD~1"),
        licence="none",
        top="sums",
        files=("rtl/sums.v",),
        parameters=lambda n: {"N": n},
        inputs=lambda n: {"x": 8 * n},
        outputs=lambda n: {"y": 8 * n},
        clock="clk",
        reset="rstn",
        sum_bits=8,
        kind="a test",
        vendor={"vendor_block.v": "module vendor_block(input [7:0] a, output [7:0] p); assign p = a * a; endmodule\n"},
    )
    return folder, array


def test_a_published_array_is_read_from_its_commit(clone: tuple[Path, Published]) -> None:
    folder, array = clone
    library = array.rtlil(folder, 3)
    assert "module \\published" in library
    assert re.search(r"wire width 24 input \d+ \\x", library)
    assert str(folder) not in library
    assert "attribute \\src" not in library
    measured = Array("sums", 3, 1, 3, 8, lambda: PublishedArray(array, 3), dict, library)
    for design in (measured.alone(), measured.between_registers()):
        assert "cell \\published" in design
        assert design.count("module \\published") == 1


def test_a_clone_without_the_commit_is_refused(clone: tuple[Path, Published]) -> None:
    folder, array = clone
    with pytest.raises(ToolError, match=r"no commit 0{40} of somebody/sums .*git clone https://github.com/"):
        replace(array, commit="0" * 40).rtlil(folder, 3)
    result = CliRunner().invoke(main, ["--tiny-tpu", str(folder)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {folder}: no commit {TINY_TPU.commit} of {TINY_TPU.repository}")


def test_the_page_needs_both_clones(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--tiny-tpu", str(tmp_path), "--markdown", "page.md"])
    assert result.exit_code == 2
    assert "--markdown needs --tiny-tpu and --axis-systolic-array" in result.output


def test_every_multiplier_has_a_place_of_its_own() -> None:
    places = {place(row, col, 12) for row in range(12) for col in range(12)}
    assert len(places) == 144
    assert place(0, 0, 13) == "X4/Y10/MULT18_0"
    assert place(11, 12, 13) == "X119/Y58/MULT18_5"
    with pytest.raises(FitError, match="16 x 16 has no places; at most 12 x 13 have"):
        placed(16, 16)


def test_cells_get_the_places_of_their_row_and_column() -> None:
    size = 3
    plain, places = (
        Array("array", size, size, size**2, 18, partial(SystolicArray, size, size, 18), hooks)
        for hooks in (lambda: {"get_multiplier": dsp_multiplier}, partial(placed, size, size))
    )
    design = places.between_registers()
    modules = re.findall(r"^module \\(\S+pe_(\d)_(\d)\.multiplier)$(.*?)^end$", design, re.MULTILINE | re.DOTALL)
    assert len(modules) == size**2
    for _, row, col, text in modules:
        assert f'attribute \\BEL "{place(int(row), int(col), size)}"' in text
    # Places do not change what the cells are counted in.
    assert places.alone() == plain.alone()


class Tools:
    """Stands in for a family: one cell a table, a clock that says the seed."""

    tools, recipe, placing, device = "tools", "recipe", "placing", "device"

    def __init__(self) -> None:
        self.calls: list[str] = []

    def free_pins(self, mhz: float) -> str:
        return f"{mhz:g} MHz"

    def synthesize(self, folder: Path, on_line: Callable[[str], None]) -> None:
        self.calls.append("synthesize")
        cells = {"a": {"type": "LUT4"}, "b": {"type": "CCU2C"}, "c": {"type": "TRELLIS_FF"}}
        (folder / "netlist.json").write_text(json.dumps({"modules": {"top": {"cells": cells}}}))

    def route(self, folder: Path, seed: int, mhz: float, on_line: Callable[[str], None]) -> Routed:
        assert (folder / "pins").read_text() == "200 MHz"
        self.calls.append(f"route {seed}")
        for file in ("routed", "report.json"):
            (folder / file).touch()
        return Routed(100.0 + seed, {}, {}, ())


def test_what_was_measured_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Tools()
    monkeypatch.setenv("TIDEMILL_CACHE", str(tmp_path))
    monkeypatch.setattr("tidemill_fpga.peers.measure.FAMILY", tools)
    array = Array("array", 3, 3, 9, 18, partial(SystolicArray, 3, 3, 18), dict)
    assert known(array, [1, 2, 3]) is None
    first = measure(array, [1, 2])
    assert tools.calls == ["synthesize", "synthesize", "route 1", "route 2"]
    assert first == Measured(array, Usage(lut4=3, ff=1), (101.0, 102.0))
    assert known(array, [1, 2, 3]) == first
    assert measure(array, [1, 2, 3]).median_mhz == 102.0
    assert tools.calls[4:] == ["route 3"]


def test_the_shapes_are_those_of_the_device() -> None:
    assert [(array.rows, array.macs) for array in shapes()] == [(12, 144), (12, 144), (12, 288), (16, 256)]
    assert [array.sum_bits for array in shapes()] == [20, 20, 16, 20]


def test_tables_divide_by_what_an_array_multiplies() -> None:
    array = shapes()[2]
    row = Measured(array, Usage(lut4=2880, ff=5760, dsp=144), (150.0, 200.0, 100.0))
    assert row.gmacs == pytest.approx(43.2)
    assert peer_table([row])[1][2:] == ["2,880", "5,760", "144", "10.0", "20.0", "150.0", "150, 200, 100"]
    assert shape_table([row])[1][1] == "288"
    assert shape_table([row])[1][-1] == "43.2"
    assert shape_table([replace(row, mhz=())])[1][-3:] == ["not yet", "", "not yet"]
    page = markdown("COMMAND", [row], [row], [TINY_TPU, *AXIS], [array.title])
    assert "Not measured yet:\n- two 4-bit weights a DSP block, in given places, 12 x 12, sums of 16 bits\n" in page
    assert TINY_TPU.commit[:12] in page
    assert AXIS[0].commit[:12] in page
