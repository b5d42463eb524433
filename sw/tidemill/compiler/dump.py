"""The stages of the compiler as text: what `tidemill compile --dump STAGE` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tidemill.asm.disassembler import disassemble, format_instruction
from tidemill.compiler.dram import DramPlan
from tidemill.compiler.ir import Conv2D, Graph, Port
from tidemill.compiler.kernels.conv import describe_conv
from tidemill.compiler.kernels.conv_plan import ConvPlan
from tidemill.compiler.schedule import Scheduled
from tidemill.compiler.stream import Stream
from tidemill.config import Config


class Dump:
    """An observer of `compile_graph` that keeps the text of one stage, one of STAGES."""

    def __init__(self, stage: str, config: Config) -> None:
        self.stage, self.text = stage, ""
        self._config = config

    def __call__(self, stage: str, result: Any) -> None:
        """A stage has finished."""
        source, describe = STAGES[self.stage]
        if stage == source:
            self.text = "\n".join(describe(result, self._config)) + "\n"


def _port(port: Port, kind: str) -> str:
    scale = "" if port.scale is None else f", scale {port.scale:.8g}, zero point {port.zero_point}"
    order = "" if port.index is None else ", reordered by the host"
    return f"{kind} {port.name}: {port.dtype}{list(port.shape)}{scale} -> {port.tensor!r}{order}"


def _graph(graph: Graph, _: Config) -> Iterator[str]:
    """One operation a line, with what its inputs and outputs are."""
    yield f"graph {graph.name}"
    yield from (_port(port, "input") for port in graph.inputs)
    for state in graph.states:
        yield f"variable {state.name}: {state.read!r}, written by {state.write.name}"
    for number, op in enumerate(graph.ops):
        outputs = ", ".join(repr(tensor) for tensor in op.outputs)
        inputs = ", ".join(tensor.name for tensor in op.inputs)
        macs = f"  {op.macs:,} MACs" if op.macs else ""
        yield f"{number:4} {outputs} = {type(op).__name__}({inputs})  [{op.source} {op.name}]{macs}"
    yield from (_port(port, "output") for port in graph.outputs)


def _dram(plan: DramPlan, _: Config) -> Iterator[str]:
    """The arena's tensors by operation, and the buffers of their own."""
    yield f"arena {plan.arena_bytes} bytes, lower bound {plan.lower_bound}"
    for life in plan.lifetimes:
        offset = plan.offsets[id(life.tensor)]
        alive = f"operations {life.first}..{life.last}"
        yield f"  {offset:8} .. {offset + life.nbytes - 1:8}  {alive:22} {life.tensor!r}"
    for tensor in plan.own.values():
        yield f"  own buffer  {tensor!r}"
    if plan.views:
        yield f"  {len(plan.views)} reshaped tensors share the place of another"


def _tiles(graph: Graph, config: Config) -> Iterator[str]:
    """How every convolution is cut."""
    for number, op in enumerate(graph.ops):
        if isinstance(op, Conv2D):
            yield f"{number:4} {op.name}: {_plan(describe_conv(op, config))}"
        else:
            yield f"{number:4} {op.name}: {type(op).__name__}, pieces of rows"


def _plan(plan: ConvPlan) -> str:
    tile = f"{plan.images} x {plan.rows} x {plan.columns} pixels of {plan.out_blocks} output blocks"
    chunk = f"{plan.in_blocks} input blocks, {plan.taps_y} x {plan.taps_x} taps"
    cost = f"read {plan.read}, matrix {plan.matrix}, vector {plan.vector}, write {plan.write} of {plan.total} cycles"
    return f"{plan.path.value}, {plan.order.value}; tile {tile}, {chunk}; estimate: {cost}"


def _stream(stream: Stream, _: Config) -> Iterator[str]:
    """The instructions in program order, without semaphores."""
    ends = set(stream.ends)
    for number, instruction in enumerate(stream.instructions):
        text = format_instruction(instruction.word, (), {"dram": instruction.buffer} if instruction.buffer else None)
        yield f"{number:6} op {instruction.op:4} {instruction.cycles:6} cycles  {text}"
        if number + 1 in ends:
            yield "       end of segment"


def _program(scheduled: Scheduled, _: Config) -> Iterator[str]:
    """Assembly source."""
    for number, segment in enumerate(scheduled.segments):
        last = segment.first + segment.count - 1
        yield f"; segment {number}: instructions {segment.first} to {last}, about {segment.estimate} cycles"
    yield disassemble(scheduled.program).rstrip()


STAGES: dict[str, tuple[str, Callable[[Any, Config], Iterator[str]]]] = {
    "graph": ("graph", _graph),
    "fused": ("fused", _graph),
    "dram": ("dram", _dram),
    "tiles": ("fused", _tiles),
    "stream": ("stream", _stream),
    "program": ("program", _program),
}
"""What is printed: the stage of `compile_graph` it follows from, and its lines."""
