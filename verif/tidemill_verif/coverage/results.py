"""Everything that was collected, added up and held against the plan, the targets and the justified exclusions."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from tidemill_verif.coverage import code
from tidemill_verif.coverage.code import CodePoint
from tidemill_verif.coverage.collect import CODE, FUNCTIONAL
from tidemill_verif.coverage.plan import BLOCKS, PLAN, block_of
from tidemill_verif.coverage.point import Point

EXCLUSIONS = Path(__file__).with_name("exclusions.toml")
"""Bins and code points that cannot be hit, each group with the reason."""
FUNCTIONAL_KIND = "functional"
TARGETS = {FUNCTIONAL_KIND: 100.0, code.LINE: 98.0, code.TOGGLE: 90.0}
"""Per cent of the reachable points of each block that must be hit."""


class CoverageError(ValueError):
    """Data or exclusions that make no sense; the message names them."""


_SIGNAL = re.compile(r"^(?P<name>.*?)(?:\[(?P<bits>[\d:, ]+)\])?(?: (?P<edge>rises|falls))?$")


def _matches(pattern: str, text: str) -> bool:
    """Shell pattern in which brackets mean themselves: signals are called `name[3]`."""
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _signal_matches(pattern: str, text: str) -> bool:
    wanted, found = _SIGNAL.match(pattern), _SIGNAL.match(text)
    assert wanted is not None
    assert found is not None
    if wanted["edge"] not in (None, found["edge"]) or not _matches(wanted["name"], found["name"]):
        return False
    if wanted["bits"] is None or found["bits"] is None:
        return wanted["bits"] == found["bits"] or wanted["bits"] is None
    ranges = (part.partition(":") for part in wanted["bits"].split(","))
    return any(int(low or high) <= int(found["bits"]) <= int(high) for high, _, low in ranges)


@dataclass(frozen=True)
class Exclusion:
    """What cannot be hit: bins of a functional point, or code points of a file, by shell patterns."""

    kind: str
    where: str
    """A point of the plan, or a file below the hardware package."""
    what: tuple[str, ...]
    """Shell patterns of bins, or of `CodePoint.what`; those of signals may name bits and an edge as the report does:
    `name[31:8, 5] rises`."""
    reason: str

    def covers(self, what: str) -> bool:
        """Whether it names `what`."""
        return any(map(self._matcher, self.what, itertools.repeat(what)))

    @property
    def _matcher(self) -> Callable[[str, str], bool]:
        return _signal_matches if self.kind == code.TOGGLE else _matches


def read_exclusions(path: Path = EXCLUSIONS) -> list[Exclusion]:
    """The exclusions of a file. Raises `CoverageError` for one without a reason or with unknown names."""
    result = []
    for kind, entries in tomllib.loads(path.read_text()).items():
        if kind not in TARGETS:
            raise CoverageError(f"{path.name}: kind {kind!r} is not one of {', '.join(TARGETS)}")
        for entry in entries:
            where, reason = str(entry.get("where", "")), str(entry.get("reason", "")).strip()
            if not reason:
                raise CoverageError(f"{path.name}: the exclusion of {where!r} has no reason")
            if kind == FUNCTIONAL_KIND and where not in PLAN:
                raise CoverageError(f"{path.name}: {where!r} is no cover point of the plan")
            patterns = tuple(str(pattern) for pattern in entry["what"])
            result.append(Exclusion(kind, where, patterns, " ".join(reason.split())))
    return result


@dataclass
class Tally:
    """Points of one kind in one block."""

    total: int = 0
    hit: int = 0
    excluded: int = 0

    @property
    def reachable(self) -> int:
        """Points that are not excluded."""
        return self.total - self.excluded

    @property
    def percent(self) -> float:
        """Hits among the reachable points; nothing reachable is nothing covered."""
        return 100 * self.hit / self.reachable if self.reachable else 0.0


@dataclass
class Results:
    """What was hit, and what was not.

    `functional` counts hits of (point, bin); `code` tells of each code point whether it was hit.
    """

    functional: Counter[tuple[str, str]] = field(default_factory=Counter)
    code: dict[CodePoint, bool] = field(default_factory=dict)
    exclusions: list[Exclusion] = field(default_factory=list)
    plan: Mapping[str, Point] = field(default_factory=lambda: PLAN)

    def excluded_bin(self, point: str, name: str) -> Exclusion | None:
        """The exclusion of a bin, None where it must be hit."""
        return self._exclusion(FUNCTIONAL_KIND, point, name)

    def excluded_code(self, point: CodePoint) -> Exclusion | None:
        """The exclusion of a code point, None where it counts."""
        return self._exclusion(point.kind, point.file, point.what)

    def _exclusion(self, kind: str, where: str, what: str) -> Exclusion | None:
        for exclusion in self.exclusions:
            if exclusion.kind == kind and exclusion.where == where and exclusion.covers(what):
                return exclusion
        return None

    def functional_holes(self, block: str) -> dict[str, list[str]]:
        """Bins of each point of `block` that were not hit and are not excluded, in the plan's order."""
        holes = {}
        for point in self._points(block):
            missing = [
                name for name in point.bins
                if not self.functional[point.name, name] and self.excluded_bin(point.name, name) is None
            ]  # fmt: skip
            if missing:
                holes[point.name] = missing
        return holes

    def code_holes(self, block: str, kind: str) -> list[CodePoint]:
        """Code points of `block` that were not hit and are not excluded, by place."""
        return sorted(
            point
            for point, hit in self.code.items()
            if not hit and point.kind == kind and block_of(point.file) == block and self.excluded_code(point) is None
        )

    def tally(self, block: str, kind: str) -> Tally:
        """The numbers of one cell of the table. An excluded point that was hit counts as any other."""
        result = Tally()
        if kind == FUNCTIONAL_KIND:
            for point in self._points(block):
                for name in point.bins:
                    hit = bool(self.functional[point.name, name])
                    self._count(result, hit, self.excluded_bin(point.name, name))
            return result
        for code_point, hit in self.code.items():
            if code_point.kind == kind and block_of(code_point.file) == block:
                self._count(result, hit, self.excluded_code(code_point))
        return result

    @staticmethod
    def _count(tally: Tally, hit: bool, exclusion: Exclusion | None) -> None:
        tally.total += 1
        tally.hit += hit
        tally.excluded += not hit and exclusion is not None

    def stale_exclusions(self) -> list[Exclusion]:
        """Patterns that no hole needs, each as an exclusion of its own: what they name was hit, or does not exist."""
        holes = {
            (FUNCTIONAL_KIND, point.name, name)
            for point in self.plan.values()
            for name in point.bins
            if not self.functional[point.name, name]
        }
        holes.update((point.kind, point.file, point.what) for point, hit in self.code.items() if not hit)
        names: dict[tuple[str, str], set[str]] = {}
        for kind, where, what in holes:
            names.setdefault((kind, where), set()).add(what)
        return [
            single
            for exclusion in self.exclusions
            for single in (replace(exclusion, what=(pattern,)) for pattern in exclusion.what)
            if not any(map(single.covers, names.get((single.kind, single.where), ())))
        ]

    def percent(self, block: str, kind: str) -> float:
        """Hits among the reachable points. A block without any branch has all its lines, as long as its signals show
        that it was measured."""
        tally = self.tally(block, kind)
        if kind == code.LINE and not tally.total and self.tally(block, code.TOGGLE).total:
            return 100.0
        return tally.percent

    def below_target(self) -> list[str]:
        """One line for each block and kind that misses its target."""
        return [
            f"{block}: {kind} {percent:.2f}%, target {target:g}%"
            for block in BLOCKS
            for kind, target in TARGETS.items()
            if (percent := self.percent(block, kind)) < target
        ]

    def _points(self, block: str) -> Iterable[Point]:
        return (point for point in self.plan.values() if point.block == block)


def read(folder: Path, exclusions: Iterable[Exclusion]) -> Results:
    """The results collected below `folder`. Raises `CoverageError` where there are none."""
    results = Results(exclusions=list(exclusions))
    parts = sorted((folder / FUNCTIONAL).glob("*.json"))
    data = sorted((folder / CODE).glob("*.dat"))
    if not parts or not data:
        raise CoverageError(f"no coverage was collected in {folder}")
    for part in parts:
        for point, bins in json.loads(part.read_text()).items():
            for name, number in bins.items():
                results.functional[point, name] += number
    results.code = code.read_files(data)
    return results
