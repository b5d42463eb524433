"""The cell of the array, `matrix/pe.py`, against its arithmetic."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import C, Module, Mux, Signal, signed

from tidemill_hdl.matrix.pe import ProcessingElement
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "matrix/pe.py"
_PSUM_BITS = 20
_LATENCY = 3


class CellHarness(Harness):
    """Any activations, weights, loads, swaps and sums in every cycle.

    The model knows the weights at the ports: `weight` after `load_in` is the next, after `swap_in` the active one;
    after reset the active weight is zero and the next one unknown.
    """

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = ProcessingElement(_PSUM_BITS, _LATENCY)
        self.free_inputs(dut)
        loaded, following = Signal(), Signal(signed(8))
        known, resident = Signal(init=1), Signal(signed(8))
        with m.If(dut.load_in):
            m.d.sync += [loaded.eq(1), following.eq(dut.weight)]
        with m.If(dut.swap_in):
            m.d.sync += [known.eq(loaded), resident.eq(following)]

        # The activation that comes now and the weight that is for it become the cell's factors a cycle later; their
        # product is added `_LATENCY` cycles after that.
        factors = [self.inner(f"dut.{name}", signed(8)) for name in ("activation", "active")]
        valid = self.past(Mux(dut.swap_in, loaded, known), "factors_known")
        weight = self.past(Mux(dut.swap_in, following, resident), "weight")
        right = (factors[0] == self.past(dut.act_in, "activation")) & (factors[1] == weight)
        self.prove("factors", ~valid | right)
        product, ready = factors[0] * factors[1], valid
        for stage in range(_LATENCY + 1):
            product, ready = self.past(product, f"product{stage}"), self.past(ready, f"ready{stage}")
        total = (self.past(dut.psum_in, "psum_before") + product)[:_PSUM_BITS].as_signed()
        self.prove("sum", ~ready | (dut.psum_out == total))
        # The copies for the neighbour on the right come one cycle later.
        ran = self.past(C(1, 1), "ran")
        for name in ("act", "swap", "load"):
            given = getattr(dut, f"{name}_in")
            copied = getattr(dut, f"{name}_out") == self.past(given, f"{name}_before")
            self.prove(f"{name}_travels", ~ran | copied)
        self.lemma("next", ~loaded | (self.inner("dut.shadow", signed(8)) == following))
        self.lemma("active", ~known | (self.inner("dut.active", signed(8)) == resident))
        self.cover("swapped", ready & (product == 16384) & (dut.psum_out == 16385))


PROOFS = (
    Proof(
        "sum",
        partial(CellHarness),
        {
            "factors": "the cell multiplies each activation by the weight that the swaps and loads before and with it "
            "say, one cycle later; all values",
            "sum": f"`psum_out` is `psum_in` of the cycle before plus the product of the factors of {_LATENCY + 1} "
            "cycles before; all values",
            "act_travels": "activations move on after one cycle",
            "swap_travels": "swaps move on after one cycle",
            "load_travels": "loads move on after one cycle",
        },
        (
            Twin("factors", _FILE, "with m.If(self.swap_in):", "with m.If(swap):"),
            Twin("sum", _FILE, "psum.eq(self.psum_in + multiplier.p)", "psum.eq(self.psum_in - multiplier.p)"),
            Twin("act_travels", _FILE, "self.act_out.eq(activation)", "self.act_out.eq(self.act_in)"),
            Twin("swap_travels", _FILE, "swap.eq(self.swap_in)", "swap.eq(self.swap_in & ~self.load_in)"),
            Twin("load_travels", _FILE, "load.eq(self.load_in)", "load.eq(self.load_in & ~self.swap_in)"),
        ),
        {"swapped": "the product of two extremes after a load and a swap"},
        depth=_LATENCY + 7,
    ),
)
