"""A program before its engines are put in order: instructions, loops, and wishes for semaphores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tidemill_verif.random_programs.footprint import Agent, Footprint


class GeneratorError(Exception):
    """The instruction table has something that the generator has no rule for; the message names it."""


@dataclass
class Item:
    """One instruction; `values` without semaphores. `agent` is None for control instructions."""

    mnemonic: str
    values: dict[str, int]
    agent: Agent | None = None
    footprint: Footprint = field(default_factory=Footprint)


@dataclass
class Loop:
    """A loop that runs at least `least` and at most `most` times, with `values` of its `loop` instruction."""

    values: dict[str, int]
    least: int
    most: int
    body: list[Node] = field(default_factory=list)


@dataclass
class Tokens:
    """Semaphores for their own sake.

    `kind`: `join` (several engines signal one semaphore, one waits as often), `spread` (one signals several times,
    several wait), `mask` (one instruction signals many, one waits for all), `pile` (a semaphore is filled to its
    largest count and emptied).
    """

    kind: str


Node = Item | Loop | Tokens


def items(nodes: list[Node]) -> Iterator[Item]:
    """Every instruction of `nodes`, loop bodies included."""
    for node in nodes:
        if isinstance(node, Item):
            yield node
        elif isinstance(node, Loop):
            yield from items(node.body)


def size(nodes: list[Node]) -> int:
    """Instructions of `nodes`, loops and their ends included, tokens not."""
    return sum(2 + size(n.body) if isinstance(n, Loop) else isinstance(n, Item) for n in nodes)
