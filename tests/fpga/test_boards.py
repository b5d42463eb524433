"""Boards elaborate; what cannot be built is said before the long part."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tidemill.cli import main
from tidemill.config import preset
from tidemill_fpga.boards import BOARDS, find_board
from tidemill_fpga.build import Build, Builder
from tidemill_fpga.families.ecp5 import Ecp5, pll_settings
from tidemill_fpga.families.family import FitError, Routed
from tidemill_fpga.report import Report, markdown

ECP5 = [name for name, board in BOARDS.items() if isinstance(board.family, Ecp5)]


@pytest.mark.parametrize("name", ECP5)
def test_every_board_elaborates(name: str) -> None:
    board = BOARDS[name]
    design, pins = Builder(board, preset("tiny"), board.mhz).elaborate()
    assert "\\MULT18X18D" in design
    assert "LOCATE COMP" in pins
    assert "FREQUENCY PORT" in pins


@pytest.mark.parametrize("name", ["ulx3s-85f", "ulx3s-45f"])
def test_the_sdram_takes_the_place_of_memory_on_the_chip(name: str) -> None:
    design, pins = Builder(BOARDS[name], preset("tiny"), 60.0, memory="sdram").elaborate()
    without, _ = Builder(BOARDS[name], preset("tiny"), 60.0).elaborate()
    pads = 2 * 13 + 13
    assert (design.count("cell \\ODDRX1F "), design.count("cell \\IDDRX1F ")) == (pads, 16)
    assert pins.count('LOCATE COMP "sdram_0__') == pads
    assert design.count("cell \\DP16KD ") < without.count("cell \\DP16KD ")


@pytest.mark.parametrize("name", ECP5)
def test_the_default_of_every_board_may_fit(name: str) -> None:
    board = BOARDS[name]
    Builder(board, preset(board.preset), board.mhz)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board", "ulx4s"], "unknown board 'ulx4s'; known boards: ulx3s-85f"),
        (["--board", "ulx3s-85f", "--freq", "900"], "a clock of 900 MHz is not possible; must be 1 to 400 MHz"),
        (["--board", "ulx3s-85f", "--freq", "-1"], "a clock of -1 MHz is not possible"),
        (["--board", "ulx3s-85f", "--freq", "0"], "a clock of 0 MHz is not possible"),
        (["--board", "ulx3s-85f", "--memory", "ddr3"], "ulx3s-85f has no memory 'ddr3'; it has: onchip, sdram"),
        (["--board", "ecpix5-85f", "--memory", "sdram"], "ecpix5-85f has no memory 'sdram'; it has: onchip"),
        (
            ["--board", "ulx3s-85f", "--memory", "sdram", "--freq", "200"],
            "AS4C16M16SA-6 runs at 167 MHz at most, not 200 MHz",
        ),
        (["--board", "ulx3s-45f", "--preset", "base"], "configuration 'base' with 32768 bytes of memory needs"),
        (["--board", "ulx3s-85f", "--preset", "large"], "configuration 'large' with 65536 bytes of memory needs"),
    ],
)
@pytest.mark.parametrize("command", ["build", "report"])
def test_impossible_builds_end_in_one_error(command: str, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, [command, *arguments])
    assert result.exit_code == 1
    assert f"Error: {message}" in result.output


@pytest.mark.parametrize(
    ("source", "mhz"), [(25, 125), (25, 100), (25, 130), (100, 125), (100, 150), (48, 24), (25, 25)]
)
def test_the_pll_makes_the_clock_within_its_limits(source: float, mhz: float) -> None:
    settings = pll_settings(source, mhz)
    feedback = source / settings.reference * settings.feedback
    assert settings.vco_mhz == pytest.approx(feedback * settings.first)
    assert settings.mhz == pytest.approx(settings.vco_mhz / settings.second)
    assert 0.98 * mhz <= settings.mhz <= mhz * (1 + 1e-6)
    assert 400 <= settings.vco_mhz <= 800
    assert source / settings.reference >= 10
    assert feedback <= 400


def test_a_clock_that_the_pll_cannot_make_is_an_error() -> None:
    with pytest.raises(FitError, match="the clock of 2 MHz cannot be made from 25 MHz"):
        pll_settings(25, 2)


def test_a_report_names_the_memory_and_how_to_repeat_it(tmp_path: Path) -> None:
    build = Build(1, 60.0, Routed(70.0, {"TRELLIS_FF": 5}, {"TRELLIS_FF": 10}, ()), tmp_path)
    page = markdown(Report(find_board("ulx3s-85f"), preset("tiny"), 60.0, (build,), (), "sdram"))
    assert "report --board ulx3s-85f --preset tiny --freq 60 --memory sdram --seeds 1 --markdown" in page
    assert "LFE5U-85F, tiny, memory sdram: 16 MAC/cycle, 60 MHz asked for" in page


def test_boards_are_found_by_name() -> None:
    assert find_board("ulx3s-85f").preset == "tiny"
