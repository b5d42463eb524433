"""The vector engine: executes the `vx.*` instructions one after another."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import BY_MNEMONIC, RequantMode
from tidemill_hdl.interfaces import (
    PC_BITS,
    Done,
    EngineInstruction,
    Fault,
    acc_read_port,
    acc_row,
    acc_write_port,
    spad_read_port,
    spad_write_port,
)
from tidemill_hdl.isa_layout import layout
from tidemill_hdl.prim.nest import AddressNest
from tidemill_hdl.prim.queue import Queue, SkidBuffer
from tidemill_hdl.vector.alu import ALU_OPS, SATURATION, VectorAlu, narrow, saturate
from tidemill_hdl.vector.operand import ROW_BITS, OperandReader
from tidemill_hdl.vector.post import TABLE_ENTRIES, PostKind, PostPath

_ADDRESS_BITS = 17
"""A walk stops at the first row outside 0..32767, so rows never go beyond one stride outside."""
_READS = 16
"""Operand rows on their way from issue to the ALU: covers the memory's latency at one row a cycle."""
_RESULTS = 16
"""Rows kept between ALU and writer."""
_DESTINATIONS = 64
"""Destination rows kept from issue to write: more than all rows that reads, ALU and post path can hold."""
_LEVELS = ("k0", "k1", "n0", "n1")
"""The address generator's loops, innermost first."""

Strides = data.StructLayout({level: signed(16) for level in _LEVELS})


class VectorEngine(wiring.Component):
    """The VECTOR engine of `docs/architecture.md`.

    An address generator walks the points of the instruction; operand rows come through queues into the ALU, which
    folds windows; results go to the writer, directly or through the post path. One instruction at a time: the next
    starts when everything has been written.

    Parameters
    ----------
    config : Config

    Members
    -------
    instr : In(stream of EngineInstruction)
    done : Out(Done): one pulse per instruction, when its results are in the memory.
    fault : Out(Fault): LOCAL_RANGE with info = the row, sign-extended; raised when everything of the points before
        has been written. Within one point operand A goes before B before the destination.
    a_spad, b_spad : Out(spad_read_port)
    a_acc, b_acc : Out(acc_read_port)
    spad_w : Out(spad_write_port)
    acc_w : Out(acc_write_port)
    row : Out(1): operand rows of one point were consumed (also rows of vx.param and vx.lut).
    progress : Out(1): something moved in the cycle before.

    Throughput one point a cycle without post, `cols / requant_lanes` cycles a destination row with it; about 20 cycles
    overhead an instruction (about 40 with requantization), 3 cycles for a configuration instruction. Operand B is read
    and checked unless b_imm is set, also by operations that ignore it. Reset restores the configuration and zeroes
    the parameters; the look-up table keeps its content.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "instr": In(stream.Signature(EngineInstruction)),
                "done": Out(Done()),
                "fault": Out(Fault()),
                "a_spad": Out(spad_read_port(config)),
                "b_spad": Out(spad_read_port(config)),
                "a_acc": Out(acc_read_port(config)),
                "b_acc": Out(acc_read_port(config)),
                "spad_w": Out(spad_write_port(config)),
                "acc_w": Out(acc_write_port(config)),
                "row": Out(1),
                "progress": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        row_layout = acc_row(config)

        m.submodules.nest = nest = AddressNest((10, 10, 12, 12), (_ADDRESS_BITS,) * 3)
        m.submodules.reader_a = reader_a = OperandReader(config, _READS)
        m.submodules.reader_b = reader_b = OperandReader(config, _READS)
        m.submodules.points = points = Queue(data.StructLayout({"first": 1, "final": 1}), _READS)
        m.submodules.destinations = destinations = Queue(unsigned(ROW_BITS), _DESTINATIONS)
        m.submodules.alu = alu = VectorAlu(config)
        m.submodules.results = results = Queue(row_layout, _RESULTS)
        m.submodules.post = post = PostPath(config)
        m.submodules.spad_out = spad_out = SkidBuffer(
            data.StructLayout({"addr": ROW_BITS, "data": data.ArrayLayout(SATURATION, config.cols)})
        )
        for reader, spad, acc in ((reader_a, self.a_spad, self.a_acc), (reader_b, self.b_spad, self.b_acc)):
            wiring.connect(m, reader.spad, wiring.flipped(spad))
            wiring.connect(m, reader.acc, wiring.flipped(acc))

        # ---- the instruction and the configuration
        word = Signal(EngineInstruction.members["word"], reset_less=True)
        pc = Signal(PC_BITS, reset_less=True)
        common = layout("vx.sync")(word)
        operation = layout(ALU_OPS[0].mnemonic)(word)
        table_load = layout("vx.lut")(word)
        dims = layout("vx.dims")(word)
        quant = layout("vx.quant")(word)
        count_shapes = {"k0": 10, "k1": 10, "n0": 12, "n1": 12}
        counts = Signal(data.StructLayout(count_shapes), init=dict.fromkeys(_LEVELS, 1))
        strides = {stream_name: Signal(Strides, name=f"strides_{stream_name}") for stream_name in ("a", "b", "d")}
        zero_point, preshift = Signal(signed(8)), Signal(5)
        qmin, qmax = Signal(signed(8), init=-128), Signal(signed(8), init=127)
        mode = Signal(2, init=RequantMode.TFLITE)
        # An upper limit below the lower one wins; settled long before the next instruction's first row.
        crossed = Signal()
        low = Signal(signed(8), init=-128)
        m.d.sync += [crossed.eq(qmin > qmax), low.eq(Mux(crossed, qmax, qmin))]

        # The instruction, decoded while it is taken: pulses in the cycle after, each its own register.
        decoding = Signal()
        is_op = {
            name: Signal(name="is_" + name.removeprefix("vx."))
            for name in ("vx.param", "vx.lut", "vx.dims", "vx.astride", "vx.bstride", "vx.quant")
        }
        is_param = is_op["vx.param"]
        is_alu, is_load, configures = (Signal(name=name) for name in ("is_alu", "is_load", "configures"))

        kind = Signal(PostKind)
        use_b = Signal()
        to_acc = Signal()
        number_b = Signal(signed(16), reset_less=True)
        alu_opcode = Signal(8, reset_less=True)
        loading = Signal()
        a_wrong_space = Signal()
        start = Signal()
        started = Signal()
        m.d.sync += started.eq(start)
        stride_a = Signal(Strides, reset_less=True)  # of this instruction

        m.d.comb += [
            nest.start.eq(start),
            nest.base.s0.eq(operation.a[:ROW_BITS]),
            nest.base.s1.eq(operation.b[:ROW_BITS]),
            nest.base.s2.eq(operation.dst[:ROW_BITS]),
            post.restart.eq(start),
        ]
        with m.If(is_load):
            m.d.comb += [
                nest.base.s0.eq(table_load.src[:ROW_BITS]),
                nest.count.c0.eq(1),
                nest.count.c1.eq(1),
                nest.count.c2.eq(Mux(is_param, 3, TABLE_ENTRIES // config.cols)),
                nest.count.c3.eq(1),
            ]
        with m.Else():
            m.d.comb += [nest.count[f"c{index}"].eq(counts[level]) for index, level in enumerate(_LEVELS)]
        for index, level in enumerate(_LEVELS):
            m.d.comb += [
                nest.stride[0][index].eq(stride_a[level]),
                nest.stride[1][index].eq(strides["b"][level]),
                nest.stride[2][index].eq(strides["d"][level]),
            ]

        # ---- points: checked while they wait for their issue
        address, closes = nest.address, nest.final[1]
        a_acc, b_acc = reader_a.accumulators, reader_b.accumulators

        def outside(row: Value, accumulators: Value) -> Value:
            spad_bits, acc_bits = (config.spad_rows - 1).bit_length(), (config.acc_rows - 1).bit_length()
            return Mux(accumulators, row[acc_bits:].any(), row[spad_bits:].any())

        fields = {"a": signed(17), "b": signed(17), "d": signed(17), "first": 1, "final": 1}
        flags = {"legal": 1, "bad_a": 1, "bad_b": 1}
        m.submodules.checked = checked = SkidBuffer(data.StructLayout(fields | flags))
        point = checked.o.payload
        waiting = checked.o.valid
        step = Signal()
        a_outside, b_outside, d_outside = Signal(), Signal(), Signal()
        m.d.comb += [
            a_outside.eq(outside(address.s0, a_acc) | a_wrong_space),
            b_outside.eq(use_b & outside(address.s1, b_acc)),
            d_outside.eq(closes & ~loading & outside(address.s2, to_acc)),
            checked.i.valid.eq(nest.valid),
            checked.i.payload.legal.eq(~(a_outside | b_outside | d_outside)),
            checked.i.payload.bad_a.eq(a_outside),
            checked.i.payload.bad_b.eq(b_outside),
            checked.i.payload.a.eq(address.s0),
            checked.i.payload.b.eq(address.s1),
            checked.i.payload.d.eq(address.s2),
            checked.i.payload.first.eq(nest.first[1]),
            checked.i.payload.final.eq(closes),
            nest.step.eq(nest.valid & checked.i.ready),
            checked.o.ready.eq(step),
        ]

        # ---- issue: one point a cycle while every queue has room, that of this cycle and the next included
        space = Signal()
        m.d.sync += space.eq((points.level < _READS - 1) & (destinations.level < _DESTINATIONS - 1))
        m.d.comb += [
            step.eq(waiting & point.legal & space & reader_a.address.ready & reader_b.address.ready),
            reader_a.address.valid.eq(step),
            reader_a.address.payload.eq(point.a),
            reader_b.address.valid.eq(step & use_b),
            reader_b.address.payload.eq(point.b),
            points.i.valid.eq(step),
            points.i.payload.first.eq(point.first),
            points.i.payload.final.eq(point.final),
            destinations.i.valid.eq(step & point.final),
            destinations.i.payload.eq(point.d),
        ]

        # ---- operands to the ALU; rows between here and `results.level` are covered by the margin
        room = Signal()
        m.d.sync += room.eq(results.level < _RESULTS - alu.latency - 4)
        consume = Signal()
        m.d.comb += [
            # The point of a row came long before it.
            consume.eq(reader_a.present & (reader_b.present | ~use_b) & room),
            points.o.ready.eq(consume),
            reader_a.take.eq(consume),
            reader_b.take.eq(consume & use_b),
            reader_b.number.eq(number_b),
            reader_b.fill.eq(started & ~use_b),
            alu.opcode.eq(alu_opcode),
            alu.low.eq(low),
            alu.high.eq(qmax),
            alu.a.eq(reader_a.row),
            alu.b.eq(reader_b.row),
            results.i.valid.eq(alu.o_valid),
            results.i.payload.eq(alu.o),
        ]
        m.d.sync += [
            alu.valid.eq(consume),
            alu.first.eq(points.o.payload.first),
            alu.final.eq(points.o.payload.final),
        ]

        # ---- results to the writer, directly or through the post path
        direct = Signal()
        m.d.sync += direct.eq(kind == PostKind.NONE)
        row = Signal(row_layout, reset_less=True)
        full = Signal()
        write_ready = Mux(to_acc, self.acc_w.req.ready, spad_out.i.ready)
        moves = Signal()
        written = Signal()
        m.d.comb += [moves.eq(~full | write_ready), written.eq(full & write_ready)]
        with m.If(moves):
            m.d.sync += [
                full.eq(Mux(direct, results.o.valid, post.o.valid)),
                row.eq(Mux(direct, Value.cast(results.o.payload), Value.cast(post.o.payload))),
            ]
        m.d.comb += [
            post.kind.eq(kind),
            post.mode.eq(mode),
            post.preshift.eq(preshift),
            post.zero_point.eq(zero_point),
            post.clamp.eq(~to_acc),
            post.low.eq(low),
            post.high.eq(qmax),
            post.i.valid.eq(results.o.valid & ~direct),
            post.i.payload.eq(results.o.payload),
            results.o.ready.eq(Mux(direct, moves, post.i.ready)),
            post.o.ready.eq(moves & ~direct),
            # The destination of a row came long before it, and stays until it is written.
            self.acc_w.req.valid.eq(full & to_acc),
            self.acc_w.req.payload.addr.eq(destinations.o.payload),
            self.acc_w.req.payload.data.eq(row),
            spad_out.i.valid.eq(full & ~to_acc),
            spad_out.i.payload.addr.eq(destinations.o.payload),
            Value.cast(spad_out.i.payload.data).eq(narrow(Value.cast(row), config)),
            destinations.o.ready.eq(written | post.loaded),
        ]
        m.d.comb += [
            self.spad_w.req.valid.eq(spad_out.o.valid),
            self.spad_w.req.payload.addr.eq(spad_out.o.payload.addr),
            Value.cast(self.spad_w.req.payload.data).eq(saturate(Value.cast(spad_out.o.payload.data), config)),
            spad_out.o.ready.eq(self.spad_w.req.ready),
        ]
        m.d.sync += [self.row.eq(consume), self.progress.eq(step | consume | written | post.loaded)]

        # ---- control
        # A window cut short by a fault leaves points that never give a result, so points are watched too.
        empty = Signal()
        m.d.sync += empty.eq(
            ~start
            & ~step
            & ~Mux(waiting, point.legal, nest.valid)
            & ~points.o.valid
            & (points.level == 0)
            & (destinations.level == 0)
            & ~spad_out.o.valid
        )
        # The last write is two cycles past when `empty` shows it, so `idle` counts; it is looked at a cycle later.
        quiet = Signal()
        m.d.sync += quiet.eq(self.spad_w.idle & self.acc_w.idle)
        m.d.sync += [self.done.valid.eq(0), self.done.signal.eq(common.signal), start.eq(0)]
        m.d.comb += [self.fault.cause.eq(Cause.LOCAL_RANGE), self.fault.pc.eq(pc)]
        # In time for `valid`: the illegal point waits since long.
        m.d.sync += self.fault.info.eq(Mux(point.bad_a, point.a, Mux(point.bad_b, point.b, point.d)))

        with m.If(decoding):
            m.d.sync += [
                loading.eq(is_load),
                *(
                    stride_a[level].eq(Mux(is_load, 1 if level == "n0" else 0, strides["a"][level]))
                    for level in _LEVELS
                ),
                use_b.eq(is_alu & ~operation.b_imm),
                number_b.eq(Mux(is_alu, operation.b, 0)),
                to_acc.eq(operation.dst[ROW_BITS] & is_alu),
                reader_a.accumulators.eq(Mux(is_load, table_load.src[ROW_BITS], operation.a[ROW_BITS])),
                reader_b.accumulators.eq(operation.b[ROW_BITS]),
                a_wrong_space.eq(is_load & ~table_load.src[ROW_BITS]),
                alu_opcode.eq(Mux(is_alu, common.opcode, BY_MNEMONIC["vx.add"].opcode)),
                Value.cast(kind).eq(
                    Mux(is_alu, operation.post, Mux(is_param, PostKind.LOAD_PARAM.value, PostKind.LOAD_LUT.value))
                ),
            ]
        with m.If(is_op["vx.dims"]):
            m.d.sync += [counts[level].eq(getattr(dims, level)) for level in _LEVELS]
            m.d.sync += [strides["d"].n0.eq(dims.d0), strides["d"].n1.eq(dims.d1)]
        for operand in ("a", "b"):
            fields = layout(f"vx.{operand}stride")(word)
            with m.If(is_op[f"vx.{operand}stride"]):
                m.d.sync += [strides[operand][level].eq(getattr(fields, level)) for level in _LEVELS]
        with m.If(is_op["vx.quant"]):
            m.d.sync += [
                zero_point.eq(quant.zero_point),
                preshift.eq(quant.preshift),
                mode.eq(quant.mode),
                qmin.eq(quant.qmin),
                qmax.eq(quant.qmax),
            ]

        m.d.sync += [decoding.eq(0), is_alu.eq(0), is_load.eq(0), configures.eq(0)]
        m.d.sync += [flag.eq(0) for flag in is_op.values()]
        with m.FSM() as fsm:
            m.d.comb += self.instr.ready.eq(fsm.ongoing("idle"))
            with m.State("idle"):
                offered = layout("vx.sync")(self.instr.payload.word).opcode
                # Only vx instructions come, and their upper bits are alike.
                takes = {name: self.instr.valid & (offered[:5] == BY_MNEMONIC[name].opcode & 31) for name in is_op}
                loads = takes["vx.param"] | takes["vx.lut"]
                m.d.sync += [
                    word.eq(self.instr.payload.word),
                    pc.eq(self.instr.payload.pc),
                    *(flag.eq(takes[name]) for name, flag in is_op.items()),
                    decoding.eq(self.instr.valid),
                    is_alu.eq(self.instr.valid & offered[4]),
                    is_load.eq(loads),
                    configures.eq(self.instr.valid & ~offered[4] & ~loads),
                    start.eq((self.instr.valid & offered[4]) | loads),
                ]
                with m.If(self.instr.valid):
                    m.next = "decode"
            with m.State("decode"):
                with m.If(configures):
                    m.d.sync += self.done.valid.eq(1)
                    m.next = "idle"
                with m.Else():
                    m.next = "run"
            with m.State("run"), m.If(empty):
                m.next = "settle"
            with m.State("settle"), m.If(quiet):
                # A point that still waits has an illegal row.
                m.d.sync += [self.fault.valid.eq(waiting), self.done.valid.eq(~waiting)]
                with m.If(waiting):
                    m.next = "stopped"
                with m.Else():
                    m.next = "idle"
            with m.State("stopped"):
                pass
        return m
