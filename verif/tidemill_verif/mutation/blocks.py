"""The blocks: what is mutated, how often, and which benches look at it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tidemill_verif.bench_runs import FAMILIES, BenchRun
from tidemill_verif.mutation import MutationError
from tidemill_verif.mutation.equivalence import FREE, Contract

MORE_SEEDS = (101, 102, 103)
"""Seeds that a survivor of the regression's runs is tried with."""


@dataclass(frozen=True)
class Target:
    """One design of a block: that of the runs called `run` in the family `family` of `bench_runs`.

    Mutants come from cells of `files` (ends of paths), from all where empty; `share` weighs the block's targets.
    `contract` is what proofs may rely on. `alone`: the whole machine has no block like this design, so that it cannot
    try the mutants.
    """

    family: str
    run: str
    share: int = 1
    files: tuple[str, ...] = ()
    contract: Contract = FREE
    alone: bool = False

    def runs(self) -> tuple[list[BenchRun], list[BenchRun]]:
        """The regression's runs on this design, and the same bench with more seeds."""
        regular = [run for run in FAMILIES[self.family]() if run.name == self.run]
        return regular, [replace(regular[0], seed=seed) for seed in MORE_SEEDS]


@dataclass(frozen=True)
class Block:
    """`mutants` changes spread over `targets`, chosen with `seed`."""

    mutants: int
    targets: tuple[Target, ...]
    seed: int = 1

    def counts(self, mutants: int) -> list[int]:
        """How many of `mutants` each target gets."""
        total = sum(target.share for target in self.targets)
        return [max(1, round(mutants * target.share / total)) for target in self.targets]


_VECTOR = ("vector/engine.py", "vector/alu.py", "vector/operand.py", "vector/post.py")
_MATRIX = ("matrix/engine.py", "matrix/loader.py", "matrix/walker.py")
# The counters are 32 bits wide there: no simulation reaches their upper bits. They are mutated in a width that wraps,
# and proved in their full one.
_CONTROL = ("csr/control.py", "csr/axilite.py", "tidemill_hdl/interfaces.py", "contextlib.py")
# Its docstring: constant while values are under way; there is no fourth mode. It is a pipeline without feedback, so
# what it held before the last change of mode has no influence.
_REQUANTIZER = Contract(("mode", "preshift", "zero_point"), ("mode != 3",))

BLOCKS: dict[str, Block] = {
    "prims": Block(
        120,
        (
            Target("stream_buffers", "prims-skid-8", 2, alone=True),
            Target("stream_buffers", "prims-queue-2", 1, alone=True),
            Target("stream_buffers", "prims-queue-3", 2, alone=True),
            Target("stream_buffers", "prims-queue-5", 2, alone=True),
            Target("address_nest", "prims-nest-load", 3, alone=True),
            Target("address_nest", "prims-nest-narrow", 2, alone=True),
        ),
    ),
    "requantizer": Block(150, (Target("requantizer", "requantizer", contract=_REQUANTIZER),)),
    "vector": Block(200, (Target("vector_engine", "vector-engine-tiny", files=_VECTOR),)),
    "array": Block(
        200,
        (
            Target("systolic_array", "systolic_array-4x4-3", 3),
            Target("systolic_array", "systolic_array-3x5-2", 1, alone=True),
        ),
    ),
    "matrix": Block(150, (Target("matrix_engine", "matrix_engine-tiny", files=_MATRIX),)),
    "scratchpad": Block(100, (Target("scratchpad", "scratchpad-tiny"),)),
    "accumulators": Block(120, (Target("accumulators", "accumulators-tiny"),)),
    "sync": Block(120, (Target("sync", "sync-tiny", 2), Target("sync", "sync-narrow", 1, alone=True))),
    "frontend": Block(
        150, (Target("frontend", "frontend-tiny", 2), Target("frontend", "frontend-shallow", 1, alone=True))
    ),
    "load": Block(200, (Target("dma_load", "dma_load-tiny"),)),
    "store": Block(200, (Target("dma_store", "dma_store-tiny"),)),
    "gateway": Block(200, (Target("dma_gateway", "dma_gateway-tiny"),)),
    "control": Block(
        130, (Target("control", "control-tiny", 10, _CONTROL), Target("counters", "counters-5", 3, alone=True))
    ),
}
"""The queues of depth 2, 3 and 5 are different hardware; other shapes of a block repeat the same lines."""


def block(name: str) -> Block:
    """The block called `name`. Raises `MutationError` for an unknown name."""
    try:
        return BLOCKS[name]
    except KeyError:
        raise MutationError(f"unknown block {name!r}; the blocks are {', '.join(BLOCKS)}") from None
