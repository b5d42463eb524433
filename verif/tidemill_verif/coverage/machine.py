"""`python -m tidemill_verif.coverage.machine`: programs in lockstep, sampled; the share of one process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from tidemill.config import PRESETS, Config, preset
from tidemill_verif.coverage.corner_programs import corner_programs
from tidemill_verif.illegal_programs.campaign import run_seed
from tidemill_verif.random_programs.generate import generate
from tidemill_verif.random_programs.lockstep import Lockstep


def _corners(lockstep: Lockstep, config: Config) -> Iterator[tuple[int, str]]:
    for case in corner_programs(config):
        yield case.seed, str(lockstep.compare(case) or "")


def _random(lockstep: Lockstep, config: Config, seeds: range) -> Iterator[tuple[int, str]]:
    """Of each seed the legal program and the illegal one."""
    for seed in seeds:
        yield seed, str(lockstep.compare(generate(config, seed)) or run_seed(lockstep, config, seed).failure)


@click.command(help=__doc__)
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), default="tiny", help="The machine.")
@click.option("--first", type=click.IntRange(0), default=0, help="Seed of the first random program.")
@click.option("--programs", type=click.IntRange(1), default=100, help="How many legal and as many illegal ones.")
@click.option("--corners", is_flag=True, help="The programs of `corner_programs.py` instead of random ones.")
def main(name: str, first: int, programs: int, corners: bool) -> None:
    """Prints a line for each seed, so that a caller can show progress; exits with 1 where one differs."""
    config = preset(name)
    failed = 0
    with Lockstep(config) as lockstep:
        runs = _corners(lockstep, config) if corners else _random(lockstep, config, range(first, first + programs))
        for seed, failure in runs:
            failed += bool(failure)
            print(f"seed {seed}: {failure or 'equal'}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
