"""Lines of assembly to tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tidemill.asm.diagnostics import Location, SourceError

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+)
    |(?P<comment>(;|\#|//).*)
    |(?P<float>\d+\.\d*([eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    |(?P<number>0[xX][0-9a-fA-F_]+|0[bB][01_]+|\d[\d_]*)
    |(?P<name>\.?[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<string>"([^"\\]|\\.)*")
    |(?P<punct><<|>>|[-+*/%&|()\[\],:=])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Token:
    """`kind` is name, number, float, string, punct or end."""

    kind: str
    text: str
    location: Location


def tokenize(file: str, line: int, text: str, included_from: Location | None = None) -> list[Token]:
    """Tokens of one line, closed by an `end` token. Raises SourceError."""
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        location = Location(file, line, position + 1, text, included_from)
        if match is None or match.lastgroup is None:
            what = (
                "string without closing quote" if text[position] == '"' else f"unexpected character {text[position]!r}"
            )
            raise SourceError(location, what)
        if match.lastgroup == "comment":
            break
        if match.lastgroup != "space":
            tokens.append(Token(match.lastgroup, match.group(), location))
        position = match.end()
    tokens.append(Token("end", "", Location(file, line, position + 1, text, included_from)))
    return tokens


def unquote(token: Token) -> str:
    """The content of a string token."""
    return re.sub(r"\\(.)", r"\1", token.text[1:-1])


def quote(text: str) -> str:
    """`text` as a string token."""
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
