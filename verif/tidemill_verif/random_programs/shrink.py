"""Makes a failing program short: instructions go, then fields become plain, as long as it stays legal and fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tidemill.isa import BY_MNEMONIC, OPCODE, EncodingError, Field, Kind, decode, encode
from tidemill_verif.random_programs.case import Bus, Case
from tidemill_verif.random_programs.legal import Pair, unordered

SECONDS = 60.0
"""How long one program is worked on, at most."""

Fails = Callable[[Case], bool]


@dataclass(frozen=True)
class _Line:
    """An instruction and its position in the program that was given."""

    origin: int
    mnemonic: str
    values: dict[str, int]


class Shrinker:
    """Shrinks one case. `fails(case)` says whether it still shows what is wrong; it is asked for legal cases only.

    A change counts as legal where the checker finds nothing that it did not find in the given program (which it cannot
    follow everywhere: see `generate`).
    """

    def __init__(self, case: Case, fails: Fails, seconds: float = SECONDS) -> None:
        self._fails = fails
        self._end = time.monotonic() + seconds
        self._case = case
        self._lines = _lines(case)
        self._known: set[Pair] = unordered(_rebuilt(case, self._lines).program) or set()

    def run(self) -> Case:
        """The shortest case found; the given one where nothing can go."""
        self._try(self._lines)
        for bus in (Bus(), replace(self._case.bus, stall_probability=0.0), replace(self._case.bus, bandwidth=1.0)):
            candidate = replace(self._case, bus=bus)
            if bus != self._case.bus and self._time() and self._fails(candidate):
                self._case = candidate
                break
        size = 0
        while size != len(self._lines) and self._time():
            size = len(self._lines)
            self._remove()
            self._unwrap()
        self._simplify()
        self._remove()
        return self._case

    def _time(self) -> bool:
        return time.monotonic() < self._end

    def _try(self, lines: list[_Line]) -> bool:
        """Take `lines` where they are legal and fail."""
        try:
            candidate = _rebuilt(self._case, lines)
        except EncodingError:
            return False
        if not self._fails(candidate):
            return False
        pairs = unordered(candidate.program)
        if pairs is None:
            return False
        origins = {(lines[one].origin, lines[other].origin) for one, other in pairs}
        if not origins <= self._known:
            return False
        self._case, self._lines = candidate, lines
        return True

    def _remove(self) -> None:
        """Take out runs of instructions, long ones first, whole loops among them."""
        length = max(1, len(self._lines) // 2)
        while length and self._time():
            start = len(self._lines) - 1 - length
            while start >= 0 and self._time():
                gone = _closed(self._lines, set(range(start, start + length)))
                if gone:
                    self._try([line for at, line in enumerate(self._lines) if at not in gone])
                start = min(start - length, len(self._lines) - 1 - length)
            length //= 2

    def _unwrap(self) -> None:
        """Let the bodies of loops run once, without the loop."""
        for begin, end in reversed(list(_pairs(self._lines).items())):
            if begin < end and self._time():
                self._try([line for at, line in enumerate(self._lines) if at not in (begin, end)])

    def _simplify(self) -> None:
        """Fields to their defaults, to nothing, or half way there."""
        for at in range(len(self._lines)):
            for field in BY_MNEMONIC[self._lines[at].mnemonic].all_fields[1:]:
                for value in _plainer(field, self._lines[at].values[field.name]):
                    if not self._time():
                        return
                    line = self._lines[at]
                    changed = replace(line, values=line.values | {field.name: value})
                    if self._try([*self._lines[:at], changed, *self._lines[at + 1 :]]):
                        break


def shrink(case: Case, fails: Fails, seconds: float = SECONDS) -> Case:
    """A short legal case for which `fails` holds, as it does for `case`."""
    return Shrinker(case, fails, seconds).run()


def _lines(case: Case) -> list[_Line]:
    """Up to `halt`."""
    lines = []
    for origin, word in enumerate(case.words):
        decoded = decode(word)
        lines.append(_Line(origin, decoded.op.mnemonic, decoded.values))
        if decoded.op.mnemonic == "halt":
            break
    return lines


def _rebuilt(case: Case, lines: list[_Line]) -> Case:
    """The case of `lines`, loops with the length that they now have. Raises `EncodingError`."""
    words = []
    ends = _pairs(lines)
    for at, line in enumerate(lines):
        values = dict(line.values)
        if line.mnemonic == "loop":
            values["length"] = ends[at] - at
        if values.get("b_imm"):
            field = BY_MNEMONIC[line.mnemonic].field("b")
            values["b"] -= (values["b"] >> (field.width - 1)) << field.width
        words.append(encode(line.mnemonic, **values))
    return case.with_words(tuple(words))


def _pairs(lines: list[_Line]) -> dict[int, int]:
    """Position of each `loop` to its `endloop` and back."""
    pairs, stack = {}, []
    for at, line in enumerate(lines):
        if line.mnemonic == "loop":
            stack.append(at)
        elif line.mnemonic == "endloop":
            begin = stack.pop()
            pairs[begin], pairs[at] = at, begin
    return pairs


def _closed(lines: list[_Line], gone: set[int]) -> set[int]:
    """`gone` without loops that lose one end only."""
    pairs = _pairs(lines)
    return {at for at in gone if at not in pairs or pairs[at] in gone}


def _plainer(field: Field, value: int) -> list[int]:
    if field.name == OPCODE.name:
        return []
    plain = [] if field.default is None else [field.default]
    if field.kind in (Kind.INT, Kind.REGISTER, Kind.ENUM, Kind.SEMAPHORES):
        plain += [0, 1, int(value / 2)]
    if field.kind is Kind.SEMAPHORES:
        plain += [value & ~(1 << bit) for bit in range(field.width) if value >> bit & 1]
    legal = [v for v in plain if field.legal_min <= v <= field.legal_max]
    return [v for v in dict.fromkeys(legal) if v != value and (abs(v) < abs(value) or v == field.default)]
