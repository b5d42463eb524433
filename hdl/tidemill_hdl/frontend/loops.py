"""The stack of active hardware loops."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill_hdl.interfaces import PC_BITS

COUNT_BITS = 16


class LoopStack(wiring.Component):
    """Up to `loop_depth` nested loops; the innermost is on top.

    Parameters
    ----------
    config : Config

    Members
    -------
    push : In(1): a loop begins; only while not `deep`.
    i_pc : In(24): the `loop` instruction.
    i_end : In(24): its endloop.
    i_count : In(16): iterations, at least 1.
    advance : In(1): the innermost loop's body ended: pops the loop if `last`, else counts. Only while `active`; never
        together with `push`.
    active : Out(1): a loop is active.
    deep : Out(1): `loop_depth` loops are active.
    start, end : Out(24): body start and endloop of the innermost loop.
    last : Out(1): the innermost loop is in its last iteration.
    outermost : Out(24): the `loop` instruction of the outermost loop; meaningful while `active`.

    Every output is a register; changes show in the next cycle. After reset empty.
    """

    def __init__(self, config: Config) -> None:
        self.depth = config.loop_depth
        super().__init__(
            {
                "push": In(1),
                "i_pc": In(PC_BITS),
                "i_end": In(PC_BITS),
                "i_count": In(COUNT_BITS),
                "advance": In(1),
                "active": Out(1),
                "deep": Out(1),
                "start": Out(PC_BITS),
                "end": Out(PC_BITS),
                "last": Out(1),
                "outermost": Out(PC_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = data.StructLayout({"start": PC_BITS, "end": PC_BITS, "count": COUNT_BITS, "last": 1})
        entries = [Signal(layout, name=f"entry{i}", reset_less=True) for i in range(self.depth)]
        used = [Signal(name=f"used{i}") for i in range(self.depth)]
        top = entries[0]
        m.d.comb += [
            self.active.eq(used[0]),
            self.deep.eq(used[-1]),
            self.start.eq(top.start),
            self.end.eq(top.end),
            self.last.eq(top.last),
        ]
        with m.If(self.push):
            m.d.sync += [
                top.start.eq(self.i_pc + 1),
                top.end.eq(self.i_end),
                top.count.eq(self.i_count),
                top.last.eq(self.i_count == 1),
                used[0].eq(1),
            ]
            for i in range(1, self.depth):
                m.d.sync += [entries[i].eq(entries[i - 1]), used[i].eq(used[i - 1])]
            with m.If(~used[0]):
                m.d.sync += self.outermost.eq(self.i_pc)
        with m.Elif(self.advance & top.last):
            for i in range(self.depth):
                above = i + 1 < self.depth
                m.d.sync += used[i].eq(used[i + 1] if above else 0)
                if above:
                    m.d.sync += entries[i].eq(entries[i + 1])
        with m.Elif(self.advance):
            m.d.sync += [top.count.eq(top.count - 1), top.last.eq(top.count == 2)]
        return m
