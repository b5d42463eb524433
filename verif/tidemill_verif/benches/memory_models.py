"""A banked memory cycle by cycle: what every port must show, and random traffic with resets in its middle."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from cocotb.triggers import RisingEdge

from tidemill.golden.matrix import accumulate
from tidemill_verif.agents.clock import start
from tidemill_verif.benches.every_cycle import EveryCycle

_BUFFER = 2
"""Requests that wait in a port's buffer."""
_PHASE = 32
"""Cycles in which the ports' appetite stays the same."""
_RESET = 0.03
"""Chance that a reset begins, by cycle."""


@dataclass(frozen=True)
class Shape:
    """The memory under test: rows and banks, its ports, cycles from a read taken to its response."""

    rows: int
    banks: int
    readers: int
    writers: int
    latency: int

    @property
    def index_bits(self) -> int:
        """Bits of a row index."""
        return (self.rows - 1).bit_length()

    def bank(self, row: int) -> int:
        """The bank of a row."""
        return row // (self.rows // self.banks)


@dataclass(frozen=True)
class ArrayPort:
    """The port `array` of the accumulators: lanes of a row and bits of a sum; cycles from an access, whose row is read
    in the cycle after it came, to the write of the sum, and between accesses to the same row."""

    lanes: int
    sum_bits: int
    write_delay: int
    hazard_distance: int

    def add(self, old: int, sums: int, keep: bool) -> int:
        """The row's bits after an access: lanes of int32, lane 0 lowest; `keep` adds to the bits `old`."""
        mask, sign = (1 << self.sum_bits) - 1, 1 << (self.sum_bits - 1)
        lanes = np.array(
            [((sums >> self.sum_bits * lane & mask) ^ sign) - sign for lane in range(self.lanes)], np.int32
        )
        if keep:
            lanes = accumulate(np.frombuffer(old.to_bytes(4 * self.lanes, "little"), "<i4"), lanes)
        return int.from_bytes(lanes.astype("<i4").tobytes(), "little")


class MemoryModel(EveryCycle):
    """Checks every cycle of ports `r__*` and `w__*` (and `array`) from now to the end of the test.

    A request taken is at the head of its port in the next cycle or once those before it are gone. In each bank the
    first head of the port order is served, the array before all; the response of a read comes `latency - 1` cycles
    after that, with what was written in cycles before it. Stall follows a head that was not served, idle an empty
    buffer, by one cycle. Reset forgets what is not served yet. A row that was not written since the model began, or is
    written in the cycle of its read, may be anything.
    """

    def __init__(self, dut: Any, shape: Shape, array: ArrayPort | None = None) -> None:
        super().__init__(dut)
        self.shape, self.array = shape, array
        self._content: dict[int, int | None] = {}
        self.watch()

    def _forget(self) -> None:
        shape = self.shape
        self._reads: list[deque[int]] = [deque() for _ in range(shape.readers)]
        self._writes: list[deque[tuple[int, int]]] = [deque() for _ in range(shape.writers)]
        self._read_stall = [False] * shape.readers
        self._write_stall = [False] * shape.writers
        self._empty = [True] * shape.writers
        # (is there one, its row's bits or None where they are unknown), by port and cycles to go.
        nothing: tuple[bool, int | None] = (False, None)
        self._responses = [deque([nothing] * (shape.latency - 1)) for _ in range(shape.readers)]
        self._entering: tuple[int, int, bool] | None = None
        under_way = self.array.write_delay - 1 if self.array else 0
        self._sums: deque[tuple[int, int | None] | None] = deque([None] * under_way)

    def _check(self) -> None:
        """Compare the outputs with the state."""
        wires = self._wires
        ports = [(f"r__{p}", len(queue), self._read_stall[p]) for p, queue in enumerate(self._reads)]
        ports += [(f"w__{p}", len(queue), self._write_stall[p]) for p, queue in enumerate(self._writes)]
        for port, waiting, stall in ports:
            assert wires[f"{port}__req__ready"] == (waiting < _BUFFER), f"{port}: ready, {waiting} waiting"
            assert wires[f"{port}__stall"] == stall, f"{port}: stall is not {stall}"
        for p, empty in enumerate(self._empty):
            assert wires[f"w__{p}__idle"] == empty, f"w__{p}: idle is not {empty}"
        for p, responses in enumerate(self._responses):
            valid, bits = responses.popleft()
            assert wires[f"r__{p}__rsp_valid"] == valid, f"r__{p}: response valid is not {valid}"
            if bits is not None:
                assert wires[f"r__{p}__rsp_data"] == bits, f"r__{p}: response is not {bits:#x}"

    def _cycle(self) -> None:
        """Serve the heads of this cycle, then take what the ports offer."""
        wires = self._wires
        written: dict[int, int | None] = {}
        busy: set[int] = set()
        access, self._entering = self._entering, None
        if self.array:
            done = self._sums.popleft()
            if done:
                written[done[0]] = done[1]
                busy.add(self.shape.bank(done[0]))
            if wires["array__valid"]:
                self._entering = (wires["array__addr"], wires["array__data"], bool(wires["array__accumulate"]))
        for p, queue in enumerate(self._writes):
            served = self._first(busy, queue[0][0] if queue else None)
            self._write_stall[p], self._empty[p] = bool(queue) and not served, not queue
            if served:
                row, bits = queue.popleft()
                written[row] = bits
            if wires.transfer(f"w__{p}__req"):
                payload = wires[f"w__{p}__req__payload"]
                queue.append((payload & (self.shape.rows - 1), payload >> self.shape.index_bits))
        busy = {self.shape.bank(access[0])} if access and access[2] else set()
        for p, reads in enumerate(self._reads):
            served = self._first(busy, reads[0] if reads else None)
            self._read_stall[p] = bool(reads) and not served
            self._responses[p].append((True, self._read(reads.popleft(), written)) if served else (False, None))
            if wires.transfer(f"r__{p}__req"):
                reads.append(wires[f"r__{p}__req__payload"])
        if self.array:
            self._sums.append(None)
            if access:
                row, sums, keep = access
                old = self._read(row, written) if keep else 0
                self._sums[-1] = (row, None if old is None else self.array.add(old, sums, keep))
        self._content |= written

    def _first(self, busy: set[int], row: int | None) -> bool:
        """Whether a head for `row` is served: its bank is not `busy`, which it is from now on."""
        if row is None or self.shape.bank(row) in busy:
            return False
        busy.add(self.shape.bank(row))
        return True

    def _read(self, row: int, written: dict[int, int | None]) -> int | None:
        return None if row in written else self._content.get(row)


async def random_traffic(dut: Any, model: MemoryModel, rng: Random, cycles: int, rows: list[int], bits: int) -> None:
    """Start, then requests to `rows` of `bits` on all ports for some cycles, with resets now and then.

    In the first cycle of a reset requests are still offered, as by units that are reset with the memory.
    """
    shape, array = model.shape, model.array
    ports = [f"{kind}__{p}__req" for kind, count in (("r", shape.readers), ("w", shape.writers)) for p in range(count)]
    handles = [[getattr(dut, f"{port}__{part}") for part in ("valid", "ready", "payload")] for port in ports]
    for valid, _, _ in handles:
        valid.value = 0
    if array:
        dut.array__valid.value = 0
    await start(dut)
    offering = [False] * len(ports)
    chance = [0.5] * (len(ports) + 1)
    last: dict[int, int] = {}
    near, resetting = rows, 0
    for cycle in range(cycles):
        await RisingEdge(dut.clk)
        if cycle % _PHASE == 0:
            chance = [rng.choice((0.05, 0.5, 0.95)) for _ in chance]
            bank = shape.bank(rng.choice(rows))
            near = rng.choice((rows, [row for row in rows if shape.bank(row) == bank]))
        quiet = resetting > 1
        if resetting:
            resetting -= 1
        elif rng.random() < _RESET:
            resetting = rng.randint(1, 3)
        dut.rst.value = int(resetting > 0)
        for p, (valid, ready, payload) in enumerate(handles):
            if quiet or ready.value:
                offering[p] = False
            if not quiet and not offering[p] and rng.random() < chance[p]:
                offering[p] = True
                row = rng.choice(near)
                write = ports[p].startswith("w")
                payload.value = row | rng.getrandbits(bits) << shape.index_bits if write else row
            valid.value = int(offering[p])
        if array:
            row, keep = rng.choice(near), rng.random() < 0.7
            fits = not keep or cycle - last.get(row, -array.hazard_distance) >= array.hazard_distance
            asked = fits and not quiet and rng.random() < chance[-1]
            dut.array__valid.value = int(asked)
            dut.array__addr.value = row
            dut.array__accumulate.value = int(keep)
            dut.array__data.value = rng.getrandbits(array.lanes * array.sum_bits)
            if asked:
                last[row] = cycle
