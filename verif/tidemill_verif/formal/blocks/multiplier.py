"""The multiplier `prim/multiplier.py` against long multiplication."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import C, Cat, Module, Mux, Value

from tidemill_hdl.prim.multiplier import Multiplier
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "prim/multiplier.py"
_BITS = {1: 5, 2: 5, 3: 8}
"""Bits of a factor by latency: the array's own 8 for the latency it is built with; fewer are much faster."""


def long_product(a: Value, b: Value) -> Value:
    """a * b of two signed numbers, added up bit by bit; modulo 2^(bits of both)."""
    width = len(a) + len(b)
    wide = Cat(a, a[-1].replicate(len(b)))
    total: Value = C(0, width)
    for i in range(len(b)):
        term = Mux(b[i], Cat(C(0, i), wide)[:width], 0)
        total = (total - term if i == len(b) - 1 else total + term)[:width]
    return total.as_signed()


class MultiplierHarness(Harness):
    """Any factors in every cycle.

    Parameters
    ----------
    latency : int
        As of the multiplier.
    """

    def __init__(self, latency: int) -> None:
        self.latency = latency
        super().__init__()

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Multiplier(_BITS[self.latency], _BITS[self.latency], self.latency)
        self.free_inputs(dut)
        a: Value = dut.a
        b: Value = dut.b
        known: Value = C(1, 1)
        for stage in range(self.latency):
            a, b = self.past(a, f"a{stage}"), self.past(b, f"b{stage}")
            known = self.past(known, f"known{stage}")
        self.prove("product", ~known | (dut.p == long_product(a, b)))
        self.cover("negative", known & (dut.p == -3 * 5))


PROOFS = tuple(
    Proof(
        f"latency_{latency}",
        partial(MultiplierHarness, latency),
        {"product": f"`p` is the signed product of the {_BITS[latency]}-bit factors of {latency} cycle(s) before"},
        (Twin("product", _FILE, "product.eq(a * b)", "product.eq(a.as_unsigned() * b)"),),
        {"negative": "a product of factors of different signs"},
        depth=latency + 3,
        quick=latency == 1,
    )
    for latency in (1, 2, 3)
)
