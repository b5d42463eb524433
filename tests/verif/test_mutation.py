"""Mutants: a block end to end, proofs of equivalence, judgements, errors."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from tidemill_hdl.prim.queue import Queue, SkidBuffer
from tidemill_verif.bench_runs import FAMILIES
from tidemill_verif.mutation import MutationError, blocks, equivalence, judgements, netlist
from tidemill_verif.mutation.__main__ import main
from tidemill_verif.mutation.campaign import EQUIVALENT, KILLED, SURVIVED, Campaign, Outcome, score


@pytest.fixture
def skid_buffer() -> netlist.Netlist:
    return netlist.prepare(partial(SkidBuffer, 8))


def _mutant(mode: str, cell: str, module: netlist.Netlist, port: str, bit: int) -> netlist.Mutant:
    kind = module.module["cells"][cell]["type"]
    return netlist.Mutant(mode, cell, kind, port, bit, None, "", ())


def test_a_block_is_scored_by_its_own_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    target = blocks.Target("stream_buffers", "prims-skid-8")
    monkeypatch.setitem(blocks.BLOCKS, "skid", blocks.Block(12, (target,)))
    outcomes = Campaign(jobs=2).run("skid")
    counts = score(outcomes)
    assert counts.mutants == len({outcome.identity for outcome in outcomes}) == 12
    assert counts.killed >= 11
    assert all(outcome.detail.startswith("prims-skid-8-s11: ") for outcome in outcomes if outcome.status == KILLED)
    files = ("prim/queue.py:", "amaranth/lib/stream.py:")
    assert all(any(file in source for file in files for source in outcome.mutant.sources) for outcome in outcomes)


def test_copies_of_the_repository_share_what_is_known(skid_buffer: netlist.Netlist) -> None:
    sources = {source for mutant in netlist.mutants(skid_buffer, 5, 1) for source in mutant.sources}
    assert any(source.startswith("hdl/tidemill_hdl/prim/queue.py:") for source in sources)
    assert str(Path(__file__).parents[2]) not in (skid_buffer.folder / "design.il").read_text()


def test_a_proof_tells_a_change_from_none(skid_buffer: netlist.Netlist) -> None:
    register = next(name for name, cell in skid_buffer.module["cells"].items() if "Q" in cell["connections"])
    assert equivalence.decide(skid_buffer, _mutant("inv", register, skid_buffer, "Q", 0)) == equivalence.DIFFERENT
    assert equivalence.decide(skid_buffer, _mutant("none", register, skid_buffer, "Q", 0)) == equivalence.EQUIVALENT


def test_a_memory_equals_itself() -> None:
    """Registers of a memory's ports have no initial value: both copies must begin with the same."""
    unchanged = netlist.Mutant("none", "none", "", "none", 0, None, "", ())
    assert equivalence.decide(netlist.prepare(partial(Queue, 8, 5)), unchanged) == equivalence.EQUIVALENT


def test_every_block_has_designs_of_the_regression() -> None:
    for block in blocks.BLOCKS.values():
        for target in block.targets:
            assert target.family in FAMILIES
            assert target.runs()[0]
        assert block.mutants >= 100
        assert sum(block.counts(block.mutants)) >= 100


def test_score_leaves_equivalent_mutants_out() -> None:
    mutant = netlist.Mutant("inv", "c", "$and", "Y", 0, None, "", ())
    statuses = [KILLED, KILLED, KILLED, EQUIVALENT, SURVIVED]
    assert score([Outcome("t", "i", mutant, status) for status in statuses]).percent == 75


def test_no_judgement_is_stale() -> None:
    entries = judgements.load()
    assert judgements.stale(entries) == []
    assert {entry.block for entry in entries} <= set(blocks.BLOCKS)


def test_a_judgement_of_a_line_that_is_gone_is_stale() -> None:
    entry = judgements.Judgement(
        "prims", "t", "inv of $and.A[0]", "hdl/tidemill_hdl/prim/queue.py", "no such line", "nobody can see it"
    )
    assert judgements.stale([entry]) == [f"{entry.identity}: no line 'no such line' in hdl/tidemill_hdl/prim/queue.py"]


def test_a_judgement_is_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(judgements, "FILE", tmp_path / "judgements.json")
    judgements.FILE.write_text("[]")
    mutant = netlist.Mutant("inv", "c", "$and", "Y", 0, None, "", ("hdl/tidemill_hdl/prim/queue.py:1",))
    judgements.judge("prims", "design", mutant, "nobody can see it")
    (entry,) = judgements.load()
    assert entry.identity == judgements.identity("design", mutant)
    assert json.loads(judgements.FILE.read_text())[0]["reason"] == "nobody can see it"
    judgements.judge("prims", "design", mutant, "would take a year", survives=True)
    (entry,) = judgements.load()
    assert (entry.reason, entry.survives) == ("would take a year", True)


def test_an_unknown_block_is_one_clear_error() -> None:
    result = CliRunner().invoke(main, ["run", "nothing"])
    assert result.exit_code
    assert isinstance(result.exception, MutationError)
    assert str(result.exception).startswith("unknown block 'nothing'; the blocks are prims, requantizer, vector")
