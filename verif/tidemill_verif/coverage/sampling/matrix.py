"""Samples the points of `plan/matrix.py`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import ACC_SPACE, decode
from tidemill_verif.coverage.collect import hit, wanted
from tidemill_verif.coverage.isa_bins import engine_hits
from tidemill_verif.coverage.point import join
from tidemill_verif.coverage.sampling.kinds import bytes_, side
from tidemill_verif.coverage.sampling.wires import Streams, Wires, every_cycle

ROW = ACC_SPACE - 1
"""Bits of a local address that are the row."""


class Array:
    """Samples what the bench of the array drives, cycle by cycle."""

    def __init__(self) -> None:
        self._before = (False, False)

    def step(self, row: NDArray[np.int8] | None, swap: bool, weight: NDArray[np.int8] | None) -> None:
        """One cycle."""
        if not wanted():
            return
        kind = "no row" if row is None else "row with swap" if swap else "row"
        if row is not None or weight is not None:
            hit("matrix.array_input", join(kind, "no weights" if weight is None else "weights"))
        valid, swapped = self._before
        if valid:
            hit("matrix.array_flow", "row, row" if row is not None else "row, gap")
        if swapped and swap and row is not None:
            hit("matrix.array_flow", "swap, swap")
        self._before = (row is not None, row is not None and swap)
        if row is not None:
            hit("matrix.activation", *bytes_(row))
        if weight is not None:
            hit("matrix.weight", *bytes_(weight))

    @staticmethod
    def sums(sums: Sequence[int], rows: int) -> None:
        """One result row of an array of `rows`."""
        extremes = {128 * 128 * rows: "largest", -128 * 127 * rows: "smallest", 0: "0"}
        hit("matrix.sum", *{extremes[value] for value in sums if value in extremes})


def watch(dut: Any, ports: bool) -> None:
    """Sample the engine in every cycle of this test; `ports`: its scratchpad ports are the design's."""
    wires = Wires(dut)

    def sample_ports() -> None:
        for port in ("act", "wgt"):
            if wires[f"{port}__req__valid"] and not wires[f"{port}__req__ready"]:
                hit("matrix.port", f"{port} stalled")

    every_cycle(dut, Streams(wires, "matrix", {"instr": "instr"}), *([sample_ports] if ports else []))


class Engine:
    """Samples the instructions of a program, and the rows it writes."""

    def __init__(self) -> None:
        self._act = {"n0": 1, "n1": 1, "n2": 1, "s0": 0, "s1": 0, "s2": 0}
        self._acc = {"t0": 0, "t1": 0, "t2": 0}
        self._recent: list[int] = []
        self._loaded = False

    def instruction(self, word: int) -> None:
        """One instruction, in program order."""
        if not wanted():
            return
        decoded = decode(word)
        values, name = decoded.values, decoded.op.mnemonic
        hit("matrix.opcode", name)
        hit("matrix.operand", *engine_hits(decoded.op, values))
        if name == "mx.act":
            self._act = {key: values[key] for key in self._act}
        if name == "mx.acc":
            self._acc = {key: values[key] for key in self._acc}
        if name == "mx.wload":
            self._loaded = True
        if name == "mx.run":
            counts = (f"n{level} {'1' if self._act[f'n{level}'] == 1 else 'more'}" for level in range(3))
            hit("matrix.loops", join(*counts))
            kinds = "accumulate" if values["accumulate"] else "overwrite", "swap" if values["swap"] else "keep"
            hit("matrix.run", join(*kinds))
            if self._loaded and not values["swap"]:
                hit("matrix.ahead", "loaded ahead")
            self._loaded = self._loaded and not values["swap"]

    def write(self, row: int, accumulate: bool) -> None:
        """One result row, in order."""
        if accumulate and row in self._recent:
            distance = self._recent[::-1].index(row) + 1
            names = {1: "1 row ago", 2: "2 rows ago", 3: "3 rows ago"}
            hit("matrix.hazard", names.get(distance, "more"))
        self._recent = [*self._recent[-7:], row]

    def fault(self, word: int, cause: Cause, config: Config) -> None:
        """The fault of `word`, the instruction after those sampled."""
        decoded = decode(word)
        values, loads = decoded.values, decoded.op.mnemonic == "mx.wload"
        if cause is Cause.ILLEGAL_OPERAND:
            hit("matrix.fault", "weights twice" if loads else "swap without weights")
            return
        if loads:
            points = [(index * values["stride"],) for index in range(config.rows)]
        else:
            indices = itertools.product(*(range(self._act[f"n{level}"]) for level in (2, 1, 0)))
            strides = [[self._act[f"s{level}"] for level in (2, 1, 0)], [self._acc[f"t{level}"] for level in (2, 1, 0)]]
            points = [tuple(sum(map(mul, point, levels)) for levels in strides) for point in indices]
        operands = [("wload" if loads else "act", values["src" if loads else "act"], config.spad_rows, 0)]
        if not loads:
            operands.append(("acc", values["acc"], config.acc_rows, ACC_SPACE))
        for offsets in points:
            for (name, address, rows, space), offset in zip(operands, offsets, strict=False):
                row = (address & ROW) + offset
                if address & ACC_SPACE != space:
                    hit("matrix.fault", join(name, "wrong memory"))
                    return
                if not 0 <= row < rows:
                    hit("matrix.fault", join(name, side(row)))
                    return
