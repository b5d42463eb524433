"""A whole board with SDRAM in Verilator, its pads and the device's times included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import tidemill as tm
from tidemill.cli import main
from tidemill.demo.digits.run import run_digits
from tidemill.driver.uart.protocol import Command
from tidemill_fpga.board_sim.__main__ import main as serve
from tidemill_fpga.board_sim.board import Board, RuleBroken
from tidemill_fpga.board_sim.sdram import PART, SimulatedSdram
from tidemill_fpga.board_sim.server import BoardServer
from tidemill_fpga.soc.sdram_pads import Capture

TINY = tm.preset("tiny")
WORDS = 16


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    with closing(Board(TINY, memory=SimulatedSdram())) as board:
        yield board


def test_digits_are_the_simulators_bytes(board: Board) -> None:
    with BoardServer(board) as server, tm.open(f"uart:{server.port}?patience=2", preset="tiny") as npu:
        run = run_digits(npu, 1)
    assert (run.mismatches_iss, run.mismatches_numpy) == (0, 0)


def test_selftest_passes(board: Board) -> None:
    with BoardServer(board) as server:
        arguments = ["selftest", "--device", f"uart:{server.port}", "--preset", "tiny", "--memory", "512"]
        result = CliRunner().invoke(main, [*arguments, "--images", "0"])
    assert result.exit_code == 0, result.output
    assert "PASS: 7 of 7 tests" in result.output


def test_the_whole_device_is_there(board: Board) -> None:
    rng = np.random.default_rng(7)
    places = [0, PART.size - 41, *(int(place) for place in rng.integers(0, PART.size - 41, 6))]
    content = {place: rng.integers(0, 256, 41, dtype=np.uint8).tobytes() for place in places}
    with BoardServer(board) as server, tm.open(f"uart:{server.port}?patience=2", preset="tiny") as npu:
        for place, data in content.items():
            npu.device.mem_write(place, data)
        assert {place: npu.device.mem_read(place, 41) for place in places} == content


def echoes(memory: SimulatedSdram) -> bool:
    """Whether a board with this memory reads what was written, in plain frames. Raises `RuleBroken`."""
    where, data = (0x1234).to_bytes(4, "big"), np.random.default_rng(3).bytes(4 * WORDS)
    with closing(Board(TINY, memory=memory)) as board:
        board.run(30_000)
        board.send([Command.WRITE, WORDS, *where, *data, Command.READ, WORDS, *where])
        board.run(10 * 4 * (3 * len(data)))
        return board.receive() == data


@pytest.mark.parametrize(
    ("mhz", "pads", "right"),
    [
        (60.0, 0.0, True), (60.0, 10.6, True), (60.0, 10.7, False),
        (125.0, 1.4, False), (125.0, 1.6, True), (125.0, 6.9, True), (125.0, 7.1, False),
    ],
)  # fmt: skip
def test_a_word_is_taken_while_it_is_there(mhz: float, pads: float, right: bool) -> None:
    assert echoes(SimulatedSdram(mhz, pads)) == right


@pytest.mark.parametrize(
    ("slower", "rule"),
    [
        ({"t_rcd": 34}, "tRCD"), ({"t_rp": 34}, "tRP"), ({"t_rfc": 67}, "tRFC"),
        ({"t_power_up": 300_000}, "a command before the power-up time is over"),
        ({"t_refresh": 16e6}, "refreshes come too seldom"), ({"row_bits": 2}, "a row beyond the device"),
    ],
)  # fmt: skip
def test_a_broken_rule_ends_the_simulation(slower: dict[str, float], rule: str) -> None:
    with pytest.raises(RuleBroken, match=f"SDRAM, [0-9]+ ns: {rule}"):
        echoes(SimulatedSdram(device=replace(PART, **slower)))


@pytest.mark.parametrize("memory", ["ddr3", "-4096", "5000"])
def test_what_is_no_memory_is_refused(memory: str) -> None:
    result = CliRunner().invoke(serve, ["--memory", memory])
    assert result.exit_code == 1
    assert memory in result.output


def test_the_edge_follows_the_clock() -> None:
    captures = [Capture.earliest(PART, mhz * 1e6, 6.0) for mhz in (25, 60, 100, 125, 150)]
    assert [capture.half_cycles for capture in captures] == [2, 3, 4, 4, 5]
    assert [capture.falling for capture in captures] == [False, True, False, False, True]
    assert [capture.delay for capture in captures] == [4, 4, 5, 5, 5]
