"""A compiled model: one program, what runs when, where the borders are. All of it can be written to a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.config import Config
from tidemill.program import Program


@dataclass(frozen=True)
class Value:
    """A tensor of the run: shape and dtype, the buffer of the program that holds it (None: only on the host), and what
    it always is (`data`, of a constant on the host)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: str | None
    data: NDArray[Any] | None = None


@dataclass(frozen=True)
class Border:
    """An input or output: `ir.Port` with the value's number instead of the tensor."""

    name: str
    value: int
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int
    offset: int
    index: NDArray[np.int64] | None
    fill: int


@dataclass(frozen=True)
class Variable:
    """A state: the value that holds it between calls, and its content before the first."""

    name: str
    value: int
    initial: NDArray[np.int8]


@dataclass(frozen=True)
class NpuStep:
    """Run instructions `first .. first + count - 1`. `ops` are the numbers of its operations; `estimate` in cycles."""

    first: int
    count: int
    estimate: int
    ops: tuple[int, ...]


@dataclass(frozen=True)
class HostStep:
    """Run a host function on values (numbers), giving values. Constants are arrays."""

    op: int
    function: str
    attributes: dict[str, Any]
    inputs: tuple[int | NDArray[Any], ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class OpInfo:
    """What the report says of an operation: its node, kind and useful multiply-accumulates."""

    name: str
    source: str
    kind: str
    macs: int


@dataclass(frozen=True)
class CompiledModel:
    """Output of the compiler.

    `arena_bytes` is the activation memory of the plan, `arena_bound` the bytes alive at once at the worst operation.
    """

    name: str
    program: Program
    steps: tuple[NpuStep | HostStep, ...]
    values: tuple[Value, ...]
    inputs: tuple[Border, ...]
    outputs: tuple[Border, ...]
    exposed: tuple[Border, ...]
    variables: tuple[Variable, ...]
    ops: tuple[OpInfo, ...]
    arena_bytes: int
    arena_bound: int

    @property
    def config(self) -> Config:
        """The configuration it runs on."""
        return self.program.config
