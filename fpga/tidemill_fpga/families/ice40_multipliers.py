"""Multipliers of the Lattice iCE40 UltraPlus: two products of eight bits in one SB_MAC16."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value

from tidemill_fpga.families.common import inferred_multiplier
from tidemill_hdl.prim.multiplier import Multiplier

PRODUCTS = 2
"""Products of one cell."""
HALF_BITS = 8
"""Bits of each factor of such a product."""


def multiplier_pairs(cells: int) -> Callable[[Multiplier], Module]:
    """The platform's `get_multiplier` for one elaboration: multipliers of up to 8 x 8 bits share `cells` SB_MAC16, two
    a cell, as long as there are any; the others are left to tables and carry chains.

    The cell is made with the first multiplier of a pair and has the registers of its latency; the second takes the
    other half.
    """
    left = cells
    halves: dict[int, tuple[Signal, Signal, Signal]] = {}

    def get_multiplier(multiplier: Multiplier) -> Module:
        nonlocal left
        if max(multiplier.a_bits, multiplier.b_bits) > HALF_BITS or not (left or multiplier.latency in halves):
            return inferred_multiplier(multiplier)
        m = Module()
        if multiplier.latency in halves:
            a, b, product = halves.pop(multiplier.latency)
        else:
            left -= 1
            (a, a_other), (b, b_other) = ([Signal(HALF_BITS, name=f"{name}{i}") for i in (0, 1)] for name in "ab")
            product, other = (Signal(2 * HALF_BITS, name=f"product{i}") for i in (0, 1))
            m.submodules.pair = _cell(multiplier.latency, Cat(a, a_other), Cat(b, b_other), Cat(product, other))
            halves[multiplier.latency] = a_other, b_other, other
        m.d.comb += [a.eq(multiplier.a), b.eq(multiplier.b), multiplier.p.eq(product)]
        return m

    return get_multiplier


def _cell(latency: int, a: Value, b: Value, products: Value) -> Instance:
    """An SB_MAC16 as two signed 8 x 8 multipliers. Lattice FPGA-TN-02007, "DSP Function Usage Guide for iCE40 Devices".

    The third register is the accumulators', which add the products to zero.
    """
    # Outputs: 2 the product (with its register), 1 the accumulator's register.
    output = 1 if latency > 2 else 2
    parameters: dict[str, int | Value] = {
        "NEG_TRIGGER": Const(0, 1),
        "A_REG": Const(int(latency > 1), 1),
        "B_REG": Const(int(latency > 1), 1),
        "C_REG": Const(0, 1),
        "D_REG": Const(0, 1),
        "TOP_8x8_MULT_REG": Const(1, 1),
        "BOT_8x8_MULT_REG": Const(1, 1),
        "PIPELINE_16x16_MULT_REG1": Const(0, 1),
        "PIPELINE_16x16_MULT_REG2": Const(0, 1),
        "MODE_8x8": Const(1, 1),
        "A_SIGNED": Const(1, 1),
        "B_SIGNED": Const(1, 1),
    }
    for half in ("TOP", "BOT"):
        parameters |= {
            f"{half}OUTPUT_SELECT": Const(output, 2),
            f"{half}ADDSUB_LOWERINPUT": Const(1, 2),
            f"{half}ADDSUB_UPPERINPUT": Const(1, 1),
            f"{half}ADDSUB_CARRYSELECT": Const(0, 2),
        }
    low = (
        "AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT", "OLOADTOP", "OLOADBOT",
        "ADDSUBTOP", "ADDSUBBOT", "OHOLDTOP", "OHOLDBOT", "CI", "ACCUMCI", "SIGNEXTIN",
    )  # fmt: skip
    return Instance(
        "SB_MAC16",
        *[("p", name, value) for name, value in parameters.items()],
        *[("i", name, Const(0, 1)) for name in low],
        i_CLK=ClockSignal(),
        i_CE=Const(1, 1),
        i_A=a,
        i_B=b,
        i_C=Const(0, 16),
        i_D=Const(0, 16),
        o_O=products,
    )
