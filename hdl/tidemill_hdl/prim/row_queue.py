"""A queue of rows whose reader decides a cycle before it has the row: nothing wide waits for the decision."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, ShapeLike, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class RowQueue(wiring.Component):
    """First-in first-out queue that never refuses a row and hands rows out a cycle late.

    Parameters
    ----------
    shape : ShapeLike
        A row.
    depth : int
        Rows, a power of two, at least 2; whoever adds rows keeps count of them.

    Members
    -------
    add : In(1): `i` is a new row.
    fill : In(1): `i` stands where the next new row will be, but is none; only while the queue is empty and without
        `add`. Two cycles later, and until the next `add`, `o` is that row.
    i : In(shape)
    present : Out(1): there is a row, of the cycle before or earlier; registered.
    take : In(1): go on to the next row; only while `present`.
    o : Out(shape): the row that was next in the cycle before: in the cycle after `take` the row taken.

    Throughput one row a cycle. After reset empty.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two, at least 2, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__(
            {
                "add": In(1),
                "fill": In(1),
                "i": In(shape),
                "present": Out(1),
                "take": In(1),
                "o": Out(shape),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = Shape.cast(self.shape).width
        m.submodules.storage = rows = Memory(shape=unsigned(width), depth=self.depth, init=[])
        write, read = rows.write_port(), rows.read_port()
        produce = Signal(range(self.depth))
        consume = Signal(range(self.depth))
        level = Signal(range(self.depth + 1))
        m.d.comb += [
            write.addr.eq(produce),
            write.en.eq(self.add | self.fill),
            write.data.eq(Value.cast(self.i)),
            read.addr.eq(consume),
            read.en.eq(1),
            Value.cast(self.o).eq(read.data),
        ]
        m.d.sync += [
            produce.eq(produce + self.add),
            consume.eq(consume + self.take),
            level.eq(level + self.add - self.take),
            # `level` of the next cycle is not zero.
            self.present.eq(self.add | (level[1:] != 0) | (level[0] & ~self.take)),
        ]
        return m
