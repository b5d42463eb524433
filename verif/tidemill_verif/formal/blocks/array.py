"""A small systolic array, `matrix/array.py`, against sums of products."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed

from tidemill_hdl.matrix.array import SystolicArray
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "matrix/array.py"
_ROWS, _COLS = 3, 2
_PSUM_BITS = 18


class ArrayHarness(Harness):
    """Any activations, weights and gaps; weights come as the contract says: the rows of a tile in ascending order, the
    first not before the swap that frees its place, the last not after the swap that takes the tile.

    The model has two tiles: `following`, written by the loads, and `resident`, which is zero after reset and becomes
    `following` with a swap.

    Two halves that meet at the cells' factors, because solvers do not compare multiplications of different signals:
    the factors are those of the row and its tile, and the sums are those of the products of these factors.

    Parameters
    ----------
    multiplier_latency : int
        As of the array.
    """

    def __init__(self, multiplier_latency: int) -> None:
        self.multiplier_latency = multiplier_latency
        super().__init__()

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = SystolicArray(_ROWS, _COLS, _PSUM_BITS, self.multiplier_latency)
        self.free_inputs(dut)
        rows, cols = range(_ROWS), range(_COLS)
        load, swap = dut.weight.valid, dut.act.valid & dut.act.swap
        upcoming, complete = Signal(range(_ROWS)), Signal()
        closes = load & (upcoming == _ROWS - 1)
        self.assume(~load | ((dut.weight.index == upcoming) & (~complete | swap)))
        self.assume(~swap | complete | closes)
        with m.If(load):
            m.d.sync += upcoming.eq(Mux(closes, 0, upcoming + 1))
        m.d.sync += complete.eq((complete | closes) & ~swap)

        following = [[Signal(signed(8), name=f"following{r}_{c}") for c in cols] for r in rows]
        resident = [[Signal(signed(8), name=f"resident{r}_{c}") for c in cols] for r in rows]
        loaded = [Signal(name=f"loaded{r}") for r in rows]
        weights: list[list[Value]] = []
        for r in rows:
            comes = load & (dut.weight.index == r)
            with m.If(comes):
                m.d.sync += loaded[r].eq(1)
            weights.append([])
            for c in cols:
                with m.If(comes):
                    m.d.sync += following[r][c].eq(dut.weight.row[c])
                taken = Mux(~complete & comes, dut.weight.row[c], following[r][c]).as_signed()
                weights[r].append(Mux(swap, taken, resident[r][c]).as_signed())
                m.d.sync += resident[r][c].eq(weights[r][c])
        self.lemma("order", Cat((upcoming < _ROWS), ~complete | (upcoming == 0)).all())
        self.lemma("complete", Cat(~(complete | (r < upcoming)) | loaded[r] for r in rows).all())

        # Every cell works with the model's weights, as much later as it stands to the right and below.
        for r in rows:
            for c in cols:
                active = self.inner(f"dut.pe_{r}_{c}.active", signed(8))
                self.lemma(f"active_{r}_{c}", active == self._delay(resident[r][c], r + c, f"resident{r}_{c}_before"))
                shadow = self.inner(f"dut.pe_{r}_{c}.shadow", signed(8))
                before = self._delay(following[r][c], c + 1, f"following{r}_{c}_before")
                known = self._delay(loaded[r], c + 1, f"loaded{r}_{c}_before")
                self.lemma(f"shadow_{r}_{c}", ~known | (shadow == before))

        valid = self._delay(dut.act.valid, dut.latency, "valid_before")
        self.prove("valid", dut.out.valid == valid)
        # Each cell's factors are those of the row that comes to it; the sums are those of the cells' products.
        ran: Value = C(1, 1)
        for i in range(dut.latency):
            ran = self.past(ran, f"ran{i}")
        right, totals = [], [C(0, 1) for _ in cols]
        for r in rows:
            for c in cols:
                factors = [self.inner(f"dut.pe_{r}_{c}.{name}", signed(8)) for name in ("activation", "active")]
                expected = [
                    self._delay(value, r + c + 1, f"{name}{r}_{c}_")
                    for name, value in (("act", dut.act.row[r]), ("weight", weights[r][c]))
                ]
                used = self._delay(dut.act.valid, r + c + 1, f"used{r}_{c}_")
                right.append(~used | ((factors[0] == expected[0]) & (factors[1] == expected[1])))
                cycles = self.multiplier_latency + _ROWS - r + _COLS - 1 - c
                totals[c] = totals[c] + self._delay(factors[0] * factors[1], cycles, f"product{r}_{c}_")
        self.prove("factors", Cat(right).all())
        for c in cols:
            self.prove(f"sum_{c}", ~ran | (dut.out.row[c] == totals[c][:_PSUM_BITS].as_signed()))
        swapped = Signal()
        with m.If(swap):
            m.d.sync += swapped.eq(1)
        self.cover("second_tile", swapped & swap & load)
        self.cover("result", valid & (dut.out.row[0] == 16385))

    def _delay(self, value: Value, cycles: int, name: str) -> Value:
        for i in range(cycles):
            value = self.past(value, f"{name}{i}")
        return value


PROOFS = (
    Proof(
        "three_by_two",
        partial(ArrayHarness, 1),
        {
            "valid": "a result comes exactly `latency` cycles after its row",
            "factors": "every cell multiplies the row's activation by the weight of the tile that the swaps so far "
            "chose, while the next tile is loaded: any values, loads and swaps",
            **{f"sum_{c}": f"column {c} is the sum of its three cells' products for the row" for c in range(_COLS)},
        },
        (
            Twin("valid", _FILE, '"valid", reset=True)', '"valid", reset=True)[:-1]'),
            Twin("factors", _FILE, "self.weight.row[c], c + 1,", "self.weight.row[c], c,"),
            Twin("sum_0", _FILE, "psum_in.eq(cell.psum_out)", "psum_in.eq(cell.psum_in)"),
            Twin("sum_1", _FILE, "cols - 1 - c, f\"psum{c}\"", "cols - c, f\"psum{c}\""),
        ),
        {"second_tile": "a tile is loaded while the one before takes over", "result": "a sum of extremes"},
        depth=10,
        cover_depth=14,
    ),
)  # fmt: skip
