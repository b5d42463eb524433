"""What the checker reports."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.isa import BY_OPCODE
from tidemill.program import Program


@dataclass(frozen=True)
class Finding:
    """One problem. `index` is the instruction it belongs to, `other` the second one where two are involved."""

    severity: str
    """"error" or "warning"."""
    kind: str
    """A short stable name: "unordered access", "deadlock", "LOCAL_RANGE", ..."""
    message: str
    index: int
    other: int | None = None


def where(program: Program, index: int) -> str:
    """The instruction for a message: `k.s:12 (ld.run)`, or `instruction 7 (ld.run)` without source."""
    op = BY_OPCODE.get(program.words[index] & 0xFF)
    name = op.mnemonic if op is not None else ".word"
    if program.source and program.source[index].line:
        return f"{program.source[index].file}:{program.source[index].line} ({name})"
    return f"instruction {index} ({name})"
