"""Static check of a program: accesses outside memory, unordered accesses between engines, deadlocks.

Programs are data-independent, so the checker runs their control flow with real register values: what it finds is exact
for everything but semaphores with several signallers or waiters, where it assumes the least order (and warns).
"""

from __future__ import annotations

from tidemill.checker.findings import Finding
from tidemill.checker.order import check_order
from tidemill.checker.trace import MAX_INSTRUCTIONS, trace
from tidemill.program import Program

__all__ = ["MAX_INSTRUCTIONS", "Finding", "check"]


def check(program: Program, order: bool = True, max_instructions: int = MAX_INSTRUCTIONS) -> list[Finding]:
    """Every finding, in program order, errors before warnings. `order` false: only what single instructions do wrong.

    At most `max_instructions` instructions are executed; a longer program gets a warning that says so.
    """
    steps, findings = trace(program, max_instructions)
    if order:
        findings = findings + check_order(program, steps)
    unique = {(finding.kind, finding.index, finding.other): finding for finding in reversed(findings)}
    return sorted(unique.values(), key=lambda f: (f.severity, f.index, f.kind))
