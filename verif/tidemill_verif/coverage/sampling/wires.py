"""Looking at a design's ports in every cycle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tidemill_verif.agents.ports import value
from tidemill_verif.coverage.collect import hit, wanted


class Wires:
    """The ports of `dut` as unsigned numbers by name, as they are right before a clock edge."""

    def __init__(self, dut: Any) -> None:
        self._dut = dut

    def __getitem__(self, name: str) -> int:
        return value(self._dut, name)

    def transfer(self, stream: str) -> bool:
        """Whether `stream` moves an item in this cycle."""
        return bool(self[f"{stream}__valid"] and self[f"{stream}__ready"])


def every_cycle(dut: Any, *samplers: Callable[[], None]) -> None:
    """Call `samplers` at every edge of `dut.clk` outside of reset, for the rest of the test; only where coverage is
    wanted."""
    if not wanted():
        return

    async def watch() -> None:
        while True:
            await RisingEdge(dut.clk)
            if dut.rst.value == 0:
                for sample in samplers:
                    sample()

    cocotb.start_soon(watch())


class Streams:
    """Samples `<block>.stream`: `ports` maps each name of the plan to the port or to its (valid, ready)."""

    def __init__(self, wires: Wires, block: str, ports: Mapping[str, str | tuple[str, str]]) -> None:
        self._wires, self._point = wires, f"{block}.stream"
        self._ports = {
            name: port if isinstance(port, tuple) else (f"{port}__valid", f"{port}__ready")
            for name, port in ports.items()
        }
        self._moved = dict.fromkeys(ports, False)

    def __call__(self) -> None:
        for name, (valid_name, ready_name) in self._ports.items():
            valid, ready = self._wires[valid_name], self._wires[ready_name]
            if valid and ready and self._moved[name]:
                hit(self._point, f"{name}, back to back")
            elif valid != ready:
                hit(self._point, f"{name}, stalled" if valid else f"{name}, starved")
            self._moved[name] = bool(valid and ready)
