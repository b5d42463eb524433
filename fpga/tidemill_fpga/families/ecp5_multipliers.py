"""Multipliers of the Lattice ECP5: its 18 x 18 blocks with their registers, or carry chains."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill_hdl.prim.multiplier import Multiplier

_DIFFERENT = sum(1 << index for index in range(16) if ((index & index >> 1) ^ (index >> 2 & index >> 3)) & 1)
"""Table of (A & B) ^ (C & D)."""

DSP_BITS = 18
"""Bits of each factor of a MULT18X18D."""


def dsp_multiplier(multiplier: Multiplier, place: str | None = None) -> Module:
    """`multiplier` in a MULT18X18D with its own input and output registers, and the third register in fabric.

    `place` is where nextpnr has to put the block, X4/Y10/MULT18_0 and the like. Yosys never packs registers into it.
    Lattice FPGA-TN-02205, "sysDSP Usage Guide for ECP5".
    """
    m = Module()
    bits = multiplier.a_bits + multiplier.b_bits
    a, b = Signal(signed(DSP_BITS)), Signal(signed(DSP_BITS))
    block = Signal(2 * DSP_BITS)
    m.d.comb += [a.eq(multiplier.a), b.eq(multiplier.b)]
    inputs = "CLK0" if multiplier.latency > 1 else "NONE"
    registers = {"REG_INPUTA": inputs, "REG_INPUTB": inputs, "REG_PIPELINE": "NONE", "REG_OUTPUT": "CLK0"}
    m.submodules.dsp = Instance(
        "MULT18X18D",
        *[("p", f"{name}_CLK", clock) for name, clock in registers.items()],
        *[("p", f"{name}_CE", "CE0") for name in registers],
        *[("p", f"{name}_RST", "RST0") for name in registers],
        *[("i", f"A{bit}", a[bit]) for bit in range(DSP_BITS)],
        *[("i", f"B{bit}", b[bit]) for bit in range(DSP_BITS)],
        *[("o", f"P{bit}", block[bit]) for bit in range(2 * DSP_BITS)],
        *([("a", "BEL", place)] if place else []),
        i_CLK0=ClockSignal(),
        i_CE0=Const(1),
        i_RST0=Const(0),
        i_SIGNEDA=Const(1),
        i_SIGNEDB=Const(1),
        i_SOURCEA=Const(0),
        i_SOURCEB=Const(0),
    )
    product = block[:bits]
    if multiplier.latency > 2:
        output = Signal(bits, name="output", reset_less=True)
        m.d.sync += output.eq(product)
        product = output
    m.d.comb += multiplier.p.eq(product)
    return m


class PairSum(wiring.Component):
    """x * y[0] + 2 * x * y[1], or x * y[0] - 2 * x * y[1], on one carry chain without tables before it.

    Each bit's table forms both products itself; where they are equal their value is the carry, else the carry passes.

    Parameters
    ----------
    bits : int
        Bits of x.
    subtract : bool
        The second product counts negative: y[1] is a sign bit.

    Members
    -------
    x : In(signed(bits))
    y : In(2)
    o : Out(signed(bits + 2)): combinational.
    """

    def __init__(self, bits: int, *, subtract: bool) -> None:
        self.bits = bits
        self.subtract = subtract
        super().__init__({"x": In(signed(bits)), "y": In(2), "o": Out(signed(bits + 2))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.bits + 2
        plain = [(self.x[min(bit, self.bits - 1)], self.y[0]) for bit in range(width)]
        double = [(Const(0, 1), self.y[1]), *((self.x[min(bit, self.bits - 1)], self.y[1]) for bit in range(width - 1))]
        # The carry where both terms are equal is read from inputs A and B with the others at 0.
        near, far = (double, plain) if self.subtract else (plain, double)
        near += [(Const(0, 1), Const(0, 1))] * (width % 2)
        far += [(Const(0, 1), Const(0, 1))] * (width % 2)
        table = Const(_DIFFERENT ^ (0xFFFF if self.subtract else 0), 16)
        carry: Value = Const(int(self.subtract), 1)
        outputs: list[Value] = []
        for index in range(0, width, 2):
            sums = [Signal(name=f"sum{index + half}") for half in range(2)]
            carry_out = Signal(name=f"carry{index}")
            ports: dict[str, Value] = {}
            for half in range(2):
                ports |= dict(zip((f"i_A{half}", f"i_B{half}"), near[index + half], strict=True))
                ports |= dict(zip((f"i_C{half}", f"i_D{half}"), far[index + half], strict=True))
                ports[f"o_S{half}"] = sums[half]
            m.submodules[f"slice{index}"] = Instance(
                "CCU2C",
                p_INIT0=table,
                p_INIT1=table,
                p_INJECT1_0="NO",
                p_INJECT1_1="NO",
                i_CIN=carry,
                o_COUT=carry_out,
                **ports,
            )
            carry = carry_out
            outputs += sums
        m.d.comb += self.o.eq(Cat(outputs[:width]))
        return m


def fabric_multiplier(multiplier: Multiplier) -> Module:
    """`multiplier` on carry chains: sums of two partial products, then a tree of adders, a register after each level.

    Raises `ValueError` for an odd `b_bits`, and where the levels are not `latency`.
    """
    bits = multiplier.a_bits
    pairs = multiplier.b_bits // 2
    levels = pairs.bit_length()
    if multiplier.b_bits != 2 * pairs or pairs & (pairs - 1) or levels != multiplier.latency:
        raise ValueError(
            f"no fabric multiplier of {bits} x {multiplier.b_bits} bits in {multiplier.latency} cycles; the second "
            "factor must have 2, 4 or 8 bits, and 1, 2 or 3 cycles"
        )
    m = Module()
    terms: list[Value] = []
    for pair in range(pairs):
        chain = PairSum(bits, subtract=pair == pairs - 1)
        m.submodules[f"pair{pair}"] = chain
        m.d.comb += [chain.x.eq(multiplier.a), chain.y.eq(multiplier.b[2 * pair : 2 * pair + 2])]
        term = Signal.like(chain.o, name=f"level0_{pair}", reset_less=True)
        m.d.sync += term.eq(chain.o)
        terms.append(term)
    shift = 2
    for level in range(1, levels):
        sums: list[Value] = []
        for index in range(0, len(terms), 2):
            low, high = terms[index].as_signed(), terms[index + 1].as_signed()
            total = Signal(signed(len(high) + shift), name=f"level{level}_{index // 2}", reset_less=True)
            upper = (low[shift:].as_signed() + high)[: len(high)]
            m.d.sync += total.eq(Cat(low[:shift], upper).as_signed())
            sums.append(total)
        terms, shift = sums, 2 * shift
    m.d.comb += multiplier.p.eq(terms[0])
    return m
