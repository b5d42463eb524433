"""Proofs and their tools: the quick proofs, their broken copies, and what the command says of wrong input."""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from pathlib import Path

import pytest

from tidemill_verif.formal import __main__ as command
from tidemill_verif.formal import engine, proof
from tidemill_verif.formal.proof import Proof, ProofError, Twin, all_proofs, find_proof

PAGE = Path(__file__).resolve().parents[2] / "docs" / "verification" / "proofs.md"
QUICK = [(block, known) for block, known in all_proofs() if known.quick]


@pytest.mark.parametrize(("block", "known"), QUICK, ids=lambda value: getattr(value, "name", value))
def test_quick_proofs_hold(block: str, known: Proof, tmp_path: Path) -> None:
    outcome = engine.run_proof(block, known, tmp_path)
    assert not outcome.failed
    assert outcome.k is not None
    assert set(outcome.covers) == set(known.covers)


@pytest.mark.parametrize(
    ("block", "known", "twin"),
    [(block, known, twin) for block, known in QUICK for twin in known.twins],
    ids=lambda value: getattr(value, "breaks", getattr(value, "name", value)),
)
def test_broken_copies_fail(block: str, known: Proof, twin: Twin) -> None:
    assert twin.breaks in engine.run_twin(block, known, twin).failed


def test_there_are_enough_properties() -> None:
    blocks = {block for block, _ in all_proofs()}
    assert len(blocks) >= 10
    assert sum(len(known.properties) for _, known in all_proofs()) >= 25


def test_every_broken_copy_fits_its_source() -> None:
    for _, known in all_proofs():
        for twin in known.twins:
            assert twin.source()


def test_names_are_unique_in_a_block() -> None:
    names = [(block, known.name) for block, known in all_proofs()]
    assert len(names) == len(set(names))


def test_the_page_lists_every_property() -> None:
    page = PAGE.read_text()
    for _, known in all_proofs():
        for name in known.properties:
            assert f"| {known.name} | `{name}` |" in page, f"run make formal PAGE=1: {known.name} {name}"


def test_a_counterexample_can_be_read(tmp_path: Path) -> None:
    """A property that does not hold: the trace shows the harness's signals in every step."""
    known = find_proof("queue", "skid_buffer")
    twin = Twin("order", "prim/queue.py", "self.i.ready.eq(~spare_full)", "self.i.ready.eq(1)")
    job = engine._Job(tmp_path, "queue", known, "yices", 100)
    job.emit(twin)
    outcome = job.prove(tmp_path / "traces" / known.name)
    assert outcome.failed["order"] == "fails"
    assert outcome.trace is not None
    lines = outcome.trace.read_text().splitlines()
    assert re.match(r"step +0 1 2", lines[0])
    assert any(line.startswith("prove_order_holds") for line in lines)
    assert outcome.trace.with_suffix(".vcd").exists()


def test_a_property_that_does_not_hold_is_not_kept(tmp_path: Path) -> None:
    """A failing proof fails again: only what holds is remembered."""
    known = dataclasses.replace(find_proof("queue", "skid_buffer"), depth=2)
    for _ in range(2):
        outcome = engine.run_proof("queue", known, tmp_path)
        assert outcome.failed == {
            "full_and_moving": "is not reached: the proof may be empty",
            "marked_leaves": "is not reached: the proof may be empty",
        }
        assert not outcome.cached


@pytest.mark.parametrize(
    ("old", "found"), [("no such text", 0), ("def __init__(self", 2)], ids=["missing", "ambiguous"]
)  # fmt: skip
def test_a_stale_twin_is_an_error(old: str, found: int) -> None:
    with pytest.raises(ProofError, match=rf"stale twin of prim/queue.py: its text occurs {found} times, must be 1"):
        Twin("order", "prim/queue.py", old, "").source()


def test_a_property_without_a_twin_is_an_error() -> None:
    with pytest.raises(ProofError, match="proof p: properties and twins do not match: b"):
        Proof("p", partial(object), {"b": "text"}, (), {"c": "text"}, depth=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--block", "nonsense"], r"error: unknown block 'nonsense': must be one of .*queue"),
        (["--block", "queue", "--proof", "nonsense"], r"error: unknown proof 'nonsense' of queue"),
    ],
)
def test_wrong_names_are_one_clear_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 1
    assert re.fullmatch(message + r".*\n", capsys.readouterr().err)


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--timeout", "-1"], ["--solver", "nonsense"]])
def test_wrong_options_end_with_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert "error: " in capsys.readouterr().err


def test_a_missing_solver_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(proof.SOLVERS, "yices", "no-such-package")
    assert command.main(["--block", "queue"]) == 1
    error = capsys.readouterr().err
    assert error == (
        "error: proofs need no-such-package, which is not installed: pip install no-such-package (or run make setup)\n"
    )
