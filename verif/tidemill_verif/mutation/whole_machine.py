"""A fast regression of the whole machine, and mutants that it runs on, each in a process of its own.

Random legal and illegal programs run in lockstep with the simulator on a memory with random timing; then programs for
every error and its place; then the bus is disturbed: errors, resets, stuck channels. The protocol of both ports is
checked in every cycle.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from tidemill.driver.npu import Npu
from tidemill.golden import __path__ as golden_path
from tidemill.iss import __path__ as iss_path
from tidemill.iss.device import IssDevice
from tidemill_verif import bus_faults, error_programs, illegal_programs, random_programs, rtl_device
from tidemill_verif.bus_faults.machine import Machine, Report, Scenario
from tidemill_verif.bus_faults.scenarios import KINDS, random_scenario
from tidemill_verif.cache import content_key, tree_key
from tidemill_verif.elaborate import hardware_key
from tidemill_verif.illegal_programs import Ends, judge, possible_ends, spoil
from tidemill_verif.mutation import MutationError
from tidemill_verif.mutation.fork_server import TIMEOUT, Result
from tidemill_verif.mutation.mutated_npu import CONFIG, open_mutant
from tidemill_verif.random_programs import Case, Lockstep, Outcome, generate
from tidemill_verif.rtl_device import RtlDevice
from tidemill_verif.rtl_device.build import Variant

LEGAL, ILLEGAL, FAULTS = 150, 80, 6
"""Legal and illegal programs, and disturbances of each of `KINDS`."""
MAX_CYCLES = 300_000
"""Cycles that a program of these may take."""
_FAULT_SEED = 11
_CPU_FACTOR, _GRACE, _WALL_FACTOR = 4, 3, 8
"""A mutant may use this many times the original's processor time, and seconds; and so many times that by the clock."""
_REASON_BYTES = 200
_NO_MEMORY = 70
"""Exit code of a run that found no memory."""
_POLL_SECONDS = 0.01

Maker = Callable[..., RtlDevice]
"""Opens the hardware, called with `mem_size`."""


def regression_key() -> str:
    """Hash of what the regression's verdict follows from besides the mutated block."""
    packages = (random_programs, illegal_programs, bus_faults, rtl_device)
    folders = [Path(path[0]) for path in (golden_path, iss_path, *(package.__path__ for package in packages))]
    return content_key(hardware_key(), tree_key(Path(__file__), Path(error_programs.__file__), *folders))


class _Remembering(Lockstep):
    """Asks the simulator only once for each case of `known`."""

    def __init__(self, make: Maker, known: dict[Case, Outcome]) -> None:
        super().__init__(CONFIG, make, MAX_CYCLES)
        self._known = known

    def iss(self, case: Case) -> Outcome:
        if case not in self._known:
            self._known[case] = super().iss(case)
        return self._known[case]


@dataclass(frozen=True)
class Regression:
    """Runs everything on a machine; what does not depend on the hardware is worked out once."""

    @cached_property
    def _legal(self) -> list[Case]:
        return [generate(CONFIG, seed) for seed in range(LEGAL)]

    @cached_property
    def _illegal(self) -> list[tuple[Case, Ends]]:
        cases = [spoil(CONFIG, seed).case for seed in range(ILLEGAL)]
        return [(case, possible_ends(case)) for case in cases]

    @cached_property
    def _errors(self) -> list[tuple[str, error_programs.Case, bytes]]:
        found = []
        for group, cases in error_programs.GROUPS.items():
            for case in cases:
                with Npu(IssDevice(CONFIG, mem_size=error_programs.MEM_SIZE, errors=case.errors)) as npu:
                    found.append((f"{group}: {case.name}", case, error_programs.judge(npu, case)[1]))
        return found

    @cached_property
    def _outcomes(self) -> dict[Case, Outcome]:
        return {}

    @cached_property
    def _reports(self) -> dict[object, Report | None]:
        return {}

    def run(self, make: Maker) -> str:
        """What is wrong first, empty where nothing is; an exception where the machine cannot even be talked to."""
        return next(self._failures(make), "")

    def _failures(self, make: Maker) -> Iterator[str]:
        with _Remembering(make, self._outcomes) as lockstep:
            for case in self._legal:
                if found := lockstep.compare(case):
                    yield f"legal program {case.seed}: {found}"
            for number, (case, ends) in enumerate(self._illegal):
                if failure := judge(lockstep, case, ends).failure:
                    yield f"illegal program {number}: {failure}"
        device = make(mem_size=error_programs.MEM_SIZE)
        device.set_timing(read_latency=5, stall_probability=0.2, seed=3)
        with Npu(device) as npu:
            for name, program, content in self._errors:
                device.set_errors(program.errors)
                failure, left = error_programs.judge(npu, program)
                if failure or left != content:
                    yield f"error program {name}: {failure or 'rows written before the error differ'}"
        with closing(Machine(CONFIG, make)) as machine:
            machine.simulated = self._reports
            for number in range(FAULTS):
                for kind in KINDS:
                    machine.run(self._scenario(machine, number, kind))

    def _scenario(self, machine: Machine, number: int, kind: str) -> Scenario:
        return random_scenario(machine, _FAULT_SEED, number, kind)


REGRESSION = Regression()


def run_mutants(
    machine: Variant,
    selectors: list[int],
    jobs: int,
    on_result: Callable[[Result], None],
    deadline: float | None = None,
) -> None:
    """Run the regression on the mutants `selectors` of `machine`, `jobs` at a time; `on_result` gets each result.

    At `deadline` (of `time.monotonic`) nothing more is started. Raises `MutationError` where the original fails.
    """
    start = time.process_time()
    if reason := _reason(partial(open_mutant, machine, 0)):
        raise MutationError(f"the whole machine fails without any mutant: {reason}")
    limit = int(_CPU_FACTOR * (time.process_time() - start)) + _GRACE
    waiting = list(reversed(selectors))
    running: dict[int, tuple[int, int, float]] = {}
    try:
        while waiting or running:
            late = deadline is not None and time.monotonic() > deadline
            while waiting and len(running) < jobs and not late:
                selector = waiting.pop()
                child, pipe = _start(partial(open_mutant, machine, selector), limit)
                running[child] = selector, pipe, time.monotonic()
            if late and not running:
                return
            for child, (selector, pipe, began) in list(running.items()):
                finished, status, usage = os.wait4(child, os.WNOHANG)
                if not finished:
                    if time.monotonic() - began > _WALL_FACTOR * limit:
                        os.kill(child, signal.SIGKILL)
                    continue
                del running[child]
                with open(pipe, "rb") as reader:
                    reason = _ended(status) or reader.read().decode(errors="replace")
                on_result(Result(selector, reason, usage.ru_utime + usage.ru_stime))
            time.sleep(_POLL_SECONDS)
    finally:
        for child, (_, pipe, _) in running.items():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(pipe)


def _reason(make: Maker) -> str:
    """What the regression finds. A machine that cannot be talked to, or leaves what no register can hold, shows as an
    exception of any kind."""
    try:
        return REGRESSION.run(make)
    except MemoryError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _start(make: Maker, limit: int) -> tuple[int, int]:
    """(process, where its reason can be read from) of a copy of this process that runs the regression."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = _NO_MEMORY
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        os.write(writer, _reason(make).encode()[:_REASON_BYTES])
        code = 0
    finally:
        os._exit(code)


def _ended(status: int) -> str:
    """Why a process ended that did not come to say it, empty where it did. An assertion of the netlist (only one input
    of a multiplexer is chosen) ends it with a code. Raises `MutationError` where there was no memory."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return TIMEOUT if number in (signal.SIGXCPU, signal.SIGKILL) else f"ended by {signal.Signals(number).name}"
    code = os.waitstatus_to_exitcode(status)
    if code == _NO_MEMORY:
        raise MutationError("no memory for a run of the whole machine")
    return f"ended with code {code}" if code else ""
