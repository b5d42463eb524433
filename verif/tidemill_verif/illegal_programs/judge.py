"""Runs one illegal program and says what is wrong with what the machine made of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tidemill.config import Config
from tidemill.csr import Unit
from tidemill.driver.errors import DeviceError
from tidemill_verif.illegal_programs.ends import Ends, possible_ends
from tidemill_verif.random_programs.case import Case, image
from tidemill_verif.random_programs.generate import generate
from tidemill_verif.random_programs.legal import unordered
from tidemill_verif.random_programs.lockstep import WORK, Lockstep, Outcome, difference

GOOD_SEED = 11
"""The legal program that is run after each illegal one."""


@dataclass(frozen=True)
class Verdict:
    """`failure` is empty where all is well. `ended` is the hardware's cause, or `done`; `why` more than one end was
    possible, and `differed` whether hardware and simulator took different ones."""

    failure: str
    ended: str
    why: str
    differed: bool
    instructions: int
    cycles: int


def judge(lockstep: Lockstep, case: Case, ends: Ends | None = None) -> Verdict:
    """Run `case` on both, then a good program on the hardware; `ends` are its possible ends where known already.

    Raises `TooLong` for programs not worth running.
    """
    ends = ends or possible_ends(case)
    iss, rtl = lockstep.iss(case), lockstep.rtl(case)
    failure = _wrong(case, ends, rtl, iss) or _unrecovered(lockstep)
    ended = rtl.end.partition(" in ")[0]
    return Verdict(failure, ended, ends.why, rtl.end != iss.end, iss.counters["INSTRUCTIONS"], rtl.cycles)


def _wrong(case: Case, ends: Ends, rtl: Outcome, iss: Outcome) -> str:
    if rtl.breach or not rtl.finished:
        return f"rtl: {rtl.end}"
    for name, outcome in (("rtl", rtl), ("iss", iss)):
        place = _written_outside(case, outcome)
        if place is not None:
            return f"{name}: wrote byte {place:#x} outside the window"
    if not ends.why and rtl.end != iss.end:
        return f"end: rtl {rtl.end}; iss {iss.end}"
    for name, outcome in (("rtl", rtl), ("iss", iss)):
        if not ends.allows(outcome):
            return f"end: {name} {outcome.end}; possible: {' | '.join(sorted(ends.reports))}"
    if rtl.done and iss.done:
        if case.prog_addr is None and case.prog_len is None and unordered(case.program) == set():
            return str(difference(rtl, iss) or "")
        names = [name for name in WORK if rtl.counters[name] != iss.counters[name]]
        if names:
            return f"{names[0]}: rtl {rtl.counters[names[0]]}, iss {iss.counters[names[0]]}"
    elif rtl.end != iss.end or rtl.registers["ERROR_UNIT"] != Unit.FRONTEND:
        return ""
    if rtl.registers != iss.registers:
        return f"registers: rtl {rtl.registers}, iss {iss.registers}"
    return ""


def _written_outside(case: Case, outcome: Outcome) -> int | None:
    """The first byte outside the write window that is not what it was."""
    before = image(case.config, case.image).dram
    before[case.address : case.address + len(case.code)] = np.frombuffer(case.code, np.uint8)
    changed = before != outcome.dram
    low, high = case.write_window
    changed[low : max(low, high + 1)] = False
    return int(np.argmax(changed)) if changed.any() else None


@lru_cache(maxsize=4)
def _good(config: Config) -> Case:
    return generate(config, GOOD_SEED, exclusive=True)


_EXPECTED: dict[int, Outcome] = {}


def _unrecovered(lockstep: Lockstep) -> str:
    """How a good program fails now; empty where it does not."""
    case = _good(lockstep.config)
    expected = _EXPECTED.get(case.config.hash)
    if expected is None:
        expected = _EXPECTED[case.config.hash] = lockstep.iss(case)
    try:
        found = difference(lockstep.rtl(case), expected)
    except DeviceError as error:
        return f"a good program afterwards: {error}"
    return "" if found is None else f"a good program afterwards: {found}"
