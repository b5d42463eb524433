"""Agents for ready/valid streams: `prefix__valid`, `prefix__ready`, `prefix__payload`, with random stalls.

Payloads are plain integers, the bits of the port. Values are sampled at the rising clock edge, before the registers
change, and driven right after it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from typing import Any

import cocotb
from cocotb.triggers import Event, RisingEdge

from tidemill_verif.agents.ports import Input


class Stalls:
    """Decides cycle by cycle whether an agent stalls.

    Phases of 1 to 64 cycles follow each other in which an agent never stalls, stalls with `probability`, or
    stalls nine times out of ten, so full throughput and long pauses both happen. Probability 0 never stalls.
    """

    def __init__(self, seed: int | str, probability: float) -> None:
        if not 0 <= probability < 1:
            raise ValueError(f"stall probability must be in 0..1, 1 excluded, not {probability!r}")
        self._random = random.Random(seed)
        self._probability = probability
        self._now = 0.0
        self._left = 0

    def __call__(self) -> bool:
        if self._probability == 0:
            return False
        if self._left == 0:
            self._left = self._random.randint(1, 64)
            self._now = self._random.choice((0.0, self._probability, self._probability, max(self._probability, 0.9)))
        self._left -= 1
        return self._random.random() < self._now


class StreamSource:
    """Drives a stream into the design, in order.

    Parameters
    ----------
    dut, prefix : the ports `<prefix>__valid`, `__ready`, `__payload`.
    clk : clock; `dut.clk` where not given.
    seed : seed of the stalls; give each agent its own.
    stall : probability of the middle stall phase, see `Stalls`.
    """

    def __init__(self, dut: Any, prefix: str, clk: Any = None, *, seed: int | str = 0, stall: float = 0.4) -> None:
        self._clk = dut.clk if clk is None else clk
        self._valid = Input(getattr(dut, f"{prefix}__valid"))
        self._ready = getattr(dut, f"{prefix}__ready")
        self._payload = getattr(dut, f"{prefix}__payload", None)
        self._stalls = Stalls(f"{seed}/{prefix}/source", stall)
        self._pending: deque[int] = deque()
        self._accepted = Event()
        self.sent = 0
        """Transfers so far."""
        self._valid.put(0)
        cocotb.start_soon(self._run())

    def put(self, payload: int) -> None:
        """Queue a transfer."""
        self._pending.append(int(payload))

    def extend(self, payloads: Iterable[int]) -> None:
        """Queue several transfers."""
        for payload in payloads:
            self.put(payload)

    async def send(self, payload: int) -> None:
        """Queue a transfer and wait until everything queued has been taken."""
        self.put(payload)
        await self.drain()

    async def drain(self) -> None:
        """Wait until everything queued has been taken."""
        while self._pending:
            self._accepted.clear()
            await self._accepted.wait()

    def clear(self) -> None:
        """Forget what is queued; for resets: an offered transfer is taken back."""
        self._pending.clear()
        self._valid.put(0)
        self._accepted.set()

    async def _run(self) -> None:
        offering = False
        while True:
            await RisingEdge(self._clk)
            if offering and self._pending and self._ready.value:
                self._pending.popleft()
                self.sent += 1
                offering = False
                self._accepted.set()
            elif not self._pending:
                offering = False
            if not offering and self._pending and not self._stalls():
                offering = True
                if self._payload is not None:
                    self._payload.value = self._pending[0]
            self._valid.put(offering)


class StreamSink:
    """Collects a stream from the design and checks the stream rules.

    Once valid, the design must keep `valid` and the payload until `ready`. `expect` adds payloads that must arrive
    next, in this order; once used, anything unexpected is an error.

    Parameters as of `StreamSource`. `rst` (default `dut.rst`): the rules pause while it is high.
    """

    def __init__(
        self,
        dut: Any,
        prefix: str,
        clk: Any = None,
        *,
        seed: int | str = 0,
        stall: float = 0.4,
        rst: Any = None,
    ) -> None:
        self._clk = dut.clk if clk is None else clk
        self._rst = getattr(dut, "rst", None) if rst is None else rst
        self._prefix = prefix
        self._valid = getattr(dut, f"{prefix}__valid")
        self._ready = Input(getattr(dut, f"{prefix}__ready"))
        self._payload = getattr(dut, f"{prefix}__payload", None)
        self._stalls = Stalls(f"{seed}/{prefix}/sink", stall)
        self._expected: deque[int] = deque()
        self._checking = False
        self._arrived = Event()
        self.received: deque[int] = deque()
        """Payloads received and not taken by `recv`."""
        self.count = 0
        """Transfers so far."""
        self._ready.put(0)
        cocotb.start_soon(self._run())

    def expect(self, *payloads: int) -> None:
        """These payloads must arrive next; they do not appear in `received`."""
        self._checking = True
        self._expected.extend(payloads)

    async def recv(self) -> int:
        """Wait for and take the next payload."""
        while not self.received:
            self._arrived.clear()
            await self._arrived.wait()
        return self.received.popleft()

    async def drain(self) -> None:
        """Wait until everything expected has arrived."""
        while self._expected:
            self._arrived.clear()
            await self._arrived.wait()

    def clear(self) -> None:
        """Forget what was received and expected; for resets."""
        self.received.clear()
        self._expected.clear()

    async def _run(self) -> None:
        ready = False
        held: int | None = None
        while True:
            await RisingEdge(self._clk)
            if self._rst is not None and self._rst.value:
                held = None
            elif self._valid.value:
                payload = int(self._payload.value) if self._payload is not None else 0
                assert held is None or held == payload, (
                    f"{self._prefix}: payload changed from {held:#x} to {payload:#x} while valid and not ready"
                )
                held = None if ready else payload
                if ready:
                    self._take(payload)
            else:
                assert held is None, f"{self._prefix}: valid fell while not ready"
            ready = not self._stalls()
            self._ready.put(ready)

    def _take(self, payload: int) -> None:
        if self._checking:
            assert self._expected, f"{self._prefix}: unexpected transfer {self.count}: {payload:#x}"
            expected = self._expected.popleft()
            assert payload == expected, f"{self._prefix}: transfer {self.count} is {payload:#x}, expected {expected:#x}"
        else:
            self.received.append(payload)
        self.count += 1
        self._arrived.set()
