"""Messages about assembly source: where, what, and what would have been right."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ERRORS = 20
"""Errors one run reports before it gives up."""


@dataclass(frozen=True)
class Location:
    """A place in a source file; `line` and `column` count from 1. `included_from` is the place of the `.include`."""

    file: str
    line: int
    column: int
    text: str
    included_from: Location | None = None


@dataclass(frozen=True)
class Diagnostic:
    """One message; `severity` is "error" or "warning"."""

    location: Location
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        at = self.location
        stack, outer = [], at.included_from
        while outer is not None:
            stack.append(f"{outer.file}:{outer.line}: included from here")
            outer = outer.included_from
        indent = "".join("\t" if char == "\t" else " " for char in at.text[: at.column - 1])
        return "\n".join(
            [
                *reversed(stack),
                f"{at.file}:{at.line}:{at.column}: {self.severity}: {self.message}",
                f"  {at.text}",
                f"  {indent}^",
            ]
        )


class AsmError(Exception):
    """Source that does not assemble; `diagnostics` holds every message."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = diagnostics
        super().__init__("\n".join(str(diagnostic) for diagnostic in diagnostics))


class SourceError(Exception):
    """One error while reading a statement; collected into AsmError."""

    def __init__(self, location: Location, message: str) -> None:
        super().__init__(message)
        self.diagnostic = Diagnostic(location, message)
