"""What the vector engine's bench is made of: memories with random timing, and the reference execution."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge
from numpy.typing import NDArray

from tidemill.config import Config
from tidemill.golden.requant import requantize
from tidemill.golden.vector import ALU, clamp, fold, lane_max, lane_sum, post_lut, saturate_int8
from tidemill.isa import ACC_SPACE, BY_MNEMONIC, Post, RequantMode, decode
from tidemill_verif.agents.ports import Input
from tidemill_verif.agents.streams import Stalls
from tidemill_verif.coverage.sampling import vector as coverage

READ_LATENCY = 3
"""Fewest cycles from a read request to its response (`ReadPort`)."""


class LocalRange(Exception):
    """The reference touched `row` outside the memory of `operand`."""

    def __init__(self, row: int, operand: str) -> None:
        super().__init__(row)
        self.row = row
        self.operand = operand


class PortedMemory:
    """One memory with read ports `reads` and write port `write` of the design; `stall` as of `Stalls`."""

    def __init__(
        self, dut: Any, rows: NDArray[Any], reads: tuple[str, ...], write: str, *, seed: int, stall: float
    ) -> None:
        self.rows = rows
        self._dut = dut
        self._dtype = rows.dtype
        for port in reads:
            cocotb.start_soon(self._serve_reads(port, Stalls(f"{seed}/{port}", stall), random.Random(f"{seed}/{port}")))
        cocotb.start_soon(self._serve_writes(write, Stalls(f"{seed}/{write}", stall), stall > 0))

    def _bits(self, row: int) -> int:
        return int.from_bytes(self.rows[row].tobytes(), "little")

    async def _serve_reads(self, port: str, stalls: Stalls, rng: random.Random) -> None:
        clk = self._dut.clk
        valid = getattr(self._dut, f"{port}__req__valid")
        ready, lost = Input(getattr(self._dut, f"{port}__req__ready")), Input(getattr(self._dut, f"{port}__stall"))
        payload = getattr(self._dut, f"{port}__req__payload")
        rsp_valid, rsp_data = Input(getattr(self._dut, f"{port}__rsp_valid")), getattr(self._dut, f"{port}__rsp_data")
        pending: deque[tuple[int, int]] = deque()
        is_ready, cycle = False, 0
        ready.put(0)
        rsp_valid.put(0)
        while True:
            await RisingEdge(clk)
            cycle += 1
            if self._dut.rst.value:
                pending.clear()
            elif valid.value and is_ready:
                row = int(payload.value)
                assert row < len(self.rows), f"{port}: row {row}"
                pending.append((cycle + READ_LATENCY - 1, self._bits(row)))
            deliver = bool(pending) and pending[0][0] <= cycle and not stalls()
            rsp_valid.put(deliver)
            rsp_data.value = pending.popleft()[1] if deliver else rng.getrandbits(8)
            is_ready = not stalls()
            ready.put(is_ready)
            lost.put(is_ready and stalls())

    async def _serve_writes(self, port: str, stalls: Stalls, slow: bool) -> None:
        clk = self._dut.clk
        valid = getattr(self._dut, f"{port}__req__valid")
        ready, lost = Input(getattr(self._dut, f"{port}__req__ready")), Input(getattr(self._dut, f"{port}__stall"))
        payload, idle = getattr(self._dut, f"{port}__req__payload"), Input(getattr(self._dut, f"{port}__idle"))
        row_bits = (len(self.rows) - 1).bit_length()
        pending: deque[int] = deque()
        is_ready = False
        ready.put(0)
        idle.put(1)
        while True:
            await RisingEdge(clk)
            if pending and not (slow and stalls()):
                request = pending.popleft()
                data = (request >> row_bits).to_bytes(self.rows[0].nbytes, "little")
                self.rows[request & ((1 << row_bits) - 1)] = np.frombuffer(data, self._dtype)
            if valid.value and is_ready and not self._dut.rst.value:
                pending.append(int(payload.value))
            idle.put(not pending)
            is_ready = len(pending) < 4 and not stalls()
            ready.put(is_ready)
            lost.put(is_ready and stalls())


def _zero_strides() -> dict[str, int]:
    return {"n0": 0, "n1": 0, "k0": 0, "k1": 0}


@dataclass
class Reference:
    """Executes vector instructions one after another on its own memories, with the golden functions.

    `table` is changed in place: tests of one simulation share it, because the design's table outlives resets.
    """

    config: Config
    spad: NDArray[np.int8]
    acc: NDArray[np.int32]
    table: NDArray[np.int32]

    def __post_init__(self) -> None:
        self.points = 0
        """Points whose operands were read, rows of loads included, since the object began."""
        self.reset()

    def reset(self) -> None:
        """Configuration as at a program's start; memories and table stay."""
        self.dims = {"n0": 1, "n1": 1, "k0": 1, "k1": 1, "d0": 0, "d1": 0}
        self.strides = {"a": _zero_strides(), "b": _zero_strides()}
        self.quant: dict[str, int] = {"zero_point": 0, "qmin": -128, "qmax": 127, "preshift": 0, "mode": 0}
        self.params = np.zeros((3, self.config.cols), np.int64)

    def _memory(self, address: int, row: int, operand: str) -> tuple[NDArray[Any], int]:
        memory: NDArray[Any] = self.acc if address & ACC_SPACE else self.spad
        if not 0 <= row < len(memory):
            raise LocalRange(row, operand)
        return memory, row

    def _load(self, address: int, target: NDArray[Any]) -> None:
        """Copy accumulator rows into `target`, row by row."""
        for index, row in enumerate(range(address & ~ACC_SPACE, (address & ~ACC_SPACE) + len(target))):
            if not address & ACC_SPACE:
                raise LocalRange(row, "src")
            memory, _ = self._memory(address, row, "src")
            target[index] = memory[row]
            self.points += 1

    def __str__(self) -> str:
        return f"{self.dims} {self.strides} {self.quant} parameters {self.params.tolist()}"

    def execute(self, word: int) -> None:
        """Run one instruction; raises `LocalRange` with everything before it done."""
        decoded = decode(word)
        mnemonic, values = decoded.op.mnemonic, decoded.values
        coverage.instruction(decoded, self.dims, self.quant)
        try:
            self._execute(mnemonic, values)
        except LocalRange as error:
            coverage.fault(decoded, error.operand, error.row)
            raise

    def _execute(self, mnemonic: str, values: Mapping[str, int]) -> None:
        if mnemonic == "vx.dims":
            self.dims = {name: values[name] for name in self.dims}
        elif mnemonic in ("vx.astride", "vx.bstride"):
            self.strides[mnemonic[3]] = {name: values[name] for name in _zero_strides()}
        elif mnemonic == "vx.quant":
            self.quant = {name: values[name] for name in self.quant}
        elif mnemonic == "vx.param":
            self._load(values["src"], self.params)
        elif mnemonic == "vx.lut":
            self._load(values["src"], self.table.reshape(-1, self.config.cols))
        elif mnemonic != "vx.sync":
            self._operate(mnemonic, values)

    def _operand(self, values: Mapping[str, int], name: str, point: Mapping[str, int]) -> NDArray[np.int32]:
        row = (values[name] & ~ACC_SPACE) + sum(point[level] * self.strides[name][level] for level in point)
        memory, row = self._memory(values[name], row, name)
        return memory[row].astype(np.int32)

    def _operate(self, mnemonic: str, values: Mapping[str, int]) -> None:
        dims, qmin, qmax = self.dims, self.quant["qmin"], self.quant["qmax"]
        number = values["b"] - (1 << 16 if values["b"] & 0x8000 else 0)
        constant = np.full(self.config.cols, number, np.int32)
        for i1, i0 in itertools.product(range(dims["n1"]), range(dims["n0"])):
            window: list[NDArray[np.int32]] = []
            for k1, k0 in itertools.product(range(dims["k1"]), range(dims["k0"])):
                point = {"n0": i0, "n1": i1, "k0": k0, "k1": k1}
                a = self._operand(values, "a", point)
                b = self._operand(values, "b", point) if not values["b_imm"] else constant
                coverage.operands(mnemonic, a, b)
                window.append(ALU[mnemonic](a, b, qmin, qmax))
                # The destination belongs to the window's last point.
                self.points += len(window) < dims["k0"] * dims["k1"]
            combine = BY_MNEMONIC[mnemonic].combine
            assert combine is not None
            row = (values["dst"] & ~ACC_SPACE) + i0 * dims["d0"] + i1 * dims["d1"]
            memory, row = self._memory(values["dst"], row, "dst")
            self.points += 1
            to_acc = bool(values["dst"] & ACC_SPACE)
            result = self._post(Post(values["post"]), fold(combine, np.array(window), 0), to_acc)
            memory[row] = result if to_acc else saturate_int8(result)
            if not to_acc:
                coverage.saturated(result, memory[row])

    def _post(self, post: Post, row: NDArray[np.int32], to_acc: bool) -> NDArray[np.int32]:
        if post is Post.RQ:
            quant = self.quant
            coverage.requantized(row, self.params, quant["preshift"], quant["mode"])
            row = requantize(
                row,
                *self.params,
                zero_point=quant["zero_point"],
                preshift=quant["preshift"],
                mode=RequantMode(quant["mode"]),
            )
            if to_acc:
                return row
            row = clamp(row, quant["qmin"], quant["qmax"])
            coverage.clamped(row, quant)
            return row
        if post is Post.LUT:
            return post_lut(row, self.table)
        if post is Post.LSUM:
            return lane_sum(row)
        return lane_max(row) if post is Post.LMAX else row
