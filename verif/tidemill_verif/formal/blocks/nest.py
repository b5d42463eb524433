"""The address generator `prim/nest.py` against its arithmetic definition."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed

from tidemill_hdl.prim.nest import AddressNest
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "prim/nest.py"


class NestHarness(Harness):
    """Walks with any counts (at least 1), bases and strides, one after the other, also before its end, at any pace.

    Parameters
    ----------
    count_bits : int
        Bits of the counts of three levels.
    address_bits : int
        Bits of the two streams' addresses and of a stride.
    products : bool
        Multiplies. Else products are what they are made of: 0 at index 0, and from one index to the next they grow by
        the stride; this is what large widths are proved with.
    """

    def __init__(self, count_bits: int, address_bits: int, *, products: bool) -> None:
        self.count_bits = count_bits
        self.address_bits = address_bits
        self.products = products
        super().__init__()

    def build(self, m: Module) -> None:
        bits, levels = self.address_bits, range(3)
        m.submodules.dut = dut = AddressNest([self.count_bits] * 3, [bits] * 2, stride_bits=bits)
        self.free_inputs(dut)
        counts = [dut.count[f"c{k}"] for k in levels]
        ends = dut.valid & dut.step & dut.last
        self.assume(dut.valid | ~dut.step)
        self.assume(~dut.start | Cat(count != 0 for count in counts).all())
        same = dut.stride.as_value() == self.past(dut.stride.as_value(), "stride_before")
        self.assume(~dut.valid | self.past(dut.start, "started") | same)

        # The definition: indices that count like nested loops.
        walking = Signal()
        n = [Signal(self.count_bits, name=f"n{k}") for k in levels]
        index = [Signal(self.count_bits, name=f"index{k}") for k in levels]
        base = [Signal(signed(bits), name=f"base{s}") for s in range(2)]
        closes = [index[k] == n[k] - 1 for k in levels]
        with m.If(dut.step & walking):
            below: Value = Cat(1)
            for k in levels:
                with m.If(below):
                    m.d.sync += index[k].eq(Mux(closes[k], 0, index[k] + 1))
                below = below & closes[k]
            m.d.sync += walking.eq(~below)
        with m.If(dut.start):
            m.d.sync += [walking.eq(1), *(signal.eq(0) for signal in index)]
            m.d.sync += [signal.eq(count) for signal, count in zip(n, counts, strict=True)]
            m.d.sync += [base[s].eq(dut.base[f"s{s}"]) for s in range(2)]

        self.prove("points", dut.valid == walking)
        self.prove("last", ~walking | (dut.last == Cat(closes).all()))
        opens, all_close = [index[k] == 0 for k in levels], [Cat(closes[: k + 1]).all() for k in levels]
        self.prove("first", ~walking | (dut.first == Cat(Cat(opens[: k + 1]).all() for k in levels)))
        self.prove("final", ~walking | (dut.final == Cat(all_close)))
        if self.products:
            self._count(m, dut, n, index, walking)
        origins = [[self.inner(f"dut.origin{s}_{k}", signed(bits)) for k in levels] for s in range(2)]
        for s in range(2):
            terms = [self._term(m, dut, s, k, index[k], n[k], walking) for k in levels]
            self.prove(f"address_{s}", ~walking | (dut.address[f"s{s}"] == (base[s] + sum(terms))[:bits].as_signed()))
            for k in levels:
                reached = (base[s] + sum(terms[k:]))[:bits].as_signed()
                self.lemma(f"origin_{s}_{k}", ~walking | (origins[s][k] == reached))
        for k in levels:
            remaining, reload = (self.inner(f"dut.{name}{k}", self.count_bits) for name in ("remaining", "reload"))
            facts = [n[k] != 0, index[k] < n[k], reload == n[k] - 1, remaining == n[k] - 1 - index[k]]
            facts += [self.inner(f"dut.at_last{k}") == closes[k], self.inner(f"dut.at_first{k}") == opens[k]]
            self.lemma(f"level_{k}", ~walking | Cat(facts).all())
        self.cover("three_levels", ends & Cat(n[k] == 2 for k in levels).all())
        self.cover("back_to_back", ends & dut.start)
        self.cover("anew", dut.valid & ~dut.last & dut.start)

    def _term(self, m: Module, dut: AddressNest, s: int, k: int, index: Value, n: Value, walking: Value) -> Value:
        """index * stride of a level, modulo 2^address_bits."""
        stride = dut.stride[s][k]
        term = Signal(self.address_bits, name=f"term{s}_{k}")
        moves = dut.step & (dut.final[k - 1] if k else 1)
        with m.If(dut.start):
            m.d.sync += term.eq(0)
        with m.Elif(moves):
            m.d.sync += term.eq(Mux(index == n - 1, 0, term + stride))
        if self.products:
            self.lemma(f"product_{s}_{k}", ~walking | (term == (index * stride)[: self.address_bits]))
        return term

    def _count(self, m: Module, dut: AddressNest, n: Sequence[Value], index: Sequence[Value], walking: Value) -> None:
        """Points before this one; with the last there are n2 * n1 * n0."""
        points = Signal(3 * self.count_bits)
        lines = Signal(2 * self.count_bits)
        with m.If(dut.start):
            m.d.sync += [points.eq(0), lines.eq(0)]
        with m.Elif(dut.step):
            m.d.sync += [points.eq(points + 1), lines.eq(lines + dut.final[0])]
        self.prove("number", ~(walking & dut.last) | (points + 1 == n[2] * n[1] * n[0]))
        self.lemma("lines_so_far", ~walking | (lines == index[2] * n[1] + index[1]))
        self.lemma("lines", ~walking | ~dut.last | (lines + 1 == n[2] * n[1]))
        self.lemma("points_so_far", ~walking | (points == lines * n[0] + index[0]))


_SAYS = {
    "points": "the outputs are valid from the cycle after `start` to the step of the last point, and never else",
    "last": "`last` marks exactly the point at which every index is at its last",
    "first": "bit k of `first`: the indices of levels 0 to k are zero",
    "final": "bit k of `final`: the indices of levels 0 to k are at their last",
    "address_0": "stream 0 is at base + the sum of index * stride over all levels, modulo its width",
    "address_1": "stream 1 likewise, with its own base and strides",
    "number": "the last point is number n0 * n1 * n2",
}
_TWINS = (
    Twin("points", _FILE, "with m.If(self.last):", "with m.If(self.final[1]):"),
    Twin("last", _FILE, "at_last[k].eq(count == 1)", "at_last[k].eq(count <= 2)"),
    Twin("first", _FILE, "at_first[k].eq(0),", "at_first[k].eq(at_first[k]),"),
    Twin("final", _FILE, "at_last[k].eq(reload[k] == 0), at_first[k].eq(1)", "at_last[k].eq(0), at_first[k].eq(1)"),
    Twin(
        "address_0", _FILE, "with m.Elif(self.step & Cat(advance[k:]).any()):", "with m.Elif(self.step & advance[k]):"
    ),
    Twin("address_1", _FILE, "origin[k] + self.stride[s][k]", "origin[k] + self.stride[0][k]"),
)
_NUMBER = Twin("number", _FILE, "remaining[k].eq(reload[k])", "remaining[k].eq(reload[k] >> 1)")
_COVERS = {
    "three_levels": "a walk of 2 x 2 x 2 points ends",
    "back_to_back": "a walk starts with the last step of another",
    "anew": "a walk starts in the middle of another",
}

PROOFS = (
    Proof(
        "definition",
        partial(NestHarness, 3, 6, products=True),
        _SAYS,
        (*_TWINS, _NUMBER),
        _COVERS,
        depth=8,
        cover_depth=12,
    ),
    Proof(
        "full_width",
        partial(NestHarness, 16, 16, products=False),
        {name: text for name, text in _SAYS.items() if name != "number"},
        _TWINS,
        _COVERS,
        depth=8,
        cover_depth=12,
    ),
)
