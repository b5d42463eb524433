"""cocotb module that runs the bench after it once for every mutant, each in a copy of this process.

The simulation starts once; at time 0 the process forks for each mutant, the copy selects its mutant and goes on with
the bench's tests. Starting Python and the simulator, which would take most of the time, is paid once.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cocotb
from cocotb.simtime import get_sim_time
from cocotb.triggers import Timer

from tidemill_verif.mutation import SELECTOR

PLAN_VARIABLE = "TIDEMILL_MUTATION_PLAN"
"""Environment variable with the path of the plan, a `Plan` as JSON."""
TIMEOUT = "timeout"
"""Reason of a kill by a time limit."""
_POLL_SECONDS = 0.002
_WALL_FACTOR = 8
"""A process that neither ends nor uses its processor time is stopped after this many limits."""
_LONGEST = 1800
"""Seconds that the original may take."""
_WATCH_SECONDS = 0.05
"""Processor time between two looks at the simulated time."""
_LATE = 3
"""Exit code of a run that simulated too long."""


@dataclass(frozen=True)
class Plan:
    """What the server does: `selectors` to run (the original, 0, runs first in any case), `jobs` at a time.

    A mutant may simulate `factor` times as long as the original, and use `cpu_factor` times its processor time and
    `grace` seconds. Each result is a line of
    JSON in `results`: a `Result`. Once the file `stop` exists nothing more is started.
    """

    selectors: list[int]
    jobs: int
    factor: float
    cpu_factor: float
    grace: int
    results: str
    stop: str


@dataclass(frozen=True)
class Result:
    """How a run ended: `reason` of the kill, empty for a survivor; `seconds` of processor time."""

    selector: int
    reason: str
    seconds: float


@dataclass(frozen=True)
class _Limits:
    """Seconds of processor time, and simulated steps."""

    seconds: int
    steps: float


def _outcome(report: Path, status: int) -> str:
    """Why the bench failed; empty where it passed."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return TIMEOUT if number in (signal.SIGXCPU, signal.SIGKILL) else f"ended by {signal.Signals(number).name}"
    if os.waitstatus_to_exitcode(status) == _LATE:
        return TIMEOUT
    if not report.exists():
        return f"ended with code {os.waitstatus_to_exitcode(status)}"
    ran = 0
    for case in ElementTree.parse(report).iter("testcase"):
        failure = case.find("failure") if case.find("failure") is not None else case.find("error")
        if failure is not None:
            text = (failure.get("message") or failure.text or "").strip().split("\n")[0]
            return f"{case.get('name')}: {text}"[:200]
        ran += 1
    return "" if ran > 1 else "no test ran"


@cocotb.test()
async def fork_for_every_mutant(dut: Any) -> None:
    """In a copy: return with its mutant selected. The first process ends here."""
    plan = Plan(**json.loads(Path(os.environ[PLAN_VARIABLE]).read_text()))
    waiting = list(reversed(plan.selectors))
    running: dict[int, tuple[int, float, Path]] = {}
    limits: _Limits | None = None
    span = Path(f"{plan.results}.span")
    with open(plan.results, "a", buffering=1) as results:
        while waiting or running or limits is None:
            while len(running) < (plan.jobs if limits else 1) and (waiting or limits is None):
                selector = waiting.pop() if limits else 0
                report = Path(f"{plan.results}.{selector}.xml")
                child = os.fork()
                if not child:
                    _become(report, limits, span)
                    getattr(dut, SELECTOR).value = selector
                    await Timer(1, "step")
                    return
                running[child] = (selector, time.monotonic(), report)
            if os.path.exists(plan.stop):
                waiting.clear()
            finished, status, usage = os.wait4(-1, os.WNOHANG)
            if not finished:
                longest = _WALL_FACTOR * limits.seconds if limits else _LONGEST
                for child, (_, start, _) in running.items():
                    if time.monotonic() - start > longest:
                        os.kill(child, signal.SIGKILL)
                time.sleep(_POLL_SECONDS)
                continue
            selector, _, report = running.pop(finished)
            reason = _outcome(report, status)
            report.unlink(missing_ok=True)
            seconds = usage.ru_utime + usage.ru_stime
            results.write(json.dumps(asdict(Result(selector, reason, seconds))) + "\n")
            if limits is None:
                if reason:
                    break
                limits = _Limits(int(plan.cpu_factor * seconds) + plan.grace, plan.factor * float(span.read_text()))
    os._exit(0)


def _become(report: Path, limits: _Limits | None, span: Path) -> None:
    """Turn this copy into one run: own report, no output, limited time. Without limits it is the original, which
    leaves the simulated steps that it took in `span`."""
    os.environ["COCOTB_RESULTS_FILE"] = str(report)
    # The simulator's own end would wait for threads that exist only in the first process.
    atexit.register(os._exit, 0)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits is None:
        atexit.register(lambda: span.write_text(str(get_sim_time("step"))))
        return
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1))
    steps = limits.steps
    signal.signal(signal.SIGPROF, lambda *_: os._exit(_LATE) if get_sim_time("step") > steps else None)
    signal.setitimer(signal.ITIMER_PROF, _WATCH_SECONDS, _WATCH_SECONDS)
