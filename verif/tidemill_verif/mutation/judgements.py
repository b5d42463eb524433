"""Verdicts of people on survivors: equivalent mutants and why no input can show them, others and why no test does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import tidemill_hdl
from tidemill_verif.cache import content_key
from tidemill_verif.mutation import MutationError
from tidemill_verif.mutation.netlist import Mutant

FILE = Path(__file__).with_name("judgements.json")
_ROOT = Path(tidemill_hdl.__path__[0]).parents[1]
_DIGITS = 8


@dataclass(frozen=True)
class Judgement:
    """A survivor of `block`: equivalent, or one that `survives`, for the reason given. `change` is the mutant as text,
    `file` and `line` the Python line."""

    block: str
    target: str
    change: str
    file: str
    line: str
    reason: str
    survives: bool = False

    @property
    def identity(self) -> str:
        """As `identity` of the mutant."""
        return _identity(self.target, self.change, self.file, self.line)


def _identity(target: str, change: str, file: str, line: str) -> str:
    return content_key(target, change, file, line)[:_DIGITS]


def _place(mutant: Mutant) -> tuple[str, str]:
    """File and text of the Python line that the mutant's cell comes from; both empty where it has none."""
    if not mutant.sources:
        return "", ""
    file, _, number = mutant.sources[0].rpartition(":")
    path = _ROOT / file
    if not path.is_file():
        return file, ""
    lines = path.read_text().splitlines()
    index = int(number.split(".")[0]) - 1
    return file, lines[index].strip() if index < len(lines) else ""


def identity(target: str, mutant: Mutant) -> str:
    """Name of a mutant by its content, the same after edits elsewhere in its file."""
    return _identity(target, str(mutant), *_place(mutant))


def load() -> list[Judgement]:
    """All judgements. Raises `MutationError` where the file is damaged."""
    try:
        return [Judgement(**entry) for entry in json.loads(FILE.read_text())]
    except (ValueError, TypeError) as error:
        raise MutationError(f"{FILE.name}: {error}") from error


def judge(block: str, target: str, mutant: Mutant, reason: str, survives: bool = False) -> None:
    """Add or replace the judgement on a mutant: equivalent, or `survives`."""
    entry = Judgement(block, target, str(mutant), *_place(mutant), reason, survives)
    entries = {known.identity: known for known in load()}
    entries[entry.identity] = entry
    ordered = sorted(entries.values(), key=lambda known: (known.block, known.file, known.line, known.change))
    texts = [{key: value for key, value in asdict(known).items() if value is not False} for known in ordered]
    FILE.write_text(json.dumps(texts, indent=1) + "\n")


def stale(entries: Iterable[Judgement]) -> list[str]:
    """What is wrong with each judgement whose line is no longer in its file, or that gives no reason."""
    problems = []
    for entry in entries:
        path = _ROOT / entry.file
        if path.is_file() and entry.line not in (line.strip() for line in path.read_text().splitlines()):
            problems.append(f"{entry.identity}: no line {entry.line!r} in {entry.file}")
        elif len(entry.reason.split()) < 3:
            problems.append(f"{entry.identity}: no reason")
    return problems
