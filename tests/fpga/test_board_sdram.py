"""The real driver on a whole board with SDRAM in Verilator: pads, device and their times included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from click.testing import CliRunner

import tidemill as tm
from tidemill.cli import main
from tidemill.demo.digits.run import run_digits
from tidemill.driver.npu import Npu
from tidemill_fpga.board_sim.board import Board, RuleBroken
from tidemill_fpga.board_sim.sdram import SimulatedSdram
from tidemill_fpga.board_sim.server import BoardServer
from tidemill_fpga.soc.sdram_pads import Capture
from tidemill_fpga.soc.sdram_part import AS4C16M16SA_6

TINY = tm.preset("tiny")
POWER_UP_CYCLES = {60.0: 13_000, 125.0: 26_000}


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    with closing(Board(TINY, memory=SimulatedSdram())) as board:
        yield board


def opened(server: BoardServer) -> Npu:
    """The driver on this board."""
    return tm.open(f"uart:{server.port}?patience=2", preset="tiny")


def test_digits_are_the_simulators_bytes(board: Board) -> None:
    with BoardServer(board) as server, opened(server) as npu:
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
    size = AS4C16M16SA_6.size
    places = [0, size - 41, *(int(place) for place in rng.integers(0, size - 41, 6))]
    content = {place: rng.integers(0, 256, 41, dtype=np.uint8).tobytes() for place in places}
    with BoardServer(board) as server, opened(server) as npu:
        assert npu.device.dram_size == size
        for place, data in content.items():
            npu.device.mem_write(place, data)
        assert {place: npu.device.mem_read(place, 41) for place in places} == content


def echoes(memory: SimulatedSdram) -> bool:
    """Whether a board with this memory reads what was written. Raises `RuleBroken`."""
    data = bytes(range(7, 71))
    with closing(Board(TINY, memory=memory)) as board:
        board.run(POWER_UP_CYCLES[memory.mhz])
        with BoardServer(board) as server, opened(server) as npu:
            npu.device.mem_write(0x1234, data)
            return npu.device.mem_read(0x1234, 64) == data


@pytest.mark.parametrize(
    ("mhz", "pads", "right"),
    [(60.0, 0.0, True), (60.0, 10.5, True), (60.0, 11.0, False), (125.0, 1.7, True), (125.0, 6.9, True),
     (125.0, 7.1, False), (125.0, 1.3, False)],
)  # fmt: skip
def test_words_are_taken_while_they_are_there(mhz: float, pads: float, right: bool) -> None:
    assert echoes(SimulatedSdram(mhz, pads)) == right


def test_the_edge_follows_the_clock() -> None:
    captures = [Capture.earliest(AS4C16M16SA_6, mhz * 1e6, 6.0) for mhz in (25, 60, 100, 125, 150)]
    assert [capture.half_cycles for capture in captures] == [2, 3, 4, 4, 5]
    assert [capture.falling for capture in captures] == [False, True, False, False, True]
    assert [capture.delay for capture in captures] == [4, 4, 5, 5, 5]


def test_a_broken_rule_ends_the_simulation() -> None:
    fast = SimulatedSdram(60.0)
    times = fast.times
    assert times[4] == AS4C16M16SA_6.t_rcd
    with pytest.raises(RuleBroken):
        raise RuleBroken
