"""Illegal programs: the machine stops with the right cause or ends, keeps its windows, and recovers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from click.testing import CliRunner

from tidemill.cli import main
from tidemill.config import preset
from tidemill.csr import Cause
from tidemill.isa import ACC_SPACE, INSTRUCTION_BITS, encode
from tidemill.iss import frontend
from tidemill.iss.engines import DmaEngine
from tidemill_verif.illegal_programs import KINDS, TooLong, judge, possible_ends, spoil
from tidemill_verif.illegal_programs.campaign import IllegalCampaign
from tidemill_verif.random_programs import Case, Lockstep, generate
from tidemill_verif.random_programs.case import MEM_SIZE
from tidemill_verif.random_programs.saved import SUFFIX, load

TINY = preset("tiny")
SAVED = sorted((Path(__file__).parent / "regressions" / "illegal").glob(f"*{SUFFIX}"))
WINDOW = (0x8000, 0xFFFF)


def case_of(*words: int, **changes: object) -> Case:
    """`words` at address 0, loads and stores between 32 and 64 KiB."""
    case = Case(TINY, 1, tuple(words), 0, WINDOW, WINDOW, image=1, watchdog=2_000, guarded=True)
    return replace(case, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "programs"), [("tiny", 90), ("base", 16)])
def test_illegal_programs_end_as_they_may(name: str, programs: int) -> None:
    config = preset(name)
    with Lockstep(config) as lockstep:
        for seed in range(programs):
            verdict = judge(lockstep, spoil(config, seed).case)
            command = f"tidemill fuzz --illegal --preset {name} --programs 1 --seed {seed}"
            assert not verdict.failure, f"{command}: {verdict.failure}"


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_programs_that_failed_once_are_judged_well(path: Path) -> None:
    case = load(path)
    with Lockstep(case.config) as lockstep:
        assert not judge(lockstep, case).failure


def test_every_bit_of_the_word_is_flipped_and_every_kind_spoils() -> None:
    case = generate(TINY, 3)
    flipped = 0
    for seed in range(1200):
        words = KINDS["flipped bit"](Random(seed), case).words
        flipped |= sum(one ^ other for one, other in zip(words, case.words, strict=True))
    assert flipped == (1 << INSTRUCTION_BITS) - 1
    for kind, spoiler in KINDS.items():
        changed = [spoiler(Random(seed), case) != case for seed in range(40)]
        assert sum(changed) >= 25, kind


def test_the_same_seed_is_the_same_program() -> None:
    assert [spoil(TINY, seed) for seed in range(8)] == [spoil(TINY, seed) for seed in range(8)]


OUTSIDE = encode("vx.add", dst=0, a=4096, b=1, b_imm=1)
BAD_STORE = encode("st.run", src=0, dram=0x4000, n0=1, n1=1, n2=1)


@pytest.mark.parametrize(
    ("words", "reports"),
    [
        ((encode("halt"),), {"done"}),
        ((), {"PC_RANGE in FRONTEND at 0x0, info 0x0"}),
        ((OUTSIDE, encode("halt")), {"LOCAL_RANGE in VECTOR at 0x0, info 0x1000"}),
        (
            (OUTSIDE, BAD_STORE, encode("halt")),
            {"LOCAL_RANGE in VECTOR at 0x0, info 0x1000", "WINDOW in STORE at 0x10, info 0x4000"},
        ),
        (
            (OUTSIDE, encode("fence", engines=8), BAD_STORE, encode("halt")),
            {"LOCAL_RANGE in VECTOR at 0x0, info 0x1000"},
        ),
        (
            (encode("st.sync", wait=6), encode("vx.sync", wait=1), encode("vx.sync", signal=6), encode("halt")),
            {"WATCHDOG in SYNC at 0x0, info 0x6"},
        ),
        (
            (encode("ld.sync", signal=1), encode("st.sync", wait=1), encode("mx.sync", wait=1), encode("halt")),
            {"WATCHDOG in SYNC at 0x10, info 0x1", "WATCHDOG in SYNC at 0x20, info 0x1"},
        ),
        (
            (encode("mx.run", act=0, acc=ACC_SPACE), encode("endloop")),
            {
                f"ILLEGAL_OPERAND in MATRIX at 0x0, info {encode('mx.run', act=0, acc=ACC_SPACE) & 0xFFFF_FFFF:#x}",
                "LOOP in FRONTEND at 0x10, info 0x9",
            },
        ),
    ],
)
def test_the_ends_that_timing_allows(words: tuple[int, ...], reports: set[str]) -> None:
    case = case_of(*words)
    ends = possible_ends(case)
    assert ends.reports == reports
    assert bool(ends.why) == (len(reports) > 1)
    with Lockstep(TINY) as lockstep:
        assert not judge(lockstep, case).failure


@pytest.mark.parametrize(
    "words",
    [
        (encode("loop", count=65535, rs=0, length=2), encode("nop"), encode("endloop"), encode("halt")),
        (encode("mx.act", n0=4095, n1=4095, n2=4095), encode("mx.run", act=0, acc=ACC_SPACE, swap=0), encode("halt")),
        (encode("ld.run", dst=0, dram=0, n0=0, n1=1023, n2=1023), encode("halt")),
    ],
)
def test_programs_that_take_for_ever_are_not_run(words: tuple[int, ...]) -> None:
    with pytest.raises(TooLong):
        possible_ends(case_of(*words))


def test_guards_leave_out_windows_and_program() -> None:
    case = case_of(encode("halt"))
    read = [(first, last) for first, last, _, direction in case.guards if direction == "read"]
    write = [(first, last) for first, last, _, direction in case.guards if direction == "write"]
    assert read == [(16, 0x7FFF), (0x10000, MEM_SIZE - 1)]
    assert write == [(0, 0x7FFF), (0x10000, MEM_SIZE - 1)]


def test_a_store_outside_the_window_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DmaEngine, "_line_fault", lambda *_: None)
    case = case_of(encode("st.run", src=0, dram=0x7FFC, n0=2, n1=1, n2=1), encode("halt"))
    with Lockstep(TINY) as lockstep:
        with monkeypatch.context() as inside:
            inside.setattr(DmaEngine, "_bad_lines", lambda _, lines, nbytes: np.zeros(len(lines), bool))
            failure = judge(lockstep, case).failure
        assert failure == "iss: wrote byte 0x7ffc outside the window"
        assert lockstep.rtl(case).end == "WINDOW in STORE at 0x0, info 0x7ffc"


def test_a_wrong_cause_is_found_shrunk_and_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    right = frontend.decode_instruction

    def wrong(word: int) -> frontend.Instruction:
        instruction = right(word)
        if instruction.cause is Cause.RESERVED_BITS:
            return replace(instruction, cause=Cause.ILLEGAL_OPERAND)
        return instruction

    monkeypatch.setattr(frontend, "decode_instruction", wrong)
    campaign = IllegalCampaign(TINY, 0)
    failed = next(result for result in campaign.run(100, None, 1) if result.failure)
    assert "RESERVED_BITS" in failed.failure
    path, report = campaign.preserve(failed.seed, tmp_path)
    case = load(path)
    assert len(case.words) <= 2, path.read_text()
    assert "end: rtl RESERVED_BITS" in report
    with Lockstep(TINY) as lockstep:
        assert judge(lockstep, case).failure


def test_the_command_tells_how_programs_ended(tmp_path: Path) -> None:
    command = ["fuzz", "--illegal", "--preset", "tiny", "--programs", "8", "--jobs", "1", "--save", str(tmp_path)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "8 programs, seeds 0 to 7" in result.output
    assert "one end possible: " in result.output
