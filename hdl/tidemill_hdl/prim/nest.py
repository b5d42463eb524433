"""Nested address counters: the address generator that every engine uses."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class AddressNest(wiring.Component):
    """Walks nested loops and keeps one running address per stream.

    The address of stream s at indices (i_0, ..., i_{d-1}), level 0 innermost, is
    base_s + sum over k of i_k * stride_{s,k}.

    Parameters
    ----------
    counts : Sequence[int]
        Bits of each level's count, innermost first.
    address_bits : Sequence[int]
        Bits of each stream's address (signed, wrapping).
    stride_bits : int
        Bits of a stride (signed); at most the bits of the narrowest address.

    Members
    -------
    start : In(1): loads bases and counts and begins at the first point in the next cycle, whatever is under way; may
        be held until there is something to walk, and may coincide with the last `step`. Counts are at least 1.
    count : In(struct c0, c1, ...): sampled at `start`.
    base : In(struct s0, s1, ... signed): sampled at `start`.
    stride : In(array of streams of array of levels): constant from the cycle after `start` until the walk
        ends.
    step : In(1): go to the next point; only while `valid`.
    valid : Out(1): the outputs below are a point of the walk.
    address : Out(struct s0, s1, ... signed): registered.
    last : Out(1): this point is the last; registered.
    first : Out(levels): bit k is set while every index of levels 0 to k is zero: the point opens a level k line.
    final : Out(levels): bit k is set while every index of levels 0 to k is at its last: the point closes one.

    Throughput one point a cycle. After reset not valid.
    """

    def __init__(self, counts: Sequence[int], address_bits: Sequence[int], stride_bits: int = 16) -> None:
        self.count_bits = tuple(counts)
        self.address_bits = tuple(address_bits)
        self.stride_bits = stride_bits
        if stride_bits > min(address_bits):
            raise ValueError(f"stride_bits must be at most the narrowest address, not {stride_bits!r}")
        addresses = data.StructLayout({f"s{i}": signed(bits) for i, bits in enumerate(address_bits)})
        levels = len(self.count_bits)
        super().__init__(
            {
                "start": In(1),
                "count": In(data.StructLayout({f"c{i}": unsigned(bits) for i, bits in enumerate(counts)})),
                "base": In(addresses),
                "stride": In(data.ArrayLayout(data.ArrayLayout(signed(stride_bits), levels), len(address_bits))),
                "step": In(1),
                "valid": Out(1),
                "address": Out(addresses),
                "last": Out(1),
                "first": Out(levels),
                "final": Out(levels),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        levels = len(self.count_bits)
        # Remaining points of each level after this one; zero means the level is at its last index.
        remaining = [Signal(bits, name=f"remaining{k}") for k, bits in enumerate(self.count_bits)]
        reload = [Signal(bits, name=f"reload{k}") for k, bits in enumerate(self.count_bits)]
        at_last = [Signal(name=f"at_last{k}") for k in range(levels)]
        at_first = [Signal(name=f"at_first{k}") for k in range(levels)]

        # The lowest level that is not at its last index advances; the levels below it start again.
        advance = [Signal(name=f"advance{k}") for k in range(levels)]
        below_done = True
        for k in range(levels):
            m.d.comb += advance[k].eq(~at_last[k] & below_done)
            below_done = at_last[k] & below_done
        m.d.comb += [
            self.last.eq(below_done),
            self.final.eq(Cat(Cat(at_last[: k + 1]).all() for k in range(levels))),
            self.first.eq(Cat(Cat(at_first[: k + 1]).all() for k in range(levels))),
        ]

        with m.If(self.step):
            for k in range(levels):
                restart = Cat(advance[k + 1 :]).any() if k + 1 < levels else 0
                with m.If(advance[k]):
                    m.d.sync += [
                        remaining[k].eq(remaining[k] - 1),
                        at_last[k].eq(remaining[k] == 1),
                        at_first[k].eq(0),
                    ]
                with m.Elif(restart):
                    m.d.sync += [remaining[k].eq(reload[k]), at_last[k].eq(reload[k] == 0), at_first[k].eq(1)]
            with m.If(self.last):
                m.d.sync += self.valid.eq(0)
        with m.If(self.start):
            m.d.sync += self.valid.eq(1)
            for k in range(levels):
                count = self.count[f"c{k}"]
                m.d.sync += [
                    remaining[k].eq(count - 1),
                    reload[k].eq(count - 1),
                    at_last[k].eq(count == 1),
                    at_first[k].eq(1),
                ]

        for s, bits in enumerate(self.address_bits):
            # origin[k]: the address at which the current run of level k began; origin[0] is the address itself.
            origin = [Signal(signed(bits), name=f"origin{s}_{k}", reset_less=True) for k in range(levels)]
            moved = 0
            for k in reversed(range(levels)):
                # Kept: Yosys would make the sums of all levels one, behind the choice of the level.
                target = Signal(signed(bits), name=f"target{s}_{k}", attrs={"keep": 1})
                m.d.comb += target.eq(origin[k] + self.stride[s][k])
                moved = Mux(advance[k], target, moved)
                with m.If(self.start):
                    m.d.sync += origin[k].eq(self.base[f"s{s}"])
                with m.Elif(self.step & Cat(advance[k:]).any()):
                    m.d.sync += origin[k].eq(moved)
            m.d.comb += self.address[f"s{s}"].eq(origin[0])
        return m
