"""Cases as files: assembly that people read and the assembler takes, with the rest of the case in a comment.

The comment `; case: {...}` is JSON: seed, address, windows, image and bus of the `Case`. Words that assembly cannot say
(an address outside the memory in a transfer of no rows, what follows `halt`) are `.word`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tidemill.asm.assembler import assemble_source
from tidemill.asm.diagnostics import AsmError
from tidemill.asm.disassembler import disassemble
from tidemill_verif.random_programs.case import Bus, Case

SUFFIX = ".tms"
_MARK = "; case: "


def to_text(case: Case, remarks: str = "") -> str:
    """The file of `case`; `remarks` become comments at its head."""
    fields = asdict(case)
    for name in ("config", "words"):
        del fields[name]
    lines = [f"; {remark}".rstrip() for remark in remarks.splitlines()]
    source = disassemble(case.program).splitlines()
    head = source[: len(source) - len(case.words)]
    body = [_line(head, line, word) for line, word in zip(source[-len(case.words) :], case.words, strict=True)]
    return "\n".join([*lines, _MARK + json.dumps(fields), *head, *body]) + "\n"


def _line(head: list[str], line: str, word: int) -> str:
    text = line.strip()
    if text.startswith(("loop", "endloop", ".word")):
        return line
    try:
        if assemble_source("\n".join([*head, line])).program.words == (word,):
            return line
    except AsmError:
        pass
    return f"    .word {word:#034x} ; {text}"


def from_text(text: str, name: str = "<text>") -> Case:
    """The case of a file. Raises `AsmError` for its assembly and `ValueError` where the comment is missing or wrong."""
    marked = [line for line in text.splitlines() if line.startswith(_MARK)]
    if len(marked) != 1:
        raise ValueError(f"{name}: has {len(marked)} lines that begin with {_MARK!r}; a saved program has one")
    fields = json.loads(marked[0][len(_MARK) :])
    program = assemble_source(text, name).program
    return Case(
        config=program.config,
        words=program.words,
        bus=Bus(**fields.pop("bus")),
        read_window=tuple(fields.pop("read_window")),
        write_window=tuple(fields.pop("write_window")),
        **fields,
    )


def save(case: Case, folder: Path, remarks: str = "") -> Path:
    """Write `case` into `folder` (made where missing) as PRESET-SEED.tms; returns the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.config.name}-{case.seed}{SUFFIX}"
    path.write_text(to_text(case, remarks), encoding="utf-8")
    return path


def load(path: Path) -> Case:
    """The case in a file that `save` wrote."""
    return from_text(path.read_text(encoding="utf-8"), str(path))
