"""An SDR SDRAM of four banks and 16 data lines that holds its controller to the datasheet's times."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

BANKS = 4
ALL_BANKS = 1 << 10
NOP, ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, SET_MODE = 0b111, 0b011, 0b101, 0b100, 0b010, 0b001, 0b000
_NEVER = -1e12


class SdramError(AssertionError):
    """The controller broke a rule of the device; the message names it."""


class Sdram:
    """The device, a clock edge at a time.

    Parameters
    ----------
    part : mapping
        Times in ns, `row_bits` and `col_bits`: the members of `SdramPart`.
    period : float
        Of the clock, in ns.
    """

    def __init__(self, part: Mapping[str, Any], period: float) -> None:
        self.part = part
        self.period = period
        self.now = 0.0
        self.words: dict[tuple[int, int, int], int] = {}
        self.open: list[int | None] = [None] * BANKS
        self.latency = 0
        self.refreshes = 0
        self.counts = dict.fromkeys((ACTIVATE, READ, WRITE, PRECHARGE, REFRESH), 0)
        self._running_since = 0.0
        self._opened, self._closed, self._written = ([_NEVER] * BANKS for _ in range(3))
        self._refreshed = self._mode_set = _NEVER
        self._coming: dict[int, int] = {}
        self._edge = 0

    def edge(self, command: int, ba: int, a: int, dqm: int, dq: int | None) -> int | None:
        """A rising edge with these inputs; `dq` is None where the controller does not drive the data lines.

        Returns the word that is on the data lines before the next edge, None where there is none. Raises `SdramError`.
        """
        self.now += self.period
        self._edge += 1
        if dq is not None:
            # The device lets go of the lines only some time after the edge that ends its word.
            self._check(
                self._edge not in self._coming and self._edge - 1 not in self._coming, "both sides drive the data lines"
            )
        if command != NOP:
            self._check(self.now >= self.part["t_power_up"], "a command before the power-up time is over")
            self._since(self._refreshed, self.part["t_rfc"], "tRFC")
            self._since(self._mode_set, 2 * self.period, "tMRD")
        if command == ACTIVATE:
            self._activate(ba, a)
        elif command in (READ, WRITE):
            self._access(command, ba, a, dqm, dq)
        elif command == PRECHARGE:
            for bank in range(BANKS) if a & ALL_BANKS else (ba,):
                self._precharge(bank)
        elif command == REFRESH:
            self._check(not any(row is not None for row in self.open), "REFRESH with an open bank")
            for bank in range(BANKS):
                self._since(self._closed[bank], self.part["t_rp"], "tRP")
            self._refreshed = self.now
            self.refreshes += 1
        elif command == SET_MODE:
            self._set_mode(a)
        else:
            self._check(command == NOP, f"command {command:03b} is not used")
        if command in self.counts:
            self.counts[command] += 1
        self._check_refresh()
        return self._coming.get(self._edge + 1)

    def _activate(self, bank: int, row: int) -> None:
        self._check(self.latency > 0, "ACTIVATE before the mode is set")
        self._check(self.open[bank] is None, f"ACTIVATE of bank {bank}, which is open")
        self._check(row < 1 << self.part["row_bits"], f"row {row} is beyond the device")
        self._since(self._closed[bank], self.part["t_rp"], "tRP")
        self._since(self._opened[bank], self.part["t_rc"], "tRC")
        self._since(max(self._opened), self.part["t_rrd"], "tRRD")
        self.open[bank] = row
        self._opened[bank] = self.now

    def _access(self, command: int, bank: int, a: int, dqm: int, dq: int | None) -> None:
        row = self.open[bank]
        if row is None:
            raise SdramError(f"{self.now:.0f} ns: access to bank {bank}, which is closed")
        self._check(a < 1 << self.part["col_bits"], f"column {a} is beyond the device")
        self._since(self._opened[bank], self.part["t_rcd"], "tRCD")
        address = (bank, row, a)
        if command == READ:
            self._check(dq is None, "the controller drives the data lines at a READ")
            self._check(dqm == 0, "masks at a READ")
            self._coming[self._edge + self.latency] = self.words.get(address, 0)
            return
        if dq is None:
            raise SdramError(f"{self.now:.0f} ns: WRITE without data")
        mask = sum(0xFF << 8 * byte for byte in range(2) if dqm >> byte & 1)
        self.words[address] = self.words.get(address, 0) & mask | dq & ~mask & 0xFFFF
        self._written[bank] = self.now

    def _precharge(self, bank: int) -> None:
        if self.open[bank] is not None:
            self._since(self._opened[bank], self.part["t_ras"], "tRAS")
            self._since(self._written[bank], max(self.part["t_wr"], 2 * self.period), "tWR")
            self._check(self.now - self._opened[bank] <= self.part["t_ras_max"], "a row was open for too long")
            self._closed[bank] = self.now
        self.open[bank] = None

    def _set_mode(self, a: int) -> None:
        self._check(not any(row is not None for row in self.open), "SET_MODE with an open bank")
        self._check(self.refreshes >= 8, f"SET_MODE after {self.refreshes} refreshes; 8 must come first")
        self._check(a & ~0x70 == 0, f"mode {a:#x}: not sequential bursts of one word")
        self.latency = a >> 4
        least = {2: self.part["t_ck2"], 3: self.part["t_ck3"]}.get(self.latency)
        self._check(least is not None and self.period >= least - 1e-6, f"a CAS latency of {self.latency}")
        self._mode_set = self._running_since = self.now
        self.refreshes = 0

    def _check_refresh(self) -> None:
        """Refreshes keep up with time, but for one under way and one about to be."""
        if self.latency:
            interval = self.part["t_refresh"] / (1 << self.part["row_bits"])
            self._check(self.refreshes + 2 >= (self.now - self._running_since) / interval, "refreshes come too seldom")

    def _since(self, time: float, least: float, name: str) -> None:
        self._check(self.now - time >= least - 1e-6, f"{name}: {self.now - time:.1f} ns, must be {least:g}")

    def _check(self, good: bool, message: str) -> None:
        if not good:
            raise SdramError(f"{self.now:.0f} ns: {message}")


async def attach(dut: Any, device: Sdram, delay: int = 0, seed: int = 0) -> None:
    """Put `device` on the ports `pins__...` of `dut`, its data `delay` cycles late; other cycles carry noise."""
    pins = {name: getattr(dut, f"pins__{name}") for name in ("cs_n", "command", "ba", "a", "dqm", "dq_o", "dq_oe")}
    rng = random.Random(seed)
    late: list[int | None] = [None] * delay
    while True:
        await RisingEdge(dut.clk)
        now = {name: int(pin.value) for name, pin in pins.items()}
        command = NOP if now["cs_n"] else now["command"]
        late.append(device.edge(command, now["ba"], now["a"], now["dqm"], now["dq_o"] if now["dq_oe"] else None))
        word = late.pop(0)
        dut.pins__dq_i.value = rng.getrandbits(16) if word is None else word


def start(dut: Any, device: Sdram, delay: int = 0, seed: int = 0) -> None:
    """`attach` in the background; a rule broken fails the test."""
    cocotb.start_soon(attach(dut, device, delay, seed))
