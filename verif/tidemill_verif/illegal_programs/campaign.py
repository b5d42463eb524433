"""Many illegal programs on all cores: what `tidemill fuzz --illegal` runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tidemill.config import Config
from tidemill_verif.illegal_programs.judge import Verdict, judge
from tidemill_verif.illegal_programs.spoil import spoil
from tidemill_verif.illegal_programs.streams import TooLong
from tidemill_verif.random_programs.campaign import Campaign, Result, Task
from tidemill_verif.random_programs.case import Bus, Case
from tidemill_verif.random_programs.lockstep import Lockstep
from tidemill_verif.random_programs.saved import save

SECONDS = 60.0
"""How long one program is shrunk, at most."""


@dataclass(frozen=True)
class IllegalResult(Result):
    """`ended`, `why` and `differed` of the `Verdict`; the `kind` of spoiling and how many programs were `skipped`."""

    kind: str
    ended: str
    why: str
    differed: bool
    skipped: int


def run_seed(lockstep: Lockstep, config: Config, seed: int) -> IllegalResult:
    """Spoil and judge one program."""
    spoiled = spoil(config, seed)
    verdict = judge(lockstep, spoiled.case)
    return IllegalResult(
        seed, verdict.failure, verdict.instructions, verdict.cycles,
        spoiled.kind, verdict.ended, verdict.why, verdict.differed, spoiled.skipped,
    )  # fmt: skip


class IllegalCampaign(Campaign):
    """Random illegal programs of one configuration, seeds `seed`, `seed + 1`, ..."""

    def __init__(self, config: Config, seed: int) -> None:
        super().__init__(config, seed)
        self._results: list[IllegalResult] = []

    @property
    def task(self) -> Task:
        """What is done with each seed."""
        return run_seed

    def run(self, programs: int | None, seconds: float | None, jobs: int) -> Iterator[Result]:
        """As `Campaign.run`; `summary` then tells of these results."""
        for result in super().run(programs, seconds, jobs):
            assert isinstance(result, IllegalResult)
            self._results.append(result)
            yield result

    def summary(self) -> str:
        """How the programs ended, and of how many timing decides the end."""
        ended = Counter(result.ended for result in self._results)
        lines = ["ended: " + ", ".join(f"{end} {count}" for end, count in ended.most_common())]
        open_ = Counter(result.why for result in self._results if result.why)
        differed = Counter(result.why for result in self._results if result.why and result.differed)
        exact = len(self._results) - open_.total()
        lines.append(
            f"one end possible: {exact}; several: {open_.total()}, of these {differed.total()} ended differently"
        )
        lines += [f"    {why}: {count}, {differed[why]} differently" for why, count in open_.most_common()]
        skipped = sum(result.skipped for result in self._results)
        return "\n".join([*lines, f"too long to run, replaced: {skipped}"])

    def preserve(self, seed: int, folder: Path) -> tuple[Path, str]:
        """Shrink the failing program of `seed`, save it in `folder`; returns its path and a report."""
        spoiled = spoil(self.config, seed)
        with Lockstep(self.config) as lockstep:
            short, verdict = shrink(lockstep, spoiled.case)
        text = (
            f"illegal program {seed} of {self.config.name} ({spoiled.kind}), "
            f"{len(short.words)} of {len(spoiled.case.words)} instructions\n{verdict.failure or 'no failure any more'}"
        )
        return save(short, folder, text), text


def shrink(lockstep: Lockstep, case: Case, seconds: float = SECONDS) -> tuple[Case, Verdict]:
    """A short program that fails as `case` does (its `failure` begins with the same word), and its verdict."""
    end = time.monotonic() + seconds
    verdict = judge(lockstep, case)
    if not verdict.failure:
        return case, verdict
    place = verdict.failure.partition(":")[0]

    def attempt(candidate: Case) -> bool:
        nonlocal case, verdict
        if time.monotonic() > end:
            return False
        try:
            found = judge(lockstep, candidate)
        except TooLong:
            return False
        if found.failure.partition(":")[0] != place:
            return False
        case, verdict = candidate, found
        return True

    if not attempt(replace(case, bus=Bus())):
        attempt(replace(case, bus=replace(case.bus, stall_probability=0.0, bandwidth=1.0)))
    length = max(1, len(case.words) // 2)
    while length and time.monotonic() < end:
        start = len(case.words) - length
        while start >= 0:
            attempt(case.with_words((*case.words[:start], *case.words[start + length :])))
            start = min(start, len(case.words)) - length
        length //= 2
    return case, verdict
