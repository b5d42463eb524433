"""`python -m tidemill_verif.coverage`: runs the regression with coverage, prints the table, writes the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tidemill.config import preset
from tidemill_verif.coverage import report
from tidemill_verif.coverage.collect import CODE_VARIABLE, VARIABLE
from tidemill_verif.coverage.corner_programs import corner_programs
from tidemill_verif.coverage.results import CoverageError, read, read_exclusions

BLOCKS = ("tests/hdl",)
"""Tests of the blocks, run with functional and code coverage."""
WHOLE = (
    "tests/rtl/test_errors.py",
    "tests/rtl/test_counters.py",
    "tests/rtl/test_device.py",
    "tests/rtl/test_bus_faults.py",
)
"""Tests of the whole machine, run with functional coverage only: each opens the machine anew."""
DESELECTED = "not lint and not axi_rules and not base and not large and not small"
"""Builds that would only repeat what the smaller ones cover, at several times the cost, and tests of other things."""
MACHINE = "tiny"
"""Configuration of the whole machine that runs random programs."""
PROGRAMS = 400
"""Random programs, seeds from 0."""
_OUTCOME = re.compile(r"\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b|^seed \d+")
_TAIL = 60


def _run(command: list[str], environment: dict[str, str], advance: Callable[[], None]) -> None:
    """Run `command`; `advance` for each test or program that has ended. Raises `CoverageError` where it fails."""
    said = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if _OUTCOME.search(line):
                advance()
    if process.returncode:
        raise CoverageError("the regression failed:\n" + "".join(said[-_TAIL:]))


def run_tests(folder: Path, jobs: int, suites: Sequence[str], code: bool, progress: Progress) -> None:
    """Run the tests of `suites` with coverage into `folder`. Raises `CoverageError` where one fails."""
    missing = [suite for suite in suites if not Path(suite).exists()]
    if missing:
        raise CoverageError(f"no {', '.join(missing)} in {Path.cwd()}: run it where the checkout is")
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", DESELECTED, *suites]
    listing = subprocess.run([*pytest, "--collect-only", "-q"], capture_output=True, text=True, check=False)
    total = sum("::" in line for line in listing.stdout.splitlines())
    task = progress.add_task("blocks" if code else "machine", total=total)
    command = [*pytest, "-v", "-n", str(jobs), "--dist", "worksteal", "--timeout", "3600"]
    environment = {**_environment(folder), CODE_VARIABLE: str(int(code))}
    _run(command, environment, lambda: progress.advance(task))


def run_programs(folder: Path, jobs: int, programs: int, progress: Progress) -> None:
    """Run the corner programs and random programs in lockstep on the whole machine, in `jobs` processes at a time.
    Raises `CoverageError`."""
    shares = [["--corners"]]
    step = -(-programs // jobs)
    for first in range(0, programs, step):
        shares.append(["--first", str(first), "--programs", str(min(step, programs - first))])
    corners = sum(1 for _ in corner_programs(preset(MACHINE)))
    task = progress.add_task("programs", total=corners + programs)
    lock = threading.Lock()

    def advance() -> None:
        with lock:
            progress.advance(task)

    def run(share: list[str]) -> None:
        command = [sys.executable, "-m", "tidemill_verif.coverage.machine", "--preset", MACHINE, *share]
        _run(command, _environment(folder), advance)

    with ThreadPoolExecutor(jobs) as pool:
        for ended in [pool.submit(run, share) for share in shares]:
            ended.result()


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, VARIABLE: str(folder), "TIDEMILL_RESULTS": str(folder / "results")}


@click.command(help=__doc__)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build/coverage"), help="Takes the data.")
@click.option("--reuse", is_flag=True, help="Report what is in the folder already; run nothing.")
@click.option("--jobs", type=click.IntRange(1), default=2, help="Tests and programs at the same time.")
@click.option("--programs", type=click.IntRange(1), default=PROGRAMS, show_default=True, help="Random programs.")
@click.option("--page", type=click.Path(path_type=Path), help="File for the page with all holes.")
@click.option("--plan", type=click.Path(path_type=Path), help="Write the plan's page to this file and stop.")
def main(folder: Path, reuse: bool, jobs: int, programs: int, page: Path | None, plan: Path | None) -> None:
    console = Console()
    if plan is not None:
        report.write(plan, report.plan_page())
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        exclusions = read_exclusions()
        if not reuse:
            shutil.rmtree(folder, ignore_errors=True)
            with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
                run_tests(folder.resolve(), jobs, BLOCKS, True, progress)
                run_tests(folder.resolve(), jobs, WHOLE, False, progress)
                run_programs(folder.resolve(), jobs, programs, progress)
        results = read(folder, exclusions)
    except CoverageError as error:
        raise click.ClickException(str(error)) from error
    report.print_table(results, console)
    if page is not None:
        report.write(page, report.page(results))
    complaints = results.below_target()
    complaints += [
        f"exclusion of {', '.join(e.what)} in {e.where}: nothing needs it" for e in results.stale_exclusions()
    ]
    for complaint in complaints:
        console.print(f"[red]{complaint}[/]", highlight=False)
    sys.exit(bool(complaints))


if __name__ == "__main__":
    main()
