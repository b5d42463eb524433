"""Where the cycles of a network go: one row an operation, and the totals of the program in which they overlap.

Each operation is timed by itself (`compile_graph(..., separate=True)`): its cycles include filling and draining the
engines. In the whole program operations overlap, so it takes fewer cycles than the sum.

What bounds an operation (`bound`) follows from its counters: where one engine is busy for at least BOUND_SHARE of the
cycles, it is that engine, or "memory" where the load engine waits for read data most of its busy time; else "fetch"
where the frontend waits for instructions for half of the cycles; else "latency": engines wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from tidemill.compiler.compiled import CompiledModel, NpuStep
from tidemill.compiler.dram import ARENA
from tidemill.compiler.runtime import Call
from tidemill.isa import INSTRUCTION_BYTES
from tidemill.profile import BUSY

BOUND_SHARE = 0.6
"""Share of the cycles for which an engine is busy that bounds an operation."""


@dataclass(frozen=True)
class Layer:
    """One operation. `where` is npu or host; `seconds` is host time; `bound` is empty for work without cycles."""

    name: str
    source: str
    kind: str
    where: str
    cycles: int = 0
    macs: int = 0
    utilization: float = 0.0
    read_bytes: int = 0
    write_bytes: int = 0
    bound: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """Rows and totals. `cycles`, `utilization` and bytes are those of the whole program; `overlap_gain` is the sum of
    the rows' cycles divided by them. `arena_bytes` is the memory of intermediate activations, `arena_bound` the least
    that any plan needs, `border_bytes` inputs, outputs and what the host touches."""

    model: str
    preset: str
    layers: tuple[Layer, ...]
    cycles: int
    macs: int
    utilization: float
    read_bytes: int
    write_bytes: int
    overlap_gain: float
    host_seconds: float
    arena_bytes: int
    arena_bound: int
    border_bytes: int
    constant_bytes: int
    program_bytes: int
    instructions: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return asdict(self)

    def table(self) -> Table:
        """For a terminal."""
        table = Table(title=f"{self.model} on {self.preset}")
        for heading in ("operation", "kind", "cycles", "MACs", "utilization", "read", "written", "bound by"):
            table.add_column(heading, justify="left" if heading in ("operation", "kind", "bound by") else "right")
        for layer in self.layers:
            if layer.where == "host":
                cells = ["", "", "", "", "", f"host, {layer.seconds * 1e3:.2f} ms"]
            else:
                cells = [
                    f"{layer.cycles:,}", f"{layer.macs:,}", f"{layer.utilization:.1%}", f"{layer.read_bytes:,}",
                    f"{layer.write_bytes:,}", layer.bound,
                ]  # fmt: skip
            table.add_row(layer.name, layer.source, *cells)
        table.add_section()
        table.add_row(
            "whole program", "", f"{self.cycles:,}", f"{self.macs:,}", f"{self.utilization:.1%}",
            f"{self.read_bytes:,}", f"{self.write_bytes:,}", f"overlap gains {self.overlap_gain:.2f}x",
        )  # fmt: skip
        table.caption = (
            f"activations {self.arena_bytes:,} bytes (bound {self.arena_bound:,}) and {self.border_bytes:,} at the "
            f"borders; constants {self.constant_bytes:,}; program {self.program_bytes:,} bytes, "
            f"{self.instructions:,} instructions"
        )
        return table


def layer_report(whole: CompiledModel, call: Call, separate: CompiledModel, parts: Call) -> Report:
    """The report of a model, with its call, and of the same model compiled with `separate`, with its call."""
    return _report(whole, call, _layers(separate, parts))


def step_report(model: CompiledModel, call: Call) -> Report:
    """The report of a model alone: a row for each segment, named after its first and last operation."""
    return _report(model, call, _layers(model, call))


def bound_by(counters: Mapping[str, int]) -> str:
    """What limits an operation with these counters: matrix, vector, load, store, memory, fetch or latency."""
    cycles = counters["CYCLES"]
    busiest = max(BUSY, key=lambda name: counters[name])
    if counters[busiest] >= BOUND_SHARE * cycles:
        waiting = busiest == "BUSY_LOAD" and 2 * counters["BUS_READ_WAIT"] > counters[busiest]
        return "memory" if waiting else BUSY[busiest]
    return "fetch" if 2 * counters["FETCH_WAIT"] >= cycles else "latency"


def size_line(model: CompiledModel) -> str:
    """What a compiled model takes, in one line."""
    host = sum(not isinstance(step, NpuStep) for step in model.steps)
    constants = sum(decl.nbytes for decl in model.program.buffers.values() if decl.data is not None)
    return (
        f"{model.config.name}, {len(model.ops)} operations ({host} on the host), "
        f"{len(model.program.words):,} instructions, {constants:,} bytes of constants, "
        f"{model.arena_bytes:,} of activations (bound {model.arena_bound:,})"
    )


def _layers(model: CompiledModel, call: Call) -> tuple[Layer, ...]:
    bus = model.config.axi_bytes
    npu, host = iter(call.counters), iter(call.host_seconds)
    layers = []
    for step in model.steps:
        if not isinstance(step, NpuStep):
            info = model.ops[step.op]
            layers.append(Layer(info.name, info.source, step.function, "host", seconds=next(host)[1]))
            continue
        counters = next(npu)[1]
        infos = [model.ops[number] for number in step.ops]
        macs, cycles = sum(info.macs for info in infos), counters["CYCLES"]
        name, source, kind = infos[0].name, infos[0].source, infos[0].kind
        if len(infos) > 1:
            name, source, kind = f"{name} .. {infos[-1].name}", f"{len(infos)} operations", "segment"
        layers.append(
            Layer(
                name, source, kind, "npu", cycles, macs, _utilization(model, macs, cycles),
                counters["READ_BEATS"] * bus, counters["WRITE_BEATS"] * bus, bound_by(counters),
            )
        )  # fmt: skip
    return tuple(layers)


def _utilization(model: CompiledModel, macs: int, cycles: int) -> float:
    return macs / (cycles * model.config.peak_macs_per_cycle) if cycles else 0.0


def _report(model: CompiledModel, call: Call, layers: tuple[Layer, ...]) -> Report:
    bus = model.config.axi_bytes
    buffers = model.program.buffers.values()
    macs = sum(info.macs for info in model.ops)
    apart = sum(layer.cycles for layer in layers)
    return Report(
        model=model.name,
        preset=model.config.name,
        layers=layers,
        cycles=call.cycles,
        macs=macs,
        utilization=_utilization(model, macs, call.cycles),
        read_bytes=sum(counters["READ_BEATS"] for _, counters in call.counters) * bus,
        write_bytes=sum(counters["WRITE_BEATS"] for _, counters in call.counters) * bus,
        overlap_gain=apart / call.cycles if call.cycles else 1.0,
        host_seconds=sum(seconds for _, seconds in call.host_seconds),
        arena_bytes=model.arena_bytes,
        arena_bound=model.arena_bound,
        border_bytes=sum(b.nbytes for b in buffers if b.data is None and b.name != ARENA),
        constant_bytes=sum(b.nbytes for b in buffers if b.data is not None),
        program_bytes=len(model.program.words) * INSTRUCTION_BYTES,
        instructions=len(model.program.words),
    )
