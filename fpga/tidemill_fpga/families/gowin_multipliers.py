"""Multipliers of the Gowin GW1N and GW2A: MULT9X9 and MULT18X18 with their registers."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, signed

from tidemill_hdl.prim.multiplier import Multiplier

_NARROW_BITS, _WIDE_BITS = 9, 18


def dsp_multiplier(multiplier: Multiplier) -> Module:
    """`multiplier` in a MULT9X9 or, above 9 bits a factor, a MULT18X18, all of its registers inside.

    Input, pipeline and output registers make the three cycles; without the pipeline register it is two, with the output
    register alone one. Gowin UG287, "Gowin Digital Signal Processing (DSP) User Guide". Raises `ValueError` for factors
    above 18 bits.
    """
    widest = max(multiplier.a_bits, multiplier.b_bits)
    if widest > _WIDE_BITS:
        raise ValueError(f"no DSP block multiplies {multiplier.a_bits} x {multiplier.b_bits} bits; at most 18 x 18")
    bits = _NARROW_BITS if widest <= _NARROW_BITS else _WIDE_BITS
    m = Module()
    a, b = Signal(signed(bits)), Signal(signed(bits))
    block = Signal(2 * bits)
    m.d.comb += [a.eq(multiplier.a), b.eq(multiplier.b), multiplier.p.eq(block)]
    inputs = Const(int(multiplier.latency > 1), 1)
    m.submodules.dsp = Instance(
        f"MULT{bits}X{bits}",
        p_AREG=inputs,
        p_BREG=inputs,
        p_PIPE_REG=Const(int(multiplier.latency > 2), 1),
        p_OUT_REG=Const(1, 1),
        p_ASIGN_REG=Const(0, 1),
        p_BSIGN_REG=Const(0, 1),
        p_SOA_REG=Const(0, 1),
        p_MULT_RESET_MODE="SYNC",
        i_A=a,
        i_B=b,
        i_SIA=Const(0, bits),
        i_SIB=Const(0, bits),
        i_ASIGN=Const(1),
        i_BSIGN=Const(1),
        i_ASEL=Const(0),
        i_BSEL=Const(0),
        i_CE=Const(1),
        i_CLK=ClockSignal(),
        i_RESET=Const(0),
        o_DOUT=block,
    )
    return m
