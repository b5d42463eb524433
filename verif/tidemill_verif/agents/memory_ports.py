"""Requesters for the read and write ports of the local memories."""

from __future__ import annotations

from collections import deque
from typing import Any

import cocotb
from cocotb.triggers import Event, RisingEdge

from tidemill_verif.agents.ports import Input
from tidemill_verif.agents.streams import Stalls


class ReadRequester:
    """Reads rows through `<prefix>__req` and collects (row index, row, cycles from request to response).

    Parameters
    ----------
    dut, prefix : the ports of a `ReadPort`.
    seed, stall : of the pauses between requests, see `Stalls`.
    """

    def __init__(self, dut: Any, prefix: str, *, seed: int | str = 0, stall: float = 0.4) -> None:
        self._dut, self._prefix = dut, prefix
        self._stalls = Stalls(f"{seed}/{prefix}/reads", stall)
        self._pending: deque[int] = deque()
        self._waiting: deque[tuple[int, int]] = deque()
        self._arrived = Event()
        self.responses: list[tuple[int, int, int]] = []
        self.stall_cycles = 0
        getattr(dut, f"{prefix}__req__valid").value = 0
        cocotb.start_soon(self._run())

    def put(self, row: int) -> None:
        """Queue a read."""
        self._pending.append(row)

    @property
    def idle(self) -> bool:
        """Every read queued has been answered."""
        return not self._pending and not self._waiting

    async def drain(self) -> None:
        """Wait until every read queued has been answered."""
        while not self.idle:
            self._arrived.clear()
            await self._arrived.wait()

    async def _run(self) -> None:
        port = {name: getattr(self._dut, f"{self._prefix}__{name}") for name in
                ("req__valid", "req__ready", "req__payload", "rsp_valid", "rsp_data", "stall")}  # fmt: skip
        req_valid = Input(port["req__valid"])
        cycle, offering = 0, False
        while True:
            await RisingEdge(self._dut.clk)
            cycle += 1
            if self._dut.rst.value:
                continue
            self.stall_cycles += int(port["stall"].value)
            if port["rsp_valid"].value:
                assert self._waiting, f"{self._prefix}: a response without a request"
                row, since = self._waiting.popleft()
                self.responses.append((row, int(port["rsp_data"].value), cycle - since))
                self._arrived.set()
            if offering and port["req__ready"].value:
                self._waiting.append((self._pending.popleft(), cycle))
                offering = False
            if not offering and self._pending and not self._stalls():
                offering = True
                port["req__payload"].value = self._pending[0]
            req_valid.put(offering)


class WriteRequester:
    """Writes rows through `<prefix>__req`.

    Parameters as of `ReadRequester`; `index_bits` are the bits of a row index.
    """

    def __init__(self, dut: Any, prefix: str, index_bits: int, *, seed: int | str = 0, stall: float = 0.4) -> None:
        self._dut, self._prefix, self._index_bits = dut, prefix, index_bits
        self._stalls = Stalls(f"{seed}/{prefix}/writes", stall)
        self._pending: deque[tuple[int, int]] = deque()
        self.stall_cycles = 0
        getattr(dut, f"{prefix}__req__valid").value = 0
        cocotb.start_soon(self._run())

    def put(self, row: int, value: int) -> None:
        """Queue a write of the bits `value` to `row`."""
        self._pending.append((row, value))

    async def drain(self) -> None:
        """Wait until every write queued is in the memory, by the rule of `WritePort.idle`."""
        while self._pending:
            await RisingEdge(self._dut.clk)
        for _ in range(2):
            await RisingEdge(self._dut.clk)
        while not getattr(self._dut, f"{self._prefix}__idle").value:
            await RisingEdge(self._dut.clk)

    async def _run(self) -> None:
        port = {name: getattr(self._dut, f"{self._prefix}__{name}") for name in
                ("req__valid", "req__ready", "req__payload", "stall")}  # fmt: skip
        req_valid = Input(port["req__valid"])
        offering = False
        while True:
            await RisingEdge(self._dut.clk)
            if self._dut.rst.value:
                continue
            self.stall_cycles += int(port["stall"].value)
            if offering and port["req__ready"].value:
                self._pending.popleft()
                offering = False
            if not offering and self._pending and not self._stalls():
                offering = True
                row, value = self._pending[0]
                port["req__payload"].value = row | value << self._index_bits
            req_valid.put(offering)
