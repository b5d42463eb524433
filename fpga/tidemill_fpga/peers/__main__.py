"""`python -m tidemill_fpga.peers`: our array beside published ones, and in other shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tidemill_fpga.families.family import FitError
from tidemill_fpga.peers.arrays import beside_peers, published, shapes
from tidemill_fpga.peers.measure import Array, Measured, known, measure
from tidemill_fpga.peers.page import markdown, peer_table, shape_table
from tidemill_fpga.peers.published import AXIS, TINY_TPU
from tidemill_fpga.tools import ToolError

_CHECKOUT = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--tiny-tpu", type=_CHECKOUT, help=f"Git clone of {TINY_TPU.repository}.")
@click.option("--axis-systolic-array", "axis", type=_CHECKOUT, help=f"Git clone of {AXIS[0].repository}.")
@click.option("--seeds", type=click.IntRange(1, 32), default=3, show_default=True, help="Routing runs of each array.")
@click.option("--no-build", is_flag=True, help="Show what is measured already; leave out the rest.")
@click.option(
    "--markdown", "page", type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the page; needs both clones.",
)  # fmt: skip
def main(tiny_tpu: Path | None, axis: Path | None, seeds: int, no_build: bool, page: Path | None) -> None:
    """Measure cells and clock of systolic arrays in one flow: LFE5U-85F, speed grade 6.

    Ours with DSP blocks and with carry chains beside the published arrays whose clones are given, then ours in the
    shapes that the device could hold. Takes up to an hour; every step is cached.
    """
    if page and not (tiny_tpu and axis):
        raise click.UsageError("--markdown needs --tiny-tpu and --axis-systolic-array")
    sources = [(TINY_TPU, tiny_tpu), *((array, axis) for array in AXIS)]
    numbers = range(1, seeds + 1)
    try:
        peers = beside_peers() + [published(array, checkout) for array, checkout in sources if checkout]
        arrays = [*peers, *shapes()]
        results = [known(array, numbers) for array in arrays] if no_build else _measure(arrays, numbers)
    except (FitError, ToolError) as error:
        raise click.ClickException(str(error)) from None
    first, second = ([row for row in part if row] for part in (results[: len(peers)], results[len(peers) :]))
    missing = [array.title for array, row in zip(arrays, results, strict=True) if row is None]
    for title, rows in (("int8 arrays", peer_table(first)), ("shapes", shape_table(second))):
        table = Table(*rows[0], title=title)
        for row in rows[1:]:
            table.add_row(*row)
        Console().print(table)
    if page:
        options = f"--tiny-tpu FOLDER --axis-systolic-array FOLDER --seeds {seeds}{' --no-build' if no_build else ''}"
        command = f"python -m tidemill_fpga.peers {options} --markdown docs/fpga/arrays.md"
        page.write_text(markdown(command, first, second, [TINY_TPU, *AXIS], missing), encoding="utf-8")


def _measure(arrays: Sequence[Array], seeds: Sequence[int]) -> list[Measured]:
    messages = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results = []
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as progress:
        task = progress.add_task("", total=len(arrays))
        for array in arrays:
            results.append(measure(array, seeds, lambda step, line: progress.update(task, description=step)))
            progress.advance(task)
    return results


if __name__ == "__main__":
    main()
