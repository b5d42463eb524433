"""What the runs showed: tables for terminals and the page `docs/verification/proofs.md`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from tidemill_verif.formal.engine import Outcome
from tidemill_verif.formal.proof import Proof, Twin

BEGIN, END = "<!-- generated: make formal -->", "<!-- end of generated -->"


@dataclass(frozen=True)
class Run:
    """A finished run: of a proof, or of one of its twins. `problem` replaces an outcome that did not come."""

    block: str
    proof: Proof
    twin: Twin | None
    outcome: Outcome
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether the proof holds, or the twin fails as it must."""
        if self.problem:
            return False
        return self.twin.breaks in self.outcome.failed if self.twin else not self.outcome.failed


def method(proof: Proof, outcome: Outcome) -> str:
    """How the properties of a proof were shown."""
    if outcome.k is None:
        return f"bounded, {proof.depth - 1} cycles"
    return f"induction, k = {outcome.k}"


def _seconds(outcome: Outcome) -> str:
    return f"{outcome.seconds:.1f} s" + (" (kept)" if outcome.cached else "")


def property_table(runs: Sequence[Run]) -> Table:
    """A line for each property; the processor time is that of its whole proof."""
    table = Table("block", "proof", "property", "method", "CPU time", "result")
    for run in runs:
        if run.twin:
            continue
        names = [*run.proof.properties, *(name for name in run.outcome.failed if name not in run.proof.properties)]
        for name in names:
            result = "no result" if run.problem else run.outcome.failed.get(name, "proved")
            if result == "proved" and not run.good:
                result = "not decided"
            table.add_row(
                run.block,
                run.proof.name,
                name,
                "" if run.problem else method(run.proof, run.outcome),
                _seconds(run.outcome),
                result,
            )
    return table


def twin_table(runs: Sequence[Run]) -> Table:
    """A line for each broken copy."""
    table = Table("block", "proof", "broken copy must violate", "changed", "CPU time", "result")
    for run in runs:
        if run.twin:
            missed = "no result" if run.problem else "NOT NOTICED"
            result = f"fails in step {run.outcome.depth}" if run.good else missed
            place = f"{run.twin.file}: {' '.join(run.twin.new.split())[:50]}"
            table.add_row(run.block, run.proof.name, run.twin.breaks, escape(place), _seconds(run.outcome), result)
    return table


def page(text: str, runs: Sequence[Run]) -> str:
    """`text` with the part between `BEGIN` and `END` made from `runs`: a table of properties for each block."""
    twins = {(run.block, run.proof.name, run.twin.breaks): run for run in runs if run.twin and run.good}
    proved = [run for run in runs if not run.twin and run.good]
    count = sum(len(run.proof.properties) for run in proved)
    blocks = list(dict.fromkeys(run.block for run in proved))
    broken_count = len(twins)
    total = sum(run.outcome.seconds for run in runs) / 60
    lines = [BEGIN, f"{count} properties of {len(blocks)} blocks are proved; {broken_count} broken copies fail."]
    lines += [f"All runs together took {total:.1f} minutes of processor time.", ""]
    for block in blocks:
        lines += [f"### {block}", "", "| proof | property | says | shown by | CPU time | broken copy fails in |"]
        lines += ["|---|---|---|---|---|---|"]
        for run in (run for run in proved if run.block == block):
            for name, says in run.proof.properties.items():
                broken = twins.get((block, run.proof.name, name))
                step = f"step {broken.outcome.depth}" if broken else "not run"
                time = f"{run.outcome.seconds:.1f} s"
                how = method(run.proof, run.outcome)
                lines.append(f"| {run.proof.name} | `{name}` | {says} | {how} | {time} | {step} |")
        lines.append("")
    before, rest = text.split(BEGIN)
    return before + "\n".join([*lines, END]) + rest.split(END)[1]
