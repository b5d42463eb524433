"""Random faults on the line between the driver and a simulated board: never a wrong answer, never a hang.

`python -m tidemill_fpga.board_sim.campaign --faults 1000` prints a table and ends with exit code 1 where one of them
did harm.
"""

from __future__ import annotations

import faulthandler
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tidemill.builder import ProgramBuilder, spad
from tidemill.config import Config, preset
from tidemill.csr import offset
from tidemill.driver.npu import LoadedProgram, Npu, open_npu
from tidemill.driver.uart.device import UartDevice
from tidemill.driver.uart.errors import LinkError
from tidemill.program import Program
from tidemill_fpga.board_sim.board import Board
from tidemill_fpga.board_sim.faults import random_fault
from tidemill_fpga.board_sim.server import BoardServer

AREA, AREA_BYTES = 0x8000, 1000
"""Memory that the campaign writes and reads; programs are below."""
PATIENCE = 0.2
"""Seconds."""
LONGEST = 60.0
"""Seconds after which an operation counts as hanging."""
MEMORY = 64 << 10
ROWS = 6
_TIMEOUT_CYCLES = 100_000


@dataclass(frozen=True)
class Trial:
    """One fault. `outcome` is "right", "right after retries", the name of the error, or "WRONG: ..."."""

    fault: str
    kind: str
    operation: str
    outcome: str
    seconds: float

    @property
    def harmless(self) -> bool:
        """The answer was right or an error said that there is none, in time."""
        return not self.outcome.startswith("WRONG") and self.seconds < LONGEST


class Wrong(Exception):
    """The device answered something that is not so."""


def counting_program(config: Config) -> Program:
    """Adds 1 to every byte of buffer x: a run too many shows."""
    b = ProgramBuilder(config)
    x = b.buffer("x", "int8", (ROWS, config.rows))
    loaded, added = b.semaphore("loaded"), b.semaphore("added")
    b.ld_run(dst=spad(0), dram=x, n0=ROWS, signal=[loaded])
    b.vx_dims(n0=ROWS, d0=1)
    b.vx_astride(n0=1)
    b.vx_add(dst=spad(0), a=spad(0), b=1, wait=[loaded], signal=[added])
    b.st_run(src=spad(0), dram=x, n0=ROWS, wait=[added])
    b.halt()
    return b.build()


class Campaign:
    """A board, a driver that is opened again when an error ended it, and what the board should hold."""

    def __init__(self, board: Board, seed: int) -> None:
        self.board = board
        self.seed = seed
        self._rng = random.Random(seed)
        self._server: BoardServer | None = None
        self._npu: Npu | None = None
        self._content = np.zeros(AREA_BYTES, np.uint8)
        self._program = counting_program(board.config)
        self._loaded: LoadedProgram | None = None
        self._x = np.zeros(0, np.int8)
        self._operations: dict[str, tuple[Callable[[], None], int]] = {
            "write": (self._write, 900),
            "read": (self._read, 700),
            "run": (self._run, 900),
            "registers": (self._registers, 150),
            "open": (self._open_again, 250),
        }

    def close(self) -> None:
        """End driver and server."""
        self._leave()
        if self._server is not None:
            self._server.__exit__(None, None, None)
            self._server = None

    def trial(self) -> Trial | None:
        """One operation with one fault; None where the operation ended before the fault came."""
        rng = self._rng
        self._prepare()
        name = rng.choice(list(self._operations))
        operation, span = self._operations[name]
        fault = random_fault(rng, span)
        server, npu = self._server, self._npu
        assert server is not None
        assert npu is not None
        text = str(fault)
        server.faults.arm(fault)
        retries = self._retries()
        begun = time.monotonic()
        try:
            operation()
            outcome = "right" if self._npu is npu and self._retries() == retries else "right after retries"
        except Wrong as wrong:
            outcome = f"WRONG: {wrong}"
        except LinkError as error:
            outcome = type(error).__name__
        seconds = time.monotonic() - begun
        happened = server.faults.happened
        server.faults.arm(None)
        if outcome not in ("right", "right after retries"):
            self._leave()
        return Trial(text, fault.kind, name, outcome, seconds) if happened else None

    def _retries(self) -> int:
        device = self._npu.device if self._npu is not None else None
        return device.link.retries.total() if isinstance(device, UartDevice) else 0

    def _prepare(self) -> None:
        """A server and an open driver, everything on the board as expected and nothing on the line."""
        if self._server is not None and not self._server.alive:
            self._leave()
            self._server.__exit__(None, None, None)
            self._server = None
        if self._server is None:
            self._server = BoardServer(self.board, seed=self._rng.getrandbits(32))
            self._server.__enter__()
        if self._npu is None:
            # What the last fault left on its way must not count as the next one's.
            while self.board.pending:
                time.sleep(0.01)
            self._open()
            assert self._npu is not None
            self._npu.device.mem_write(AREA, self._content.tobytes())

    def _open(self) -> None:
        assert self._server is not None
        self._npu = open_npu(f"uart:{self._server.port}?patience={PATIENCE}", config=self.board.config)
        self._loaded = self._npu.load(self._program)
        self._x = np.frombuffer(self._rng.randbytes(ROWS * self.board.config.rows), np.int8) // 2
        self._x = self._x.reshape(ROWS, -1)
        self._loaded.buffer("x").write(self._x)

    def _leave(self) -> None:
        if self._npu is not None:
            self._npu.close()
        self._npu = self._loaded = None

    def _open_again(self) -> None:
        self._leave()
        self._open()
        self._read()

    def _part(self) -> slice:
        start = self._rng.randrange(AREA_BYTES)
        return slice(start, min(AREA_BYTES, start + self._rng.randint(1, 500)))

    def _write(self) -> None:
        assert self._npu is not None
        part = self._part()
        data = np.frombuffer(self._rng.randbytes(part.stop - part.start), np.uint8)
        # Where the write ends in an error it may have happened in part; `_prepare` writes everything again.
        self._content[part] = data
        self._npu.device.mem_write(AREA + part.start, data.tobytes())
        self._read(slice(max(0, part.start - 8), min(AREA_BYTES, part.stop + 8)))

    def _read(self, part: slice | None = None) -> None:
        assert self._npu is not None
        part = part or self._part()
        got = np.frombuffer(self._npu.device.mem_read(AREA + part.start, part.stop - part.start), np.uint8)
        if not np.array_equal(got, self._content[part]):
            raise Wrong(f"memory {part.start:#x} to {part.stop:#x}")

    def _run(self) -> None:
        assert self._npu is not None
        assert self._loaded is not None
        for _ in range(2):
            result = self._npu.run(self._loaded, outputs=["x"], timeout_cycles=_TIMEOUT_CYCLES)
            self._x = np.minimum(self._x.astype(np.int16) + 1, 127).astype(np.int8)
            if not np.array_equal(result.outputs["x"], self._x):
                raise Wrong("the program's result")

    def _registers(self) -> None:
        assert self._npu is not None
        for name in ("WATCHDOG", "READ_BASE"):
            value = self._rng.getrandbits(32)
            self._npu.device.csr_write(offset(name), value)
            if self._npu.device.csr_read(offset(name)) != value:
                raise Wrong(f"register {name}")


def run_campaign(board: Board, faults: int, seed: int, report: Callable[[Trial], None] = lambda _: None) -> list[Trial]:
    """`faults` trials whose fault came to pass."""
    campaign = Campaign(board, seed)
    trials: list[Trial] = []
    try:
        while len(trials) < faults:
            faulthandler.dump_traceback_later(4 * LONGEST, exit=True)
            trial = campaign.trial()
            if trial is not None:
                trials.append(trial)
                report(trial)
    finally:
        faulthandler.cancel_dump_traceback_later()
        campaign.close()
    return trials


@click.command()
@click.option("--preset", "name", default="tiny", show_default=True, help="The NPU.")
@click.option("--faults", type=click.IntRange(1), default=1000, show_default=True, help="Faults that must happen.")
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses faults, operations and data.")
def main(name: str, faults: int, seed: int) -> None:
    """Random faults on the line to a simulated board. Exits with 1 if one leads to a wrong answer or a hang."""
    board = Board(preset(name), memory=MEMORY)
    messages = Console(stderr=True)
    steps = iter(track(range(faults), "faults", console=messages, transient=True, disable=not messages.is_terminal))
    trials = run_campaign(board, faults, seed, lambda _: next(steps))
    table = Table(title=f"{faults} faults on the line to {name}, seed {seed}")
    outcomes = sorted({trial.outcome for trial in trials})
    for column in ("fault", *outcomes):
        table.add_column(column, justify="left" if column == "fault" else "right")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials:
        counts[trial.kind][trial.outcome] += 1
        counts["total"][trial.outcome] += 1
    for kind in (*sorted(counts.keys() - {"total"}), "total"):
        table.add_row(kind, *(str(counts[kind][outcome]) for outcome in outcomes), end_section=kind == "total")
    Console().print(table)
    slowest = max(trials, key=lambda trial: trial.seconds)
    click.echo(f"slowest: {slowest.seconds:.1f} s, {slowest.fault} in {slowest.operation}")
    harmful = [trial for trial in trials if not trial.harmless]
    for trial in harmful:
        click.echo(f"error: {trial.fault} in {trial.operation}: {trial.outcome} after {trial.seconds:.1f} s", err=True)
    raise SystemExit(1 if harmful else 0)


if __name__ == "__main__":
    main()
