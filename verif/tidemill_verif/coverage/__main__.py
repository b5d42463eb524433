"""`python -m tidemill_verif.coverage`: runs the regression with coverage, prints the table, writes the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tidemill_verif.coverage import report
from tidemill_verif.coverage.collect import VARIABLE
from tidemill_verif.coverage.results import CoverageError, read, read_exclusions

SUITES = ("tests/hdl", "tests/rtl")
"""What is run, where it exists."""
DESELECTED = "not lint and not base and not large and not small"
"""Builds that would only repeat what the smaller ones cover, at several times the cost."""
_OUTCOME = re.compile(r"\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b")


def run_suites(folder: Path, jobs: int, console: Console) -> None:
    """Run the tests of `SUITES` with coverage into `folder`. Raises `CoverageError` where one fails."""
    suites = [suite for suite in SUITES if Path(suite).is_dir()]
    if not suites:
        raise CoverageError(f"none of {', '.join(SUITES)} is in {Path.cwd()}")
    environment = {**os.environ, VARIABLE: str(folder), "TIDEMILL_RESULTS": str(folder / "results")}
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", DESELECTED, *suites]
    listing = subprocess.run([*pytest, "--collect-only", "-q"], capture_output=True, text=True, check=False)
    total = sum("::" in line for line in listing.stdout.splitlines())
    command = [*pytest, "-v", "-n", str(jobs), "--dist", "worksteal", "--timeout", "1800"]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    said = []
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run,
    ):
        task = progress.add_task("tests with coverage", total=total)
        assert run.stdout is not None
        for line in run.stdout:
            said.append(line)
            if "::" in line and _OUTCOME.search(line):
                progress.advance(task)
    if run.returncode:
        raise CoverageError("the regression failed:\n" + "".join(said[-60:]))


@click.command(help=__doc__)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build/coverage"), help="Takes the data.")
@click.option("--reuse", is_flag=True, help="Report what is in the folder already; run nothing.")
@click.option("--jobs", type=click.IntRange(1), default=2, help="Tests at the same time.")
@click.option("--page", type=click.Path(path_type=Path), help="File for the page with all holes.")
@click.option("--plan", type=click.Path(path_type=Path), help="Write the plan's page to this file and stop.")
def main(folder: Path, reuse: bool, jobs: int, page: Path | None, plan: Path | None) -> None:
    console = Console()
    if plan is not None:
        report.write(plan, report.plan_page())
        return
    try:
        exclusions = read_exclusions()
        if not reuse:
            shutil.rmtree(folder, ignore_errors=True)
            run_suites(folder.resolve(), jobs, console)
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
