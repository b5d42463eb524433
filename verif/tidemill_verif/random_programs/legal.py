"""Whether a program is still legal after it was changed, and who wrote what."""

from __future__ import annotations

import numpy as np

from tidemill.checker import MAX_INSTRUCTIONS, check
from tidemill.checker.access import Access
from tidemill.checker.trace import Step, trace
from tidemill.program import Program
from tidemill_verif.random_programs.lockstep import Difference

Pair = tuple[int, int]


def unordered(program: Program) -> set[Pair] | None:
    """Pairs of instructions whose accesses the checker does not see ordered; None where it finds any other error, or a
    vector operation whose destination overlaps an operand in a way without a defined result."""
    errors = [finding for finding in check(program) if finding.severity == "error"]
    if any(finding.kind != "unordered access" or finding.other is None for finding in errors):
        return None
    if any(_overlaps(step) for step in trace(program, MAX_INSTRUCTIONS)[0]):
        return None
    return {(finding.index, finding.other) for finding in errors if finding.other is not None}


def _overlaps(step: Step) -> bool:
    writes = [access for access in step.accesses if access.write]
    reads = [access for access in step.accesses if not access.write]
    if not step.mnemonic.startswith("vx.") or not writes:
        return False
    return any(
        read.space == writes[0].space
        and not _in_place(read, writes[0])
        and bool(np.intersect1d(read.nest.elements(), writes[0].nest.elements()).size)
        for read in reads
    )


def _in_place(read: Access, write: Access) -> bool:
    """Whether each point reads exactly the row that it writes, and no other point has it."""
    inner, window = read.nest.dims[:2], read.nest.dims[2:]
    points = write.nest.dims[0][0] * write.nest.dims[1][0]
    return (
        read.nest.start == write.nest.start
        and all(count == 1 for count, _ in window)
        and all(n == 1 or s == t for (n, s), (_, t) in zip(inner, write.nest.dims, strict=True))
        and len(write.nest.elements()) == points
    )


def writer_of(program: Program, difference: Difference) -> int | None:
    """Index of the instruction that wrote the differing byte last, in program order; None where no one did."""
    if difference.at is None:
        return None
    if isinstance(difference.at, int):
        space, place = "dram", difference.at
    else:
        space, place = difference.place, difference.at[0]
    for step in reversed(trace(program, MAX_INSTRUCTIONS)[0]):
        for access in step.accesses:
            if access.write and access.space == space:
                starts = access.nest.starts()
                before = int(np.searchsorted(starts, place, side="right")) - 1
                if before >= 0 and place < starts[before] + access.nest.run:
                    return step.index
    return None
