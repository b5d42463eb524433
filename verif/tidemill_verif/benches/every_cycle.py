"""Models that look at all ports of a block in every cycle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tidemill_verif.coverage.sampling.wires import Wires


class EveryCycle(ABC):
    """From `watch` to the end of the test compares the ports with the model's state in every cycle, then brings it
    to the next one; a cycle of reset forgets it all."""

    def __init__(self, dut: Any) -> None:
        self._dut, self._wires = dut, Wires(dut)

    def watch(self) -> None:
        """Begin."""
        self._forget()
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        while True:
            await RisingEdge(self._dut.clk)
            if self._dut.rst.value:
                self._forget()
                continue
            self._check()
            self._cycle()

    @abstractmethod
    def _forget(self) -> None:
        """The state after reset."""

    @abstractmethod
    def _check(self) -> None:
        """Compare the outputs with the state."""

    @abstractmethod
    def _cycle(self) -> None:
        """From this cycle's state and inputs to the state of the next."""
