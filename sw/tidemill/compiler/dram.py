"""Where tensors lie in DRAM: buffers of their own for what the host touches, one shared arena for the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from tidemill.compiler.ir import Graph, Host, ModelError, Move, Op, Tensor
from tidemill.compiler.memory import blocks_of
from tidemill.compiler.stream import aligned
from tidemill.config import Config

ARENA = "arena"


def row_shape(tensor: Tensor, config: Config) -> tuple[int, int, int]:
    """[blocks, pixels, dim] of a tensor in DRAM."""
    return blocks_of(tensor.channels, config), tensor.pixels, config.dim


def tensor_bytes(tensor: Tensor, config: Config) -> int:
    """Bytes of a tensor in DRAM."""
    return math.prod(row_shape(tensor, config)) * (4 if tensor.dtype == "int32" else 1)


@dataclass(frozen=True)
class Lifetime:
    """A tensor of the arena: needed from operation `first` to operation `last`, both included; `nbytes` aligned."""

    tensor: Tensor
    first: int
    last: int
    nbytes: int


@dataclass(frozen=True)
class DramPlan:
    """Offsets in the arena by `id(tensor)`; its size; the largest sum of tensors alive at once (no plan is smaller);
    and the tensors that have buffers of their own. `views` names the tensor whose place a reshaped tensor shares; such
    a reshape costs nothing."""

    offsets: dict[int, int]
    arena_bytes: int
    lower_bound: int
    own: dict[int, Tensor]
    lifetimes: tuple[Lifetime, ...]
    views: dict[int, Tensor]

    def is_view(self, op: Op) -> bool:
        """The operation only gives a tensor another shape; nothing is to be done."""
        return isinstance(op, Move) and self.root(op.y) is self.root(op.x)

    def root(self, tensor: Tensor) -> Tensor:
        """The tensor whose place this one has."""
        while id(tensor) in self.views:
            tensor = self.views[id(tensor)]
        return tensor


def on_npu(tensor: Tensor) -> bool:
    """The NPU can hold it."""
    return tensor.dtype in ("int8", "int32")


def plan_dram(graph: Graph, config: Config, keep_all: bool, planner: str = "greedy") -> DramPlan:
    """Offsets for every tensor that operations of the NPU exchange; `keep_all` gives each a buffer of its own.

    `planner` is one of PLANNERS. Raises ModelError for another one, or where its package is not installed.
    """
    place = PLANNERS.get(planner)
    if place is None:
        raise ModelError(f"planner must be one of {', '.join(PLANNERS)}, not {planner!r}")
    tensors: dict[int, Tensor] = {}
    own: dict[int, Tensor] = {}
    for op in graph.ops:
        for tensor in (*op.inputs, *op.outputs):
            if tensor.data is None and on_npu(tensor):
                tensors[id(tensor)] = tensor
                if isinstance(op, Host) or keep_all:
                    own[id(tensor)] = tensor
    border = [port.tensor for port in (*graph.inputs, *graph.outputs)]
    border += [tensor for state in graph.states for tensor in (state.read, state.write)]
    own |= {id(tensor): tensor for tensor in border if tensor.data is None and on_npu(tensor)}
    plan = DramPlan({}, 0, 0, own, (), _views(graph, own))
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, op in enumerate(graph.ops):
        for tensor in (*op.inputs, *op.outputs):
            key = id(plan.root(tensor))
            first.setdefault(key, number)
            last[key] = number
    lifetimes = [
        Lifetime(tensor, first[key], last[key], aligned(tensor_bytes(tensor, config)))
        for key, tensor in tensors.items()
        if key not in own and key not in plan.views
    ]
    offsets = place(lifetimes)
    size = max((offsets[id(life.tensor)] + life.nbytes for life in lifetimes), default=0)
    return replace(
        plan, offsets=offsets, arena_bytes=size, lower_bound=lower_bound(lifetimes), lifetimes=tuple(lifetimes)
    )


def _views(graph: Graph, own: dict[int, Tensor]) -> dict[int, Tensor]:
    """Reshapes that keep channels and pixels: each such tensor and the one whose place it takes."""
    views: dict[int, Tensor] = {}

    def root(tensor: Tensor) -> Tensor:
        while id(tensor) in views:
            tensor = views[id(tensor)]
        return tensor

    for op in graph.ops:
        if not isinstance(op, Move) or op.x.data is not None or op.x.channels != op.y.channels or not op.is_reshape:
            continue
        source, result = root(op.x), op.y
        if id(source) in own and id(result) in own:
            continue
        if id(result) in own:
            source, result = result, source
        views[id(result)] = source
    return views


def lower_bound(lifetimes: list[Lifetime]) -> int:
    """Bytes alive at once at the worst operation."""
    ends = range(max((life.last for life in lifetimes), default=-1) + 1)
    return max((sum(life.nbytes for life in lifetimes if life.first <= t <= life.last) for t in ends), default=0)


def first_fit(lifetimes: list[Lifetime]) -> dict[int, int]:
    """Largest first, each at the lowest offset where nothing alive at the same time lies (greedy by size:
    Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020)."""
    placed: list[tuple[int, Lifetime]] = []
    offsets: dict[int, int] = {}
    for life in sorted(lifetimes, key=lambda life: -life.nbytes):
        others = sorted(
            (start, start + other.nbytes)
            for start, other in placed
            if other.first <= life.last and life.first <= other.last
        )
        offset = 0
        for start, end in others:
            if offset + life.nbytes <= start:
                break
            offset = max(offset, end)
        placed.append((offset, life))
        offsets[id(life.tensor)] = offset
    return offsets


def _optimal(lifetimes: list[Lifetime]) -> dict[int, int]:
    try:
        from tidemill.compiler.dram_cpsat import optimal_fit
    except ImportError as error:
        raise ModelError(f"planner 'cpsat' needs a package that is not installed: {error}") from error
    return optimal_fit(lifetimes)


PLANNERS: dict[str, Callable[[list[Lifetime]], dict[int, int]]] = {"greedy": first_fit, "cpsat": _optimal}
"""How offsets in the arena are found."""
