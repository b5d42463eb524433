"""SDR SDRAM behind an AXI4 slave: memory of a board, in the place of `OnChipMemory`."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill.config import Config
from tidemill_fpga.soc.memory import DECERR, MEMORY_ID_BITS, OKAY, PAGE, memory_port
from tidemill_fpga.soc.sdram_part import SdramPart
from tidemill_hdl.prim.queue import Queue

WORD_BITS = 16
ALL_BANKS = 1 << 10
"""Address of a PRECHARGE that closes every bank."""
REFRESHES_AT_START = 8

NOP, ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, SET_MODE = 0b111, 0b011, 0b101, 0b100, 0b010, 0b001, 0b000
"""Commands: ras_n, cas_n, we_n."""


class SdramPins(wiring.Signature):
    """The device's pins; every output is a register.

    Members
    -------
    cke, cs_n : Out(1)
    command : Out(3): ras_n, cas_n, we_n, ras_n the highest.
    ba, a, dqm : Out: bank, address, byte masks.
    dq_o, dq_oe, dq_i : Out(16), Out(1), In(16): data, and whether the board drives it.
    """

    def __init__(self, part: SdramPart) -> None:
        super().__init__(
            {
                "cke": Out(1),
                "cs_n": Out(1, init=1),
                "command": Out(3, init=NOP),
                "ba": Out(part.BANK_BITS),
                "a": Out(max(part.row_bits, ALL_BANKS.bit_length())),
                "dqm": Out(WORD_BITS // 8, init=3),
                "dq_o": Out(WORD_BITS),
                "dq_oe": Out(1),
                "dq_i": In(WORD_BITS),
            }
        )


class _Streams(wiring.Signature):
    """The AXI4 channels behind queues, seen from the slave."""

    def __init__(self, config: Config) -> None:
        bits = config.axi_data_width
        address = data.StructLayout({"id": MEMORY_ID_BITS, "addr": 32, "len": 8})
        tag = data.StructLayout({"id": MEMORY_ID_BITS, "last": 1, "outside": 1})
        super().__init__(
            {
                "ar": In(stream.Signature(address)),
                "aw": In(stream.Signature(address)),
                "w": In(stream.Signature(data.StructLayout({"data": bits, "strb": config.axi_bytes}))),
                "b": Out(stream.Signature(data.StructLayout({"id": MEMORY_ID_BITS, "outside": 1}))),
                "r": Out(stream.Signature(data.StructLayout({"data": bits, "tag": tag}))),
            }
        )


class SdramMemory(wiring.Component):
    """SDR SDRAM behind an AXI4 slave, a word of 16 bits a cycle.

    4 KiB of addresses are one row of all four banks. A bank's row stays open until another row of that bank is asked
    for, or a refresh closes all.

    Parameters
    ----------
    config : Config
    part : SdramPart
    clock_hz : float
        Frequency of `sync`, which also clocks the device.
    capture_delay : int
        Cycles that data comes later than the CAS latency says: what the board's wires and its phase of the device's
        clock add.

    Members
    -------
    s_axi : In(memory_port)
    pins : Out(SdramPins)

    One burst at a time; reads and writes take turns. Bursts beyond the device are answered DECERR, read as anything and
    change nothing. A read sees every write whose response was given before its address was taken. Nothing is answered
    before the device's power-up time is over. Content survives reset.

    Raises ValueError for a clock that the part cannot take.
    """

    QUEUE_DEPTH = 16

    def __init__(self, config: Config, part: SdramPart, clock_hz: float, *, capture_delay: int = 0) -> None:
        self.config = config
        self.part = part
        self.clock_hz = clock_hz
        self.size = part.size
        self.cas_latency = part.cas_latency(clock_hz)
        self.capture_delay = capture_delay
        super().__init__({"s_axi": In(memory_port(config)), "pins": Out(SdramPins(part))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = SdramEngine(self)
        axi, queues = self.s_axi, {}
        for name in ("ar", "aw", "w", "b", "r"):
            port = getattr(engine.axi, name)
            queues[name] = queue = Queue(port.payload.shape(), self.QUEUE_DEPTH if name in "wr" else 2)
            m.submodules[name] = queue
            valid, ready = getattr(axi, f"{name}valid"), getattr(axi, f"{name}ready")
            if name in ("b", "r"):
                connect(m, port, queue.i)
                m.d.comb += [valid.eq(queue.o.valid), queue.o.ready.eq(ready)]
            else:
                connect(m, queue.o, port)
                m.d.comb += [queue.i.valid.eq(valid), ready.eq(queue.i.ready)]
        for name, fields in (("ar", ("id", "addr", "len")), ("aw", ("id", "addr", "len")), ("w", ("data", "strb"))):
            m.d.comb += [queues[name].i.payload[field].eq(getattr(axi, name + field)) for field in fields]
        b, r = queues["b"].o.payload, queues["r"].o.payload
        m.d.comb += [
            axi.bid.eq(b.id),
            axi.bresp.eq(Mux(b.outside, DECERR, OKAY)),
            axi.rid.eq(r.tag.id),
            axi.rdata.eq(r.data),
            axi.rlast.eq(r.tag.last),
            axi.rresp.eq(Mux(r.tag.outside, DECERR, OKAY)),
            engine.taken.eq(axi.rvalid & axi.rready),
        ]
        connect(m, engine.pins, flipped(self.pins))
        return m


class SdramEngine(wiring.Component):
    """Commands of the device from bursts.

    Members
    -------
    axi : Out(_Streams): a beat on `r` is only offered where `QUEUE_DEPTH` beats not yet `taken` leave room for it.
    taken : In(1): a beat left the queue behind `r`.
    pins : Out(SdramPins)
    """

    def __init__(self, memory: SdramMemory) -> None:
        self._part = part = memory.part
        self._config = memory.config
        self._cas = memory.cas_latency
        self._depth = memory.QUEUE_DEPTH
        self._data_delay = memory.cas_latency + 1 + memory.capture_delay
        self._ratio = memory.config.axi_data_width // WORD_BITS

        def cycles(nanoseconds: float) -> int:
            return part.cycles(nanoseconds, memory.clock_hz)

        self._rcd, self._rp, self._ras, self._rfc = map(cycles, (part.t_rcd, part.t_rp, part.t_ras, part.t_rfc))
        self._wr = max(2, cycles(part.t_wr))
        self._power_up = cycles(part.t_power_up)
        self._interval = int(part.t_refresh * memory.clock_hz / 1e9 / (1 << part.row_bits))
        super().__init__({"axi": Out(_Streams(memory.config)), "taken": In(1), "pins": Out(SdramPins(part))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        part = self._part
        self._burst_signals()
        power_up = Signal(range(self._power_up), init=self._power_up - 1)
        # Cycles that the next command, a PRECHARGE (for two reasons), a WRITE still have to wait.
        wait = Signal(range(max(self._rfc, self._rp, self._rcd, part.MODE_CYCLES)))
        open_time = Signal(range(max(self._ras, 2)))
        write_time = Signal(range(self._wr))
        bus_time = Signal(range(self._cas + 2))
        timer = Signal(range(self._interval), init=self._interval - 1)
        due = Signal()
        for count in (open_time, write_time, bus_time):
            with m.If(count != 0):
                m.d.sync += count.eq(count - 1)
        with m.If(timer == 0):
            m.d.sync += [timer.eq(self._interval - 1), due.eq(1)]
        with m.Else():
            m.d.sync += timer.eq(timer - 1)

        is_open = Signal(1 << part.BANK_BITS)
        rows = Array(Signal(part.row_bits, name=f"row{bank}", reset_less=True) for bank in range(1 << part.BANK_BITS))
        hit, conflict = Signal(), Signal()
        closable = Signal()
        starts = Signal(range(REFRESHES_AT_START + 1), init=REFRESHES_AT_START)
        m.d.comb += closable.eq((open_time == 0) & (write_time == 0))

        def command(name: int, bank: Value | int = 0, address: Value | int = 0) -> list[object]:
            return [self.pins.command.eq(name), self.pins.ba.eq(bank), self.pins.a.eq(address)]

        m.d.sync += [
            self.pins.cke.eq(1), self.pins.cs_n.eq(0), *command(NOP), self.pins.dqm.eq(0), self.pins.dq_oe.eq(0),
        ]  # fmt: skip
        self._move_data(m)
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Else(), m.FSM(name="commands"):
            with m.State("POWER_UP"):
                m.d.sync += power_up.eq(power_up - 1)
                with m.If(power_up == 0):
                    m.next = "CLOSE"
            with m.State("CLOSE"), m.If(closable):
                m.d.sync += [*command(PRECHARGE, address=ALL_BANKS), is_open.eq(0), wait.eq(self._rp - 1)]
                m.next = "REFRESH"
            with m.State("REFRESH"):
                m.d.sync += [*command(REFRESH), wait.eq(self._rfc - 1), due.eq(0)]
                with m.If(starts != 0):
                    m.d.sync += starts.eq(starts - 1)
                with m.Elif(~self._running):
                    m.next = "SET_MODE"
                with m.Else():
                    m.next = "IDLE"
            with m.State("SET_MODE"):
                # Bursts of one word, this CAS latency.
                m.d.sync += [*command(SET_MODE, address=self._cas << 4), wait.eq(part.MODE_CYCLES - 1)]
                m.d.sync += self._running.eq(1)
                m.next = "IDLE"
            with m.State("IDLE"):
                with m.If(due):
                    m.next = "CLOSE"
                with m.Elif(self._active):
                    m.next = "LOOK_UP"
                with m.Else():
                    self._accept(m)
            with m.State("LOOK_UP"):
                same = rows[self._bank] == self._row
                bank_open = is_open.bit_select(self._bank, 1)
                beyond = self._address[PAGE.bit_length() - 1 :] >= part.size // PAGE
                m.d.sync += [hit.eq(same & bank_open), conflict.eq(bank_open), self._outside.eq(beyond)]
                m.next = "ROW"
            with m.State("ROW"):
                with m.If(due):
                    m.next = "CLOSE"
                with m.Elif(self._outside), m.If(self._ready):
                    m.d.comb += [self._begin.eq(1), self._end.eq(1)]
                    with m.If(self._left == 0):
                        m.next = "IDLE"
                with m.Elif(hit), m.If(self._ready & (~self._writing | (bus_time == 0))):
                    m.d.comb += self._begin.eq(1)
                    m.next = "WORDS"
                with m.Elif(~conflict):
                    m.d.sync += [*command(ACTIVATE, self._bank, self._row), rows[self._bank].eq(self._row), hit.eq(1)]
                    m.d.sync += [wait.eq(max(0, self._rcd - 2)), open_time.eq(self._ras - 1)]
                    m.d.sync += is_open.eq(is_open | (1 << self._bank))
                with m.Elif(closable):
                    m.d.sync += [*command(PRECHARGE, self._bank), conflict.eq(0), wait.eq(self._rp - 1)]
            with m.State("WORDS"):
                m.d.sync += command(Mux(self._writing, WRITE, READ), self._bank, self._col)
                m.d.sync += self._address.eq(self._address + part.WORD_BYTES)
                with m.If(self._writing):
                    m.d.sync += [self.pins.dq_oe.eq(1), self.pins.dqm.eq(~self._masks), write_time.eq(self._wr - 1)]
                with m.Else():
                    m.d.sync += bus_time.eq(self._cas + 1)
                    m.d.comb += self._reading.eq(1)
                m.d.sync += self._word.eq(self._word + 1)
                with m.If(self._word == self._ratio - 1):
                    m.d.comb += self._end.eq(1)
                    with m.If((self._left != 0) & ~due & self._ready & ~self._col.all()):
                        m.d.comb += self._begin.eq(1)
                    with m.Else():
                        m.next = "IDLE"
        return m

    def _burst_signals(self) -> None:
        part, config = self._part, self._config
        self._running = Signal()
        self._active = Signal()
        self._writing = Signal()
        self._outside = Signal()
        self._id = Signal(MEMORY_ID_BITS)
        self._left = Signal(8)
        self._address = Signal(32)
        low = (part.WORD_BYTES - 1).bit_length()
        split = low + part.col_bits
        self._col = self._address[low:split]
        self._bank = self._address[split : split + part.BANK_BITS]
        self._row = self._address[split + part.BANK_BITS :][: part.row_bits]
        # A beat begins (its place in `r` or its data is taken) and ends (its last word is on its way).
        self._begin, self._end, self._ready = Signal(), Signal(), Signal()
        self._reading = Signal()
        # A beat has a power of two of words: the count is 0 again at its end.
        self._word = Signal(range(self._ratio))
        self._words = Signal(config.axi_data_width, reset_less=True)
        self._strobes = Signal(config.axi_bytes, reset_less=True)
        self._masks = self._strobes[: part.WORD_BYTES]

    def _accept(self, m: Module) -> None:
        """Take the next burst; after a read a write comes first, and the other way round."""
        axi, read_turn = self.axi, Signal(name="read_turn")
        low = (self._config.axi_bytes - 1).bit_length()
        for channel, writes in ((axi.ar, 0), (axi.aw, 1)):
            other = axi.ar.valid if writes else axi.aw.valid & axi.b.ready
            mine = channel.valid & axi.b.ready if writes else channel.valid
            with m.If(mine & (~other | (~read_turn if writes else read_turn))):
                m.d.comb += channel.ready.eq(1)
                m.d.sync += [
                    self._active.eq(1), self._writing.eq(writes), read_turn.eq(writes),
                    self._id.eq(channel.payload.id), self._left.eq(channel.payload.len),
                    self._address.eq(Cat(Const(0, low), channel.payload.addr[low:])),
                ]  # fmt: skip
                m.next = "LOOK_UP"

    def _move_data(self, m: Module) -> None:
        """Beats to words and words to beats."""
        axi, part = self.axi, self._part
        room = Signal(range(self._depth + 1), init=self._depth)
        read_begins = Signal()
        m.d.comb += [
            self._ready.eq(Mux(self._writing, axi.w.valid, room != 0)),
            read_begins.eq(self._begin & ~self._writing),
            axi.w.ready.eq(self._begin & self._writing),
        ]
        m.d.sync += [
            room.eq(room - read_begins + self.taken),
            self.pins.dq_o.eq(self._words[:WORD_BITS]),
            self._words.eq(self._words[WORD_BITS:]),
            self._strobes.eq(self._strobes[part.WORD_BYTES :]),
        ]
        with m.If(self._begin):
            m.d.sync += [self._words.eq(axi.w.payload.data), self._strobes.eq(axi.w.payload.strb)]
        with m.If(self._end):
            m.d.sync += [self._left.eq(self._left - 1), self._active.eq(self._left != 0)]
        m.d.comb += [
            axi.b.valid.eq(self._end & self._writing & (self._left == 0)),
            axi.b.payload.id.eq(self._id),
            axi.b.payload.outside.eq(self._outside),
        ]

        tag = axi.r.payload.tag.shape()
        step = data.StructLayout({"valid": 1, "ends": 1, "tag": tag})
        steps = [Signal(step, name=f"step{index}") for index in range(self._data_delay + 2)]
        m.d.comb += [
            steps[0].valid.eq(self._reading | (self._end & ~self._writing)),
            steps[0].ends.eq(self._end),
            steps[0].tag.id.eq(self._id),
            steps[0].tag.last.eq(self._left == 0),
            steps[0].tag.outside.eq(self._outside),
        ]
        m.d.sync += [after.eq(before) for before, after in pairwise(steps)]
        captured = Signal(WORD_BITS, reset_less=True)
        earlier = Signal(self._config.axi_data_width - WORD_BITS, reset_less=True)
        words = Cat(earlier, captured)
        m.d.sync += captured.eq(self.pins.dq_i)
        with m.If(steps[-1].valid):
            m.d.sync += earlier.eq(words[WORD_BITS:])
        m.d.comb += [
            axi.r.valid.eq(steps[-1].valid & steps[-1].ends),
            axi.r.payload.data.eq(words),
            axi.r.payload.tag.eq(steps[-1].tag),
        ]
