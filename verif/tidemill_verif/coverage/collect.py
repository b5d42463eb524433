"""Collecting coverage while simulations run, off unless `TIDEMILL_COVERAGE` names the folder that takes it.

Every process writes files of its own, so that tests may run in parallel: `functional/*.json` with the hits of each bin
and `code/*.dat` as Verilator writes them. `results.py` adds them up.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tidemill_verif.coverage.plan import PLAN

VARIABLE = "TIDEMILL_COVERAGE"
"""Environment variable with the folder that takes what is collected."""
CODE_VARIABLE = "TIDEMILL_CODE_COVERAGE"
"""0: functional coverage only, from builds as fast as any."""
HEADERS = Path(__file__).with_name("verilator")
"""Corrections of Verilator's own headers."""
_REVISION = hashlib.sha256((HEADERS / "verilated_cov.h").read_bytes()).hexdigest()[:8]
VERILATOR_FLAGS = (
    *("--coverage-line", "--coverage-toggle", "--coverage-max-width", "4096"),
    *("-CFLAGS", f"-iquote {HEADERS} -DTIDEMILL_COVERAGE_HEADERS=0x{_REVISION}"),
)
"""What measures code coverage: every named signal of up to 4096 bits; they differ where the corrections do."""
FUNCTIONAL, CODE = "functional", "code"
"""Folders below the one of `VARIABLE`."""


class UnplannedBinError(ValueError):
    """A bin that the plan does not list was sampled; the message names point and bin."""


def folder() -> Path | None:
    """Where coverage goes; None where none is wanted."""
    path = os.environ.get(VARIABLE)
    return Path(path).resolve() if path else None


def wanted() -> bool:
    """Whether coverage is collected."""
    return folder() is not None


def code_wanted() -> bool:
    """Whether code coverage is among it."""
    return wanted() and os.environ.get(CODE_VARIABLE, "1") != "0"


def keep_code_coverage(dat: Path, name: str) -> None:
    """Move Verilator's file `dat` to the others as `name`; nothing where coverage is not wanted."""
    target = folder()
    if target is None or not code_wanted():
        return
    (target / CODE).mkdir(parents=True, exist_ok=True)
    shutil.move(dat, target / CODE / f"{name}.dat")


class Collector:
    """Counts hits of bins; `save` writes them to a new file below `target`."""

    def __init__(self) -> None:
        self._hits: Counter[tuple[str, str]] = Counter()

    def hit(self, point: str, *bins: object) -> None:
        """One hit of each of `bins` of the cover point called `point`. Raises `UnplannedBinError`."""
        self.count(point, ((str(name), 1) for name in bins))

    def count(self, point: str, hits: Iterable[tuple[str, int]]) -> None:
        """`number` hits of each (bin, number). Raises `UnplannedBinError`."""
        planned = PLAN[point].bin_set if point in PLAN else frozenset[str]()
        for name, number in hits:
            if name not in planned:
                raise UnplannedBinError(f"cover point {point!r} has no bin {name!r} in the plan")
            self._hits[point, name] += number

    def save(self, target: Path) -> None:
        """Write the hits since the last call to a file of their own."""
        if not self._hits:
            return
        points: dict[str, dict[str, int]] = {}
        for (point, name), number in self._hits.items():
            points.setdefault(point, {})[name] = number
        self._hits.clear()
        (target / FUNCTIONAL).mkdir(parents=True, exist_ok=True)
        file = target / FUNCTIONAL / f"{os.getpid()}-{uuid.uuid4().hex}.json"
        partial = file.with_suffix(".part")
        partial.write_text(json.dumps(points))
        partial.rename(file)


_COLLECTOR: Collector | None = None


def _collector() -> Collector | None:
    """The process's collector, saved when the process ends; None where coverage is not wanted."""
    global _COLLECTOR  # noqa: PLW0603 - one per process
    target = folder()
    if _COLLECTOR is None and target is not None:
        _COLLECTOR = Collector()
        atexit.register(_COLLECTOR.save, target)
    return _COLLECTOR


def hit(point: str, *bins: object) -> None:
    """Sample: one hit of each of `bins`; see `Collector.hit`. Costs nothing where coverage is not wanted."""
    collector = _collector()
    if collector is not None:
        collector.hit(point, *bins)
