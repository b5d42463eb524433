"""The iCE40 UltraPlus: what a board of it is made of, and what does not fit is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner

from tidemill.cli import main
from tidemill.config import preset
from tidemill_fpga.boards import find_board
from tidemill_fpga.build import Builder
from tidemill_fpga.families.family import FitError
from tidemill_fpga.families.ice40 import Ice40Up, pll_settings
from tidemill_fpga.families.ice40_memory import SpramMemory, sprams


def test_the_board_elaborates_with_the_cells_of_the_family() -> None:
    board = replace(find_board("icebreaker"), family=Ice40Up("sg48", bounded=False))
    design, pins = Builder(board, preset("tiny"), board.mhz).elaborate()
    assert design.count("cell \\SB_MAC16 ") == 8
    assert design.count("cell \\SB_SPRAM256KA ") == 2
    assert design.count("cell \\SB_PLL40_PAD ") == 1
    assert "set_io clk12_0__io 35" in pins
    assert "set_frequency clk12_0__io 12" in pins


@pytest.mark.parametrize("command", ["build", "report"])
def test_an_npu_that_does_not_fit_is_refused_before_the_long_part(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--board", "icebreaker"])
    assert result.exit_code == 1
    assert "Error: configuration 'tiny' does not fit the iCE40UP5K: the smallest legal one takes" in result.output
    assert "the device has 5,280" in result.output


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


def test_memories_take_whole_single_port_rams() -> None:
    assert [sprams(preset("tiny"), size) for size in (1 << 16, 1 << 17)] == [2, 4]
    assert sprams(preset("base"), 1 << 17) == 4
