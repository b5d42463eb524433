"""Samples the points of `plan/memory.py`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.config import Config
from tidemill_verif.coverage.collect import hit
from tidemill_verif.coverage.plan.memory import ACC_READS, ACC_WRITES, SPAD_READS, SPAD_WRITES
from tidemill_verif.coverage.point import join
from tidemill_verif.coverage.sampling.wires import Wires, every_cycle


class _Ports:
    """One memory: which bank each port asks for in this cycle."""

    def __init__(self, wires: Wires, kind: str, rows: int, banks: int) -> None:
        self._wires, self._kind = wires, kind
        self._size = rows // banks
        self._index_mask = rows - 1

    def asked(self, side: str, names: tuple[str, ...]) -> dict[str, int]:
        """Bank of each port of `side` (r or w) that asks; samples rows taken and stalls."""
        wires, result = self._wires, {}
        long = "read" if side == "r" else "write"
        for index, name in enumerate(names):
            if wires[f"{side}__{index}__req__valid"]:
                row = wires[f"{side}__{index}__req__payload"] & self._index_mask
                result[name] = row // self._size
                if wires[f"{side}__{index}__req__ready"]:
                    hit(f"memory.{self._kind}_bank", self.row_bin(f"{long} {name}", row))
            if wires[f"{side}__{index}__stall"]:
                hit("memory.stall", f"{self._kind} {long} {name}")
        return result

    def row_bin(self, port: str, row: int) -> str:
        """The bin of a row that `port` uses."""
        place = {0: "first", self._size - 1: "last"}.get(row % self._size, "inside")
        return join(port, row // self._size, place)


def _conflicts(point: str, asked: dict[str, int]) -> None:
    for (a, first), (b, second) in itertools.combinations(asked.items(), 2):
        if first == second:
            hit(point, join(a, b))


def watch_scratchpad(dut: Any, config: Config) -> None:
    """Sample the scratchpad in every cycle of this test."""
    ports = _Ports(Wires(dut), "spad", config.spad_rows, config.spad_banks)

    def sample() -> None:
        reads, writes = ports.asked("r", SPAD_READS), ports.asked("w", SPAD_WRITES)
        _conflicts("memory.spad_read_conflict", reads)
        _conflicts("memory.spad_write_conflict", writes)
        for (reader, bank), (writer, other) in itertools.product(reads.items(), writes.items()):
            if bank == other:
                hit("memory.spad_read_write", join(reader, writer))

    every_cycle(dut, sample)


def watch_accumulators(dut: Any, config: Config, write_delay: int, hazard_distance: int) -> None:
    """Sample the accumulators in every cycle of this test; the array writes `write_delay` cycles after it came, and may
    accumulate to a row `hazard_distance` cycles after its last access."""
    wires = Wires(dut)
    ports = _Ports(wires, "acc", config.acc_rows, config.acc_banks)
    size = config.acc_rows // config.acc_banks
    under_way: list[int | None] = [None] * write_delay
    touched: dict[int, int] = {}
    cycle = 0

    def sample() -> None:
        nonlocal cycle
        cycle += 1
        reads: dict[str, int] = {}
        writes: dict[str, int] = {}
        row = wires["array__addr"] if wires["array__valid"] else None
        if row is not None and wires["array__accumulate"]:
            reads["array"] = row // size
            if row in touched:
                hit("memory.hazard", "at the distance" if cycle - touched[row] == hazard_distance else "later")
        if row is not None:
            touched[row] = cycle
            hit("memory.acc_bank", ports.row_bin("read array", row))
        under_way.append(row)
        written = under_way.pop(0)
        if written is not None:
            writes["array"] = written // size
        _conflicts("memory.acc_read_conflict", reads | ports.asked("r", ACC_READS[1:]))
        _conflicts("memory.acc_write_conflict", writes | ports.asked("w", ACC_WRITES[1:]))

    every_cycle(dut, sample)


def accumulate(before: NDArray[np.int32], sums: NDArray[np.int32], add: bool) -> None:
    """Sample one row that the array sends."""
    if not add:
        hit("memory.accumulate", "overwrite")
        return
    hit("memory.accumulate", "add")
    exact = before.astype(np.int64) + sums
    for name, wraps in (("above", exact > 2**31 - 1), ("below", exact < -(2**31))):
        if wraps.any():
            hit("memory.accumulate", f"add, wraps {name}")
