"""Serves a simulated board on a pseudo-terminal."""

from __future__ import annotations

import os
import select
import threading
import tty
from types import TracebackType
from typing import Self

from tidemill.driver.uart.protocol import FRAME_TIMEOUT
from tidemill_fpga.board_sim.board import Board
from tidemill_fpga.board_sim.faults import FaultInjector

CHUNK = 1000
"""Cycles between two looks at the pseudo-terminal."""
_AWAKE = 3 * FRAME_TIMEOUT
"""Seconds of the board's time of a quiet line, above every time-out of the bridge, after which the clock stands still
until the host speaks again."""
LINE_BYTES = 64
"""Bytes on their way to the board; more wait in the pseudo-terminal, as in a real adapter."""
HOST_BYTES = 1 << 16
"""Bytes that wait for a host that does not read; what comes after them is lost, as in a real adapter."""


class BoardServer:
    """A pseudo-terminal, `port`, whose other end is `board`; a context manager that serves it in a thread.

    `faults` sits between both. Leaving the context, or `kill`, closes the pseudo-terminal as a pulled cable does; the
    board lives on and can be served again.
    """

    def __init__(self, board: Board, *, seed: int = 0) -> None:
        self.board = board
        self.faults = FaultInjector(seed, board.baud, self.kill, board.reset)
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._awake = _AWAKE * board.clock_hz
        self._stopped = threading.Event()
        self._frozen = threading.Event()
        self._still = threading.Event()
        self._thread = threading.Thread(target=self.serve, name="board", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._thread.join()

    def kill(self) -> None:
        """End the service."""
        self._stopped.set()

    @property
    def alive(self) -> bool:
        """Nobody has ended the service."""
        return not self._stopped.is_set()

    def freeze(self) -> None:
        """From now until `thaw` the board stands still and nothing is taken from the host."""
        self._still.clear()
        self._frozen.set()
        self._still.wait()

    def thaw(self) -> None:
        """The board goes on."""
        self._frozen.clear()

    def serve(self) -> None:
        """Serve until `kill`."""
        waiting = bytearray()
        try:
            while not self._stopped.is_set():
                if self._frozen.is_set():
                    self._still.set()
                    self._stopped.wait(0.01)
                else:
                    waiting = self._turn(waiting)
        finally:
            os.close(self._slave)
            os.close(self._master)

    def _turn(self, waiting: bytearray) -> bytearray:
        """Some cycles; returns the bytes that wait for the host."""
        board, faults = self.board, self.faults
        awake = board.quiet < self._awake or board.pending > 0
        want = [self._master] if board.pending < LINE_BYTES else []
        readable, _, _ = select.select(want, [], [], 0 if awake or waiting else 0.05)
        if readable:
            board.send(faults.to_board(os.read(self._master, LINE_BYTES)))
        if awake or readable:
            board.run(CHUNK)
        waiting += faults.to_host(board.receive())
        del waiting[HOST_BYTES:]
        if waiting and not faults.holding and not self._stopped.is_set():
            try:
                del waiting[: os.write(self._master, waiting)]
            except BlockingIOError:
                self._stopped.wait(0.001)
        return waiting
