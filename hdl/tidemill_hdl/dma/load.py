"""The load engine: DRAM to scratchpad and accumulators."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import BY_MNEMONIC
from tidemill_hdl.dma.walk import BurstWalk, piece_layout
from tidemill_hdl.interfaces import (
    LOCAL_BITS,
    PC_BITS,
    BurstRead,
    Done,
    EngineInstruction,
    Fault,
    Window,
    acc_write_port,
    spad_write_port,
)
from tidemill_hdl.isa_layout import layout
from tidemill_hdl.prim.nest import AddressNest
from tidemill_hdl.prim.queue import Queue, SkidBuffer

ROW_BITS = 28
"""Signed bits that hold every row a transfer can name."""
COMPLETIONS = 8
"""Instructions of an engine under way at once."""
SETTLE_CYCLES = 2
"""A write port's `idle` counts from this many cycles after the last transfer."""

_RowJob = data.StructLayout(
    {
        "local": unsigned(LOCAL_BITS),
        "total": unsigned(13),
        "data_begin": unsigned(13),
        "data_end": unsigned(13),
        "n1": unsigned(10),
        "n2": unsigned(10),
        "d1": signed(16),
        "d2": signed(16),
        "value": unsigned(8),
        "pc": unsigned(PC_BITS),
        "reads": unsigned(1),
    }
)


def _row_layout(config: Config) -> data.StructLayout:
    """A row out of DRAM: `data` holds it in its upper bytes; `error`: the bus answered one (`decode`: DECERR) at
    `addr`; `window`: no row, the line at `addr` lies outside the window."""
    return data.StructLayout(
        {"data": 8 * config.acc_row_bytes, "error": 1, "decode": 1, "window": 1, "addr": 32, "acc": 1}
    )


class RowAssembler(wiring.Component):
    """Cuts read beats into rows: takes out each line's offset in its first beat and gathers whole rows.

    Parameters
    ----------
    config : Config

    Members
    -------
    piece : In(stream of `piece_layout`): the bursts in order; taken with a burst's last beat.
    beat : In(stream of {data, resp}): their beats.
    row : Out(stream of `_row_layout`)

    Latency 2 cycles from a row's last beat; throughput one beat a cycle. After reset empty.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "piece": In(stream.Signature(piece_layout(config))),
                "beat": BurstRead(config).members["beat"],
                "row": Out(stream.Signature(_row_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        width = config.axi_data_width
        piece, beat = self.piece.payload, self.beat.payload

        # Align: a word is the end of the beat before and the begin of this one.
        word = Signal(data.StructLayout({"data": width, "error": 1, "decode": 1, "window": 1, "addr": 32, "acc": 1}))
        word_valid, word_ready = Signal(), Signal()
        position = Signal(8)
        previous = Signal(width, reset_less=True)
        previous_error, previous_decode = Signal(), Signal()
        error, decode = Signal(), Signal()
        primes, last, fire, marks = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            primes.eq(piece.first & (position == 0) & (piece.offset != 0)),
            last.eq(position == piece.beats),
            fire.eq(self.piece.valid & ~piece.window & self.beat.valid & word_ready),
            marks.eq(self.piece.valid & piece.window & word_ready),
            self.beat.ready.eq(self.piece.valid & ~piece.window & word_ready),
            self.piece.ready.eq(marks | (fire & last)),
            error.eq(beat.resp[1] | previous_error),
            decode.eq(Mux(previous_error, previous_decode, beat.resp[0])),
        ]
        with m.If(fire):
            m.d.sync += [
                previous.eq(beat.data),
                previous_error.eq(primes & beat.resp[1]),
                previous_decode.eq(beat.resp[0]),
                position.eq(Mux(last, 0, position + 1)),
            ]
        with m.If(word_ready):
            m.d.sync += [
                word_valid.eq((fire & ~primes) | marks),
                word.error.eq(error),
                word.decode.eq(decode),
                word.window.eq(marks),
                word.acc.eq(piece.acc),
            ]
            with m.If(~previous_error):
                m.d.sync += word.addr.eq(piece.addr)
            both = Cat(previous, beat.data)
            with m.Switch(piece.offset):
                with m.Case(0):
                    m.d.sync += word.data.eq(beat.data)
                for i in range(1, config.axi_bytes):
                    with m.Case(i):
                        m.d.sync += word.data.eq(both[8 * i : 8 * i + width])

        # Gather: words enter at the top.
        row = Signal(_row_layout(config))
        full = Signal()
        count = Signal(range(config.acc_row_bytes // config.axi_bytes))
        complete = Signal()
        spad_last = config.spad_row_bytes // config.axi_bytes - 1
        acc_last = config.acc_row_bytes // config.axi_bytes - 1
        m.d.comb += [
            word_ready.eq(~word_valid | ~full | self.row.ready),
            complete.eq((count == Mux(word.acc, acc_last, spad_last)) | word.window),
            self.row.valid.eq(full),
            self.row.payload.eq(row),
        ]
        with m.If(word_valid & word_ready):
            m.d.sync += [
                full.eq(complete),
                count.eq(Mux(complete, 0, count + 1)),
                row.data.eq(Cat(row.data, word.data)[width:]),
                row.window.eq(word.window),
                row.acc.eq(word.acc),
            ]
            with m.If((count == 0) | ~row.error):
                m.d.sync += [row.error.eq(word.error), row.decode.eq(word.decode), row.addr.eq(word.addr)]
        with m.Elif(self.row.ready):
            m.d.sync += full.eq(0)
        return m


class LoadEngine(wiring.Component):
    """Executes the `ld` instructions (`docs/architecture.md`).

    Bursts of the next instructions are requested while rows of earlier ones are still written. Faults are raised in
    program order: WINDOW before the first row of the line, padding included, a bus error when the row it spoils would
    be written (info: the first byte of that burst that belongs to the line), LOCAL_RANGE when the row would be written;
    all of them once the rows before are in the memory.

    Parameters
    ----------
    config : Config

    Members
    -------
    instr : In(stream of EngineInstruction)
    done : Out(Done): in order.
    fault : Out(Fault)
    bus : Out(BurstRead): at most `max_outstanding` bursts whose last beat has not been used.
    spad, acc : Out(WritePort)
    window : In(Window)
    read_beat, bus_read_wait, progress : Out(1): events; `progress`: a beat or a row moved.

    Timing without stalls: first command 7 cycles after `instr`; a row leaves 4 cycles after its last beat came; one
    beat a cycle within an instruction, an unaligned line takes one beat more than its bytes fill, 1 row's cycle is
    lost between transfers at most; `done` 3 cycles after the last row was taken. Transfers of one burst each keep
    `max_outstanding` bursts in flight: as many transfers as `COMPLETIONS` wait for their rows.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "instr": In(stream.Signature(EngineInstruction)),
                "done": Out(Done()),
                "fault": Out(Fault()),
                "bus": Out(BurstRead(config)),
                "spad": Out(spad_write_port(config)),
                "acc": Out(acc_write_port(config)),
                "window": In(Window()),
                "read_beat": Out(1),
                "bus_read_wait": Out(1),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walk = walk = BurstWalk(self.config)
        m.submodules.rows = rows = Queue(_RowJob, COMPLETIONS)
        m.submodules.completions = completions = Queue(data.StructLayout({"run": 1, "signal": 16}), COMPLETIONS)
        m.submodules.assembler = assembler = RowAssembler(self.config)
        wiring.connect(m, wiring.flipped(self.window), walk.window)
        landed = Signal()
        row_taken = Signal()
        self._intake(m, walk.job, rows.i, completions.i)
        self._requests(m, walk.piece, assembler)
        self._write(m, rows.o, assembler.row, row_taken, landed)
        self._complete(m, completions.o, landed)
        m.d.sync += self.progress.eq(row_taken | (self.bus.beat.valid & self.bus.beat.ready))
        return m

    def _intake(self, m: Module, requests: stream.Interface, rows: stream.Interface, done: stream.Interface) -> None:
        """Executes configuration and hands each transfer to the two walks."""
        m.submodules.instr = intake = SkidBuffer(EngineInstruction)
        wiring.connect(m, wiring.flipped(self.instr), intake.i)
        word, pc = intake.o.payload.word, intake.o.payload.pc
        s1, s2 = Signal(signed(32)), Signal(signed(32))
        d1, d2 = Signal(signed(16)), Signal(signed(16))
        pad_lo, padding, value = Signal(8), Signal(9), Signal(8)
        run = layout("ld.run")(word)
        job = Signal(_RowJob)
        is_run, reads, fire = Signal(), Signal(), Signal()
        m.d.comb += [
            reads.eq((run.opcode == BY_MNEMONIC["ld.run"].opcode) & (run.n0 != 0)),
            is_run.eq((run.opcode == BY_MNEMONIC["ld.run"].opcode) & ((run.n0 != 0) | (padding != 0))),
            fire.eq(
                intake.o.valid & done.ready & (~is_run | rows.ready) & (~reads | requests.ready) & ~self.fault.valid
            ),
            intake.o.ready.eq(fire),
            done.valid.eq(fire),
            done.payload.run.eq(is_run),
            done.payload.signal.eq(run.signal),
            rows.valid.eq(fire & is_run),
            job.local.eq(run.dst),
            job.total.eq(run.n0 + padding),
            job.data_begin.eq(pad_lo),
            job.data_end.eq(run.n0 + pad_lo),
            job.reads.eq(reads),
            job.n1.eq(run.n1),
            job.n2.eq(run.n2),
            job.d1.eq(d1),
            job.d2.eq(d2),
            job.value.eq(value),
            job.pc.eq(pc),
            rows.payload.eq(job),
            requests.valid.eq(fire & reads),
            requests.payload.dram.eq(run.dram),
            requests.payload.rows.eq(run.n0 - 1),
            requests.payload.acc.eq(run.dst[-1]),
            requests.payload.n1.eq(run.n1),
            requests.payload.n2.eq(run.n2),
            requests.payload.s1.eq(s1),
            requests.payload.s2.eq(s2),
            requests.payload.pc.eq(pc),
        ]
        with m.If(fire & (run.opcode == BY_MNEMONIC["ld.stride"].opcode)):
            stride = layout("ld.stride")(word)
            m.d.sync += [s1.eq(stride.s1), s2.eq(stride.s2)]
        with m.If(fire & (run.opcode == BY_MNEMONIC["ld.dst"].opcode)):
            dst = layout("ld.dst")(word)
            m.d.sync += [
                d1.eq(dst.d1),
                d2.eq(dst.d2),
                pad_lo.eq(dst.pad_lo),
                padding.eq(dst.pad_lo + dst.pad_hi),
                value.eq(dst.value),
            ]

    def _requests(self, m: Module, pieces: stream.Interface, assembler: RowAssembler) -> None:
        """Sends commands, remembers the bursts in flight for the assembler."""
        config, bus = self.config, self.bus
        low = (config.axi_bytes - 1).bit_length()
        m.submodules.flying = flying = Queue(piece_layout(config), max(2, config.max_outstanding))
        m.submodules.commands = commands = SkidBuffer(bus.cmd.payload.shape())
        m.submodules.beats = beats = SkidBuffer(bus.beat.payload.shape())
        wiring.connect(m, commands.o, wiring.flipped(bus.cmd))
        wiring.connect(m, wiring.flipped(bus.beat), beats.i)
        wiring.connect(m, beats.o, assembler.beat)
        wiring.connect(m, flying.o, assembler.piece)

        in_flight = Signal(range(config.max_outstanding + 1))
        issue, finish = Signal(), Signal()
        m.d.comb += [
            pieces.ready.eq(
                flying.i.ready & commands.i.ready & (in_flight != config.max_outstanding) & ~self.fault.valid
            ),
            issue.eq(pieces.valid & pieces.ready),
            flying.i.valid.eq(issue),
            flying.i.payload.eq(pieces.payload),
            commands.i.valid.eq(issue & ~pieces.payload.window),
            commands.i.payload.addr.eq(Cat(C(0, low), pieces.payload.addr[low:])),
            commands.i.payload.beats.eq(pieces.payload.beats),
            finish.eq(flying.o.valid & flying.o.ready),
        ]
        m.d.sync += [
            in_flight.eq(in_flight + issue - finish),
            self.read_beat.eq(bus.beat.valid & bus.beat.ready),
            self.bus_read_wait.eq((in_flight != 0) & ~(bus.beat.valid & bus.beat.ready)),
        ]

    def _write(
        self, m: Module, jobs: stream.Interface, data_rows: stream.Interface, taken: Signal, landed: Signal
    ) -> None:
        """Walks the local rows and writes data or padding; `landed` pulses for a transfer's last row as soon as
        `idle` says whether it is in the memory."""
        config = self.config
        job = jobs.payload
        m.submodules.nest = nest = AddressNest([13, 10, 10], [ROW_BITS])
        walking = Signal()
        point_ready = Signal()
        index = Signal(13)
        m.d.comb += [
            nest.start.eq(jobs.valid & ~walking),
            nest.count.c0.eq(job.total),
            nest.count.c1.eq(job.n1),
            nest.count.c2.eq(job.n2),
            nest.base.s0.eq(job.local[:-1]),
            nest.stride[0][0].eq(1),
            nest.stride[0][1].eq(job.d1),
            nest.stride[0][2].eq(job.d2),
            nest.step.eq(nest.valid & point_ready),
            jobs.ready.eq(nest.step & nest.last),
        ]
        with m.If(nest.start):
            m.d.sync += [walking.eq(1), index.eq(0)]
        with m.Elif(nest.step):
            m.d.sync += [walking.eq(~nest.last), index.eq(Mux(nest.final[0], 0, index + 1))]

        point = Signal(
            data.StructLayout(
                {
                    "row": signed(ROW_BITS),
                    "outside": 1,
                    "data": 1,
                    "opens": 1,
                    "acc": 1,
                    "last": 1,
                    "value": 8,
                    "pc": PC_BITS,
                }
            ),
            reset_less=True,
        )
        point_valid = Signal()
        row = Signal(signed(ROW_BITS))
        spad_bits, acc_bits = (config.spad_rows - 1).bit_length(), (config.acc_rows - 1).bit_length()
        m.d.comb += row.eq(nest.address.s0)
        with m.If(point_ready):
            m.d.sync += [
                point_valid.eq(nest.valid),
                point.row.eq(row),
                point.outside.eq(Mux(job.local[-1], row[acc_bits:].any(), row[spad_bits:].any())),
                point.data.eq((index >= job.data_begin) & (index < job.data_end)),
                point.opens.eq(nest.first[0] & job.reads),
                point.acc.eq(job.local[-1]),
                point.last.eq(nest.last),
                point.value.eq(job.value),
                point.pc.eq(job.pc),
            ]

        spad_valid, acc_valid, last = Signal(), Signal(), Signal()
        address = Signal(max(spad_bits, acc_bits), reset_less=True)
        content = Signal(8 * config.acc_row_bytes, reset_less=True)
        free, go, waits, spoiled, bad = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            self.spad.req.valid.eq(spad_valid),
            self.spad.req.payload.addr.eq(address),
            self.spad.req.payload.data.eq(content[-8 * config.spad_row_bytes :]),
            self.acc.req.valid.eq(acc_valid),
            self.acc.req.payload.addr.eq(address),
            self.acc.req.payload.data.eq(content),
            taken.eq((spad_valid & self.spad.req.ready) | (acc_valid & self.acc.req.ready)),
            free.eq(~(spad_valid | acc_valid) | taken),
            waits.eq(point.data | point.opens),
            go.eq(point_valid & free & (~waits | data_rows.valid) & ~self.fault.valid),
            spoiled.eq((waits & data_rows.payload.window) | (point.data & data_rows.payload.error)),
            bad.eq(spoiled | point.outside),
            point_ready.eq(~point_valid | (go & ~bad)),
            data_rows.ready.eq(go & ~bad & point.data),
        ]
        with m.If(free):
            m.d.sync += [
                spad_valid.eq(go & ~bad & ~point.acc),
                acc_valid.eq(go & ~bad & point.acc),
                last.eq(point.last),
                address.eq(point.row),
                content.eq(Mux(point.data, data_rows.payload.data, point.value.replicate(config.acc_row_bytes))),
            ]
        m.d.sync += landed.eq(taken & last)

        # Rows before the error have to reach the memory first.
        settle = Signal(range(SETTLE_CYCLES + 1))
        with m.If(taken):
            m.d.sync += settle.eq(SETTLE_CYCLES)
        with m.Elif(settle != 0):
            m.d.sync += settle.eq(settle - 1)
        with m.If(go & bad & ~taken & (settle == 0) & self.spad.idle & self.acc.idle):
            m.d.sync += [self.fault.valid.eq(1), self.fault.pc.eq(point.pc)]
            with m.If(spoiled):
                bus_cause = Mux(data_rows.payload.decode, Cause.BUS_DECERR, Cause.BUS_SLVERR)
                m.d.sync += [
                    self.fault.cause.eq(Mux(data_rows.payload.window, Cause.WINDOW, bus_cause)),
                    self.fault.info.eq(data_rows.payload.addr),
                ]
            with m.Else():
                m.d.sync += [self.fault.cause.eq(Cause.LOCAL_RANGE), self.fault.info.eq(point.row)]

    def _complete(self, m: Module, completions: stream.Interface, landed: Signal) -> None:
        """Reports instructions in order, a transfer once its last row is in the memory."""
        runs = Signal(range(COMPLETIONS + 2))
        pop, run_done = Signal(), Signal()
        m.d.comb += [
            completions.ready.eq(~completions.payload.run | ((runs != 0) & self.spad.idle & self.acc.idle)),
            pop.eq(completions.valid & completions.ready),
            run_done.eq(pop & completions.payload.run),
        ]
        m.d.sync += [
            runs.eq(runs + landed - run_done),
            self.done.valid.eq(pop),
            self.done.signal.eq(completions.payload.signal),
        ]
