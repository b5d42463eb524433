"""`compile_graph`: from a graph to a compiled model, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tidemill.compiler.compiled import Border, CompiledModel, HostStep, NpuStep, OpInfo, Value, Variable
from tidemill.compiler.context import Context
from tidemill.compiler.dram import ARENA, DramPlan, plan_dram, row_shape
from tidemill.compiler.ir import Graph, Host, ModelError, Move, Port, Tensor
from tidemill.compiler.kernels import KERNELS
from tidemill.compiler.memory import OutOfRows
from tidemill.compiler.passes import run_passes
from tidemill.compiler.schedule import schedule
from tidemill.compiler.stream import Stream
from tidemill.config import Config
from tidemill.operands import BufferRef

Observer = Callable[[str, Any], None]
"""Called with the name of each finished stage and its result: graph, fused, dram, stream, program."""


def compile_graph(
    graph: Graph,
    config: Config,
    *,
    keep_all: bool = False,
    separate: bool = False,
    planner: str = "greedy",
    observer: Observer | None = None,
) -> CompiledModel:
    """Compile for one configuration.

    `keep_all` gives every tensor DRAM of its own, so that all can be read after a run (`CompiledModel.exposed`);
    `separate` ends a segment after every operation, so that each can be timed; `planner` is one of `dram.PLANNERS`.
    Raises ModelError where an operation does not fit the configuration or has no kernel.
    """
    tell = observer or (lambda _stage, _result: None)
    tell("graph", graph)
    graph = run_passes(graph, config, keep_exposed=keep_all)
    graph = _with_assignments(graph)
    tell("fused", graph)
    plan = plan_dram(graph, config, keep_all, planner)
    tell("dram", plan)
    stream = Stream(config)
    values = _Values(stream, config, plan)
    context = Context(config, stream, values.locate)
    groups: list[list[int]] = []
    previous_host = True
    for number, op in enumerate(graph.ops):
        if isinstance(op, Host):
            if groups and not previous_host:
                stream.end_segment()
            previous_host = True
            continue
        if plan.is_view(op):
            continue
        if previous_host or separate:
            if groups and not previous_host:
                stream.end_segment()
            groups.append([])
        previous_host = False
        groups[-1].append(number)
        with stream.operation(number):
            try:
                KERNELS[type(op)](context, op)
            except OutOfRows as error:
                raise ModelError(f"node {op.name!r} ({op.source}) does not fit {config.name!r}: {error}") from error
    if groups and not previous_host:
        stream.end_segment()
    tell("stream", stream)
    scheduled = schedule(stream, [op.name for op in graph.ops])
    tell("program", scheduled)
    npu_steps = {
        ops[0]: NpuStep(segment.first, segment.count, segment.estimate, tuple(ops))
        for ops, segment in zip(groups, scheduled.segments, strict=True)
    }
    steps: list[NpuStep | HostStep] = []
    for number, op in enumerate(graph.ops):
        if number in npu_steps:
            steps.append(npu_steps[number])
        elif isinstance(op, Host):
            inputs = tuple(values.number(t) if t.data is None else t.data for t in op.inputs)
            outputs = tuple(values.number(t) for t in op.outputs)
            steps.append(HostStep(number, op.function, op.attributes, inputs, outputs))
    ops = tuple(OpInfo(op.name, op.source, type(op).__name__, op.macs) for op in graph.ops)
    variables = tuple(
        Variable(state.name, values.number(state.read), np.asarray(state.initial, np.int8)) for state in graph.states
    )
    exposed = [port for port in graph.exposed if values.known(port.tensor)] if keep_all else []
    return CompiledModel(
        name=graph.name,
        program=scheduled.program,
        steps=tuple(steps),
        inputs=tuple(values.border(port) for port in graph.inputs),
        outputs=tuple(values.border(port) for port in graph.outputs),
        exposed=tuple(values.border(port) for port in exposed),
        values=tuple(values.all),
        variables=variables,
        ops=ops,
        arena_bytes=plan.arena_bytes,
        arena_bound=plan.lower_bound,
    )


def _with_assignments(graph: Graph) -> Graph:
    """Append the copy of each variable's new value over its old one."""
    moves: list[Any] = []
    for state in graph.states:
        if state.write is not state.read:
            index = np.arange(state.read.size, dtype=np.int64).reshape(state.read.shape)
            moves.append(Move(f"{state.name} (assign)", "ASSIGN", [state.write], [state.read], index))
    return Graph(graph.name, [*graph.ops, *moves], graph.inputs, graph.outputs, graph.states, graph.exposed)


class _Values:
    """Numbers and buffers of tensors."""

    def __init__(self, stream: Stream, config: Config, plan: DramPlan) -> None:
        self._stream, self._config, self._plan = stream, config, plan
        self._numbers: dict[int, int] = {}
        self._keep: list[Tensor] = []
        self.all: list[Value] = []
        self._refs: dict[int, BufferRef] = {}
        self._arena = stream.buffer(ARENA, "int8", (plan.arena_bytes,)) if plan.arena_bytes else None
        for tensor in plan.own.values():
            self.number(tensor)

    def known(self, tensor: Tensor) -> bool:
        """The tensor has a value of its own that can be read after a run."""
        return id(tensor) in self._numbers or tensor.data is not None

    def number(self, tensor: Tensor) -> int:
        """The number of a border, host or kept tensor."""
        key = id(tensor)
        if key not in self._numbers:
            buffer = None
            if key in self._plan.own:
                buffer = f"t{len(self.all)}.{tensor.name}"
                self._refs[key] = self._stream.buffer(buffer, tensor.dtype, row_shape(tensor, self._config))
            self._numbers[key] = len(self.all)
            self._keep.append(tensor)
            self.all.append(Value(tensor.name, tensor.shape, tensor.dtype, buffer, tensor.data))
        return self._numbers[key]

    def locate(self, tensor: Tensor) -> BufferRef:
        """Where an NPU tensor lies."""
        key = id(self._plan.root(tensor))
        if key in self._refs:
            return self._refs[key]
        if key not in self._plan.offsets or self._arena is None:
            raise ModelError(f"tensor {tensor.name!r} ({tensor.dtype}) cannot be used by the NPU")
        return self._arena + self._plan.offsets[key]

    def border(self, port: Port) -> Border:
        """A port with its value's number."""
        return Border(
            port.name, self.number(port.tensor), port.shape, port.dtype, port.scale, port.zero_point, port.offset,
            port.index, port.fill,
        )  # fmt: skip
