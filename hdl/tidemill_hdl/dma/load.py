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
FINE_BITS = 2
"""Bits of a line's offset in its beat that the second step of the alignment cuts."""
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


def flying_layout(config: Config) -> data.StructLayout:
    """A burst in flight: its piece, and what the beats' way asks of it. `single`: one beat; `primes`: its first beat
    only begins the line's first word; `whole`: the line begins with a beat."""
    return data.StructLayout({"piece": piece_layout(config), "single": 1, "primes": 1, "whole": 1})


def _row_layout(config: Config) -> data.StructLayout:
    """A row out of DRAM: `data` holds it in its upper bytes; `good`: no beat of it was an error; `inside`: it is a row,
    else it stands for a line outside the window."""
    return data.StructLayout({"data": 8 * config.acc_row_bytes, "good": 1, "inside": 1})


class RowAssembler(wiring.Component):
    """Cuts read beats into rows: takes out each line's offset in its first beat and gathers whole rows.

    Parameters
    ----------
    config : Config

    Members
    -------
    burst : In(stream of `flying_layout`): the bursts in order; taken with a burst's last beat.
    beat : In(stream of {data, resp}): their beats.
    row : Out(stream of `_row_layout`)
    bad_addr, bad_decode : Out(32), Out(1): the piece of the first row that is not good or not inside, since reset;
        whether the bus answered DECERR. Valid with that row.

    Latency 2 cycles from a row's last beat; throughput one beat a cycle. After reset empty.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "burst": In(stream.Signature(flying_layout(config))),
                "beat": BurstRead(config).members["beat"],
                "row": Out(stream.Signature(_row_layout(config))),
                "bad_addr": Out(32),
                "bad_decode": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        width = config.axi_data_width
        burst, beat = self.burst.payload, self.beat.payload
        piece = burst.piece

        # Align: a word is the end of the beat before and the begin of this one. It is cut in two steps: from a multiple
        # of `1 << fine_bits` bytes on, then, behind the buffer, from the byte.
        fine_bits = min(FINE_BITS, (config.axi_bytes - 1).bit_length())
        coarse = 8 << fine_bits
        word_layout = data.StructLayout(
            {"data": width + coarse - 8, "fine": fine_bits, "error": 1, "window": 1, "acc": 1}
        )
        m.submodules.words = words = SkidBuffer(word_layout)
        word = words.i.payload
        begins = Signal(init=1)
        left = Signal(8, reset_less=True)
        left_now = Signal(8)
        at_last = Signal()
        previous = Signal(width, reset_less=True)
        previous_error = Signal()
        primes, last, fire, marks = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            primes.eq(begins & burst.primes),
            left_now.eq(Mux(begins, piece.beats, left)),
            last.eq(Mux(begins, burst.single, at_last)),
            fire.eq(self.burst.valid & ~piece.window & self.beat.valid & words.i.ready),
            marks.eq(self.burst.valid & piece.window & words.i.ready),
            self.beat.ready.eq(self.burst.valid & ~piece.window & words.i.ready),
            self.burst.ready.eq(marks | (fire & last)),
            words.i.valid.eq((fire & ~primes) | marks),
            word.error.eq(beat.resp[1] | previous_error),
            word.window.eq(piece.window),
            word.acc.eq(piece.acc),
        ]
        with m.If(fire):
            m.d.sync += [
                begins.eq(last),
                left.eq(left_now - 1),
                at_last.eq(left_now == 1),
                previous.eq(beat.data),
                previous_error.eq(primes & beat.resp[1]),
            ]
        both = Cat(previous, beat.data)
        m.d.comb += word.fine.eq(piece.offset)
        with m.If(burst.whole):
            m.d.comb += word.data.eq(beat.data)
        with m.Else(), m.Switch(piece.offset[fine_bits:]):
            for i in range(config.axi_bytes >> fine_bits):
                with m.Case(i):
                    m.d.comb += word.data.eq(both[coarse * i :])

        # The first bad row is the one that stops the engine.
        caught = Signal()
        with m.If((marks | (fire & beat.resp[1])) & ~caught):
            m.d.sync += [caught.eq(1), self.bad_addr.eq(piece.addr), self.bad_decode.eq(beat.resp[0])]

        # Gather: words enter at the top.
        word = words.o.payload
        cut = Signal(width)
        with m.Switch(word.fine):
            for i in range(1 << fine_bits):
                with m.Case(i):
                    m.d.comb += cut.eq(word.data[8 * i :])
        content = Signal(8 * config.acc_row_bytes, reset_less=True)
        full, good, inside, error = Signal(), Signal(), Signal(), Signal()
        spad_last = config.spad_row_bytes // config.axi_bytes - 1
        acc_last = config.acc_row_bytes // config.axi_bytes - 1
        count = Signal(range(acc_last + 1))
        at_spad_last = Signal(init=spad_last == 0)
        at_acc_last = Signal(init=acc_last == 0)
        complete, next_count = Signal(), Signal(range(acc_last + 1))
        m.d.comb += [
            words.o.ready.eq(~full | self.row.ready),
            complete.eq(Mux(word.acc, at_acc_last, at_spad_last) | word.window),
            next_count.eq(Mux(complete, 0, count + 1)),
            self.row.valid.eq(full),
            self.row.payload.data.eq(content),
            self.row.payload.good.eq(good),
            self.row.payload.inside.eq(inside),
        ]
        with m.If(words.o.valid & words.o.ready):
            m.d.sync += [
                full.eq(complete),
                good.eq(complete & ~word.error & ~word.window & ~error),
                inside.eq(complete & ~word.window),
                error.eq((error | word.error) & ~complete),
                count.eq(next_count),
                at_spad_last.eq(next_count == spad_last),
                at_acc_last.eq(next_count == acc_last),
                content.eq(Cat(content, cut)[width:]),
            ]
        with m.Elif(self.row.ready):
            m.d.sync += [full.eq(0), good.eq(0), inside.eq(0)]
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

    Timing without stalls: first command 7 cycles after `instr`; a row leaves 3 cycles after its last beat came; one
    beat a cycle within an instruction, a burst every other cycle; an unaligned line takes one beat more than its bytes
    fill, 1 row's cycle is lost between transfers at most; `done` 3 cycles after the last row was taken. Transfers of
    one burst each keep `max_outstanding` bursts in flight: as many transfers as `COMPLETIONS` wait for their rows.
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
        m.submodules.pieces = pieces = SkidBuffer(piece_layout(self.config))
        wiring.connect(m, walk.piece, pieces.i)
        self._requests(m, pieces.o, assembler)
        self._write(m, rows.o, assembler, row_taken, landed)
        self._complete(m, completions.o, landed)
        m.d.sync += self.progress.eq(row_taken | (self.bus.beat.valid & self.bus.beat.ready))
        return m

    def _intake(self, m: Module, requests: stream.Interface, rows: stream.Interface, done: stream.Interface) -> None:
        """Executes configuration and hands each transfer to the two walks."""
        arrives = data.StructLayout({"instr": EngineInstruction, "run": 1, "reads": 1, "stride": 1, "dst": 1})
        m.submodules.instr = intake = SkidBuffer(arrives)
        arriving = layout("ld.run")(self.instr.payload.word)
        kind = intake.o.payload
        m.d.comb += [
            intake.i.valid.eq(self.instr.valid),
            self.instr.ready.eq(intake.i.ready),
            intake.i.payload.instr.eq(self.instr.payload),
            intake.i.payload.reads.eq((arriving.opcode == BY_MNEMONIC["ld.run"].opcode) & (arriving.n0 != 0)),
        ]
        for name in ("run", "stride", "dst"):
            m.d.comb += intake.i.payload[name].eq(arriving.opcode == BY_MNEMONIC[f"ld.{name}"].opcode)
        word, pc = intake.o.payload.instr.word, intake.o.payload.instr.pc
        s1, s2 = Signal(signed(32)), Signal(signed(32))
        d1, d2 = Signal(signed(16)), Signal(signed(16))
        pad_lo = Signal(8)
        padding = Signal(9)
        padded = Signal()
        value = Signal(8)
        run = layout("ld.run")(word)
        job = Signal(_RowJob)
        is_run, fire, configures = Signal(), Signal(), Signal()
        # `rows` has room where `done` has: each of its transfers is in `done`, too.
        m.d.comb += [
            is_run.eq(kind.reads | (kind.run & padded)),
            fire.eq(intake.o.valid & done.ready & (~kind.reads | requests.ready) & ~self.fault.valid),
            configures.eq(intake.o.valid & done.ready & ~self.fault.valid),
            intake.o.ready.eq(fire),
            done.valid.eq(fire),
            done.payload.run.eq(is_run),
            done.payload.signal.eq(run.signal),
            rows.valid.eq(fire & is_run),
            job.local.eq(run.dst),
            job.total.eq(run.n0 + padding),
            job.data_begin.eq(pad_lo),
            job.data_end.eq(run.n0 + pad_lo),
            job.reads.eq(kind.reads),
            job.n1.eq(run.n1),
            job.n2.eq(run.n2),
            job.d1.eq(d1),
            job.d2.eq(d2),
            job.value.eq(value),
            job.pc.eq(pc),
            rows.payload.eq(job),
            requests.valid.eq(fire & kind.reads),
            requests.payload.dram.eq(run.dram),
            requests.payload.rows.eq(run.n0 - 1),
            requests.payload.acc.eq(run.dst[-1]),
            requests.payload.n1.eq(run.n1),
            requests.payload.n2.eq(run.n2),
            requests.payload.s1.eq(s1),
            requests.payload.s2.eq(s2),
            requests.payload.pc.eq(pc),
        ]
        with m.If(configures & kind.stride):
            stride = layout("ld.stride")(word)
            m.d.sync += [s1.eq(stride.s1), s2.eq(stride.s2)]
        with m.If(configures & kind.dst):
            dst = layout("ld.dst")(word)
            m.d.sync += [
                d1.eq(dst.d1),
                d2.eq(dst.d2),
                pad_lo.eq(dst.pad_lo),
                padding.eq(dst.pad_lo + dst.pad_hi),
                padded.eq((dst.pad_lo != 0) | (dst.pad_hi != 0)),
                value.eq(dst.value),
            ]

    def _requests(self, m: Module, pieces: stream.Interface, assembler: RowAssembler) -> None:
        """Sends commands, remembers the bursts in flight for the assembler."""
        config, bus = self.config, self.bus
        low = (config.axi_bytes - 1).bit_length()
        m.submodules.flying = flying = Queue(flying_layout(config), max(2, config.max_outstanding))
        wiring.connect(m, wiring.flipped(bus.beat), assembler.beat)
        wiring.connect(m, flying.o, assembler.burst)

        # A command every other cycle, as the gateway takes them. `flying` has room for `max_outstanding`.
        piece = pieces.payload
        command_valid = Signal()
        command = Signal(bus.cmd.payload.shape(), reset_less=True)
        in_flight = Signal(range(config.max_outstanding + 1))
        any_flies = Signal()
        all_fly = Signal()
        issue, finish = Signal(), Signal()
        m.d.comb += [
            pieces.ready.eq(~command_valid & ~all_fly & ~self.fault.valid),
            issue.eq(pieces.valid & pieces.ready),
            flying.i.valid.eq(issue),
            flying.i.payload.piece.eq(piece),
            flying.i.payload.single.eq(piece.beats == 0),
            flying.i.payload.primes.eq(piece.first & (piece.offset != 0)),
            flying.i.payload.whole.eq(piece.offset == 0),
            bus.cmd.valid.eq(command_valid),
            bus.cmd.payload.eq(command),
            finish.eq(flying.o.valid & flying.o.ready),
        ]
        with m.If(issue):
            m.d.sync += [
                command_valid.eq(~piece.window),
                command.addr.eq(Cat(C(0, low), piece.addr[low:])),
                command.beats.eq(piece.beats),
            ]
        with m.Elif(bus.cmd.ready):
            m.d.sync += command_valid.eq(0)
        with m.If(issue & ~finish):
            m.d.sync += [
                in_flight.eq(in_flight + 1),
                any_flies.eq(1),
                all_fly.eq(in_flight == config.max_outstanding - 1),
            ]
        with m.Elif(finish & ~issue):
            m.d.sync += [in_flight.eq(in_flight - 1), any_flies.eq(in_flight != 1), all_fly.eq(0)]
        m.d.sync += [
            self.read_beat.eq(bus.beat.valid & bus.beat.ready),
            self.bus_read_wait.eq(any_flies & ~(bus.beat.valid & bus.beat.ready)),
        ]

    def _write(self, m: Module, jobs: stream.Interface, assembler: RowAssembler, taken: Signal, landed: Signal) -> None:
        """Walks the local rows and writes data or padding; `landed` pulses for a transfer's last row as soon as
        `idle` says whether it is in the memory."""
        config, data_rows = self.config, assembler.row
        m.submodules.nest = nest = AddressNest([13, 10, 10], [ROW_BITS])
        common = {"acc": 1, "last": 1, "value": 8, "pc": PC_BITS}
        # What a row needs to be written: `takes` a row of the bus, `opens` a line (before its padding: the line must
        # lie in the window), or `pads` with nothing but the value. A row outside its memory is none of them, but
        # `waits` for a row of the bus where it would need one.
        kinds = {"takes": 1, "opens": 1, "pads": 1, "outside": 1, "waits": 1, "data": 1}
        point_layout = data.StructLayout({"row": signed(ROW_BITS), **kinds, **common})
        m.submodules.points = points = SkidBuffer(point_layout)
        moves = points.i.ready

        # While there is no transfer the generator starts anew in every cycle: nothing wide waits to hear of one.
        walking = Signal()
        index = Signal(13)
        job = Signal(_RowJob, reset_less=True)
        m.d.comb += [
            nest.start.eq(~walking),
            nest.count.c0.eq(jobs.payload.total),
            nest.count.c1.eq(jobs.payload.n1),
            nest.count.c2.eq(jobs.payload.n2),
            nest.base.s0.eq(jobs.payload.local[:-1]),
            nest.stride[0][0].eq(1),
            nest.stride[0][1].eq(job.d1),
            nest.stride[0][2].eq(job.d2),
            nest.step.eq(walking & moves),
            jobs.ready.eq(~walking),
        ]
        with m.If(~walking):
            m.d.sync += [walking.eq(jobs.valid), index.eq(0), job.eq(jobs.payload)]
        with m.Elif(moves):
            m.d.sync += [walking.eq(~nest.last), index.eq(Mux(nest.final[0], 0, index + 1))]

        # A step between: where in its line the row is.
        seen_layout = data.StructLayout({"row": signed(ROW_BITS), "begun": 1, "before_end": 1, "first": 1, **common})
        seen = Signal(seen_layout, reset_less=True)
        seen_valid = Signal()
        with m.If(moves):
            m.d.sync += [
                seen_valid.eq(walking),
                seen.row.eq(nest.address.s0),
                seen.begun.eq(index >= job.data_begin),
                seen.before_end.eq(index < job.data_end),
                seen.first.eq(nest.first[0] & job.reads),
                seen.acc.eq(job.local[-1]),
                seen.last.eq(nest.last),
                seen.value.eq(job.value),
                seen.pc.eq(job.pc),
            ]
        outside, is_data = Signal(), Signal()
        spad_bits, acc_bits = (config.spad_rows - 1).bit_length(), (config.acc_rows - 1).bit_length()
        next_point, point = points.i.payload, points.o.payload
        m.d.comb += [
            outside.eq(Mux(seen.acc, seen.row[acc_bits:].any(), seen.row[spad_bits:].any())),
            is_data.eq(seen.begun & seen.before_end),
            points.i.valid.eq(seen_valid),
            next_point.takes.eq(~outside & is_data),
            next_point.opens.eq(~outside & ~is_data & seen.first),
            next_point.pads.eq(~outside & ~is_data & ~seen.first),
            next_point.outside.eq(outside),
            next_point.waits.eq(is_data | seen.first),
            next_point.data.eq(is_data),
            *(next_point[name].eq(seen[name]) for name in ("row", *common)),
        ]

        # Rows on their way: room for one that a memory does not take at once, so that nothing before asks the memory.
        write_layout = data.StructLayout(
            {"addr": max(spad_bits, acc_bits), "data": 8 * config.acc_row_bytes, "acc": 1, "last": 1}
        )
        m.submodules.writes = writes = SkidBuffer(write_layout)
        row, next_row = writes.o.payload, writes.i.payload
        go = Signal()
        m.d.comb += [
            go.eq(
                points.o.valid & writes.i.ready
                & ((point.takes & data_rows.payload.good) | (point.opens & data_rows.payload.inside) | point.pads)
            ),
            points.o.ready.eq(go),
            data_rows.ready.eq(points.o.valid & writes.i.ready & point.takes & data_rows.payload.good),
            writes.i.valid.eq(go),
            next_row.addr.eq(point.row),
            next_row.data.eq(Mux(point.data, data_rows.payload.data, point.value.replicate(config.acc_row_bytes))),
            next_row.acc.eq(point.acc),
            next_row.last.eq(point.last),
            self.spad.req.valid.eq(writes.o.valid & ~row.acc),
            self.spad.req.payload.addr.eq(row.addr),
            self.spad.req.payload.data.eq(row.data[-8 * config.spad_row_bytes :]),
            self.acc.req.valid.eq(writes.o.valid & row.acc),
            self.acc.req.payload.addr.eq(row.addr),
            self.acc.req.payload.data.eq(row.data),
            writes.o.ready.eq(Mux(row.acc, self.acc.req.ready, self.spad.req.ready)),
            taken.eq(writes.o.valid & writes.o.ready),
        ]  # fmt: skip
        m.d.sync += landed.eq(taken & row.last)

        # A point that may not be written stays for good. Rows before it have to reach the memory first.
        settle = Signal(range(SETTLE_CYCLES + 1))
        spoiled, bad = Signal(), Signal()
        m.d.comb += spoiled.eq(
            point.waits & data_rows.valid & ~Mux(point.data, data_rows.payload.good, data_rows.payload.inside)
        )
        m.d.sync += bad.eq(points.o.valid & (spoiled | (point.outside & (~point.waits | data_rows.valid))))
        with m.If(taken):
            m.d.sync += settle.eq(SETTLE_CYCLES)
        with m.Elif(settle != 0):
            m.d.sync += settle.eq(settle - 1)
        with m.If(bad & ~writes.o.valid & (settle == 0) & self.spad.idle & self.acc.idle):
            m.d.sync += [self.fault.valid.eq(1), self.fault.pc.eq(point.pc)]
            with m.If(spoiled):
                bus_cause = Mux(assembler.bad_decode, Cause.BUS_DECERR, Cause.BUS_SLVERR)
                m.d.sync += [
                    self.fault.cause.eq(Mux(data_rows.payload.inside, bus_cause, Cause.WINDOW)),
                    self.fault.info.eq(assembler.bad_addr),
                ]
            with m.Else():
                m.d.sync += [self.fault.cause.eq(Cause.LOCAL_RANGE), self.fault.info.eq(point.row)]

    def _complete(self, m: Module, completions: stream.Interface, landed: Signal) -> None:
        """Reports instructions in order, a transfer once its last row is in the memory."""
        runs = Signal(range(COMPLETIONS + 2))
        any_runs = Signal()
        pop = Signal()
        run_done = Signal()
        m.d.comb += [
            completions.ready.eq(~completions.payload.run | (any_runs & self.spad.idle & self.acc.idle)),
            pop.eq(completions.valid & completions.ready),
            run_done.eq(pop & completions.payload.run),
        ]
        with m.If(landed & ~run_done):
            m.d.sync += [runs.eq(runs + 1), any_runs.eq(1)]
        with m.Elif(run_done & ~landed):
            m.d.sync += [runs.eq(runs - 1), any_runs.eq(runs != 1)]
        m.d.sync += [
            self.done.valid.eq(pop),
            self.done.signal.eq(completions.payload.signal),
        ]
