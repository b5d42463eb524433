"""The command: `python -m tidemill_verif.mutation`; see the package."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tidemill.driver.errors import DeviceError
from tidemill_verif.mutation import MutationError, blocks, judgements, report
from tidemill_verif.mutation.campaign import OPEN, SURVIVED, Campaign, Outcome, save, saved, score
from tidemill_verif.runner import results_root
from tidemill_verif.toolchain import ToolchainError

TARGET_PERCENT = 95.0
"""Score that a block must reach."""


def _folder() -> Path:
    return results_root() / "mutation"


@click.group()
def main() -> None:
    """Mutation score of the hardware's blocks."""


def _run(
    names: tuple[str, ...],
    count: int | None,
    jobs: int,
    minutes: float | None,
    proofs: bool,
    fresh: bool,
    machine: bool,
) -> int:
    for name in names:
        blocks.block(name)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    results: dict[str, list[Outcome]] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for name in names:
            task = progress.add_task(name, total=None)

            def show(_: str, done: int, total: int, task: int = task) -> None:
                progress.update(task, completed=done, total=total)  # type: ignore[arg-type]

            results[name] = Campaign(jobs, deadline, show, proofs, fresh, machine).run(name, count)
            if count is None:
                save(_folder(), name, results[name])
    return _print(results)


def _print(results: dict[str, list[Outcome]]) -> int:
    """Table of scores and list of survivors; 1 where a block is below the target."""
    console = Console()
    table = Table("block", title="Mutation score")
    for column in ("mutants", "killed", "equivalent", "survived", "not run", "score %"):
        table.add_column(column, justify="right")
    below = False
    for name, outcomes in results.items():
        counts = score(outcomes)
        numbers = (counts.mutants, counts.killed, counts.equivalent, counts.survived, counts.open)
        table.add_row(name, *map(str, numbers), f"{counts.percent:.1f}")
        below = below or counts.percent < TARGET_PERCENT
    console.print(table)
    for name, outcomes in results.items():
        for outcome in outcomes:
            if outcome.status in (SURVIVED, OPEN):
                source = outcome.mutant.sources[0] if outcome.mutant.sources else "no source"
                text = f"{name} {outcome.identity} {outcome.status}: {outcome.target} {source}: {outcome.mutant}"
                console.print(text, markup=False, highlight=False, soft_wrap=True)
    return 1 if below else 0


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="Simulations at a time."),
        click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Start nothing after this time."),
        click.option("--proofs/--no-proofs", default=True, help="Try to prove survivors equivalent."),
        click.option("--machine/--no-machine", default=True, help="Try survivors in the whole machine."),
        click.option("--fresh", is_flag=True, help="Run everything again, whatever is known of earlier runs."),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--count", type=click.IntRange(1), help="Mutants of a block instead of its own number.")
@_options
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write the report there (of `all`).")
def run(
    names: tuple[str, ...],
    count: int | None,
    jobs: int,
    minutes: float | None,
    proofs: bool,
    fresh: bool,
    machine: bool,
    page: Path | None,
) -> None:
    """Run the mutants of blocks NAMES, or `all`; exits with 1 below the target score."""
    code = _run(tuple(blocks.BLOCKS) if names == ("all",) else names, count, jobs, minutes, proofs, fresh, machine)
    if page is not None:
        _write_page(page)
    sys.exit(code)


@main.command()
@click.option("--count", default=12, show_default=True, type=click.IntRange(1), help="Mutants of each block.")
@_options
def sample(count: int, jobs: int, minutes: float | None, proofs: bool, fresh: bool, machine: bool) -> None:
    """Run a few mutants of every block."""
    sys.exit(_run(tuple(blocks.BLOCKS), count, jobs, minutes, proofs, fresh, machine))


def _survivor(block: str, identity: str) -> Outcome:
    blocks.block(block)
    outcomes = saved(_folder(), block)
    if outcomes is None:
        raise MutationError(f"block {block!r} was not run: make mutate BLOCK={block}")
    for outcome in outcomes:
        if outcome.identity == identity:
            return outcome
    raise MutationError(f"block {block!r} has no mutant {identity!r} in its last run")


@main.command()
@click.argument("block")
@click.argument("identity")
def show(block: str, identity: str) -> None:
    """Print all that is known of a mutant."""
    outcome = _survivor(block, identity)
    console = Console()
    for name, value in (
        ("target", outcome.target),
        ("change", str(outcome.mutant)),
        ("yosys", outcome.mutant.command),
        ("sources", "\n         ".join(outcome.mutant.sources)),
        ("status", f"{outcome.status} {outcome.by} {outcome.detail}"),
    ):
        console.print(f"{name:8} {value}", markup=False, highlight=False, soft_wrap=True)


@main.command()
@click.argument("block")
@click.argument("identity")
@click.argument("reason")
@click.option("--survives", is_flag=True, help="It is not equivalent; the reason says why no test shows it.")
def judge(block: str, identity: str, reason: str, survives: bool) -> None:
    """Write down that a survivor is equivalent, and why; or why it survives."""
    outcome = _survivor(block, identity)
    if outcome.status not in (SURVIVED, OPEN):
        raise MutationError(f"mutant {identity!r} is no survivor: {outcome.status} by {outcome.by}")
    judgements.judge(block, outcome.target, outcome.mutant, reason, survives)


def _write_page(output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report.page({name: saved(_folder(), name) for name in blocks.BLOCKS}))


@main.command(name="report")
@click.argument("output", type=click.Path(dir_okay=False, path_type=Path))
def write_report(output: Path) -> None:
    """Write the page OUTPUT from the last full run of every block; names those that were never run."""
    _write_page(output)


if __name__ == "__main__":
    try:
        main()
    except (DeviceError, MutationError, ToolchainError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
