"""A systolic array with two 4-bit weights in every multiplier.

One block multiplies an activation by w1 + 4096 * w2; its product holds both products, 12 bits apart, and the upper one
is one too small where the lower is negative. So n cells do 2 n multiply-accumulates of 4-bit weights a cycle, or n of
8-bit weights: w = w1 + 16 * w2 with w1 in -8..7 and w2 in -8..8, and y = y1 + 16 * y2 below the array.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill_hdl.prim.multiplier import Multiplier

PRODUCT_BITS = 12
"""An int8 times a weight of -8..8."""

PAIR_BITS = 17
"""Bits of w1 + 4096 * w2."""


def _delayed(m: Module, value: Value, cycles: int, name: str, *, reset: bool = False) -> Value:
    """`value` of `cycles` cycles ago."""
    for stage in range(cycles):
        register = Signal(value.shape(), name=f"{name}_delay{stage}", reset_less=not reset)
        m.d.sync += register.eq(value)
        value = register
    return value


def _lane(column: int, half: int) -> int:
    return 2 * column + half


class PairedElement(wiring.Component):
    """Multiplies an activation by a resident pair of weights and adds the products to the two sums from above.

    Parameters
    ----------
    sum_bits : int
        Bits of a partial sum.

    Members
    -------
    act_in, act_out, swap_in, swap_out, load_in, load_out
        As in the NPU's `ProcessingElement`.
    weight : In(signed(PAIR_BITS)): the column's weight bus, w1 + 4096 * w2.
    sums_in, sums_out : In / Out(2 x signed(sum_bits)): lower weight first; timed as in `ProcessingElement`.
    """

    MULTIPLIER_LATENCY = 3

    def __init__(self, sum_bits: int) -> None:
        self.sum_bits = sum_bits
        sums = data.ArrayLayout(signed(sum_bits), 2)
        super().__init__(
            {
                "act_in": In(signed(8)),
                "act_out": Out(signed(8)),
                "swap_in": In(1),
                "swap_out": Out(1),
                "load_in": In(1),
                "load_out": Out(1),
                "weight": In(signed(PAIR_BITS)),
                "sums_in": In(sums),
                "sums_out": Out(sums),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        activation = Signal(signed(8), reset_less=True)
        shadow = Signal(signed(PAIR_BITS), reset_less=True)
        active = Signal(signed(PAIR_BITS))
        swap = Signal()
        load = Signal()
        low = Signal(signed(self.sum_bits), reset_less=True)
        high = Signal(signed(self.sum_bits), reset_less=True)
        m.submodules.multiplier = multiplier = Multiplier(PAIR_BITS, 8, self.MULTIPLIER_LATENCY)
        with m.If(self.load_in):
            m.d.sync += shadow.eq(self.weight)
        with m.If(self.swap_in):
            m.d.sync += active.eq(shadow)
        negative = multiplier.p[PRODUCT_BITS - 1]
        lower = multiplier.p[:PRODUCT_BITS].as_signed()
        upper = multiplier.p[PRODUCT_BITS:].as_signed()
        # One chain with a carry in, not two adders.
        above = Cat(negative, self.sums_in[1]).as_signed() + Cat(negative, upper).as_signed()
        m.d.sync += [
            activation.eq(self.act_in),
            swap.eq(self.swap_in),
            load.eq(self.load_in),
            low.eq(self.sums_in[0] + lower),
            high.eq(above >> 1),
        ]
        m.d.comb += [
            multiplier.a.eq(active),
            multiplier.b.eq(activation),
            self.act_out.eq(activation),
            self.swap_out.eq(swap),
            self.load_out.eq(load),
            self.sums_out[0].eq(low),
            self.sums_out[1].eq(high),
        ]
        return m


class PairedArray(wiring.Component):
    """Product of activation rows and a resident tile of pairs: two sums a column, as in the NPU's `SystolicArray`.

    Parameters
    ----------
    rows, cols : int
        Cells; 2 * rows * cols 4-bit weights.
    sum_bits : int
        Bits of a sum; `PRODUCT_BITS` + log2(rows) never overflow.

    Members
    -------
    act, weight, out : as in `SystolicArray`, but a weight is w1 + 4096 * w2, and `out.row` has two sums a column, that
        of w1 first.
    """

    def __init__(self, rows: int, cols: int, sum_bits: int) -> None:
        self.rows = rows
        self.cols = cols
        self.sum_bits = sum_bits
        activations = data.ArrayLayout(signed(8), rows)
        weights = data.ArrayLayout(signed(PAIR_BITS), cols)
        sums = data.ArrayLayout(signed(sum_bits), 2 * cols)
        act = wiring.Signature({"valid": Out(1), "swap": Out(1), "row": Out(activations)})
        weight = wiring.Signature({"valid": Out(1), "index": Out(range(rows)), "row": Out(weights)})
        out = wiring.Signature({"valid": Out(1), "row": Out(sums)})
        super().__init__({"act": In(act), "weight": In(weight), "out": Out(out)})

    @property
    def latency(self) -> int:
        """Cycles from `act.valid` to `out.valid`."""
        return self.rows + self.cols + PairedElement.MULTIPLIER_LATENCY

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, cols = self.rows, self.cols
        grid = [[PairedElement(self.sum_bits) for _ in range(cols)] for _ in range(rows)]
        swap: Value = self.act.valid & self.act.swap
        for r, row in enumerate(grid):
            load = Signal(name=f"load{r}")
            m.d.sync += load.eq(self.weight.valid & (self.weight.index == r))
            swap = _delayed(m, swap, int(r > 0), f"swap{r}", reset=True)
            left = (_delayed(m, self.act.row[r], r, f"act{r}"), swap, load)
            for c, cell in enumerate(row):
                m.submodules[f"pe_{r}_{c}"] = cell
                m.d.comb += [
                    port.eq(value) for port, value in zip((cell.act_in, cell.swap_in, cell.load_in), left, strict=True)
                ]
                left = (cell.act_out, cell.swap_out, cell.load_out)
                if r:
                    m.d.comb += cell.sums_in.eq(grid[r - 1][c].sums_out)
        for c in range(cols):
            weight = _delayed(m, self.weight.row[c], c + 1, f"weight{c}")
            m.d.comb += [row[c].weight.eq(weight) for row in grid]
            for half in range(2):
                total = _delayed(m, grid[-1][c].sums_out[half], cols - 1 - c, f"sum{_lane(c, half)}")
                m.d.comb += self.out.row[_lane(c, half)].eq(total)
        m.d.comb += self.out.valid.eq(_delayed(m, self.act.valid, self.latency, "valid", reset=True))
        return m
