"""Tokens to statements: labels, directives and instructions with expression trees as operands."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.asm.diagnostics import Location, SourceError
from tidemill.asm.lexer import Token, unquote


@dataclass(frozen=True)
class Number:
    """A literal; a float only in buffer data."""

    value: int | float
    location: Location


@dataclass(frozen=True)
class Name:
    """A constant, label, buffer, register, semaphore or enumeration value; `quoted` names are buffers or semaphores."""

    name: str
    quoted: bool
    location: Location


@dataclass(frozen=True)
class Unary:
    """Minus."""

    operand: Expression
    location: Location


@dataclass(frozen=True)
class Binary:
    """`left operator right`."""

    operator: str
    left: Expression
    right: Expression
    location: Location


@dataclass(frozen=True)
class Index:
    """`spad[...]`, `acc[...]` or `sem[...]`."""

    space: str
    inner: Expression
    location: Location


@dataclass(frozen=True)
class SizeOf:
    """`sizeof(buffer)`: its bytes."""

    inner: Expression
    location: Location


@dataclass(frozen=True)
class List:
    """`[a, b, ...]`, possibly nested."""

    items: tuple[Expression, ...]
    location: Location


Expression = Number | Name | Unary | Binary | Index | SizeOf | List


@dataclass(frozen=True)
class Operand:
    """One operand; `name` is empty for positional ones."""

    name: str
    value: Expression
    location: Location


@dataclass(frozen=True)
class Statement:
    """One line: an optional label, and a directive (name starts with a dot) or an instruction, or nothing."""

    label: str
    mnemonic: str
    operands: tuple[Operand, ...]
    location: Location
    """Where the mnemonic stands (the label, on a line with nothing else)."""


_LEVELS = (("|",), ("&",), ("<<", ">>"), ("+", "-"), ("*", "/", "%"))
_INDEXED = ("spad", "acc", "sem")


class Parser:
    """Recursive descent over the tokens of one line."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def statement(self) -> Statement | None:
        """The line's statement; None for an empty line. Raises SourceError."""
        label, first = "", self._peek()
        if first.kind == "end":
            return None
        if first.kind == "name" and self._tokens[1].text == ":":
            label = self._next().text
            self._next()
        head = self._peek()
        if head.kind == "end":
            return Statement(label, "", (), first.location)
        if head.kind != "name":
            raise SourceError(head.location, f"expected an instruction or a directive, not {head.text!r}")
        self._next()
        if head.text == ".const":
            return Statement(label, head.text, (self._constant(),), head.location)
        operands = []
        while self._peek().kind != "end":
            operands.append(self._operand())
            if self._peek().kind == "end":
                break
            self._expect(",", "',' between operands")
            if self._peek().kind == "end":
                raise SourceError(self._peek().location, "expected an operand after ','")
        return Statement(label, head.text, tuple(operands), head.location)

    def _constant(self) -> Operand:
        name = self._next()
        if name.kind != "name":
            raise SourceError(name.location, "expected a name: `.const N = expression`")
        self._expect("=", "'=': `.const N = expression`")
        value = self._expression()
        if self._peek().kind != "end":
            raise SourceError(self._peek().location, f"unexpected {self._peek().text!r} after the expression")
        return Operand(name.text, value, name.location)

    def _operand(self) -> Operand:
        first = self._peek()
        if first.kind == "name" and self._tokens[self._at + 1].text == "=":
            self._next()
            self._next()
            return Operand(first.text, self._expression(), first.location)
        return Operand("", self._expression(), first.location)

    def _expression(self, level: int = 0) -> Expression:
        if level == len(_LEVELS):
            return self._unary()
        left = self._expression(level + 1)
        while self._peek().kind == "punct" and self._peek().text in _LEVELS[level]:
            operator = self._next()
            left = Binary(operator.text, left, self._expression(level + 1), operator.location)
        return left

    def _unary(self) -> Expression:
        token = self._peek()
        if token.text == "-" and token.kind == "punct":
            self._next()
            return Unary(self._unary(), token.location)
        return self._primary()

    def _primary(self) -> Expression:
        token = self._next()
        if token.kind == "number":
            try:
                return Number(int(token.text, 0 if token.text[:2].lower() in ("0x", "0b") else 10), token.location)
            except ValueError:
                raise SourceError(token.location, f"{token.text!r} is not a number") from None
        if token.kind == "float":
            return Number(float(token.text), token.location)
        if token.kind == "string":
            return Name(unquote(token), True, token.location)
        if token.kind == "name" and token.text in _INDEXED and self._peek().text == "[":
            self._next()
            inner = self._expression()
            self._expect("]", "']'")
            return Index(token.text, inner, token.location)
        if token.kind == "name" and token.text == "sizeof":
            self._expect("(", "'(' after sizeof")
            inner = self._expression()
            self._expect(")", "')'")
            return SizeOf(inner, token.location)
        if token.kind == "name":
            return Name(token.text, False, token.location)
        if token.text == "(":
            inner = self._expression()
            self._expect(")", "')'")
            return inner
        if token.text == "[":
            return self._list(token)
        raise SourceError(token.location, f"expected an expression, not {token.text or 'end of line'!r}")

    def _list(self, opening: Token) -> Expression:
        items: list[Expression] = []
        while self._peek().text != "]":
            items.append(self._expression())
            if self._peek().text != "]":
                self._expect(",", "',' or ']' in the list")
        self._next()
        return List(tuple(items), opening.location)

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _expect(self, text: str, what: str) -> Token:
        token = self._next()
        if token.kind != "punct" or token.text != text:
            raise SourceError(token.location, f"expected {what}, not {token.text or 'end of line'!r}")
        return token
