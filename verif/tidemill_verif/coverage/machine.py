"""`python -m tidemill_verif.coverage.machine`: random programs in lockstep, sampled; the share of one process."""

from __future__ import annotations

import sys

import click

from tidemill.config import PRESETS, preset
from tidemill_verif.random_programs.generate import generate
from tidemill_verif.random_programs.lockstep import Lockstep


@click.command(help=__doc__)
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), default="tiny", help="The machine.")
@click.option("--first", type=click.IntRange(0), default=0, help="Seed of the first program.")
@click.option("--programs", type=click.IntRange(1), default=100, help="How many.")
def main(name: str, first: int, programs: int) -> None:
    """Prints a line for each program, so that a caller can show progress; exits with 1 where one differs."""
    config = preset(name)
    failed = []
    with Lockstep(config) as lockstep:
        for seed in range(first, first + programs):
            found = lockstep.compare(generate(config, seed))
            if found is not None:
                failed.append(seed)
            print(f"seed {seed}: {found or 'equal'}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
