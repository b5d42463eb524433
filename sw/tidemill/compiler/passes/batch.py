"""Several inferences as one graph: every tensor becomes n copies along its first axis."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.ir import Add, Graph, Host, MatMul, MinMax, ModelError, Move, Mul, Op, Port, Tensor

Index = NDArray[np.int64]


def batched(graph: Graph, count: int) -> Graph:
    """The graph that computes `count` inferences at once: ports take and give arrays with `count` times the first
    axis. Weights are then loaded once for all, and small layers fill the array.

    Raises ModelError for graphs with variables, host operations and shapes whose first axis is no batch axis.
    """
    if count < 1:
        raise ModelError(f"{graph.name}: batch must be at least 1, not {count}")
    if count == 1:
        return graph
    if graph.states:
        raise ModelError(f"{graph.name}: a model with variables runs one step at a time; batch must be 1, not {count}")
    return _Batch(graph.name, count).graph(graph)


class _Batch:
    def __init__(self, name: str, count: int) -> None:
        self.name, self.count = name, count
        self._tensors: dict[int, Tensor] = {}

    def graph(self, graph: Graph) -> Graph:
        return Graph(
            graph.name,
            [self._op(op) for op in graph.ops],
            [self._input(port) for port in graph.inputs],
            [self._output(port) for port in graph.outputs],
            [],
            [self._output(port) for port in graph.exposed if port.tensor.data is None],
        )

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            return (self.count, *(shape or (1,)))
        return (self.count * shape[0], *shape[1:])

    def _tensor(self, tensor: Tensor) -> Tensor:
        if tensor.data is not None:
            return tensor
        if id(tensor) not in self._tensors:
            self._tensors[id(tensor)] = replace(tensor, shape=self._shape(tensor.shape))
        return self._tensors[id(tensor)]

    def _op(self, op: Op) -> Op:
        where = f"{self.name}: node {op.name!r} ({op.source})"
        if isinstance(op, Host):
            raise ModelError(f"{where} runs on the host, which takes one inference at a time; batch must be 1")
        if isinstance(op, (Add, Mul, MinMax)) and not all(self._broadcasts(op, tensor) for tensor in op.inputs):
            raise ModelError(f"{where}: operands without a batch axis; batch must be 1")
        if isinstance(op, MatMul) and (len(op.y.shape) < 3 or any(t.data is not None for t in op.inputs)):
            raise ModelError(f"{where}: a product of two activations without a batch axis; batch must be 1")
        changes: dict[str, Any] = {
            "inputs": [self._tensor(tensor) for tensor in op.inputs],
            "outputs": [self._tensor(tensor) for tensor in op.outputs],
        }
        if isinstance(op, Move):
            changes["index"] = self._index(op).reshape(changes["outputs"][0].shape)
        return replace(op, **changes)

    def _broadcasts(self, op: Op, tensor: Tensor) -> bool:
        """Copies along the first axis meet each other: same rank and a first axis of 1, or a constant below."""
        rank = len(op.y.shape)
        if rank < 2 or op.y.shape[0] != 1:
            return tensor.data is None and tensor.shape == op.y.shape
        return (
            len(tensor.shape) < rank or tensor.shape[0] == 1 if tensor.data is not None else len(tensor.shape) == rank
        )

    def _index(self, op: Move) -> Index:
        sizes = [tensor.size for tensor in op.inputs]
        copies = [1 if tensor.data is not None else self.count for tensor in op.inputs]
        old = np.concatenate(([0], np.cumsum(sizes)))
        new = np.concatenate(([0], np.cumsum([size * n for size, n in zip(sizes, copies, strict=True)])))
        flat = op.index.reshape(-1)
        source = np.clip(np.searchsorted(old, flat, side="right") - 1, 0, len(sizes) - 1)
        first = np.where(flat < 0, -1, new[source] + flat - old[source])
        step = np.where(
            flat < 0, 0, np.array([size if n > 1 else 0 for size, n in zip(sizes, copies, strict=True)])[source]
        )
        return np.concatenate([first + step * number for number in range(self.count)])

    def _input(self, port: Port) -> Port:
        tensor = self._tensor(port.tensor)
        return replace(self._port(port, math.prod(port.shape), tensor.shape), tensor=tensor)

    def _output(self, port: Port) -> Port:
        if port.tensor.data is not None:
            raise ModelError(f"{self.name}: output {port.name!r} is a constant; batch must be 1")
        return replace(self._port(port, port.tensor.size, (-1,)), tensor=self._tensor(port.tensor))

    def _port(self, port: Port, size: int, index_shape: tuple[int, ...]) -> Port:
        """The port with a longer first axis; its index moves by `size` from copy to copy."""
        index = port.index
        if index is not None:
            flat = index.reshape(-1)
            copies = [np.where(flat < 0, -1, flat + number * size) for number in range(self.count)]
            index = np.concatenate(copies).reshape(index_shape)
        return replace(port, shape=self._shape(port.shape), index=index)
