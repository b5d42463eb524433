"""The store engine: scratchpad and accumulators to DRAM."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import BY_MNEMONIC
from tidemill_hdl.dma.load import COMPLETIONS, ROW_BITS
from tidemill_hdl.dma.walk import BurstWalk, piece_layout
from tidemill_hdl.interfaces import (
    LOCAL_BITS,
    PC_BITS,
    BurstWrite,
    Done,
    EngineInstruction,
    Fault,
    Window,
    acc_read_port,
    acc_row,
    spad_read_port,
    spad_row,
)
from tidemill_hdl.isa_layout import layout
from tidemill_hdl.prim.nest import AddressNest
from tidemill_hdl.prim.queue import Queue, SkidBuffer

SPAD_AHEAD = 12
"""Scratchpad rows requested or waiting: covers the read latency at one row a beat."""
ACC_AHEAD = 4
"""Accumulator rows requested or waiting; each lasts at least four beats."""

_RowJob = data.StructLayout(
    {
        "local": unsigned(LOCAL_BITS),
        "n0": unsigned(12),
        "n1": unsigned(10),
        "n2": unsigned(10),
        "d1": signed(16),
        "d2": signed(16),
        "pc": unsigned(PC_BITS),
    }
)
_BeatCount = data.StructLayout({"beats": 8, "single": 1})
"""A burst whose beats may be sent: beats minus one; whether it is one beat."""
_Burst = data.StructLayout({"addr": 32, "pc": PC_BITS, "final": 1})


class StoreEngine(wiring.Component):
    """Executes the `st` instructions (`docs/architecture.md`).

    Rows are read ahead, also of the next instructions, and write responses of earlier ones may be outstanding.
    MISALIGNED and WINDOW (info: the line's first byte, in this order) and LOCAL_RANGE (info: the row) are raised when
    all rows before have been given to the bus; bus errors (info: the burst's address) when their response comes.
    When LOCAL_RANGE strikes inside a burst, the rest of the burst is left to the gateway's draining.

    Parameters
    ----------
    config : Config

    Members
    -------
    instr : In(stream of EngineInstruction)
    done : Out(Done): in order.
    fault : Out(Fault)
    bus : Out(BurstWrite): at most `max_outstanding` bursts without response.
    spad_r, acc_r : Out(ReadPort)
    window : In(Window)
    write_beat, bus_write_wait, progress : Out(1): events; `progress`: a beat moved, a row was read or a burst
        acknowledged.

    Timing without stalls: first command 7 cycles after `instr`, first beat 12; one beat a cycle, 1 lost between
    transfers at most; `done` 3 cycles after the last response.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "instr": In(stream.Signature(EngineInstruction)),
                "done": Out(Done()),
                "fault": Out(Fault()),
                "bus": Out(BurstWrite(config)),
                "spad_r": Out(spad_read_port(config)),
                "acc_r": Out(acc_read_port(config)),
                "window": In(Window()),
                "write_beat": Out(1),
                "bus_write_wait": Out(1),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.walk = walk = BurstWalk(self.config)
        rows = stream.Signature(_RowJob).create(path=("rows",))
        m.submodules.completions = completions = Queue(data.StructLayout({"run": 1, "signal": 16}), COMPLETIONS)
        wiring.connect(m, wiring.flipped(self.window), walk.window)
        lengths = Queue(_BeatCount, max(2, self.config.max_outstanding))
        flying = Queue(_Burst, max(2, self.config.max_outstanding))
        m.submodules.lengths, m.submodules.flying = lengths, flying
        row_fault = Signal(data.StructLayout({"valid": 1, "pc": PC_BITS, "info": 32}))
        line_fault = Signal(data.StructLayout({"valid": 1, "cause": 4, "pc": PC_BITS, "info": 32}))
        bus_fault = Signal(data.StructLayout({"valid": 1, "cause": 4, "pc": PC_BITS, "info": 32}))
        run_done = Signal()
        self._intake(m, walk.job, rows, completions.i)
        m.submodules.pieces = pieces = SkidBuffer(piece_layout(self.config))
        wiring.connect(m, walk.piece, pieces.i)
        self._requests(m, pieces.o, lengths, flying, line_fault)
        self._responses(m, flying, bus_fault, run_done)
        self._rows(m, rows, lengths.o, row_fault)
        self._complete(m, completions.o, run_done)

        beat_moves = self.bus.beat.valid & self.bus.beat.ready
        m.d.sync += [
            self.write_beat.eq(beat_moves),
            self.bus_write_wait.eq(self.bus.beat.valid & ~self.bus.beat.ready),
            self.progress.eq(
                beat_moves | self.spad_r.rsp_valid | self.acc_r.rsp_valid | (self.bus.resp.valid & self.bus.resp.ready)
            ),
        ]
        with m.If(~self.fault.valid):
            with m.If(bus_fault.valid):
                m.d.sync += [
                    self.fault.valid.eq(1),
                    self.fault.cause.eq(bus_fault.cause),
                    self.fault.pc.eq(bus_fault.pc),
                    self.fault.info.eq(bus_fault.info),
                ]
            with m.Elif(row_fault.valid):
                m.d.sync += [
                    self.fault.valid.eq(1),
                    self.fault.cause.eq(Cause.LOCAL_RANGE),
                    self.fault.pc.eq(row_fault.pc),
                    self.fault.info.eq(row_fault.info),
                ]
            with m.Elif(line_fault.valid):
                m.d.sync += [
                    self.fault.valid.eq(1),
                    self.fault.cause.eq(line_fault.cause),
                    self.fault.pc.eq(line_fault.pc),
                    self.fault.info.eq(line_fault.info),
                ]
        return m

    def _intake(self, m: Module, requests: stream.Interface, rows: stream.Interface, done: stream.Interface) -> None:
        """Executes configuration and hands each transfer to the two walks."""
        arrives = data.StructLayout({"instr": EngineInstruction, "run": 1, "stride": 1, "src": 1})
        m.submodules.instr = intake = SkidBuffer(arrives)
        arriving = layout("st.run")(self.instr.payload.word)
        kind = intake.o.payload
        m.d.comb += [
            intake.i.valid.eq(self.instr.valid),
            self.instr.ready.eq(intake.i.ready),
            intake.i.payload.instr.eq(self.instr.payload),
            intake.i.payload.run.eq((arriving.opcode == BY_MNEMONIC["st.run"].opcode) & (arriving.n0 != 0)),
        ]
        for name in ("stride", "src"):
            m.d.comb += intake.i.payload[name].eq(arriving.opcode == BY_MNEMONIC[f"st.{name}"].opcode)
        word, pc = intake.o.payload.instr.word, intake.o.payload.instr.pc
        s1, s2 = Signal(signed(32)), Signal(signed(32))
        d1, d2 = Signal(signed(16)), Signal(signed(16))
        run = layout("st.run")(word)
        is_run, fire, configures = Signal(), Signal(), Signal()
        m.d.comb += [
            is_run.eq(kind.run),
            fire.eq(intake.o.valid & done.ready & (~is_run | (rows.ready & requests.ready)) & ~self.fault.valid),
            configures.eq(intake.o.valid & done.ready & ~self.fault.valid),
            intake.o.ready.eq(fire),
            done.valid.eq(fire),
            done.payload.run.eq(is_run),
            done.payload.signal.eq(run.signal),
            rows.valid.eq(fire & is_run),
            rows.payload.local.eq(run.src),
            rows.payload.n0.eq(run.n0),
            rows.payload.d1.eq(d1),
            rows.payload.d2.eq(d2),
            requests.valid.eq(fire & is_run),
            requests.payload.dram.eq(run.dram),
            requests.payload.rows.eq(run.n0 - 1),
            requests.payload.acc.eq(run.src[-1]),
            requests.payload.s1.eq(s1),
            requests.payload.s2.eq(s2),
        ]
        for payload in (rows.payload, requests.payload):
            m.d.comb += [payload.n1.eq(run.n1), payload.n2.eq(run.n2), payload.pc.eq(pc)]
        with m.If(configures & kind.stride):
            stride = layout("st.stride")(word)
            m.d.sync += [s1.eq(stride.s1), s2.eq(stride.s2)]
        with m.If(configures & kind.src):
            src = layout("st.src")(word)
            m.d.sync += [d1.eq(src.d1), d2.eq(src.d2)]

    def _requests(self, m: Module, pieces: stream.Interface, lengths: Queue, flying: Queue, fault: data.View) -> None:
        """Sends commands, one every other cycle, as the gateway takes them; `flying` has room for all that may fly. A
        burst's beats are allowed (`lengths`) once its command has been taken. A line that may not be stored stops here
        for good and is reported when the beats of all earlier bursts are out."""
        config, cmd = self.config, self.bus.cmd
        low = (config.axi_bytes - 1).bit_length()
        piece = pieces.payload
        in_flight = Signal(range(config.max_outstanding + 1))
        valid = Signal()
        command = Signal(cmd.payload.shape(), reset_less=True)
        all_fly = Signal()
        bad, issue, taken, answered = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            bad.eq(piece.window | (piece.offset != 0)),
            issue.eq(pieces.valid & ~bad & ~valid & ~all_fly & ~self.fault.valid),
            pieces.ready.eq(issue),
            cmd.valid.eq(valid),
            cmd.payload.eq(command),
            taken.eq(valid & cmd.ready),
            lengths.i.valid.eq(taken),
            lengths.i.payload.beats.eq(command.beats),
            lengths.i.payload.single.eq(command.beats == 0),
            flying.i.valid.eq(issue),
            flying.i.payload.addr.eq(piece.addr),
            flying.i.payload.pc.eq(piece.pc),
            flying.i.payload.final.eq(piece.final),
            answered.eq(flying.o.valid & flying.o.ready),
            fault.cause.eq(Mux(piece.offset != 0, Cause.MISALIGNED, Cause.WINDOW)),
            fault.pc.eq(piece.pc),
            fault.info.eq(piece.addr),
        ]
        with m.If(issue):
            m.d.sync += [
                valid.eq(1),
                command.addr.eq(Cat(C(0, low), piece.addr[low:])),
                command.beats.eq(piece.beats),
            ]
        with m.Elif(cmd.ready):
            m.d.sync += valid.eq(0)
        # Once true, this stays.
        m.d.sync += fault.valid.eq(pieces.valid & bad & ~valid & (lengths.level == 0))
        with m.If(issue & ~answered):
            m.d.sync += [in_flight.eq(in_flight + 1), all_fly.eq(in_flight == config.max_outstanding - 1)]
        with m.Elif(answered & ~issue):
            m.d.sync += [in_flight.eq(in_flight - 1), all_fly.eq(0)]

    def _responses(self, m: Module, flying: Queue, fault: data.View, run_done: Signal) -> None:
        """Pairs each response with its burst."""
        m.submodules.responses = responses = SkidBuffer(unsigned(2))
        wiring.connect(m, wiring.flipped(self.bus.resp), responses.i)
        burst = flying.o
        fire = Signal()
        m.d.comb += [
            fire.eq(burst.valid & responses.o.valid),
            burst.ready.eq(fire),
            responses.o.ready.eq(fire),
            fault.valid.eq(fire & responses.o.payload[1]),
            fault.cause.eq(Mux(responses.o.payload[0], Cause.BUS_DECERR, Cause.BUS_SLVERR)),
            fault.pc.eq(burst.payload.pc),
            fault.info.eq(burst.payload.addr),
            run_done.eq(fire & burst.payload.final & ~responses.o.payload[1]),
        ]

    def _rows(self, m: Module, jobs: stream.Interface, lengths: stream.Interface, fault: data.View) -> None:
        """Walks the local rows, reads them ahead and sends them as beats."""
        config = self.config
        m.submodules.nest = nest = AddressNest([12, 10, 10], [ROW_BITS])
        waiting = Signal()
        walking = Signal()
        next_job, job = Signal(_RowJob, reset_less=True), Signal(_RowJob, reset_less=True)
        # A row outside its memory, `poison`, is asked from none, and nothing comes after it.
        point_layout = data.StructLayout({"row": signed(ROW_BITS), "pc": PC_BITS, "spad": 1, "acc": 1, "poison": 1})
        m.submodules.points = points = SkidBuffer(point_layout)
        # While there is no transfer the generator starts anew in every cycle: nothing wide waits to hear of one.
        m.d.comb += [
            jobs.ready.eq(~waiting),
            nest.start.eq(~walking),
            nest.count.c0.eq(next_job.n0),
            nest.count.c1.eq(next_job.n1),
            nest.count.c2.eq(next_job.n2),
            nest.base.s0.eq(next_job.local[:-1]),
            nest.stride[0][0].eq(1),
            nest.stride[0][1].eq(job.d1),
            nest.stride[0][2].eq(job.d2),
            nest.step.eq(walking & points.i.ready),
        ]
        with m.If(~waiting):
            m.d.sync += [waiting.eq(jobs.valid), next_job.eq(jobs.payload)]
        with m.Elif(~walking):
            m.d.sync += waiting.eq(0)
        with m.If(~walking):
            m.d.sync += [walking.eq(waiting), job.eq(next_job)]
        with m.Elif(nest.step & nest.last):
            m.d.sync += walking.eq(0)

        row = Signal(signed(ROW_BITS))
        outside = Signal()
        acc = Signal()
        spad_bits, acc_bits = (config.spad_rows - 1).bit_length(), (config.acc_rows - 1).bit_length()
        point, next_point = points.o.payload, points.i.payload
        m.d.comb += [
            row.eq(nest.address.s0),
            acc.eq(job.local[-1]),
            outside.eq(Mux(acc, row[acc_bits:].any(), row[spad_bits:].any())),
            points.i.valid.eq(walking),
            next_point.row.eq(row),
            next_point.pc.eq(job.pc),
            next_point.spad.eq(~outside & ~acc),
            next_point.acc.eq(~outside & acc),
            next_point.poison.eq(outside),
        ]

        # Each row requested has its place in the queue of its memory; `order` says which queue is next;
        # it has a place for all of them and for the end.
        spad_row_bits, acc_row_bits = 8 * config.spad_row_bytes, 8 * config.acc_row_bytes
        m.submodules.spad_rows = spad_rows = Queue(unsigned(spad_row_bits), SPAD_AHEAD)
        m.submodules.acc_rows = acc_rows = Queue(unsigned(acc_row_bits), ACC_AHEAD)
        source = data.StructLayout({"spad": 1, "acc": 1})
        m.submodules.order = order = Queue(source, SPAD_AHEAD + ACC_AHEAD + 1)
        m.submodules.next = next_source = SkidBuffer(source)
        wiring.connect(m, order.o, next_source.i)
        next_row = Signal(acc_row_bits)
        pop_spad, pop_acc = Signal(), Signal()
        started = {}
        for name, port, queue, depth, pop, layout_ in (
            ("spad", self.spad_r, spad_rows, SPAD_AHEAD, pop_spad, spad_row(config)),
            ("acc", self.acc_r, acc_rows, ACC_AHEAD, pop_acc, acc_row(config)),
        ):
            room = Signal(range(depth + 1), init=depth, name=f"{name}_room")
            has_room = Signal(init=1, name=f"{name}_has_room")
            request = Signal(name=f"{name}_request")
            request_address = Signal(port.req.payload.shape(), name=f"{name}_address", reset_less=True)
            start = Signal(name=f"{name}_start")
            m.d.comb += [
                start.eq(points.o.valid & point[name] & has_room & (~request | port.req.ready)),
                port.req.valid.eq(request),
                port.req.payload.eq(request_address),
                queue.i.valid.eq(port.rsp_valid),
                queue.i.payload.eq(data.View(layout_, port.rsp_data).as_value()),
            ]
            with m.If(start):
                m.d.sync += [request.eq(1), request_address.eq(point.row)]
            with m.Elif(port.req.ready):
                m.d.sync += request.eq(0)
            with m.If(start & ~pop):
                m.d.sync += [room.eq(room - 1), has_room.eq(room != 1)]
            with m.Elif(pop & ~start):
                m.d.sync += [room.eq(room + 1), has_room.eq(1)]
            started[name] = start
        read = started["spad"] | started["acc"]
        poison, poisoned = Signal(), Signal()
        m.d.comb += [
            poison.eq(points.o.valid & point.poison & ~poisoned),
            points.o.ready.eq(read),
            order.i.valid.eq(read | poison),
            order.i.payload.spad.eq(point.spad),
            order.i.payload.acc.eq(point.acc),
            fault.pc.eq(point.pc),
            fault.info.eq(point.row),
        ]
        with m.If(poison):
            m.d.sync += poisoned.eq(1)

        # Rows to beats. `row_ends`: no beat of a row is left after the one that `shift` holds, if it holds any.
        m.submodules.beats = beats = SkidBuffer(unsigned(config.axi_data_width))
        moves = beats.i.ready
        shift = Signal(acc_row_bits, reset_less=True)
        rest = Signal(range(config.acc_row_bytes // config.axi_bytes), reset_less=True)
        row_ends = Signal(init=1)
        holds = Signal()
        load = Signal()
        head = next_source.o.payload
        spad_beats, acc_beats = (n // config.axi_bytes for n in (config.spad_row_bytes, config.acc_row_bytes))
        m.d.comb += [
            next_row.eq(Mux(head.acc, acc_rows.o.payload, spad_rows.o.payload)),
            beats.i.valid.eq(holds),
            beats.i.payload.eq(shift),
            spad_rows.o.ready.eq(moves & row_ends & next_source.o.valid & head.spad),
            acc_rows.o.ready.eq(moves & row_ends & next_source.o.valid & head.acc),
            pop_spad.eq(spad_rows.o.ready & spad_rows.o.valid),
            pop_acc.eq(acc_rows.o.ready & acc_rows.o.valid),
            load.eq(pop_spad | pop_acc),
            next_source.o.ready.eq(load),
        ]
        # Wide: `shift` does not wait for what says whether there is a row to take.
        with m.If(moves):
            m.d.sync += shift.eq(Mux(row_ends, next_row, shift[config.axi_data_width :]))
            with m.If(row_ends):
                m.d.sync += [
                    holds.eq(load),
                    rest.eq(Mux(head.acc, acc_beats - 1, spad_beats - 1)),
                    row_ends.eq(~load | Mux(head.acc, acc_beats == 1, spad_beats == 1)),
                ]
            with m.Else():
                m.d.sync += [rest.eq(rest - 1), row_ends.eq(rest == 1)]

        # Beats to bursts.
        begins = Signal(init=1)
        at_last = Signal()
        left = Signal(8, reset_less=True)
        left_now = Signal(8)
        send, last = Signal(), Signal()
        m.d.comb += [
            self.bus.beat.valid.eq(beats.o.valid & lengths.valid),
            self.bus.beat.payload.eq(beats.o.payload),
            beats.o.ready.eq(lengths.valid & self.bus.beat.ready),
            send.eq(self.bus.beat.valid & self.bus.beat.ready),
            left_now.eq(Mux(begins, lengths.payload.beats, left)),
            last.eq(Mux(begins, lengths.payload.single, at_last)),
            lengths.ready.eq(send & last),
        ]
        with m.If(send):
            m.d.sync += [begins.eq(last), left.eq(left_now - 1), at_last.eq(left_now == 1)]
        # Once true, this stays.
        at_poison = next_source.o.valid & ~head.spad & ~head.acc
        m.d.sync += fault.valid.eq(at_poison & ~holds & ~beats.o.valid & lengths.valid)

    def _complete(self, m: Module, completions: stream.Interface, run_done: Signal) -> None:
        """Reports instructions in order, a transfer once its last burst has been acknowledged."""
        runs = Signal(range(COMPLETIONS + 2))
        any_runs = Signal()
        pop = Signal()
        finished = Signal()
        m.d.comb += [
            completions.ready.eq((~completions.payload.run | any_runs) & ~self.fault.valid),
            pop.eq(completions.valid & completions.ready),
            finished.eq(pop & completions.payload.run),
        ]
        with m.If(run_done & ~finished):
            m.d.sync += [runs.eq(runs + 1), any_runs.eq(1)]
        with m.Elif(finished & ~run_done):
            m.d.sync += [runs.eq(runs - 1), any_runs.eq(runs != 1)]
        m.d.sync += [
            self.done.valid.eq(pop),
            self.done.signal.eq(completions.payload.signal),
        ]
