"""The AXI4 master of the NPU: instruction fetch, load and store share it."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill_hdl.interfaces import Axi4Master, Burst, BurstRead, BurstWrite
from tidemill_hdl.prim.queue import Queue, SkidBuffer

FETCH_ID, LOAD_ID = 0, 1
FETCHES = 2
"""Most fetch bursts in flight: one to come, one on its way."""

INCR = 0b01
NORMAL_BUFFERABLE = 0b0011


class Gateway(wiring.Component):
    """Arbitrates three clients onto one AXI4 master, and drains it on request.

    Reads carry ID 0 (fetch) or 1 (load), writes ID 0. Fetch and load alternate when both want the read address
    channel. At most two fetch bursts are in flight. Both clients must take their beats in the end: fetch always does,
    it asks for what it has room for; load does, short of a fault, and then `quiesce` follows.

    Parameters
    ----------
    config : Config

    Members
    -------
    fetch, load : In(BurstRead): at most `max_burst` beats a burst.
    store : In(BurstWrite): gives a response for every burst; the client must take it in the end.
    m_axi : Out(Axi4Master)
    quiesce : In(1): from the next cycle on the clients' streams are ignored, may break off at any time and get no
        ready. No burst is issued any more; read beats are dropped; write bursts already issued end with the beats
        taken and then with beats without strobes; responses are dropped, not offered. Keep it high until `quiet`.
    quiet : Out(1): `quiesce` is high, nothing is in flight, no buffer holds anything.

    Latency: command to address channel 2 cycles for reads, 1 for writes; read and write beats 2.
    Throughput one beat a cycle, one write burst every 2 cycles. After reset empty. Not reset by `core_reset`.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "fetch": In(BurstRead(config)),
                "load": In(BurstRead(config)),
                "store": In(BurstWrite(config)),
                "m_axi": Out(Axi4Master(config)),
                "quiesce": In(1),
                "quiet": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        axi = self.m_axi
        quiesce = Signal(name="quiesce_register")
        reads_none, writes_none = Signal(), Signal()
        m.d.sync += quiesce.eq(self.quiesce)
        m.d.sync += self.quiet.eq(quiesce & self.quiesce & reads_none & writes_none)
        for prefix in ("ar", "aw"):
            m.d.comb += [
                getattr(axi, f"{prefix}size").eq((self.config.axi_bytes - 1).bit_length()),
                getattr(axi, f"{prefix}burst").eq(INCR),
                getattr(axi, f"{prefix}cache").eq(NORMAL_BUFFERABLE),
            ]
        self._reads(m, quiesce, reads_none)
        self._writes(m, quiesce, writes_none)
        return m

    def _reads(self, m: Module, quiesce: Signal, none: Signal) -> None:
        axi = self.m_axi
        clients = (self.fetch, self.load)

        # One command of each client waits here; it is still forgotten by quiesce.
        waiting = [Signal(name=f"{name}_waiting") for name in ("fetch", "load")]
        wanted = [Signal(Burst, name=f"{name}_command", reset_less=True) for name in ("fetch", "load")]
        take = [Signal(name=f"{name}_take") for name in ("fetch", "load")]
        for client, full, command, taken in zip(clients, waiting, wanted, take, strict=True):
            m.d.comb += client.cmd.ready.eq(~full & ~quiesce)
            with m.If(quiesce | taken):
                m.d.sync += full.eq(0)
            with m.Elif(client.cmd.valid & ~full):
                m.d.sync += [full.eq(1), command.eq(client.cmd.payload)]

        outstanding = Signal(range(64), name="reads_outstanding")
        fetching = Signal(range(FETCHES + 1))
        free = Signal()
        load_next = Signal()
        m.d.comb += [
            free.eq((~axi.arvalid | axi.arready) & ~quiesce & ~outstanding[-1]),
            take[0].eq(free & waiting[0] & (fetching != FETCHES) & ~(load_next & waiting[1])),
            take[1].eq(free & waiting[1] & ~take[0]),
        ]
        issue = take[0] | take[1]
        with m.If(issue):
            m.d.sync += [
                axi.arvalid.eq(1),
                axi.arid.eq(take[1]),
                axi.araddr.eq(Mux(take[1], wanted[1].addr, wanted[0].addr)),
                axi.arlen.eq(Mux(take[1], wanted[1].beats, wanted[0].beats)),
                load_next.eq(take[0]),
            ]
        with m.Elif(axi.arready):
            m.d.sync += axi.arvalid.eq(0)

        beat = self.fetch.beat.payload.shape()
        m.submodules.r = r = SkidBuffer(data.StructLayout({"id": unsigned(1), "beat": beat, "last": unsigned(1)}))
        m.submodules.fetch_beats = fetch_beats = ResetInserter(quiesce)(SkidBuffer(beat))
        m.submodules.load_beats = load_beats = ResetInserter(quiesce)(SkidBuffer(beat))
        m.d.comb += [
            r.i.valid.eq(axi.rvalid),
            axi.rready.eq(r.i.ready),
            r.i.payload.id.eq(axi.rid),
            r.i.payload.beat.data.eq(axi.rdata),
            r.i.payload.beat.resp.eq(axi.rresp),
            r.i.payload.last.eq(axi.rlast),
            fetch_beats.i.payload.eq(r.o.payload.beat),
            load_beats.i.payload.eq(r.o.payload.beat),
            fetch_beats.i.valid.eq(r.o.valid & (r.o.payload.id == FETCH_ID) & ~quiesce),
            load_beats.i.valid.eq(r.o.valid & (r.o.payload.id == LOAD_ID) & ~quiesce),
            r.o.ready.eq(quiesce | Mux(r.o.payload.id == LOAD_ID, load_beats.i.ready, fetch_beats.i.ready)),
        ]
        wiring.connect(m, fetch_beats.o, wiring.flipped(self.fetch.beat))
        wiring.connect(m, load_beats.o, wiring.flipped(self.load.beat))

        finished = r.o.valid & r.o.ready & r.o.payload.last
        fetched = finished & (r.o.payload.id == FETCH_ID)
        m.d.sync += [
            outstanding.eq(outstanding + issue - finished),
            fetching.eq(fetching + take[0] - fetched),
        ]
        m.d.comb += none.eq((outstanding == 0) & ~waiting[0] & ~waiting[1])

    def _writes(self, m: Module, quiesce: Signal, none: Signal) -> None:
        config, axi, store = self.config, self.m_axi, self.store

        # A command goes straight to the address channel: what was taken is issued.
        outstanding = Signal(range(64), name="writes_outstanding")
        m.submodules.lengths = lengths = Queue(unsigned(8), max(2, config.max_outstanding))
        accept = Signal()
        m.d.comb += [
            store.cmd.ready.eq(~axi.awvalid & lengths.i.ready & ~quiesce & ~outstanding[-1]),
            accept.eq(store.cmd.valid & store.cmd.ready),
            lengths.i.valid.eq(accept),
            lengths.i.payload.eq(store.cmd.payload.beats),
        ]
        with m.If(accept):
            m.d.sync += [
                axi.awvalid.eq(1),
                axi.awaddr.eq(store.cmd.payload.addr),
                axi.awlen.eq(store.cmd.payload.beats),
            ]
        with m.Elif(axi.awready):
            m.d.sync += axi.awvalid.eq(0)

        forget = Signal()
        m.d.sync += forget.eq(quiesce & self.quiesce & (outstanding == 0))
        m.submodules.w = w = ResetInserter(forget)(SkidBuffer(store.beat.payload.shape()))
        position = Signal(8)
        send, last = Signal(), Signal()
        m.d.comb += [
            w.i.valid.eq(store.beat.valid & ~quiesce),
            w.i.payload.eq(store.beat.payload),
            store.beat.ready.eq(w.i.ready & ~quiesce),
            send.eq((~axi.wvalid | axi.wready) & lengths.o.valid & (w.o.valid | quiesce)),
            last.eq(position == lengths.o.payload),
            w.o.ready.eq(send),
            lengths.o.ready.eq(send & last),
        ]
        with m.If(send):
            m.d.sync += [
                axi.wvalid.eq(1),
                axi.wdata.eq(w.o.payload),
                axi.wstrb.eq(w.o.valid.replicate(config.axi_bytes)),
                axi.wlast.eq(last),
                position.eq(Mux(last, 0, position + 1)),
            ]
        with m.Elif(axi.wready):
            m.d.sync += axi.wvalid.eq(0)

        m.submodules.b = b = SkidBuffer(unsigned(2))
        m.d.comb += [
            b.i.valid.eq(axi.bvalid),
            b.i.payload.eq(axi.bresp),
            axi.bready.eq(b.i.ready),
            store.resp.valid.eq(b.o.valid & ~quiesce),
            store.resp.payload.eq(b.o.payload),
            b.o.ready.eq(store.resp.ready | quiesce),
        ]
        finished = b.o.valid & b.o.ready
        m.d.sync += outstanding.eq(outstanding + accept - finished)
        m.d.comb += none.eq(outstanding == 0)
