"""`tidemill fuzz`."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from tidemill.batch import available_cores
from tidemill.config import DEFAULT_PRESET, PRESETS, Config, preset
from tidemill.extensions import load_extension

if TYPE_CHECKING:
    from rich.console import Console

ENTRY_POINTS = "tidemill.campaigns"
"""Group of entry points; each names a factory `(config, seed) -> Campaign`."""

BUILT_IN = {
    "random": "tidemill_verif.random_programs.campaign:Campaign",
    "illegal": "tidemill_verif.illegal_programs.campaign:IllegalCampaign",
}
"""Campaigns known without installation, as `module:attribute`; imported when used."""

SHRUNK = 5
"""Failing programs that are shrunk and saved; of the others, the seeds are printed."""


class Campaign(Protocol):
    """Random programs of one configuration; `run` yields results with `seed`, `failure` (text, empty where nothing
    differs), `instructions` and `cycles`."""

    def run(self, programs: int | None, seconds: float | None, jobs: int) -> Generator[Any, None, None]:
        """Results of so many programs (None: no end), for at most so many seconds, from so many processes."""

    def summary(self) -> str:
        """What else there is to say of the results so far; may be empty."""

    def preserve(self, seed: int, folder: Path) -> tuple[Path, str]:
        """Shrink the failing program of `seed` and save it in `folder`; its path and a report."""


@click.command()
@click.option("--programs", type=click.IntRange(1), help="Programs to run.  [default: 100, without --minutes]")
@click.option(
    "--seed", type=click.IntRange(0, (1 << 63) - 1), default=0, show_default=True,
    help="Seed of the first program; the next one has the next seed.",
)  # fmt: skip
@click.option(
    "--preset", "name", type=click.Choice(list(PRESETS)), default=DEFAULT_PRESET, show_default=True,
    help="Configuration of the NPU.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes.  [default: one a core]")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Stop after that long.")
@click.option(
    "--save", type=click.Path(path_type=Path, file_okay=False), default=Path("fuzz-failures"), show_default=True,
    help="Folder for programs that fail, shrunk.",
)  # fmt: skip
@click.option(
    "--illegal", is_flag=True,
    help="Spoiled programs: none may hang the machine or write outside its window, both must end alike.",
)  # fmt: skip
def fuzz(
    programs: int | None, seed: int, name: str, jobs: int | None, minutes: float | None, save: Path, illegal: bool
) -> None:
    """Run random legal programs on the Verilated hardware and on the simulator, and compare everything they leave.

    Every byte of DRAM, scratchpad, accumulators and table, the status and error registers and the counters of work must
    agree. Exits with 1 where a program fails; the same seed is the same program everywhere.

    \b
    Example:
      tidemill fuzz --programs 10000 --seed 0 --preset base
    """
    from rich.console import Console

    if programs is None and minutes is None:
        programs = 100
    campaign = _factory("illegal" if illegal else "random")(preset(name), seed)
    console = Console(stderr=True)
    failures: list[int] = []
    done, cycles, stopped = 0, 0, ""
    start = time.monotonic()
    results = campaign.run(programs, None if minutes is None else 60 * minutes, jobs or available_cores())
    try:
        with _progress(console, programs, minutes) as advance:
            for result in results:
                done, cycles = done + 1, cycles + result.cycles
                if result.failure:
                    failures.append(result.seed)
                    click.echo(f"seed {result.seed}: {result.failure}")
                advance(done, len(failures))
    except KeyboardInterrupt:
        stopped = ", interrupted"
    finally:
        results.close()
    seconds = time.monotonic() - start
    for failed in sorted(failures)[:SHRUNK] if not stopped else []:
        with console.status(f"shrinking seed {failed} ..."):
            path, report = campaign.preserve(failed, save)
        click.echo(f"{path}:")
        for line in report.splitlines():
            click.echo(f"    {line}")
    seeds = f"seeds {seed} to {seed + done - 1}" if done and not stopped and minutes is None else f"from seed {seed}"
    click.echo(f"{name}: {done} programs, {seeds}, {cycles} cycles in {seconds:.0f} s{stopped}; {len(failures)} failed")
    if summary := campaign.summary():
        click.echo(summary)
    if failures:
        click.echo(f"failed seeds: {' '.join(str(failed) for failed in sorted(failures))}", err=True)
    if failures or stopped:
        raise click.exceptions.Exit(1 if failures else 130)


@contextmanager
def _progress(console: Console, programs: int | None, minutes: float | None) -> Iterator[Callable[[int, int], None]]:
    """Moves a bar on a terminal's stderr: called with the programs done and those that failed."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    if not console.is_terminal:
        yield lambda done, failed: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    total = 60 * minutes if minutes is not None and programs is None else programs
    start = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("programs", total=total)

        def advance(done: int, failed: int) -> None:
            moved = done if programs is not None else min(time.monotonic() - start, total or 0)
            bar.update(task, completed=moved, description=f"{done} programs, {failed} failed")

        yield advance


def _factory(campaign: str) -> Callable[[Config, int], Campaign]:
    """The factory of `campaign`."""
    return load_extension(ENTRY_POINTS, BUILT_IN, campaign, "random programs", "rtl")  # type: ignore[no-any-return]
