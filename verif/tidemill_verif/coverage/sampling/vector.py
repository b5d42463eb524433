"""Samples the points of `plan/vector.py`; the bench's reference says what is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.isa import ACC_SPACE, Decoded, Post, RequantMode
from tidemill_verif.coverage.collect import hit, wanted
from tidemill_verif.coverage.isa_bins import engine_hits
from tidemill_verif.coverage.plan.vector import MODES
from tidemill_verif.coverage.point import join
from tidemill_verif.coverage.sampling.kinds import side, words
from tidemill_verif.coverage.sampling.wires import Streams, Wires, every_cycle

_SHIFTS = {-31: "-31", -1: "-1", 0: "0", 1: "1", 31: "31"}
_MULTIPLIERS = {0: "0", 1: "1", 1 << 30: "2^30", (1 << 31) - 1: "largest"}


def watch(dut: Any) -> None:
    """Sample the instruction stream in every cycle of this test."""
    every_cycle(dut, Streams(Wires(dut), "vector", {"instr": "instr"}))


def _space(address: int) -> str:
    return "acc" if address & ACC_SPACE else "spad"


def instruction(decoded: Decoded, dims: Mapping[str, int], quant: Mapping[str, int]) -> None:
    """Sample an instruction, with the dimensions and the quantization that apply to it."""
    op, values = decoded.op, decoded.values
    hit("vector.opcode", op.mnemonic)
    hit("vector.operand", *engine_hits(op, values))
    if op.combine is None:
        return
    name = op.mnemonic
    hit("vector.post", join(name, Post(values["post"]).name, _space(values["dst"])))
    hit("vector.space", join(name, _space(values["a"]), "number" if values["b_imm"] else _space(values["b"])))
    window = "lines" if dims["k1"] > 1 else "line" if dims["k0"] > 1 else "one"
    hit("vector.window", join(name, window))
    hit("vector.shape", join(*(f"{key} {'1' if dims[key] == 1 else 'more'}" for key in ("n0", "n1"))))
    if values["dst"] == values["a"]:
        hit("vector.shape", "in place")
    if values["post"] == Post.RQ:
        low, high = quant["qmin"], quant["qmax"]
        full = (low, high) == (-128, 127)
        hit("vector.clamp", "full" if full else "narrow" if low < high else "equal" if low == high else "crossed")


def operands(name: str, a: NDArray[np.int32], b: NDArray[np.int32]) -> None:
    """Sample the rows of one operation."""
    if wanted():
        hit("vector.a", *(join(name, kind) for kind in words(a)))
        hit("vector.b", *(join(name, kind) for kind in words(b)))


def requantized(values: NDArray[np.generic], parameters: NDArray[np.generic], preshift: int, mode: int) -> None:
    """Sample what one row of the requantizer, or many values, are made from: [bias, multiplier, shift] and values."""
    if not wanted():
        return
    name = RequantMode(mode).name
    assert name in MODES
    bias, multiplier, shift = parameters.astype(np.int64)
    hit("vector.requantize", *(join(name, kind) for kind in words(values)))
    hit("vector.bias", *(join(name, kind) for kind in words(bias)))
    for number in set(np.ravel(multiplier & 0x7FFF_FFFF).tolist()):
        hit("vector.multiplier", join(name, _MULTIPLIERS.get(number, "other")))
    for number in set(np.ravel(((shift & 0xFF) ^ 0x80) - 0x80).tolist()):
        far = "below -31" if number < -31 else "above 31" if number > 31 else None
        near = _SHIFTS.get(number, "negative" if number < 0 else "positive")
        hit("vector.shift", join(name, far or near))
    hit("vector.preshift", join(name, {0: "0", 31: "31"}.get(preshift, "other")))


def clamped(row: NDArray[np.generic], quant: Mapping[str, int]) -> None:
    """Sample a requantized row after its clamp."""
    low, high = quant["qmin"], quant["qmax"]
    inside = (row > low) & (row < high)
    for name, found in (("at qmin", row == low), ("at qmax", row == high), ("between", inside)):
        if found.any():
            hit("vector.clamp", name)


def saturated(before: NDArray[np.generic], after: NDArray[np.generic]) -> None:
    """Sample a row written to the scratchpad, before and after it was saturated."""
    for name, found in (("low", before < after), ("high", before > after), ("fits", before == after)):
        if found.any():
            hit("vector.saturate", name)


def fault(decoded: Decoded, operand: str, row: int) -> None:
    """Sample a row of `operand` outside its memory."""
    if decoded.op.combine is not None:
        hit("vector.fault", join(operand, _space(decoded.values[operand]), side(row)))
        return
    wrong = not decoded.values["src"] & ACC_SPACE
    hit("vector.fault", f"{decoded.op.mnemonic} {'wrong memory' if wrong else 'above'}")
