"""Many random programs on all cores; what fails is shrunk and saved."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from tidemill.asm.disassembler import format_instruction
from tidemill.config import Config
from tidemill.driver.errors import DeviceError
from tidemill.isa import decode
from tidemill_verif.random_programs.case import Case
from tidemill_verif.random_programs.generate import generate
from tidemill_verif.random_programs.legal import writer_of
from tidemill_verif.random_programs.lockstep import Difference, Lockstep, difference
from tidemill_verif.random_programs.saved import save
from tidemill_verif.random_programs.shrink import shrink

CHUNK = 8
"""Programs that a worker process gets at a time."""

_LOCKSTEPS: list[Lockstep] = []
"""The devices of this worker process."""


@dataclass(frozen=True)
class Result:
    """One program that was run: `failure` says what differed, empty where nothing did."""

    seed: int
    failure: str
    instructions: int
    cycles: int


Task = Callable[[Lockstep, Config, int], Result]
"""Runs the program of a seed; a function of a module, so that other processes find it."""


class Campaign:
    """Random programs of one configuration, seeds `seed`, `seed + 1`, ...

    Opening it builds the hardware where it is not in the cache; raises `DeviceError` where that fails.
    """

    def __init__(self, config: Config, seed: int) -> None:
        self.config, self.seed = config, seed
        Lockstep(config).close()

    @property
    def task(self) -> Task:
        """What is done with each seed."""
        return run_seed

    def run(self, programs: int | None, seconds: float | None, jobs: int) -> Iterator[Result]:
        """Results as they come, of `programs` programs (None: no end) or until `seconds` have passed, from `jobs`
        processes. Closing the iterator stops them. Raises `DeviceError` where a process dies."""
        seeds = iter(range(self.seed, self.seed + programs)) if programs is not None else itertools.count(self.seed)
        end = None if seconds is None else time.monotonic() + seconds
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(jobs, context, _open, (self.config,))
        waiting: set[Future[list[Result]]] = set()
        try:
            while True:
                while len(waiting) < 2 * jobs and (end is None or time.monotonic() < end):
                    chunk = list(itertools.islice(seeds, CHUNK))
                    if not chunk:
                        break
                    waiting.add(pool.submit(_run, self.task, self.config, chunk))
                if not waiting:
                    return
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    yield from future.result()
        except BrokenProcessPool:
            raise DeviceError("a process that ran programs died; run the seeds not reported with --jobs 1") from None
        finally:
            pool.shutdown(cancel_futures=True)

    def summary(self) -> str:
        """Nothing to add to the results."""
        return ""

    def preserve(self, seed: int, folder: Path) -> tuple[Path, str]:
        """Shrink the failing program of `seed`, save it in `folder`; returns its path and a report."""
        with Lockstep(self.config) as lockstep:
            case = short = generate(self.config, seed)
            if _fails(lockstep, case):
                short = shrink(case, lambda candidate: _fails(lockstep, candidate))
                text = report(short, lockstep.compare(short), len(case.words))
            else:
                text = run_seed(lockstep, self.config, seed).failure or "no difference any more"
        return save(short, folder, text), text


def _fails(lockstep: Lockstep, case: Case) -> bool:
    """Whether both differ on a program that the simulator runs to its end."""
    iss = lockstep.iss(case)
    return iss.done and difference(lockstep.rtl(case), iss) is not None


def report(case: Case, found: Difference | None, length: int) -> str:
    """What is wrong with `case`, shrunk from `length` instructions, in a few lines."""
    lines = [f"random program {case.seed} of {case.config.name}, {len(case.words)} of {length} instructions"]
    lines.append(str(found))
    at = None if found is None else writer_of(case.program, found)
    if at is not None:
        word = case.words[at]
        lines.append(f"last written by instruction {at}, {decode(word).op.engine.name}: {format_instruction(word)}")
    return "\n".join(lines)


def _open(config: Config) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _LOCKSTEPS.append(Lockstep(config))


def _run(task: Task, config: Config, seeds: list[int]) -> list[Result]:
    return [task(_LOCKSTEPS[0], config, seed) for seed in seeds]


def run_seed(lockstep: Lockstep, config: Config, seed: int) -> Result:
    """Generate and compare one program. One that the simulator does not finish counts as failed."""
    case = generate(config, seed)
    iss = lockstep.iss(case)
    if not iss.done:
        return Result(seed, f"not legal on the simulator: {iss.end}", iss.counters["INSTRUCTIONS"], 0)
    rtl = lockstep.rtl(case)
    found = difference(rtl, iss)
    return Result(seed, "" if found is None else str(found), iss.counters["INSTRUCTIONS"], rtl.cycles)
