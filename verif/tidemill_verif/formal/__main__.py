"""`python -m tidemill_verif.formal`: proves the blocks, and that broken copies of them fail."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tidemill_verif.formal.engine import Outcome, require_solver, run_proof, run_twin
from tidemill_verif.formal.proof import SOLVERS, Proof, ProofError, Twin, all_proofs
from tidemill_verif.formal.report import Run, page, property_table, twin_table

_FILE_WIDTH = 200
"""Columns of the tables where there is no terminal."""


def run_one(block: str, proof: Proof, twin: Twin | None, options: argparse.Namespace) -> Run:
    """One job; what stops it becomes the run's problem."""
    try:
        if twin:
            outcome = run_twin(block, proof, twin, options.solver, options.timeout)
        else:
            outcome = run_proof(block, proof, options.traces, options.solver, options.timeout)
    except ProofError as error:
        return Run(block, proof, twin, Outcome(), str(error))
    return Run(block, proof, twin, outcome)


def run_all(options: argparse.Namespace, console: Console) -> list[Run]:
    """Every chosen proof and, where asked for, twin, with a progress bar. Raises `ProofError` before the first."""
    chosen = [(block, proof) for block, proof in all_proofs(options.block) if options.proof in (None, proof.name)]
    if not chosen:
        raise ProofError(f"unknown proof {options.proof!r} of {', '.join(options.block) or 'all blocks'}")
    for solver in {options.solver or proof.solver for _, proof in chosen}:
        require_solver(solver)
    jobs: list[tuple[str, Proof, Twin | None]] = [(block, proof, None) for block, proof in chosen]
    if options.twins:
        jobs += [(block, proof, twin) for block, proof in chosen for twin in proof.twins]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    runs: dict[int, Run] = {}
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        task = progress.add_task("proofs", total=len(jobs))
        futures = {pool.submit(run_one, *job, options): number for number, job in enumerate(jobs)}
        for future in as_completed(futures):
            runs[futures[future]] = run = future.result()
            progress.update(task, advance=1, description=f"{run.block} {run.proof.name}")
    return [runs[number] for number in sorted(runs)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 1 where a property is not proved or a twin is not noticed, or with one line of error."""
    parser = argparse.ArgumentParser(prog="python -m tidemill_verif.formal", description=(__doc__ or "").split(": ")[1])
    parser.add_argument("--block", nargs="+", default=[], metavar="NAME", help="only these blocks")
    parser.add_argument("--proof", metavar="NAME", help="only the proof of this name")
    parser.add_argument("--twins", action="store_true", help="run the broken copies, too")
    parser.add_argument("--jobs", type=int, default=1, help="at once")
    parser.add_argument("--solver", choices=list(SOLVERS), help="instead of each proof's own")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds of one solver run")
    parser.add_argument("--traces", type=Path, default=Path("build/formal"), help="folder of counterexamples")
    parser.add_argument("--page", type=Path, help="write the results into this page")
    options = parser.parse_args(arguments)
    if options.page and (options.block or options.proof or not options.twins):
        parser.error("--page needs every block, and --twins")
    if options.jobs < 1 or options.timeout <= 0:
        parser.error("--jobs must be at least 1, --timeout more than 0")
    errors, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    try:
        runs = run_all(options, errors)
    except ProofError as error:
        errors.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return 1
    console.print(property_table(runs))
    if options.twins:
        console.print(twin_table(runs))
    for run in runs:
        if run.problem:
            errors.print(f"error: {run.problem}", markup=False, highlight=False, soft_wrap=True)
        if run.outcome.trace:
            errors.print(f"counterexample of {run.block} {run.proof.name}: {run.outcome.trace}", soft_wrap=True)
    if options.page:
        options.page.write_text(page(options.page.read_text(), runs))
    return 0 if all(run.good for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
