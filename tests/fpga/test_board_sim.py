"""The real driver on a whole board in Verilator, over a pseudo-terminal: right answers, or clear errors."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import tty
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest
from click.testing import CliRunner
from litex.tools.remote.comm_uart import CommUART

import tidemill as tm
from tidemill.builder import ProgramBuilder
from tidemill.cli import main
from tidemill.csr import MAGIC, bit, offset
from tidemill.demo.digits.run import run_digits
from tidemill.driver.npu import Npu
from tidemill.driver.uart.device import UartDevice
from tidemill.driver.uart.errors import (
    BusError,
    LinkLost,
    NoAnswer,
    NotTidemill,
    PortError,
    TooManyRetries,
    WrongBitstream,
)
from tidemill.driver.uart.link import ATTEMPTS
from tidemill.driver.uart.protocol import ANSWER, CSR_BASE, LINK_BASE, Command
from tidemill_fpga.board_sim.board import BAUD, Board
from tidemill_fpga.board_sim.campaign import MEMORY, counting_program, run_campaign
from tidemill_fpga.board_sim.faults import TO_BOARD, TO_HOST, Fault
from tidemill_fpga.board_sim.server import BoardServer

TINY = tm.preset("tiny")


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    with closing(Board(TINY, memory=MEMORY)) as board:
        yield board


@pytest.fixture
def server(board: Board) -> Iterator[BoardServer]:
    with BoardServer(board) as server:
        yield server


def opened(server: BoardServer, patience: float = 0.5) -> Npu:
    """The driver on this board."""
    return tm.open(f"uart:{server.port}?patience={patience}", preset="tiny")


def device_of(npu: Npu) -> UartDevice:
    assert isinstance(npu.device, UartDevice)
    return npu.device


def test_digits_are_the_simulators_bytes(server: BoardServer) -> None:
    with opened(server) as npu:
        run = run_digits(npu, 2)
    assert (run.mismatches_iss, run.mismatches_numpy) == (0, 0)


def test_memory_keeps_what_is_written_at_any_address_and_length(server: BoardServer) -> None:
    rng = np.random.default_rng(5)
    with opened(server) as npu:
        content = np.frombuffer(npu.device.mem_read(0x2000, 1500), np.uint8).copy()
        for length in (1, 2, 3, 5, 64, 1100):
            at = int(rng.integers(0, len(content) - length))
            data = rng.integers(0, 256, length, dtype=np.uint8)
            npu.device.mem_write(0x2000 + at, data.tobytes())
            content[at : at + length] = data
        assert npu.device.mem_read(0x2000, 1500) == content.tobytes()
        first = int(rng.integers(1, 700))
        assert npu.device.mem_read(0x2000 + first, 333) == content[first : first + 333].tobytes()
        assert npu.device.mem_read(0x2000, 0) == b""


def test_selftest_passes(server: BoardServer) -> None:
    arguments = ["selftest", "--device", f"uart:{server.port}", "--preset", "tiny", "--memory", "512", "--images", "0"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "PASS: 7 of 7 tests" in result.output


def test_a_board_with_the_sequential_npu_passes_the_selftest() -> None:
    with closing(Board(tm.preset("micro"), memory=64 << 10)) as small, BoardServer(small) as server:
        device = f"uart:{server.port}?patience=0.5"
        arguments = ["selftest", "--device", device, "--preset", "micro", "--memory", "512", "--images", "0"]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "PASS: 7 of 7 tests" in result.output


def test_random_faults_do_no_harm(board: Board) -> None:
    trials = run_campaign(board, 6, seed=3)
    assert [str(trial) for trial in trials if not trial.harmless] == []
    assert sum(trial.outcome.startswith("right") for trial in trials) >= 2


@pytest.mark.parametrize("kind", ["drop", "double", "flip", "garbage"])
def test_a_lost_answer_does_not_start_the_machine_twice(server: BoardServer, kind: str) -> None:
    with opened(server, 0.2) as npu:
        loaded = npu.load(counting_program(TINY))
        loaded.buffer("x").write(np.zeros((6, 4), np.int8))
        npu.run(loaded)
        server.faults.arm(Fault(kind, TO_HOST, 0))
        npu.device.csr_write(offset("CONTROL"), bit("CONTROL", "start"))
        assert server.faults.happened
        assert npu.device.run(10_000)
        assert (loaded.buffer("x").read() == 2).all()
        assert device_of(npu).link.retries.total() >= (kind != "double")


def test_a_damaged_byte_of_an_answer_is_noticed_wherever_it_is(server: BoardServer) -> None:
    with opened(server, 0.2) as npu:
        for after in range(11):
            server.faults.arm(Fault("flip", TO_HOST, after))
            assert npu.device.csr_read(offset("MAGIC")) == MAGIC
            assert device_of(npu).link.retries["damaged answer"] == after + 1


def test_a_cut_cable_is_said(server: BoardServer) -> None:
    npu = opened(server)
    server.faults.arm(Fault("kill", TO_BOARD, 700))
    with pytest.raises(LinkLost, match=rf"{server.port}: the link broke off: the port is gone"):
        npu.device.mem_write(0x2000, bytes(2000))
    npu.close()


def test_a_board_that_was_reset_is_noticed(server: BoardServer, board: Board) -> None:
    npu = opened(server)
    server.faults.arm(Fault("reset", TO_BOARD, 3))
    with pytest.raises(LinkLost, match="the board lost the lock: it was reset"):
        npu.device.csr_read(offset("MAGIC"))
    npu.close()
    with opened(server) as again:
        assert again.device.csr_read(offset("MAGIC")) == MAGIC
        assert board.locked
    assert not board.locked


def test_another_configuration_is_refused_by_name(server: BoardServer, board: Board) -> None:
    small = tm.preset("small")
    with pytest.raises(WrongBitstream, match=rf"{TINY.hash:#010x} \('tiny'\), not 'small' \({small.hash:#010x}\)"):
        tm.open(f"uart:{server.port}", preset="small")
    assert not board.locked
    result = CliRunner().invoke(main, ["demo", "--device", f"uart:{server.port}", "--preset", "base"])
    assert (result.exit_code, "Traceback" in result.output) == (1, False)
    assert "'tiny'" in result.output


@pytest.mark.parametrize("full", [False, True])
def test_a_board_that_stands_still_ends_in_a_counted_error(server: BoardServer, full: bool) -> None:
    """Nothing answers; or the port's buffers are full and nothing can be written."""
    npu = opened(server, 0.02)
    npu.device.mem_write(0x3000, b"wave")
    server.freeze()
    if full:
        other = os.open(server.port, os.O_WRONLY | os.O_NONBLOCK)
        for _ in range(8):  # the kernel moves bytes on from buffer to buffer
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(other, bytes(1))
            time.sleep(0.02)
        os.close(other)
    begun = time.monotonic()
    with pytest.raises(TooManyRetries) as caught:
        npu.device.mem_write(0x3000, b"tide")
    assert time.monotonic() - begun < 20
    # A request that was not taken is thrown away with all that waits before it.
    assert ("request not taken by the port" in caught.value.kinds) == full
    assert sum(caught.value.kinds.values()) == ATTEMPTS
    assert re.search(rf"write of 1 words at 0x00003000 failed {ATTEMPTS} times: \d+ x ", str(caught.value))
    server.thaw()
    npu.close()
    with opened(server) as again:
        assert again.device.mem_read(0x3000, 4) in (b"wave", b"tide")
        again.device.mem_write(0x3000, b"reef")
        assert again.device.mem_read(0x3000, 4) == b"reef"


def test_what_does_not_fit_the_memory_is_refused(server: BoardServer) -> None:
    with opened(server) as npu:
        assert npu.device.mem_size == MEMORY
        for access in (lambda: npu.device.mem_write(MEMORY - 4, bytes(8)), lambda: npu.device.mem_read(MEMORY, 1)):
            with pytest.raises(tm.OutOfMemory, match=f"not in the board's memory of {MEMORY} bytes"):
                access()
        with pytest.raises(tm.OutOfMemory, match="no room for"):
            npu.alloc("x", (MEMORY,), "int8")
        with pytest.raises(BusError, match=r"refused read of 1 words at 0x00010000"):
            device_of(npu).link.read(MEMORY, 1)
        with pytest.raises(tm.DeviceError, match="offset must be a multiple of 4"):
            npu.device.csr_read(0x1000)
    with pytest.raises(tm.OutOfMemory, match=f"{1 << 20} bytes of memory are needed, the board has {MEMORY}"):
        tm.open(f"uart:{server.port}", preset="tiny", mem_size=1 << 20)


def test_a_port_has_one_driver(server: BoardServer) -> None:
    with opened(server), pytest.raises(PortError, match="in use by another program"):
        opened(server)


def test_litex_host_tools_work(server: BoardServer, board: Board) -> None:
    """LiteX's own UARTBone client: bursts, both address modes, memory and registers; while a driver has the lock its
    writes do nothing."""
    client = CommUART(server.port, BAUD)
    client.write(0x4000, list(range(20)))
    assert client.read(0x4000, 20) == list(range(20))
    client.write(0x4000, [7, 8, 9], burst="fixed")
    assert client.read(0x4000, 2, burst="fixed") == [9, 9]
    assert client.read(CSR_BASE + offset("MAGIC")) == MAGIC
    client.write(CSR_BASE + offset("WATCHDOG"), 1234)
    assert client.read(CSR_BASE + offset("WATCHDOG")) == 1234
    client.close()
    npu = opened(server)
    npu.device.mem_write(0x4000, bytes(4))
    device_of(npu).link._serial.close()
    assert board.locked
    client = CommUART(server.port, BAUD)
    client.write(0x4000, [5])
    time.sleep(0.3)
    client.close()
    with opened(server) as again:
        assert again.device.mem_read(0x4000, 4) == bytes(4)


def test_a_run_whose_host_went_away_is_over(server: BoardServer) -> None:
    """A program that waits for ever, without a watchdog; the next driver finds an idle machine."""
    b = ProgramBuilder(TINY)
    b.vx_sync(wait=[b.semaphore("never")])
    b.halt()
    npu = opened(server)
    loaded = npu.load(b.build())
    values = {"PROG_ADDR": loaded.address, "PROG_LEN": 2, "WATCHDOG": 0, "READ_BASE": 0, "READ_LIMIT": MEMORY - 1}
    for name, value in (*values.items(), ("CONTROL", bit("CONTROL", "start"))):
        npu.device.csr_write(offset(name), value)
    assert not npu.device.run(2000)
    assert npu.device.csr_read(offset("STATUS")) == bit("STATUS", "busy")
    device_of(npu).link._serial.close()
    with opened(server) as again:
        assert again.device.csr_read(offset("STATUS")) == 0
        loaded = again.load(counting_program(TINY))
        loaded.buffer("x").write(np.zeros((6, 4), np.int8))
        assert (again.run(loaded).outputs["x"] == 1).all()


@contextmanager
def responder(magic: int | None) -> Iterator[str]:
    """A port on which a stranger answers checked reads with `magic`, or talks nonsense."""
    master, slave = os.openpty()
    tty.setraw(slave)
    stop = threading.Event()

    def serve() -> None:
        os.set_blocking(master, False)
        while not stop.wait(0.005):
            try:
                request = os.read(master, 64)
            except BlockingIOError:
                continue
            answer = b"login: "
            if magic is not None and len(request) == 11:
                answer = bytes([ANSWER | Command.CHECKED_READ, request[1]]) + magic.to_bytes(4, "big") + bytes(29)
                answer += zlib.crc32(answer).to_bytes(4, "little")
            os.write(master, answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield os.ttyname(slave)
    stop.set()
    thread.join()
    os.close(slave)
    os.close(master)


def test_a_stranger_on_the_port_is_told_from_a_board() -> None:
    with responder(0x12345678) as port, pytest.raises(NotTidemill, match="its link says 0x12345678 version 0"):
        tm.open(f"uart:{port}?patience=0.05", preset="tiny")
    with (
        responder(None) as port,
        pytest.raises(NoAnswer, match=rf"no Tidemill board answers at 1000000 baud .*{ATTEMPTS}"),
    ):
        tm.open(f"uart:{port}?patience=0.05", preset="tiny")


def test_the_lock_register_is_last_of_the_links(board: Board) -> None:
    """The driver's lock frame writes all of them; only the lock may change."""
    with BoardServer(board) as server, opened(server) as npu:
        before = device_of(npu).link.registers()
        device_of(npu).link.write(LINK_BASE, np.full(8, 0xFFFF_FFFF, np.uint32))
        after = device_of(npu).link.registers()
    assert before[:6] == after[:6]
