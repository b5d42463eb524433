"""Runs compiled models: borders, states, NPU segments and host operations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.compiler.compiled import Border, CompiledModel, HostStep, NpuStep
from tidemill.compiler.host import FUNCTIONS
from tidemill.compiler.memory import pack, unpack
from tidemill.compiler.ports import InputError, encode, from_tensor
from tidemill.driver.npu import LoadedProgram, Npu

Array = NDArray[Any]
Inputs = Mapping[str, ArrayLike] | Sequence[ArrayLike] | ArrayLike
"""Of one inference: arrays by name, in order, or the one array."""

TIMEOUT_FACTOR = 50
TIMEOUT_BASE = 2_000_000
"""A segment is stopped after TIMEOUT_FACTOR times its estimate plus TIMEOUT_BASE cycles: slow memories included."""
SEQUENTIAL_FACTOR = 20
"""So many times later on a sequential NPU: estimates are those of engines side by side."""


@dataclass
class Call:
    """What one inference took: outputs by name, cycles on the NPU, counters per segment and seconds per host operation
    (in step order)."""

    outputs: dict[str, Array]
    cycles: int = 0
    counters: list[tuple[NpuStep, dict[str, int]]] = field(default_factory=list)
    host_seconds: list[tuple[HostStep, float]] = field(default_factory=list)


def named_inputs(model: CompiledModel, inputs: Inputs) -> list[tuple[Border, Array]]:
    """Each input of the model with its array, given by name, in order, or as the one array. Raises InputError."""
    borders = model.inputs
    if isinstance(inputs, Mapping):
        names = [border.name for border in borders]
        for name in inputs:
            if name not in names:
                raise InputError(f"the model has no input {name!r}; its inputs: {', '.join(names)}")
        for name in names:
            if name not in inputs:
                raise InputError(f"input {name!r} is missing")
        return [(border, np.asarray(inputs[border.name])) for border in borders]
    if isinstance(inputs, (list, tuple)) and len(inputs) == len(borders):
        return [(border, np.asarray(array)) for border, array in zip(borders, inputs, strict=True)]
    if len(borders) != 1:
        raise InputError(f"the model has {len(borders)} inputs: {', '.join(border.name for border in borders)}")
    return [(borders[0], np.asarray(inputs))]


def _shifted(on_cycles: Callable[[int], None], before: int) -> Callable[[int], None]:
    """Reports the cycles of a segment that starts after `before` cycles."""
    return lambda cycles: on_cycles(before + cycles)


class Session:
    """A compiled model on an open NPU; a context manager that gives the DRAM back.

    Constants are written once; variables keep their values from call to call until `reset`.
    """

    def __init__(self, npu: Npu, model: CompiledModel) -> None:
        self.npu, self.model = npu, model
        self._loaded: LoadedProgram = npu.load(model.program)
        self._host = {n: value.data for n, value in enumerate(model.values) if value.data is not None}
        self._started: dict[int, Array] = {}
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the DRAM back."""
        self._loaded.free()

    def reset(self) -> None:
        """Put every variable back to its initial value."""
        for variable in self.model.variables:
            self._write(variable.value, variable.initial)

    def __call__(self, inputs: Inputs) -> dict[str, Array]:
        """Outputs by name; inputs by name, in order, or the one array. Raises InputError, DeviceError."""
        return self.run(inputs).outputs

    def run(self, inputs: Inputs, on_cycles: Callable[[int], None] | None = None) -> Call:
        """One inference with its cycles and counters. Raises InputError, DeviceError.

        `on_cycles` is called from time to time with the NPU's cycles so far.
        """
        for border, array in named_inputs(self.model, inputs):
            value = self.model.values[border.value]
            self._write(border.value, encode(border, array, value.shape, value.dtype))
        variables = {variable.value for variable in self.model.variables}
        shown = [border.value for border in self.model.exposed if border.value in variables]
        self._started = {number: self._read(number) for number in shown}
        call = Call({})
        factor = TIMEOUT_FACTOR * (SEQUENTIAL_FACTOR if self.model.config.sequential else 1)
        for step in self.model.steps:
            if isinstance(step, HostStep):
                start = time.perf_counter()
                self._run_host(step)
                call.host_seconds.append((step, time.perf_counter() - start))
                continue
            result = self.npu.run(
                self._loaded,
                outputs=[],
                timeout_cycles=TIMEOUT_BASE + factor * step.estimate,
                part=(step.first, step.count),
                on_cycles=None if on_cycles is None else _shifted(on_cycles, call.cycles),
            )
            call.cycles += result.cycles
            call.counters.append((step, result.counters))
        call.outputs = {border.name: from_tensor(border, self._read(border.value)) for border in self.model.outputs}
        return call

    def exposed(self) -> dict[str, Array]:
        """Intermediate tensors of the latest call, as the model's runtime shows them; of a model compiled with
        `keep_all`. A variable has the value with which the call started."""
        values = {border.value: self._read(border.value) for border in self.model.exposed} | self._started
        return {border.name: from_tensor(border, values[border.value]) for border in self.model.exposed}

    def _run_host(self, step: HostStep) -> None:
        arrays = [self._read(source) if isinstance(source, int) else source for source in step.inputs]
        results = FUNCTIONS[step.function](step.attributes, *arrays)
        for number, array in zip(step.outputs, results, strict=True):
            self._write(number, array)

    def _write(self, number: int, array: Array) -> None:
        value = self.model.values[number]
        array = np.asarray(array).reshape(value.shape)
        if value.buffer is None:
            self._host[number] = array
        else:
            self._loaded.buffer(value.buffer).write(pack(array, self.model.config))

    def _read(self, number: int) -> Array:
        value = self.model.values[number]
        if value.buffer is None:
            return self._host[number]
        return unpack(self._loaded.buffer(value.buffer).read(), value.shape)
