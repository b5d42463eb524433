"""The systolic array: rows x cols cells, weights resident, activations and sums moving."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .pe import ProcessingElement


def _delay(m: Module, value: Value, cycles: int, name: str, *, reset: bool = False) -> list[Value]:
    """`value` after 0, 1, ..., `cycles` registers."""
    stages = [value]
    for stage in range(cycles):
        register = Signal(value.shape(), name=f"{name}_delay{stage}", reset_less=not reset)
        m.d.sync += register.eq(stages[-1])
        stages.append(register)
    return stages


class SystolicArray(wiring.Component):
    """Product of activation rows and a resident weight tile: y[c] = sum over r of x[r] * W[r][c].

    Activations enter at the left, row r r cycles after row 0, and move one column a cycle; sums move down. Loads
    of the shadow weights and the swap move from column to column in the same way, so no control bit and no weight
    reaches more than one column in a cycle.

    Parameters
    ----------
    rows, cols : int
        Shape; at least 3 rows.
    psum_bits : int
        Bits of a sum; 16 + log2(rows) never overflow.
    multiplier_latency : int
        See `Multiplier`.

    Members
    -------
    act : In({valid, swap, row}): an activation row of `rows` int8; `swap` switches to the shadow weights first,
        for this row and all later ones. One a cycle, gaps allowed.
    weight : In({valid, index, row}): `cols` int8 weights of array row `index` for the shadow weights. May come with
        or after the swap that frees its place; rows in ascending order keep clear of a swap in the same or
        an earlier cycle. All rows must have come before, or the last with, the swap that takes them.
    out : Out({valid, row}): `cols` sums, `latency` cycles after `act`.

    Reset clears the active weights and forgets rows, loads and swaps under way.
    """

    def __init__(self, rows: int, cols: int, psum_bits: int, multiplier_latency: int = 3) -> None:
        if rows < 3 or cols < 1:
            raise ValueError(f"an array needs at least 3 rows and 1 column, not {rows!r} x {cols!r}")
        self.rows = rows
        self.cols = cols
        self.psum_bits = psum_bits
        self.multiplier_latency = multiplier_latency
        activations = data.ArrayLayout(signed(8), rows)
        weights = data.ArrayLayout(signed(8), cols)
        sums = data.ArrayLayout(signed(psum_bits), cols)
        act = wiring.Signature({"valid": Out(1), "swap": Out(1), "row": Out(activations)})
        weight = wiring.Signature({"valid": Out(1), "index": Out(range(rows)), "row": Out(weights)})
        super().__init__(
            {
                "act": In(act),
                "weight": In(weight),
                "out": Out(wiring.Signature({"valid": Out(1), "row": Out(sums)})),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from `act.valid` to `out.valid`."""
        return self.rows + self.cols + self.multiplier_latency

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows, cols = self.rows, self.cols
        grid = [[ProcessingElement(self.psum_bits, self.multiplier_latency) for _ in range(cols)] for _ in range(rows)]
        for r in range(rows):
            for c in range(cols):
                m.submodules[f"pe_{r}_{c}"] = grid[r][c]

        swaps = _delay(m, self.act.valid & self.act.swap, rows - 1, "swap", reset=True)
        for r in range(rows):
            m.d.comb += [
                grid[r][0].act_in.eq(_delay(m, self.act.row[r], r, f"act{r}")[-1]),
                grid[r][0].swap_in.eq(swaps[r]),
            ]
            load = Signal(name=f"load{r}")
            m.d.sync += load.eq(self.weight.valid & (self.weight.index == r))
            m.d.comb += grid[r][0].load_in.eq(load)
        for c in range(cols):
            weight = _delay(m, self.weight.row[c], c + 1, f"weight{c}")[-1]
            m.d.comb += [grid[r][c].weight.eq(weight) for r in range(rows)]
        self._connect_cells(m, grid)

        for c in range(cols):
            m.d.comb += self.out.row[c].eq(_delay(m, grid[-1][c].psum_out, cols - 1 - c, f"psum{c}")[-1])
        m.d.comb += self.out.valid.eq(_delay(m, self.act.valid, self.latency, "valid", reset=True)[-1])
        return m

    def _connect_cells(self, m: Module, grid: Sequence[Sequence[ProcessingElement]]) -> None:
        for r in range(self.rows):
            for c in range(self.cols):
                cell = grid[r][c]
                if c + 1 < self.cols:
                    right = grid[r][c + 1]
                    m.d.comb += [
                        right.act_in.eq(cell.act_out),
                        right.swap_in.eq(cell.swap_out),
                        right.load_in.eq(cell.load_out),
                    ]
                if r + 1 < self.rows:
                    m.d.comb += grid[r + 1][c].psum_in.eq(cell.psum_out)
