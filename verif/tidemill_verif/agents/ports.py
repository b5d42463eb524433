"""The design's ports by name, for models that look at many of them in every cycle.

cocotb finds a handle by its name again at every access, and carries out a write of what stands there already; both cost
more than the simulation of a small block. Here a handle is looked up once and an input written when it changes. There
is one design in a simulation, so names are enough to tell its ports apart.
"""

from __future__ import annotations

from typing import Any

from cocotb.handle import SimHandleBase


class Input:
    """An input of the design, whose handle is `port`, for an agent that sets it in every cycle and alone."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self._written: int | None = None

    def put(self, number: int) -> None:
        """Sets the input, if another number stands there."""
        if self._written != number:
            self._port.value = self._written = number


_handles: dict[str, Any] = {}
_inputs: dict[str, Input] = {}


def value(dut: SimHandleBase, name: str) -> int:
    """The port of `dut`, the simulation's top, called `name` as an unsigned number."""
    if name not in _handles:
        _handles[name] = getattr(dut, name)
    return int(_handles[name].value)


def put(dut: SimHandleBase, name: str, number: int) -> None:
    """Sets the input of `dut`, the simulation's top, called `name`, which nothing but this function may write."""
    if name not in _inputs:
        _inputs[name] = Input(getattr(dut, name))
    _inputs[name].put(number)
