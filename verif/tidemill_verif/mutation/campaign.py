"""Runs the mutants of a block through benches and proofs; what is known already is not run again."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

from tidemill.golden import __path__ as golden_path
from tidemill_verif import agents, benches
from tidemill_verif.bench_runs import BenchRun
from tidemill_verif.cache import cache_root, content_key, tree_key
from tidemill_verif.mutation import blocks, equivalence, judgements, whole_machine
from tidemill_verif.mutation.fork_server import Result
from tidemill_verif.mutation.mutated_npu import variant
from tidemill_verif.mutation.netlist import Mutant, Netlist, mutants, prepare
from tidemill_verif.mutation.simulation import build, run_bench_on_mutants

KILLED, EQUIVALENT, SURVIVED, OPEN = "killed", "equivalent", "survived", "open"
"""OPEN: not run to the end, the time was over."""
REGRESSION, SEEDS, MACHINE, PROOF, JUDGED = "regression", "more seeds", "whole machine", "proof", "judgement"
"""What settled a mutant: the bench's runs of `make test`, the same bench with more seeds, programs on the whole
machine, a proof, a person."""


_Keep: TypeAlias = Callable[[Result], None]
_Runner: TypeAlias = Callable[[list[int], _Keep], None]
"""Runs mutants by their selectors and hands on the results as they come."""


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `status`, what settled it (`by`, empty for survivors) and how (`detail`)."""

    target: str
    identity: str
    mutant: Mutant
    status: str
    by: str = ""
    detail: str = ""


class Known:
    """Results of earlier runs, by content: key to text, in the build cache; safe for several processes."""

    def __init__(self) -> None:
        cache_root().mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(cache_root() / "mutation.sqlite", timeout=60)
        with self._database as transaction:
            transaction.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, value TEXT)")

    def get(self, key: str) -> str | None:
        """The value of `key`, None where unknown."""
        row = self._database.execute("SELECT value FROM results WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, value: str) -> None:
        """Keep `value`."""
        with self._database as transaction:
            transaction.execute("INSERT OR REPLACE INTO results VALUES (?, ?)", (key, value))

    def close(self) -> None:
        """Close the database."""
        self._database.close()


@cache
def _bench_key(module: str) -> str:
    """Hash of a bench and of what benches share."""
    folder = Path(benches.__path__[0])
    shared = sorted(folder.glob("*_models.py")) + sorted(folder.parent.glob("matrix_*.py"))
    bench = folder / f"{module.rpartition('.')[2]}.py"
    return tree_key(bench, *shared, Path(agents.__path__[0]), Path(golden_path[0]))


class _Results:
    """What is known of the mutants of one netlist under one kind of run. A kill outlives edits of the tests, which as a
    rule add some; that a mutant survives is only true of the tests as they were, which `tests` is the hash of."""

    def __init__(self, known: Known, kind: tuple[str, ...], tests: str) -> None:
        self._known = known
        self._kill = ("kill", *kind)
        self._survival = (*self._kill, tests)

    def reason(self, mutant: Mutant) -> str | None:
        """Why it was killed, empty where it survived, None where unknown."""
        kill = self._known.get(content_key(*self._kill, mutant.command))
        return kill or self._known.get(content_key(*self._survival, mutant.command))

    def keep(self, mutant: Mutant, reason: str) -> None:
        """Note how a run ended."""
        parts = self._kill if reason else self._survival
        self._known.put(content_key(*parts, mutant.command), reason)


def _bench_results(known: Known, netlist: Netlist, run: BenchRun) -> _Results:
    parameters = json.dumps([run.params, run.seed], sort_keys=True)
    return _Results(known, (netlist.key, run.module, parameters), _bench_key(run.module))


def _machine_results(known: Known, netlist: Netlist) -> _Results:
    return _Results(known, (netlist.key, MACHINE), whole_machine.regression_key())


@dataclass
class Campaign:
    """Runs blocks: `jobs` simulations at a time, until `deadline` (of `time.monotonic`) where given.

    `on_progress` is called with (block, settled mutants, all of them). Without `machine` the whole machine is not
    tried, without `proofs` no equivalence is proved; with `fresh` everything runs again, whatever is known.
    """

    jobs: int
    deadline: float | None = None
    on_progress: Callable[[str, int, int], None] = lambda *_: None
    proofs: bool = True
    fresh: bool = False
    machine: bool = True

    def run(self, name: str, count: int | None = None) -> list[Outcome]:
        """The outcome of every mutant of block `name`; `count` instead of the block's own number of mutants.

        Raises `MutationError`: an unknown block, a tool that failed, a bench that fails without mutants.
        """
        block = blocks.block(name)
        counts = block.counts(count or block.mutants)
        outcomes: list[Outcome] = []
        with closing(Known()) as known:
            for target, share in zip(block.targets, counts, strict=True):
                outcomes += self._target(name, target, share, block.seed, known, len(outcomes), sum(counts))
        return outcomes

    def _target(
        self, name: str, target: blocks.Target, share: int, seed: int, known: Known, done: int, total: int
    ) -> list[Outcome]:
        regular, more = target.runs()
        netlist = prepare(regular[0].design)
        chosen = mutants(netlist, share, seed, target.files)
        settled: dict[int, Outcome] = {}

        def settle(index: int, status: str, by: str = "", detail: str = "") -> None:
            mutant = chosen[index]
            identity = judgements.identity(target.run, mutant)
            settled[index] = Outcome(target.run, identity, mutant, status, by, detail)
            self.on_progress(name, done + len(settled), total)

        stages: list[tuple[str, str, _Results, _Runner]] = []
        runner: _Runner
        for runs, by in ((regular, REGRESSION), (more, SEEDS)):
            for run in runs:
                runner = partial(self._bench, netlist, chosen, run)
                stages.append((by, f"{run}: ", _bench_results(known, netlist, run), runner))
        if self.machine and not target.alone:
            runner = partial(self._machine, netlist, chosen, regular[0])
            stages.append((MACHINE, "", _machine_results(known, netlist), runner))
        for by, prefix, results, runner in stages:
            left = [index for index in range(len(chosen)) if index not in settled]
            for index, reason in self._stage(chosen, left, results, runner):
                if reason:
                    settle(index, KILLED, by, f"{prefix}{reason}")
        judged = {entry.identity: entry for entry in judgements.load()}
        # What a person has shown needs no proof, which for a block with memories takes very long.
        shown = {identity for identity, entry in judged.items() if not entry.survives}
        unproved = [
            index for index, mutant in enumerate(chosen) if judgements.identity(target.run, mutant) not in shown
        ]
        self._prove(netlist, target.contract, chosen, unproved, settled, known, settle)
        for index, mutant in enumerate(chosen):
            if index not in settled:
                unfinished = any(results.reason(mutant) is None for _, _, results, _ in stages)
                verdict = judged.get(judgements.identity(target.run, mutant))
                if verdict and not verdict.survives:
                    settle(index, EQUIVALENT, JUDGED, verdict.reason)
                else:
                    settle(index, OPEN if unfinished else SURVIVED, "", verdict.reason if verdict else "")
        return [settled[index] for index in range(len(chosen))]

    def _stage(
        self, chosen: list[Mutant], left: list[int], results: _Results, runner: _Runner
    ) -> Iterable[tuple[int, str]]:
        """(index, reason of the kill or empty) of each mutant of `left`; those not reached in time are left out."""
        found = {index: None if self.fresh else results.reason(chosen[index]) for index in left}
        yield from ((index, reason) for index, reason in found.items() if reason is not None)
        missing = [index for index, reason in found.items() if reason is None]
        if not missing or self._late():
            return
        new: list[Result] = []

        def keep(result: Result) -> None:
            results.keep(chosen[result.selector - 1], result.reason)
            new.append(result)

        runner([index + 1 for index in missing], keep)
        yield from ((result.selector - 1, result.reason) for result in new)

    def _bench(self, netlist: Netlist, chosen: list[Mutant], run: BenchRun, selectors: list[int], keep: _Keep) -> None:
        run_bench_on_mutants(build(netlist, chosen), run, selectors, self.jobs, keep, self.deadline)

    def _machine(
        self, netlist: Netlist, chosen: list[Mutant], run: BenchRun, selectors: list[int], keep: _Keep
    ) -> None:
        machine = variant(netlist, chosen, run.design)
        whole_machine.run_mutants(machine, selectors, self.jobs, keep, self.deadline)

    def _prove(
        self,
        netlist: Netlist,
        contract: equivalence.Contract,
        chosen: list[Mutant],
        candidates: list[int],
        settled: dict[int, Outcome],
        known: Known,
        settle: Callable[[int, str, str], None],
    ) -> None:
        for index in candidates:
            mutant = chosen[index]
            if index in settled or not self.proofs:
                continue
            key = content_key("proof", netlist.key, mutant.command, equivalence.REVISION, repr(contract))
            verdict = known.get(key)
            if verdict is None and not self._late():
                verdict = equivalence.decide(netlist, mutant, contract)
                known.put(key, verdict)
            if verdict == equivalence.EQUIVALENT:
                settle(index, EQUIVALENT, PROOF)

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline


@dataclass(frozen=True)
class Score:
    """Counts of a block."""

    mutants: int
    killed: int
    equivalent: int
    survived: int
    open: int

    @property
    def percent(self) -> float:
        """Killed of those that are not equivalent."""
        candidates = self.mutants - self.equivalent
        return 100 * self.killed / candidates if candidates else 100.0


def score(outcomes: Iterable[Outcome]) -> Score:
    """The counts of `outcomes`."""
    statuses = [outcome.status for outcome in outcomes]
    return Score(len(statuses), *(statuses.count(status) for status in (KILLED, EQUIVALENT, SURVIVED, OPEN)))


def save(folder: Path, block: str, outcomes: list[Outcome]) -> None:
    """Keep the outcomes of a block for the report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{block}.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")


def saved(folder: Path, block: str) -> list[Outcome] | None:
    """The outcomes that `save` kept; None where the block was not run."""
    path = folder / f"{block}.json"
    if not path.exists():
        return None
    return [
        Outcome(**{**entry, "mutant": Mutant(**{**entry["mutant"], "sources": tuple(entry["mutant"]["sources"])})})
        for entry in json.loads(path.read_text())
    ]
