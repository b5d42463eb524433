"""The AXI master `dma/gateway.py`: protocol, no access that no client asked for, draining."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value

from tidemill.config import PRESETS
from tidemill_hdl.dma.gateway import FETCH_ID, FETCHES, LOAD_ID, Gateway
from tidemill_hdl.interfaces import Burst
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "dma/gateway.py"
_CONFIG = PRESETS["tiny"].replace(max_burst=2, max_outstanding=2)
_PAGE = 4096
_MOST = 40
"""Bursts under way that a model counts; the gateway stops at 32."""


class _GatewayHarness(Harness):
    """Any clients and any slave within the protocol; `quiesce`, once up, stays until `quiet`."""

    def _gateway(self, m: Module) -> Gateway:
        m.submodules.dut = dut = Gateway(_CONFIG)
        self.free_inputs(dut)
        self.assume(~self.past(dut.quiesce & ~dut.quiet, "must_stay") | dut.quiesce)
        self._settled = self.past(dut.quiesce, "stopped")
        self.lemma("stopped", self.inner("dut.quiesce_register") == self._settled)
        return dut

    def _legal(self, commands: Sequence[Value]) -> None:
        """The clients' side of the contract: full beats, at most `max_burst`, inside one page."""
        for valid, command in commands:
            self.assume(~valid | _in_page(command.addr, command.beats))

    def _for_long(self, waits: Value, name: str, cycles: int) -> Value:
        """Whether `waits` has held in this cycle and in `cycles` before it."""
        held = waits
        for i in range(cycles):
            waits = self.past(waits, f"{name}{i}")
            held = held & waits
        return held

    def _address_channel(self, dut: Gateway, prefix: str) -> Value:
        """Properties of AW or AR; returns whether an address is transferred."""
        axi = dut.m_axi
        field = {name: getattr(axi, f"{prefix}{name}") for name in ("valid", "ready", "addr", "len", "size", "burst")}
        payload = Cat(field["addr"], field["len"], field["size"], field["burst"], getattr(axi, f"{prefix}id"))
        kept = self.past(field["valid"] & ~field["ready"], f"{prefix}_kept")
        same = field["valid"] & (payload == self.past(payload, f"{prefix}_before"))
        self.prove(f"{prefix}_stable", ~kept | same)
        full = (field["size"] == (_CONFIG.axi_bytes - 1).bit_length()) & (field["burst"] == 1)
        self.prove(f"{prefix}_page", ~field["valid"] | (full & _in_page(field["addr"], field["len"])))
        stopped_before = self.past(self._settled, f"{prefix}_stopped_before")
        self.prove(f"{prefix}_stops", ~(stopped_before & field["valid"]) | kept)
        return field["valid"] & field["ready"]


def _in_page(addr: Value, beats: Value) -> Value:
    size = _CONFIG.axi_bytes
    aligned = (addr % size == 0) & (beats < _CONFIG.max_burst)
    return aligned & ((addr % _PAGE) + (beats + 1) * size <= _PAGE)


class WriteHarness(_GatewayHarness):
    """Write side. The slave answers each burst once, after its last beat; the client sends no beat before its command.

    One write burst and one beat are tracked as in the proofs of the queues.
    """

    def build(self, m: Module) -> None:
        dut = self._gateway(m)
        axi, store = dut.m_axi, dut.store
        self._legal([(store.cmd.valid, store.cmd.payload)])
        accept, beat = store.cmd.valid & store.cmd.ready, store.beat.valid & store.beat.ready
        address, answer = self._address_channel(dut, "aw"), axi.bvalid & axi.bready
        sent = axi.wvalid & axi.wready
        ended = sent & axi.wlast

        # Of the bursts accepted: whose address, whose last beat has not been transferred; whose answer has not come.
        addresses, bursts, answers = Signal(), Signal(range(_MOST)), Signal(range(_MOST))
        latest = Signal(Burst)
        owed = Signal(range(_MOST * _CONFIG.max_burst))  # beats that the client may still send
        m.d.sync += [
            addresses.eq((addresses | accept) & ~address | accept),
            bursts.eq(bursts + accept - ended),
            answers.eq(answers + ended - answer),
            owed.eq(owed + Mux(accept, store.cmd.payload.beats + 1, 0) - beat),
        ]
        with m.If(self._settled):
            m.d.sync += owed.eq(0)
        with m.If(accept):
            m.d.sync += latest.eq(store.cmd.payload)
        self.assume(~store.beat.valid | (owed != 0))
        self.assume(~axi.bvalid | (answers != 0))
        right = (axi.awaddr == latest.addr) & (axi.awlen == latest.beats)
        self.prove("aw_asked", (axi.awvalid == addresses) & (~axi.awvalid | right) & ~(accept & addresses))
        self.prove("w_burst", ~axi.wvalid | (bursts != 0))
        payload = Cat(axi.wdata, axi.wstrb, axi.wlast)
        kept = self.past(axi.wvalid & ~axi.wready, "w_kept")
        self.prove("w_stable", ~kept | (axi.wvalid & (payload == self.past(payload, "w_before"))))
        self._lengths(m, dut, accept, sent, ended, bursts)
        inside = self._beats(m, dut, beat, sent)
        self.lemma("owed", (owed + self._held <= self._rest) & (self._settled | (owed + self._held == self._rest)))
        self._drain(dut, bursts, answers, addresses, inside)

    def _lengths(self, m: Module, dut: Gateway, accept: Value, sent: Value, ended: Value, bursts: Value) -> None:
        """A burst, any, has as many beats as its AWLEN says."""
        axi = dut.m_axi
        marked, ahead, beats, seen = Signal(), Signal(3), Signal(8), Signal(8)
        with m.If(~marked & accept & self.free("mark_burst")):
            m.d.sync += [marked.eq(1), ahead.eq(bursts - ended), beats.eq(dut.store.cmd.payload.beats), seen.eq(0)]
        with m.Elif(marked & sent & (ahead == 0)):
            m.d.sync += [seen.eq(seen + 1), marked.eq(~axi.wlast)]
        with m.Elif(marked & ended):
            m.d.sync += ahead.eq(ahead - 1)
        self.prove("w_last", ~(marked & (ahead == 0) & axi.wvalid) | (axi.wlast == (seen == beats)))

        entry = [self.inner(f"dut.lengths.buffer.{name}", 8) for name in ("front", "spare")]
        full = [self.inner(f"dut.lengths.buffer.{name}") for name in ("o_valid", "spare_full")]
        position = self.inner("dut.position", 8)
        closing = axi.wvalid & axi.wlast
        self.lemma("bursts", (bursts == full[0] + full[1] + closing) & (full[0] | ~full[1]))
        self.lemma("legal", Cat(~f | (e < _CONFIG.max_burst) for f, e in zip(full, entry, strict=True)).all())
        self._rest = Signal(range(4 * _CONFIG.max_burst))  # beats of the bursts accepted that are still to be sent
        lengths = [Mux(f, e + 1, 0) for f, e in zip(full, entry, strict=True)]
        m.d.comb += self._rest.eq(lengths[0] + lengths[1] - position)
        begun = axi.wvalid & ~axi.wlast
        inside = Mux(full[0], position <= entry[0], position == 0)
        self.lemma("position", inside & (~begun | (full[0] & (position != 0))) & (~closing | (position == 0)))
        place = ahead - closing
        current = Mux(closing, seen == beats, (Array(entry)[place[0]] == beats) & (seen == (position - begun)[:8]))
        later = (Array(entry)[place[0]] == beats) & (seen == 0)
        self.lemma("marked", ~marked | ((ahead < bursts) & Mux(ahead == 0, current, later)))

    def _beats(self, m: Module, dut: Gateway, beat: Value, sent: Value) -> Value:
        """A beat, any, leaves once with its data; returns the beats inside."""
        axi = dut.m_axi
        written = sent & axi.wstrb.any()
        inside, marked, ahead, value = Signal(3), Signal(), Signal(3), Signal(_CONFIG.axi_data_width)
        m.d.sync += inside.eq(inside + beat - written)
        with m.If(~marked & beat & self.free("mark_beat")):
            m.d.sync += [marked.eq(1), ahead.eq(inside - written), value.eq(dut.store.beat.payload)]
        with m.Elif(marked & written):
            m.d.sync += [marked.eq(ahead != 0), ahead.eq(ahead - 1)]
        data = axi.wvalid & axi.wstrb.any()
        self.prove("w_data", ~(data & marked & (ahead == 0)) | (axi.wdata == value))
        self.prove("w_strobes", ~axi.wvalid | Mux(data, axi.wstrb.all() & (inside != 0), self._settled))
        entry = [self.inner(f"dut.w.{name}", _CONFIG.axi_data_width) for name in ("front", "spare")]
        full = [self.inner(f"dut.w.{name}") for name in ("o_valid", "spare_full")]
        self._held = full[0] + full[1]
        self.lemma("beats", (inside == full[0] + full[1] + data) & (full[0] | ~full[1]))
        holds = Mux(data & (ahead == 0), axi.wdata, Array(entry)[(ahead - data)[0]]) == value
        self.lemma("beat", ~marked | ((ahead < inside) & holds))
        self.cover("second_beat", data & marked & (ahead == 0) & axi.wlast & axi.awvalid)
        return inside

    def _drain(self, dut: Gateway, bursts: Value, answers: Value, addresses: Value, inside: Value) -> None:
        axi, stopped = dut.m_axi, self._settled
        under_way = (bursts != 0) | (answers != 0)
        # The slave answers no burst whose address it has not got: that of the latest.
        self.assume(~axi.bvalid | (answers > 1) | ~addresses | (bursts != 0))
        self.lemma("addresses", ~addresses | under_way)
        self.prove("w_quiet", ~dut.quiet | ~(under_way | addresses | (inside != 0)))
        self.prove("w_drains", ~self._for_long(stopped & (bursts != 0) & ~axi.wvalid, "no_beat", 2))
        self.prove("b_drains", ~self._for_long(stopped & ~axi.bready, "no_bready", 2))
        count = self.inner("dut.writes_outstanding", 6)
        self.prove("w_drain_ends", ~self._for_long(stopped & ~under_way & (count != 0), "over", 3))
        waiting = [self.inner(f"dut.b.{name}") for name in ("o_valid", "spare_full")]
        self.lemma("outstanding", (count == bursts + answers + waiting[0] + waiting[1]) & (count <= 32))
        self.lemma("b_order", waiting[0] | ~waiting[1])
        empty, ended = Signal(), Signal()
        with self._m.If(axi.wvalid & ~axi.wstrb.any()):
            self._m.d.sync += empty.eq(1)
        with self._m.If(axi.wvalid & axi.wstrb.any()):
            self._m.d.sync += ended.eq(1)
        self.cover("drained", dut.quiet & empty & ended)


class ReadHarness(_GatewayHarness):
    """Read side. The slave gives each burst its beats after its address, and the bursts of an ID in their order.

    Of each client a beat is tracked as in the proofs of the queues.
    """

    def build(self, m: Module) -> None:
        dut = self._gateway(m)
        axi = dut.m_axi
        clients = (dut.fetch, dut.load)
        self._legal([(client.cmd.valid, client.cmd.payload) for client in clients])
        transfer = self._address_channel(dut, "ar")
        shown = axi.arvalid & ~self.past(axi.arvalid & ~axi.arready, "ar_waited")

        wanted, asked = Signal(2), [Signal(Burst, name=f"asked{c}") for c in range(2)]
        for c, client in enumerate(clients):
            fire = client.cmd.valid & client.cmd.ready
            with m.If(fire):
                m.d.sync += asked[c].eq(client.cmd.payload)
            m.d.sync += wanted[c].eq((fire | (wanted[c] & ~(shown & (axi.arid == c)))) & ~self._settled)
            self.lemma(
                f"wanted_{c}",
                (self.inner(f"dut.{('fetch', 'load')[c]}_waiting") == wanted[c] & ~(shown & (axi.arid == c)))
                & (~wanted[c] | (self.inner(f"dut.{('fetch', 'load')[c]}_command", Burst.size) == asked[c].as_value())),
            )
        source = Array(asked)[axi.arid]
        right = (axi.araddr == source.addr) & (axi.arlen == source.beats)
        self.prove("ar_asked", ~shown | (wanted.bit_select(axi.arid, 1) & right))
        self.lemma("legal", Cat(~wanted[c] | _in_page(asked[c].addr, asked[c].beats) for c in range(2)).all())

        # What the slave owes.
        bursts = [Signal(range(_MOST), name=f"bursts{c}") for c in range(2)]
        beats = [Signal(range(_MOST * _CONFIG.max_burst), name=f"beats{c}") for c in range(2)]
        got = axi.rvalid & axi.rready
        for c in range(2):
            starts, comes = transfer & (axi.arid == c), got & (axi.rid == c)
            m.d.sync += [
                bursts[c].eq(bursts[c] + starts - (comes & axi.rlast)),
                beats[c].eq(beats[c] + Mux(starts, axi.arlen + 1, 0) - comes),
            ]
            b, n = bursts[c] - axi.rlast, beats[c] - 1
            legal = (bursts[c] != 0) & (n >= b) & ((n == 0) == (b == 0)) & (n <= _CONFIG.max_burst * b)
            self.assume(~(axi.rvalid & (axi.rid == c)) | legal)
            self.lemma(f"owes_{c}", (beats[c] >= bursts[c]) & (beats[c] <= _CONFIG.max_burst * bursts[c]))
        entry = [self.inner(f"dut.r.{name}", 36) for name in ("front", "spare")]
        full = [self.inner(f"dut.r.{name}") for name in ("o_valid", "spare_full")]
        self.lemma("r_order", full[0] | ~full[1])
        for c, name in ((FETCH_ID, "fetch"), (LOAD_ID, "load")):
            self._beats(m, dut, c, name, entry, full, got & (axi.rid == c))
        lasts = sum(f & e[35] for f, e in zip(full, entry, strict=True))
        count = self.inner("dut.reads_outstanding", 6)
        self.lemma("outstanding", (count == bursts[0] + bursts[1] + axi.arvalid + lasts) & (count <= 32))
        mine = sum(f & e[35] & (e[0] == FETCH_ID) for f, e in zip(full, entry, strict=True))
        fetching = self.inner("dut.fetching", 2)
        self.lemma("fetching", fetching == bursts[0] + (axi.arvalid & (axi.arid == FETCH_ID)) + mine)
        self.prove("ar_fetches", (fetching <= FETCHES) & (bursts[0] <= FETCHES))
        self._turns(m, dut, wanted, shown, fetching != FETCHES)

        under_way = axi.arvalid | (bursts[0] != 0) | (bursts[1] != 0)
        self.prove("r_quiet", ~dut.quiet | ~(under_way | wanted.any() | dut.fetch.beat.valid | dut.load.beat.valid))
        self.prove("r_drains", ~self._for_long(self._settled & ~axi.rready, "no_rready", 2))
        idle = self._settled & ~under_way & (self.inner("dut.writes_outstanding", 6) == 0)
        self.prove("r_drain_ends", ~self._for_long(idle & dut.quiesce & ~dut.quiet, "over", 5))
        self.cover("drained", dut.quiet & self.past(self.past(full[0], "f1"), "f2"))

    def _beats(
        self, m: Module, dut: Gateway, c: int, name: str, entry: Sequence[Value], full: Sequence[Value], comes: Value
    ) -> None:
        """A beat, any, reaches its client once, in order."""
        port = getattr(dut, name).beat
        gone = port.valid & port.ready
        inside, ahead = Signal(4, name=f"{name}_inside"), Signal(4, name=f"{name}_ahead")
        marked = Signal(name=f"{name}_marked")
        value = Signal(34, name=f"{name}_value")
        m.d.sync += inside.eq(inside + comes - gone)
        with m.If(self._settled):
            m.d.sync += [inside.eq(0), marked.eq(0)]
        with m.Elif(~marked & comes & self.free(f"{name}_mark")):
            m.d.sync += [marked.eq(1), ahead.eq(inside - gone), value.eq(Cat(dut.m_axi.rdata, dut.m_axi.rresp))]
        with m.Elif(marked & gone):
            m.d.sync += [marked.eq(ahead != 0), ahead.eq(ahead - 1)]
        offered = port.valid & ~self._settled
        right = ~(marked & (ahead == 0)) | (Value.cast(port.payload) == value)
        self.prove(f"{name}_beats", ~offered | ((inside != 0) & right))

        mine = [f & (e[0] == c) for f, e in zip(full, entry, strict=True)]
        spare_full = self.inner(f"dut.{name}_beats.spare_full")
        level = port.valid + spare_full
        self.lemma(f"{name}_order", port.valid | ~spare_full)
        stored = Array(self.inner(f"dut.{name}_beats.{part}", 34) for part in ("front", "spare"))[ahead[0]]
        in_buffer = Mux((ahead == level) & mine[0], entry[0][1:35], entry[1][1:35])
        holds = Mux(ahead < level, stored, in_buffer) == value
        self.lemma(f"{name}_inside", self._settled | (inside == level + mine[0] + mine[1]))
        self.lemma(f"{name}_marked", self._settled | ~marked | ((ahead < inside) & holds))
        self.cover(f"{name}_behind", gone & marked & (ahead == 0) & (inside == 3) & (value == 5))

    def _turns(self, m: Module, dut: Gateway, wanted: Value, shown: Value, may_fetch: Value) -> None:
        """Data wait for nobody but the clients, and nobody waits for two turns of the other."""
        axi = dut.m_axi
        taking = dut.load.beat.ready & dut.fetch.beat.ready
        self.prove("r_never_blocked", ~self._for_long(~axi.rready & taking, "blocked", 3))
        overtaken = Signal(2)
        for c in range(2):
            mine, other = shown & (axi.arid == c), shown & (axi.arid == 1 - c)
            passed = other & wanted[c] & (may_fetch if c == FETCH_ID else 1)
            m.d.sync += overtaken[c].eq((overtaken[c] | passed) & wanted[c] & ~mine & ~self._settled)
            self.prove(f"ar_turns_{('fetch', 'load')[c]}", ~(other & wanted[c] & overtaken[c]))
        waits = [overtaken[c] & wanted[c] & ~(shown & (axi.arid == c)) for c in range(2)]
        load_next = self.inner("dut.load_next")
        self.lemma("turns", (~waits[LOAD_ID] | load_next) & (~waits[FETCH_ID] | (~load_next & may_fetch)))


_ADDRESS_SAYS = {
    "stable": "{} stays, with all it says, until taken",
    "page": "every {} is one of full beats, at most `max_burst`, inside one 4 KiB page, as its client asked",
    "stops": "no new {} from the second cycle after `quiesce` rose",
}
_WRITE_SAYS = {
    **{f"aw_{name}": text.format("write address") for name, text in _ADDRESS_SAYS.items()},
    "aw_asked": "each write command appears on the bus once, unchanged and in order, and nothing else: no access "
    "outside what the store engine asks for",
    "w_burst": "no write data before its burst",
    "w_stable": "write data stay until taken",
    "w_last": "WLAST marks exactly the beat number AWLEN + 1 of each burst, also while draining",
    "w_data": "the client's beats leave unchanged, each once and in order, also those taken before a stop",
    "w_strobes": "strobes are all on for a client's beat, and all off for a beat that fills up a stopped burst; there "
    "are no others",
    "w_quiet": "`quiet`: no write address, beat or answer is under way, no buffer holds a beat",
    "w_drains": "stopped: a beat that a burst needs is offered within 2 cycles, without the client",
    "b_drains": "stopped: answers are taken within 2 cycles, without the client",
    "w_drain_ends": "stopped: 3 cycles after the last answer nothing of the write side holds up `quiet`",
}
_READ_SAYS = {
    **{f"ar_{name}": text.format("read address") for name, text in _ADDRESS_SAYS.items()},
    "ar_asked": "each read address is the command, unchanged and in order, of the client its ID names, once",
    "ar_turns_fetch": "a fetch burst that may go is overtaken by at most one load burst: no starvation",
    "ar_fetches": "at most two fetch bursts are in flight",
    "ar_turns_load": "a load burst is overtaken by at most one fetch",
    "fetch_beats": "beats of ID 0 reach fetch unchanged, each once and in order; fetch gets no others",
    "load_beats": "beats of ID 1 reach load likewise",
    "r_never_blocked": "read data never wait longer than 3 cycles while both clients take beats",
    "r_quiet": "`quiet`: no read address and no beat is under way, no client is offered one",
    "r_drains": "stopped: read data are taken within 2 cycles, without the clients",
    "r_drain_ends": "stopped: `quiet` comes within 5 cycles after the last beat, if the write side is done",
}
_WRITE_TWINS = (
    Twin("aw_stable", _FILE, "with m.Elif(axi.awready):", "with m.Else():"),
    Twin("aw_page", _FILE, "axi.awlen.eq(store.cmd.payload.beats)", "axi.awlen.eq(store.cmd.payload.beats + 1)"),
    Twin("aw_stops", _FILE, "lengths.i.ready & ~quiesce &", "lengths.i.ready &"),
    Twin("aw_asked", _FILE, "store.cmd.ready.eq(~axi.awvalid &", "store.cmd.ready.eq((~axi.awvalid | axi.wvalid) &"),
    Twin("w_burst", _FILE, "& lengths.o.valid & (w.o.valid | quiesce)", "& (lengths.o.valid | w.o.valid | quiesce)"),
    Twin("w_stable", _FILE, "send.eq((~axi.wvalid | axi.wready) &", "send.eq((~axi.wvalid | axi.wready | quiesce) &"),
    Twin("w_last", _FILE, "Mux(last, 0, position + 1)", "Mux(last & ~quiesce, 0, position + 1)"),
    Twin("w_data", _FILE, "axi.wdata.eq(w.o.payload)", "axi.wdata.eq(store.beat.payload)"),
    Twin("w_quiet", _FILE, "quiesce & self.quiesce & (outstanding == 0)", "quiesce & self.quiesce", depth=18),
    Twin("w_strobes", _FILE, "axi.wstrb.eq(w.o.valid.replicate(config.axi_bytes))", "axi.wstrb.eq(-1)"),
    Twin("w_quiet", _FILE, "outstanding + accept - finished)\n        m.d.comb += none.eq(outstanding == 0)",
         "outstanding + accept - finished)\n        m.d.comb += none.eq(outstanding[1:] == 0)"),
    Twin("w_drains", _FILE, "(w.o.valid | quiesce)", "w.o.valid"),
    Twin("b_drains", _FILE, "b.o.ready.eq(store.resp.ready | quiesce)", "b.o.ready.eq(store.resp.ready)"),
    Twin("w_drain_ends", _FILE, "finished = b.o.valid & b.o.ready", "finished = b.o.valid & b.o.ready & ~quiesce"),
)  # fmt: skip
_READ_TWINS = (
    Twin("ar_stable", _FILE, "free.eq((~axi.arvalid | axi.arready) &", "free.eq("),
    Twin("ar_page", _FILE, "axi.arlen.eq(Mux(take[1],", "axi.arlen.eq(Mux(take[0],"),
    Twin("ar_stops", _FILE, "axi.arready) & ~quiesce & ~", "axi.arready) & ~"),
    Twin("ar_asked", _FILE, "axi.arid.eq(take[1])", "axi.arid.eq(waiting[1])"),
    Twin("ar_fetches", _FILE, "waiting[0] & (fetching != FETCHES)", "waiting[0]"),
    Twin("ar_turns_fetch", _FILE, "~(load_next & waiting[1])", "~waiting[1]"),
    Twin("ar_turns_load", _FILE, "~(load_next & waiting[1])", "1"),
    Twin("fetch_beats", _FILE, "(r.o.payload.id == FETCH_ID) & ~quiesce", "~quiesce"),
    Twin("load_beats", _FILE, "LOAD_ID, load_beats.i.ready, fetch_beats.i.ready)", "LOAD_ID, 1, fetch_beats.i.ready)"),
    Twin("r_never_blocked", _FILE, "axi.rready.eq(r.i.ready)", "axi.rready.eq(r.i.ready & ~axi.arvalid)"),
    Twin("r_quiet", _FILE, "none.eq((outstanding == 0) &", "none.eq((outstanding[1:] == 0) &"),
    Twin("r_drains", _FILE, "r.o.ready.eq(quiesce | Mux(", "r.o.ready.eq(~quiesce & Mux("),
    Twin("r_drain_ends", _FILE, "with m.If(quiesce | taken):", "with m.If(taken):"),
)  # fmt: skip

PROOFS = (
    Proof(
        "writes",
        partial(WriteHarness),
        _WRITE_SAYS,
        _WRITE_TWINS,
        {"second_beat": "the second beat of a burst leaves while its address waits", "drained": "a stopped burst ends"},
        depth=10,
        cover_depth=16,
    ),
    Proof(
        "reads",
        partial(ReadHarness),
        _READ_SAYS,
        _READ_TWINS,
        {
            "fetch_behind": "a beat of fetch leaves while two more are in the gateway",
            "load_behind": "a beat of load leaves while two more are in the gateway",
            "drained": "a read is dropped and the gateway is quiet",
        },
        depth=12,
        cover_depth=16,
    ),
)
