"""A small queue with registered handshakes: cuts every combinational path between two units."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal, Value, ValueLike
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out


def _bits(payload: ValueLike) -> Value:
    """The payload as plain bits, whatever its layout."""
    return Value.cast(payload)


class SkidBuffer(wiring.Component):
    """Two-entry stream buffer; both `i.ready` and `o.valid` come straight from registers.

    Parameters
    ----------
    shape : ShapeLike
        Payload.

    Members
    -------
    i : In(stream)
    o : Out(stream)

    Latency 1 cycle, throughput 1 transfer a cycle. After reset empty.
    """

    def __init__(self, shape: ShapeLike) -> None:
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = Shape.cast(self.shape).width
        front = Signal(width, reset_less=True)
        spare = Signal(width, reset_less=True)
        spare_full = Signal()
        o_valid = Signal()
        m.d.comb += [
            self.i.ready.eq(~spare_full),
            self.o.valid.eq(o_valid),
            _bits(self.o.payload).eq(front),
        ]
        i_fire = self.i.valid & ~spare_full
        advance = self.o.ready | ~o_valid
        with m.If(advance):
            m.d.sync += [
                o_valid.eq(spare_full | i_fire),
                front.eq(Mux(spare_full, spare, _bits(self.i.payload))),
                spare_full.eq(0),
            ]
        with m.Elif(i_fire):
            m.d.sync += spare_full.eq(1)
        # Taken along even if not needed: its enable does not wait for the consumer.
        with m.If(~spare_full):
            m.d.sync += spare.eq(_bits(self.i.payload))
        return m


class Queue(wiring.Component):
    """First-in first-out stream queue whose `i.ready` and `o.valid` are functions of registers alone.

    Parameters
    ----------
    shape : ShapeLike
        Payload.
    depth : int
        Entries, at least 2.

    Members
    -------
    i : In(stream)
    o : Out(stream)
    level : Out(range(depth + 1)): entries held.

    Latency 2 cycles (1 at depth 2), throughput 1 transfer a cycle. After reset empty.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        if depth < 2:
            raise ValueError(f"queue depth must be at least 2, not {depth!r}")
        self.shape = shape
        self.depth = depth
        super().__init__(
            {"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "level": Out(range(depth + 1))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.depth == 2:
            # A FIFO with an output register has one entry besides it and takes a transfer every other cycle only.
            m.submodules.buffer = buffer = SkidBuffer(self.shape)
            wiring.connect(m, wiring.flipped(self.i), buffer.i)
            wiring.connect(m, buffer.o, wiring.flipped(self.o))
            m.d.comb += self.level.eq(buffer.o.valid + ~buffer.i.ready)
            return m
        m.submodules.fifo = queue = fifo.SyncFIFOBuffered(width=Shape.cast(self.shape).width, depth=self.depth)
        m.d.comb += [
            queue.w_data.eq(_bits(self.i.payload)),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            _bits(self.o.payload).eq(queue.r_data),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
            self.level.eq(queue.level),
        ]
        return m
