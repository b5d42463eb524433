"""Random legal programs: hardware and simulator leave the same, and what fails is found, shrunk and saved."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tidemill import isa
from tidemill.checker import check
from tidemill.cli import main
from tidemill.config import preset
from tidemill.golden import vector
from tidemill.isa import OPS, Field, Kind, Op, decode
from tidemill_verif.random_programs import GeneratorError, Lockstep, generate, rules, writer
from tidemill_verif.random_programs.broken import first_failure
from tidemill_verif.random_programs.campaign import Campaign
from tidemill_verif.random_programs.saved import SUFFIX, from_text, load, to_text

TINY = preset("tiny")
SAVED = sorted(Path(__file__).with_name("regressions").glob(f"*{SUFFIX}"))


@pytest.mark.parametrize(("name", "programs"), [("tiny", 160), ("small", 80), ("base", 80)])
def test_hardware_and_simulator_leave_the_same(name: str, programs: int) -> None:
    config = preset(name)
    with Lockstep(config) as lockstep:
        for seed in range(programs):
            case = generate(config, seed)
            iss = lockstep.iss(case)
            assert iss.done, f"seed {seed}: {iss.end}"
            assert lockstep.compare(case) is None, f"tidemill fuzz --preset {name} --programs 1 --seed {seed}"


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_programs_that_failed_once_agree(path: Path) -> None:
    case = load(path)
    with Lockstep(case.config) as lockstep:
        assert lockstep.iss(case).done
        assert lockstep.compare(case) is None


def test_the_same_seed_is_the_same_program_in_another_process() -> None:
    code = (
        "from tidemill.config import preset; from tidemill_verif.random_programs import generate;"
        "print([hash((c.words, c.address, c.image)) for c in (generate(preset('tiny'), s) for s in range(20))])"
    )
    for hash_seed in ("0", "77"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == str(
            [hash((case.words, case.address, case.image)) for case in (generate(TINY, seed) for seed in range(20))]
        )


def test_programs_are_legal_for_the_checker() -> None:
    for seed in range(60):
        errors = [f for f in check(generate(TINY, seed, exclusive=True).program) if f.severity == "error"]
        assert not errors, f"seed {seed}: {errors[0]}"


def test_every_instruction_and_field_takes_many_values() -> None:
    seen: dict[tuple[str, str], set[int]] = defaultdict(set)
    for seed in range(150):
        for word in generate(TINY, seed).words:
            decoded = decode(word)
            for field in decoded.op.all_fields:
                seen[decoded.op.mnemonic, field.name].add(decoded.values.get(field.name, decoded.op.opcode))
            if decoded.op.mnemonic == "halt":
                break
    for op in OPS:
        for field in op.all_fields[1:]:
            values = 2 if field.kind is Kind.SEMAPHORES else field.legal_max - field.legal_min + 1
            found = seen[op.mnemonic, field.name]
            assert len(found) >= min(values, 4), f"{op.mnemonic}.{field.name} only took {sorted(found)}"
        assert seen[op.mnemonic, "opcode"], f"{op.mnemonic} is never generated"


def with_op(monkeypatch: pytest.MonkeyPatch, op: Op) -> None:
    """A machine that has `op` as well, or in place of the one with its name."""
    monkeypatch.setattr(writer, "OPS", (*(other for other in OPS if other.mnemonic != op.mnemonic), op))
    monkeypatch.setitem(isa.BY_MNEMONIC, op.mnemonic, op)


def test_a_new_vector_operation_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    with_op(monkeypatch, replace(isa.BY_MNEMONIC["vx.add"], mnemonic="vx.xor", opcode=0x9F))
    words = [word for seed in range(40) for word in generate(TINY, seed).words]
    assert any(word & 0xFF == 0x9F for word in words)


def test_a_new_instruction_without_a_rule_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_op(monkeypatch, Op("ld.gather", 0x2A, "", (Field("rows", 40, 8, "no default, so no rule"),)))
    with pytest.raises(GeneratorError, match=r"ld\.gather"):
        generate(TINY, 0)


@pytest.mark.parametrize("name", ["ld.run", "st.run", "mx.wload", "mx.run", "vx.add", "vx.lut", "loop"])
def test_a_new_field_without_a_rule_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = isa.BY_MNEMONIC[name]
    with_op(monkeypatch, replace(op, fields=(*op.fields, Field("color", 120, 3, "", default=0))))
    with pytest.raises(GeneratorError, match=rf"'color' of '{name}'"):
        _ = [generate(TINY, seed) for seed in range(50)]


def test_saved_programs_come_back_as_they_were() -> None:
    for seed in range(0, 60, 3):
        case = generate(TINY, seed)
        assert from_text(to_text(case, "two\nremarks")) == case


@pytest.fixture
def broken_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vx.shr` of the simulator is off by one for negative results."""
    good = vector.ALU["vx.shr"]
    monkeypatch.setitem(vector.ALU, "vx.shr", lambda a, b, low, high: good(a, b, low, high) + (np.asarray(a) < 0))


@pytest.mark.usefixtures("broken_simulator")
def test_a_failing_program_is_shrunk_and_saved(tmp_path: Path) -> None:
    campaign = Campaign(TINY, 0)
    failed = next(result for result in campaign.run(200, None, 1) if result.failure)
    path, report = campaign.preserve(failed.seed, tmp_path)
    case = load(path)
    assert len(case.words) <= 4, path.read_text()
    assert "last written by instruction" in report
    assert "vx.shr" in report
    with Lockstep(TINY) as lockstep:
        assert lockstep.iss(case).done
        assert lockstep.compare(case) is not None


@pytest.mark.usefixtures("broken_simulator")
def test_the_command_fails_with_the_seeds_that_fail(tmp_path: Path) -> None:
    command = ["fuzz", "--preset", "tiny", "--programs", "24", "--jobs", "1", "--save", str(tmp_path / "failed")]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1, result.output
    assert "failed seeds: " in result.output
    assert list((tmp_path / "failed").glob("tiny-*.tms"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "-1"], "-1 is not in the range"),
        (["--seed", "x"], "'x' is not a valid integer"),
        (["--programs", "0"], "0 is not in the range"),
        (["--minutes", "0"], "0.0 is not in the range"),
        (["--preset", "huge"], "'huge' is not one of 'micro', 'tiny'"),
        (["--jobs", "0"], "0 is not in the range"),
    ],
)
def test_wrong_options_are_refused(options: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["fuzz", *options])
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    "bug",
    ["semaphores: one of two signals in a cycle is lost", "banks: a write that loses its bank is dropped"],
)
def test_broken_hardware_is_caught(bug: str) -> None:
    seed = first_failure(bug, "tiny", 300)
    assert seed is not None, f"{bug}: 300 programs do not show it"


def test_rules_cover_the_table() -> None:
    for op in OPS:
        assert rules.rule_of(op)
