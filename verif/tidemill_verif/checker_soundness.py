"""Whether what the checker says of order holds on the hardware.

`python -m tidemill_verif.checker_soundness --programs 200 --seed 0 --preset tiny` runs random legal programs under many
timings of the bus. Those that the checker accepts must leave the same every time. From each accepted program single
semaphores are then removed (a wait, a signal, or a signal with the wait that follows it); where the hardware shows
that this matters, because runs differ from each other or from the whole program's, the checker must have reported it.
Exits with 1 where an accepted program differs or fewer than 99 % of the harmful removals are reported.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from rich.console import Console
from rich.progress import track

from tidemill.batch import available_cores
from tidemill.checker import check
from tidemill.config import PRESETS, Config, preset
from tidemill.isa import SIGNAL, WAIT, Engine, Field, encode
from tidemill_verif.random_programs.campaign import Campaign, Result, Task
from tidemill_verif.random_programs.case import Bus, Case
from tidemill_verif.random_programs.generate import generate
from tidemill_verif.random_programs.lockstep import Lockstep

TIMINGS: tuple[Bus, ...] = (
    Bus(read_latency=1, write_latency=1),
    Bus(read_latency=300),
    Bus(write_latency=400),
    Bus(bandwidth=0.12),
    Bus(read_latency=2, stall_probability=0.85, seed=1),
    Bus(read_latency=120, write_latency=90, stall_probability=0.5, seed=2, interleave=True),
    Bus(read_latency=40, bandwidth=0.4, stall_probability=0.3, seed=3, early_data=True),
    Bus(read_latency=700, write_latency=2, stall_probability=0.1, seed=4, interleave=True),
)
"""Memories that a program meets; each starves other engines."""
WATCHDOG = 20_000
"""Cycles until a program that stands still is ended: longer than any of `TIMINGS` lets pass without a beat."""
REQUIRED = 0.99
"""Part of the harmful removals that the checker must report."""
REMOVALS = ("wait", "signal", "both")


@dataclass(frozen=True)
class Removal:
    """One program with a semaphore removed. `ends`: what became of it where that differs from the whole program
    (`races` where it came to its end), empty where nothing differed; `reported` by an error of the checker."""

    kind: str
    ends: str
    reported: bool


@dataclass(frozen=True)
class Soundness(Result):
    """One legal program: whether the checker accepts it, and its removals. `failure` where it is accepted and runs
    differ, or a harmful removal is not reported; `unsound` only for the first."""

    exclusive: bool
    accepted: bool
    unsound: bool
    removals: tuple[Removal, ...]


def accepts(case: Case) -> bool:
    """Whether the checker finds no error."""
    return not any(finding.severity == "error" for finding in check(case.program))


def leaves(lockstep: Lockstep, case: Case, bus: Bus) -> tuple[str, bytes]:
    """How a run ends, and a digest of every memory after it, the program's own bytes left out."""
    outcome = lockstep.rtl(replace(case, bus=bus, watchdog=WATCHDOG))
    outcome.dram[case.address : case.address + len(case.code)] = 0
    digest = hashlib.blake2b(digest_size=16)
    for memory in (outcome.dram, outcome.spad, outcome.acc, outcome.table):
        digest.update(memory.tobytes())
    return outcome.end, digest.digest()


def first_other(lockstep: Lockstep, case: Case, expected: tuple[str, bytes]) -> tuple[Bus, str] | None:
    """The first of `TIMINGS` under which `case` does not leave `expected`, and how it then ends."""
    for bus in TIMINGS:
        found = leaves(lockstep, case, bus)
        if found != expected:
            return bus, found[0]
    return None


def without_semaphore(rng: Random, case: Case, kind: str) -> Case | None:
    """`case` with one semaphore fewer in one instruction (`wait`, `signal`), or in a signal and the next wait for it
    (`both`); None where it has none."""
    last = case.words.index(encode("halt"))

    def holders(field: Field, first: int = 0) -> list[tuple[int, int]]:
        return [
            (at, number)
            for at in range(first, last)
            if (case.words[at] & 0xFF) >> 5 != Engine.CONTROL
            for number in range(field.width)
            if case.words[at] >> field.lo + number & 1
        ]

    words = list(case.words)
    places = holders(WAIT if kind == "wait" else SIGNAL)
    if not places:
        return None
    at, number = rng.choice(places)
    words[at] &= ~(1 << (WAIT if kind == "wait" else SIGNAL).lo + number)
    if kind == "both":
        following = [place for place in holders(WAIT, at + 1) if place[1] == number]
        if not following:
            return None
        words[following[0][0]] &= ~(1 << WAIT.lo + number)
    return case.with_words(tuple(words))


def harm(lockstep: Lockstep, case: Case, changed: Case, whole: tuple[str, bytes]) -> tuple[Bus, str] | None:
    """The first of `TIMINGS` that shows what `changed` lacks, and its end: not with `whole`, as `case` does; or,
    where loads may read the changed instructions themselves, not with what it leaves in another memory."""
    expected = whole
    first, last = case.read_window
    if first < case.address + len(case.code) and case.address <= last:
        alone = leaves(lockstep, changed, TIMINGS[0])
        expected = alone if alone[0] == whole[0] else whole
    return first_other(lockstep, changed, expected)


def run_seed(lockstep: Lockstep, config: Config, seed: int) -> Soundness:
    """One program of `seed` and its removals. Every fourth lets semaphores change hands."""
    exclusive = seed % 4 != 3
    case = generate(config, seed, exclusive=exclusive)
    accepted = accepts(case)
    whole = leaves(lockstep, case, TIMINGS[0])
    other = first_other(lockstep, case, whole)
    failure = "" if other is None else f"runs differ: {other[1]} with {other[0]}"
    removals = []
    if accepted and not failure:
        rng = Random(f"semaphore {seed}")
        for kind in REMOVALS:
            changed = without_semaphore(rng, case, kind)
            if changed is None:
                continue
            reported = not accepts(changed)
            found = harm(lockstep, case, changed, whole)
            ends = "" if found is None else "races" if found[1] == "done" else found[1].partition(" in ")[0]
            removals.append(Removal(kind, ends, reported))
            if ends and not reported:
                failure = f"removed {kind}: {found}, not reported"
    return Soundness(seed, failure, 0, 0, exclusive, accepted, accepted and other is not None, tuple(removals))


class SoundnessCampaign(Campaign):
    """Programs of one configuration, seeds `seed`, `seed + 1`, ..."""

    @property
    def task(self) -> Task:
        """What is done with each seed."""
        return run_seed


def table(results: list[Soundness]) -> list[str]:
    """The result in words, as rows of Markdown."""
    rows = ["| legal programs | run | accepted | accepted, runs differ |", "|---|---|---|---|"]
    for exclusive, name in ((True, "a semaphore has one pair of engines"), (False, "semaphores may change hands")):
        part = [result for result in results if result.exclusive == exclusive]
        accepted = [result for result in part if result.accepted]
        rows.append(f"| {name} | {len(part)} | {len(accepted)} | {sum(result.unsound for result in accepted)} |")
    rows += ["", "| removed | programs | still accepted | results differ | how | reported of these |"]
    rows.append("|---|---|---|---|---|---|")
    removals = [removal for result in results for removal in result.removals]
    for kind in (*REMOVALS, "all"):
        some = [removal for removal in removals if kind in (removal.kind, "all")]
        harmful = [removal for removal in some if removal.ends]
        how = ", ".join(f"{end} {count}" for end, count in Counter(r.ends for r in harmful).most_common())
        reported = sum(removal.reported for removal in harmful)
        accepted_ = sum(not removal.reported for removal in some)
        share = f" ({100 * reported / len(harmful):.1f} %)" if harmful else ""
        rows.append(f"| {kind} | {len(some)} | {accepted_} | {len(harmful)} | {how} | {reported}{share} |")
    return rows


def sound(results: list[Soundness]) -> bool:
    """Whether no accepted program differs and enough harmful removals are reported."""
    harmful = [removal for result in results for removal in result.removals if removal.ends]
    reported = sum(removal.reported for removal in harmful)
    return not any(result.unsound for result in results) and reported >= REQUIRED * len(harmful)


def _results(options: argparse.Namespace) -> Iterator[Soundness]:
    campaign = SoundnessCampaign(preset(options.preset), options.seed)
    console = Console(stderr=True)
    runs = campaign.run(options.programs, None, options.jobs)
    shown = track(runs, "programs", options.programs, console=console, transient=True, disable=not console.is_terminal)
    for result in shown:
        assert isinstance(result, Soundness)
        if result.failure:
            console.print(f"seed {result.seed}: {result.failure}", markup=False, highlight=False, soft_wrap=True)
        yield result


def main() -> int:
    """Run from the command line; 1 where the checker is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", choices=list(PRESETS), default="tiny")
    parser.add_argument("--jobs", type=int, default=available_cores())
    options = parser.parse_args()
    for name, least in (("programs", 1), ("seed", 0), ("jobs", 1)):
        if getattr(options, name) < least:
            parser.error(f"--{name}: {getattr(options, name)} must be at least {least}")
    results = sorted(_results(options), key=lambda result: result.seed)
    print("\n".join(table(results)))
    return 0 if sound(results) else 1


if __name__ == "__main__":
    sys.exit(main())
