"""Requantization, a lane at a time: the exact algorithm of `tidemill.golden.requant`."""

from __future__ import annotations

from tidemill.isa import BY_MNEMONIC, RequantMode
from tidemill_hdl.sequential import registers as r
from tidemill_hdl.sequential.assembler import Assembler, Flag

_X, _BIAS, _MULTIPLIER, _SHIFT = r.T0, r.T1, r.T2, r.T3
"""Arguments of a lane; the result is in `_X`. The flags are the shift's. Multiplier and shift are as `vx.param` leaves
them: 31 bits, sign-extended."""
_PRESHIFT, _ZERO_POINT = (r.SETTING["vx.quant", name] for name in ("preshift", "zero_point"))
_SHIFT_LIMIT = 31
_SIGNIFICAND = 24
_ONNX_LIMIT = 1 << 23


def emit(u: Assembler) -> None:
    """Labels: requant (a table of modes), each of which changes V and goes on at result.write."""
    modes = tuple(RequantMode)
    assert BY_MNEMONIC["vx.quant"].field("mode").legal_max == len(modes) - 1
    u.label("requant")
    for mode in modes:
        u.go(f"requant.{mode.name}")
    for mode in modes:
        u.label(f"requant.{mode.name}")
        for v, bias, multiplier, shift in zip(r.V, r.BIAS, r.MULTIPLIER, r.SHIFT, strict=True):
            if mode is RequantMode.DIV:
                u.mov(_X, v)
                u.and_(_BIAS, bias, 0xFFFF)
            else:
                u.add(_X, v, bias)
                u.sll(_X, _X, _PRESHIFT)
            u.mov(_MULTIPLIER, multiplier)
            u.mov(_SHIFT, shift)
            u.call(f"lane.{mode.name}")
            u.add(v, _X, _ZERO_POINT)
        u.go("result.write")
    _tflite(u)
    _div(u)
    _onnx(u)


def _tflite(u: Assembler) -> None:
    right, low, high = r.T4, r.T6, r.T7
    u.label("lane.TFLITE")
    u.when(Flag.NEGATIVE, "tflite.right")
    u.mov(right, 0)
    _at_most(u, "tflite.left", _SHIFT)
    u.sll(_X, _X, _SHIFT)
    u.go("tflite.multiply")
    u.label("tflite.right")
    u.sub(right, 0, _SHIFT)
    _at_most(u, "tflite.limited", right)
    u.label("tflite.multiply")
    # (x * multiplier + 2**30) >> 31 from the unsigned product.
    u.mul(low, _X, _MULTIPLIER)
    u.high(high)
    u.mov(r.SCRATCH, _X)
    u.unless(Flag.NEGATIVE, "tflite.positive")
    u.sub(high, high, _MULTIPLIER)
    u.label("tflite.positive")
    u.add(low, low, 1 << 30)
    u.unless(Flag.CARRY, "tflite.high")
    u.add(high, high, 1)
    u.label("tflite.high")
    u.sll(high, high, 1)
    u.srl(low, low, 31)
    u.or_(_X, high, low)
    u.mov(r.SCRATCH, right)
    u.when(Flag.ZERO, "tflite.end")
    # Rounding shift right: up where the rest is above half, or above half + 1 of a negative number.
    u.sll(r.T5, 1, right)
    u.sub(r.T5, r.T5, 1)
    u.and_(r.T6, _X, r.T5)
    u.srl(r.T5, r.T5, 1)
    u.mov(r.SCRATCH, _X)
    u.unless(Flag.NEGATIVE, "tflite.round")
    u.add(r.T5, r.T5, 1)
    u.label("tflite.round")
    u.sra(_X, _X, right)
    u.sub(r.SCRATCH, r.T5, r.T6)
    u.when(Flag.CARRY, "tflite.end")
    u.add(_X, _X, 1)
    u.label("tflite.end")
    u.ret()


def _at_most(u: Assembler, label: str, value: r.Reg) -> None:
    """`value`, 0 to 128, is limited to the largest shift."""
    u.sub(r.SCRATCH, value, _SHIFT_LIMIT + 1)
    u.unless(Flag.CARRY, label)
    u.mov(value, _SHIFT_LIMIT)
    u.label(label)


def _div(u: Assembler) -> None:
    right, sign, low, high = r.T4, r.T5, r.T6, r.T7
    u.label("lane.DIV")
    u.mov(sign, _X)
    u.unless(Flag.NEGATIVE, "div.positive")
    u.sub(_X, 0, _X)
    u.label("div.positive")
    u.add(_X, _X, _BIAS)
    u.mul(low, _X, _MULTIPLIER)
    u.high(high)
    # right = 31 - shift, 0 to 62.
    u.sub(right, _SHIFT_LIMIT, _SHIFT)
    u.unless(Flag.NEGATIVE, "div.left")
    u.mov(right, 0)
    u.label("div.left")
    u.sub(r.SCRATCH, right, 2 * _SHIFT_LIMIT + 1)
    u.unless(Flag.CARRY, "div.limited")
    u.mov(right, 2 * _SHIFT_LIMIT)
    u.label("div.limited")
    u.sub(r.SCRATCH, right, 32)
    u.unless(Flag.CARRY, "div.low")
    u.srl(_X, high, right)
    u.go("div.sign")
    u.label("div.low")
    u.srl(_X, low, right)
    u.mov(r.SCRATCH, right)
    u.when(Flag.ZERO, "div.sign")
    u.sub(right, 32, right)
    u.sll(high, high, right)
    u.or_(_X, _X, high)
    u.label("div.sign")
    u.mov(r.SCRATCH, sign)
    u.unless(Flag.NEGATIVE, "div.end")
    u.sub(_X, 0, _X)
    u.label("div.end")
    u.ret()


def _up(u: Assembler, name: str, rest: r.Reg, half: int, below: r.Reg | None, quotient: r.Reg) -> None:
    """Half to even: `quotient` + 1 where `rest` is above `half`, or equal to it with `below` above zero or an odd
    quotient."""
    u.sub(r.SCRATCH, rest, half)
    u.unless(Flag.CARRY, f"{name}.down")
    u.unless(Flag.ZERO, f"{name}.up")
    if below is not None:
        u.mov(r.SCRATCH, below)
        u.unless(Flag.ZERO, f"{name}.up")
    u.and_(r.SCRATCH, quotient, 1)
    u.when(Flag.ZERO, f"{name}.down")
    u.label(f"{name}.up")
    u.add(quotient, quotient, 1)
    u.label(f"{name}.down")


def _onnx(u: Assembler) -> None:
    # A significand of 2**24, from rounding up, is left as it is: it stands for the same number.
    shifted, sign, low, high, shifted2, rest = r.T4, r.T5, r.T6, r.T7, r.T8, r.T9
    u.label("lane.ONNX")
    u.srl(_MULTIPLIER, _MULTIPLIER, 31 - _SIGNIFICAND)
    u.when(Flag.ZERO, "onnx.zero")
    u.mov(sign, _X)
    u.when(Flag.ZERO, "onnx.zero")
    u.unless(Flag.NEGATIVE, "onnx.positive")
    u.sub(_X, 0, _X)
    u.label("onnx.positive")
    # |x| = significand * 2**(8 - shifted)
    u.mov(shifted, 0)
    u.label("onnx.bytes")
    u.srl(r.SCRATCH, _X, 24)
    u.unless(Flag.ZERO, "onnx.bits")
    u.sll(_X, _X, 8)
    u.add(shifted, shifted, 8)
    u.go("onnx.bytes")
    u.label("onnx.bit")
    u.sll(_X, _X, 1)
    u.add(shifted, shifted, 1)
    u.label("onnx.bits")
    u.mov(r.SCRATCH, _X)
    u.unless(Flag.NEGATIVE, "onnx.bit")
    u.and_(rest, _X, 0xFF)
    u.srl(_X, _X, 8)
    _up(u, "onnx.x", rest, 0x80, None, _X)
    # The product has at most 48 bits: significand * 2**(40 - shifted2)
    u.mul(low, _X, _MULTIPLIER)
    u.high(high)
    u.sll(high, high, 16)
    u.srl(r.SCRATCH, low, 16)
    u.or_(high, high, r.SCRATCH)
    u.sll(low, low, 16)
    u.mov(shifted2, 16)
    u.label("onnx.product")
    u.mov(r.SCRATCH, high)
    u.when(Flag.NEGATIVE, "onnx.normal")
    u.sll(high, high, 1)
    u.srl(r.SCRATCH, low, 31)
    u.or_(high, high, r.SCRATCH)
    u.sll(low, low, 1)
    u.add(shifted2, shifted2, 1)
    u.go("onnx.product")
    u.label("onnx.normal")
    u.and_(rest, high, 0xFF)
    u.srl(_X, high, 8)
    _up(u, "onnx.p", rest, 0x80, low, _X)
    # right = -(8 - shifted + 40 - shifted2 + shift - 24)
    u.add(r.T1, shifted, shifted2)
    u.sub(r.T1, r.T1, _SHIFT)
    u.sub(r.T1, r.T1, 8 + 40 - _SIGNIFICAND)
    u.when(Flag.NEGATIVE, "onnx.most")
    u.when(Flag.ZERO, "onnx.most")
    u.sub(r.SCRATCH, r.T1, 27)
    u.unless(Flag.CARRY, "onnx.right")
    u.mov(r.T1, 26)
    u.label("onnx.right")
    u.sub(shifted, 32, r.T1)
    u.sll(rest, _X, shifted)
    u.srl(_X, _X, r.T1)
    _up(u, "onnx.r", rest, 1 << 31, None, _X)
    u.sub(r.SCRATCH, _X, _ONNX_LIMIT)
    u.unless(Flag.CARRY, "onnx.sign")
    u.label("onnx.most")
    u.mov(_X, _ONNX_LIMIT)
    u.label("onnx.sign")
    u.mov(r.SCRATCH, sign)
    u.unless(Flag.NEGATIVE, "onnx.end")
    u.sub(_X, 0, _X)
    u.label("onnx.end")
    u.ret()
    u.label("onnx.zero")
    u.mov(_X, 0)
    u.ret()
