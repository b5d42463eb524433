"""Disturb the bus of the Verilated NPU and hold what happens against its contract."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tidemill.config import DEFAULT_PRESET, PRESETS, preset
from tidemill.driver.errors import DeviceError
from tidemill_verif.bus_faults.machine import Machine, Scenario, Wrong
from tidemill_verif.bus_faults.scenarios import beats, offsets, random_scenario

MOST_FAILURES = 10
"""Failures after which a sweep stops."""
SWEEPS: dict[str, Callable[[Machine], Iterator[Scenario]]] = {"offsets": offsets, "beats": beats}
"""Sweeps besides the random one."""


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def _number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def sweep(machine: Machine, scenarios: Sequence[Scenario], console: Console) -> tuple[Counter[tuple[str, str]], int]:
    """Run scenarios; (how often each kind ended how, failures). Failures are printed as they come."""
    counts: Counter[tuple[str, str]] = Counter()
    failures = 0
    for scenario in track(scenarios, machine.config.name, console=console, disable=not console.is_terminal):
        kind = scenario.name.split(" at ")[0].split(" of ")[0]
        try:
            counts[kind, machine.run(scenario)] += 1
        except Wrong as error:
            counts[kind, "FAILED"] += 1
            failures += 1
            console.print(str(error), markup=False, highlight=False)
            machine.close()
            machine = Machine(machine.config)
            if failures == MOST_FAILURES:
                break
    machine.close()
    return counts, failures


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 1 where a scenario failed."""
    parser = argparse.ArgumentParser(prog="python -m tidemill_verif.bus_faults", description=__doc__)
    parser.add_argument("--runs", type=_positive, default=1000, help="random scenarios")
    parser.add_argument("--seed", type=_number, default=0)
    parser.add_argument("--first", type=_number, default=0, help="number of the first random scenario")
    parser.add_argument("--preset", choices=list(PRESETS), default=DEFAULT_PRESET)
    parser.add_argument("--sweep", choices=("random", *SWEEPS), default="random")
    parser.add_argument("--every", type=_positive, default=1, help="take one scenario in this many of a sweep")
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        machine = Machine(preset(options.preset))
    except DeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.sweep == "random":
        numbers = range(options.first, options.first + options.runs)
        scenarios = [random_scenario(machine, options.seed, number) for number in numbers]
    else:
        scenarios = list(itertools.islice(SWEEPS[options.sweep](machine), 0, None, options.every))
    counts, failures = sweep(machine, scenarios, console)
    table = Table("disturbance", "ended", title=f"{options.preset}: {sum(counts.values())} scenarios")
    table.add_column("times", justify="right")
    for (kind, outcome), count in sorted(counts.items()):
        table.add_row(kind, outcome, str(count))
    Console().print(table)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
