"""What the checker accepts does not depend on timing; what it must report, it reports."""

from __future__ import annotations

import subprocess
import sys
from random import Random

import pytest

from tidemill.config import preset
from tidemill.isa import ACC_SPACE, encode
from tidemill_verif import checker_soundness
from tidemill_verif.checker_soundness import accepts, first_other, leaves, run_seed, sound, table, without_semaphore
from tidemill_verif.random_programs import Case, Lockstep, generate

TINY = preset("tiny")


def race(signal: int) -> Case:
    """A long load, and a vector operation on its last row that waits for it where `signal` is 1."""
    words = (
        encode("ld.run", dst=0, dram=0x8000, n0=64, n1=1, n2=1, signal=signal),
        encode("vx.add", dst=ACC_SPACE, a=63, b=1, b_imm=1, wait=signal),
        encode("halt"),
    )
    return Case(TINY, 1, words, 0, (0, 0xFFFF), (0, 0xFFFF), image=1)


def test_accepted_programs_leave_the_same_and_removals_are_reported() -> None:
    with Lockstep(TINY) as lockstep:
        results = [run_seed(lockstep, TINY, seed) for seed in range(6)]
    assert sound(results), "\n".join(table(results))
    assert not [result.failure for result in results if result.failure]
    assert any(removal.ends for result in results for removal in result.removals)


def test_a_race_shows_between_timings() -> None:
    with Lockstep(TINY) as lockstep:
        ordered, unordered = race(1), race(0)
        whole = leaves(lockstep, ordered, checker_soundness.TIMINGS[0])
        assert first_other(lockstep, ordered, whole) is None
        assert first_other(lockstep, unordered, whole) is not None
    assert accepts(ordered)
    assert not accepts(unordered)


def test_one_semaphore_goes() -> None:
    case = race(1)
    changed = {kind: without_semaphore(Random(0), case, kind) for kind in checker_soundness.REMOVALS}
    assert changed["both"] == race(0)
    for kind, kept in (("wait", "signal"), ("signal", "wait")):
        other = changed[kind]
        assert other is not None
        assert sum(one != two for one, two in zip(other.words, case.words, strict=True)) == 1, kept
    assert without_semaphore(Random(0), race(0), "wait") is None


def test_a_checker_that_accepts_everything_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_soundness, "check", lambda program: [])
    with Lockstep(TINY) as lockstep:
        results = [run_seed(lockstep, TINY, seed) for seed in range(5)]
    assert not sound(results)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--seed", "-1"], "--seed: -1 must be at least 0"), (["--programs", "0"], "--programs: 0 must be at least 1")],
)
def test_wrong_options_are_refused(options: list[str], message: str) -> None:
    command = [sys.executable, "-m", "tidemill_verif.checker_soundness", *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert message in result.stderr


def test_generated_programs_are_long_enough_to_lose_semaphores() -> None:
    cases = [generate(TINY, seed, exclusive=True) for seed in range(12)]
    found = [without_semaphore(Random(1), case, "both") is not None for case in cases]
    assert sum(found) >= 6
