"""`python -m tidemill_verif.coverage.machine`: random programs in lockstep, sampled; the share of one process."""

from __future__ import annotations

import sys

import click

from tidemill.config import PRESETS, preset
from tidemill_verif.coverage.corner_programs import corner_programs
from tidemill_verif.random_programs.generate import generate
from tidemill_verif.random_programs.lockstep import Lockstep


@click.command(help=__doc__)
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), default="tiny", help="The machine.")
@click.option("--first", type=click.IntRange(0), default=0, help="Seed of the first program.")
@click.option("--programs", type=click.IntRange(1), default=100, help="How many.")
@click.option("--corners", is_flag=True, help="The programs of `corner_programs.py` instead of random ones.")
def main(name: str, first: int, programs: int, corners: bool) -> None:
    """Prints a line for each program, so that a caller can show progress; exits with 1 where one differs."""
    config = preset(name)
    seeds = range(first, first + programs)
    cases = corner_programs(config) if corners else (generate(config, seed) for seed in seeds)
    failed = 0
    with Lockstep(config) as lockstep:
        for case in cases:
            found = lockstep.compare(case)
            failed += found is not None
            print(f"seed {case.seed}: {found or 'equal'}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
