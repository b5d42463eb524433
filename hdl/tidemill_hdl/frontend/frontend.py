"""The frontend's pipeline: buffer read, decode, registers, execute, dispatch."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import ENGINES, INSTRUCTION_BITS, SCALAR_REGISTERS
from tidemill_hdl.frontend.decoder import Decoder
from tidemill_hdl.frontend.fetch import Fetch
from tidemill_hdl.frontend.loops import LoopStack
from tidemill_hdl.interfaces import PC_BITS, BurstRead, EngineInstruction, Fault

SETTLE_CYCLES = 7
"""Cycles after a dispatch in which what is known of `idle` does not yet tell the truth."""

SLOTS = 2
"""Instructions on their way to the engines: one more than is offered, so that stalls come from registers."""

OVERRUN_CYCLES = 4
"""Cycles without any instruction in the pipeline before a full loop buffer is taken for a loop that left it."""

_IMMEDIATE = slice(32, 64)
_RD = slice(8, 12)
_AMOUNT = slice(32, 37)
_LOOP_COUNT = slice(32, 48)
_LOOP_LENGTH = slice(64, 76)
_FENCE_ENGINES = slice(8, 12)
_IRQ_CODE = slice(8, 24)


class Frontend(wiring.Component):
    """Runs a program: executes control instructions, hands engine instructions out in program order.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : In(1): a pulse, once after each reset: run from instruction 0.
    prog_addr : In(32): byte address of the program, a multiple of 16; constant from `start` on.
    prog_len : In(24): instructions; constant from `start` on.
    fetch : Out(BurstRead): instruction fetch.
    instr : Out(array of 4 streams of EngineInstruction, in the order of `isa.ENGINES`): legal instructions with
        registers added. At most one stream is valid at a time.
    idle : In(4): nothing of that engine is queued or running; true from 4 cycles after a transfer on.
    halted : Out(1): rises when `halt` is complete; stays until reset.
    user_irq : Out(1): a pulse per `irq` instruction.
    user_code : Out(16): its code; holds until the next.
    fault : Out(Fault): the program stopped. Within one instruction the order is BUS_SLVERR / BUS_DECERR (info = byte
        address of the instruction), ILLEGAL_OPCODE, RESERVED_BITS, ILLEGAL_OPERAND, LOOP (info = bits 31:0 of the
        instruction). PC_RANGE: info = the index. Instructions dispatched before keep running.
    pc : Out(24): index of the instruction to be executed next; it stays on a `fence` that waits.
    instruction : Out(1): event, one pulse per executed instruction.
    queue_full : Out(1): event, a cycle in which an engine's queue took no instruction that was ready for it.
    fetch_wait : Out(1): event, a cycle without anything to execute because the buffer lacks the instruction.

    Loops
    -----
    LOOP faults: `loop` while `loop_depth` loops are active or with length + 1 > `ibuf_depth`, both whatever the count;
    `endloop` without an active loop; an instruction `ibuf_depth` or more after the outermost active `loop` (info = 0,
    only possible if its endloop is not where its length says). `endloop` always ends the innermost active loop.

    Timing
    ------
    One instruction a cycle, loop ends included (predicted); `loop` and `slli` take 2, `fence` and `halt` 3 or 11 from
    the last dispatch on; a mispredicted loop end (bodies under 6 instructions, two endloops in a row), a skipped loop 5
    more. A register written by one instruction can be used by the next without a wait. `pc` and `instruction` tell of
    an execution two cycles later.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__(
            {
                "start": In(1),
                "prog_addr": In(32),
                "prog_len": In(PC_BITS),
                "fetch": Out(BurstRead(config)),
                "instr": Out(stream.Signature(EngineInstruction)).array(len(ENGINES)),
                "idle": In(len(ENGINES)),
                "halted": Out(1),
                "user_irq": Out(1),
                "user_code": Out(16),
                "fault": Out(Fault()),
                "pc": Out(PC_BITS),
                "instruction": Out(1),
                "queue_full": Out(1),
                "fetch_wait": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        index_bits = (self.config.ibuf_depth - 1).bit_length()
        m.submodules.fetch = fetch = Fetch(self.config)
        m.submodules.decoder = decoder = Decoder()
        m.submodules.loops = loops = LoopStack(self.config)
        connect(m, flipped(self.fetch), fetch.fetch)

        # What travels beside the instruction word. `taken`: the instruction that follows in the pipeline is not the
        # next one but the loop start whose low index bits are `target`. `beyond`: past the end of the program.
        step = data.StructLayout({"pc": PC_BITS, "taken": 1, "target": index_bits, "beyond": 1})
        names = ("read", "word", "decode", "execute")
        valid = {name: Signal(name=f"{name}_valid") for name in names}
        steps = {name: Signal(step, name=f"{name}_step", reset_less=True) for name in names}
        words = {name: Signal(INSTRUCTION_BITS, name=f"{name}_bits", reset_less=True) for name in names[2:]}
        resps = {name: Signal(2, name=f"{name}_resp", reset_less=True) for name in names[2:]}

        running = Signal()
        move = Signal()
        complete = Signal()
        redirect = Signal()
        # Also after a reset: what a decoder without reset says of an instruction of before means nothing.
        redirected = Signal(init=1)
        next_pc = Signal(PC_BITS)
        execute_pc = Signal(PC_BITS)
        m.d.comb += move.eq(~valid["execute"] | redirected | complete)

        # ---- read: choose the next instruction, predicting the way back at the innermost loop's end
        read_pc = Signal(PC_BITS)
        ahead = read_pc[: index_bits + 2] - fetch.received[: index_bits + 2]
        present = Signal()
        issue = Signal()
        back = Signal()
        m.d.comb += [
            present.eq(ahead[index_bits + 1]),
            issue.eq(running & (present | fetch.complete)),
            back.eq(loops.active & ~loops.last & (read_pc[:index_bits] == loops.end[:index_bits])),
            fetch.start.eq(self.start),
            fetch.stop.eq(~running),
            fetch.prog_addr.eq(self.prog_addr),
            fetch.prog_len.eq(self.prog_len),
            fetch.r_en.eq(move),
            fetch.r_addr.eq(read_pc[:index_bits]),
        ]
        with m.If(move):
            m.d.sync += [
                valid["read"].eq(issue),
                steps["read"].pc.eq(read_pc),
                steps["read"].taken.eq(back),
                steps["read"].target.eq(loops.start[:index_bits]),
                steps["read"].beyond.eq(~present),
            ]
            with m.If(issue):
                m.d.sync += read_pc.eq(Mux(back, loops.start, read_pc + 1))
            for before, name in pairwise(names):
                m.d.sync += [valid[name].eq(valid[before]), steps[name].eq(steps[before])]
            m.d.sync += [
                words["decode"].eq(fetch.r_data.word),
                resps["decode"].eq(fetch.r_data.resp),
                words["execute"].eq(words["decode"]),
                resps["execute"].eq(resps["decode"]),
            ]
        # An instruction that goes elsewhere empties the pipeline a cycle later, in which nothing executes.
        with m.If(redirected):
            m.d.sync += [valid[name].eq(0) for name in names]
            m.d.sync += read_pc.eq(next_pc)
        m.d.comb += [
            decoder.en.eq(move),
            decoder.word.eq(fetch.r_data.word),
            decoder.void.eq(~valid["decode"] | redirected | steps["decode"].beyond | resps["decode"][1]),
        ]

        # ---- registers: read in the decode step, written after the execute step
        word = words["execute"]
        kind = decoder.kind
        second_go = Signal()
        write = Signal()
        result = Signal(32)
        wrote = Signal()
        last_rd = Signal(4, reset_less=True)
        last = Signal(32, reset_less=True)
        written = Signal(SCALAR_REGISTERS)
        m.d.comb += write.eq(~redirected & decoder.writes & (kind.single | (kind.slli & second_go)))
        m.d.sync += wrote.eq(write)
        with m.If(write):
            m.d.sync += [last.eq(result), last_rd.eq(word[_RD])]
        for i in range(1, SCALAR_REGISTERS):
            with m.If(wrote & (last_rd == i)):
                m.d.sync += written[i].eq(1)

        def operand(name: str, select: Value, use: Value) -> tuple[Value, Signal]:
            """What an instruction in the decode step reads, zero without `use`; whether the one before it, in the
            execute step, changes that."""
            m.submodules[f"registers_{name}"] = file = memory.Memory(shape=32, depth=SCALAR_REGISTERS, init=[])
            store, load = file.write_port(), file.read_port(domain="comb")
            follows = Signal(name=f"follows_{name}", reset_less=True)
            fresh = use & wrote & (last_rd == select)
            kept = use & (written >> select)[0] & ~fresh
            m.d.comb += [store.addr.eq(last_rd), store.data.eq(last), store.en.eq(wrote), load.addr.eq(select)]
            with m.If(move):
                m.d.sync += follows.eq(use & valid["execute"] & decoder.writes & (word[_RD] == select))
            return (last & fresh.replicate(32)) | (load.data & kept.replicate(32)), follows

        operand_a = Signal(32, reset_less=True)
        operand_b = Signal(32, reset_less=True)
        read_a, follows_a = operand("a", decoder.select_a, decoder.use_a)
        read_b, follows_b = operand("b", decoder.select_b, decoder.use_b & ~decoder.immediate)
        read_c, follows_c = operand("c", decoder.select_c, decoder.use_c & ~decoder.full)
        follows_upper = Signal(reset_less=True)
        with m.If(move):
            m.d.sync += [
                operand_a.eq(read_a),
                operand_b.eq(
                    (read_b & Cat(Const(-1, 16), decoder.full.replicate(16)))
                    | (words["decode"][_IMMEDIATE] & decoder.immediate.replicate(32))
                    | (read_c[:16] << 16)
                ),
                follows_upper.eq(
                    decoder.full & decoder.use_b & ~decoder.immediate & valid["execute"] & decoder.writes
                    & (word[_RD] == decoder.select_b)
                ),
            ]  # fmt: skip

        # ---- execute: no bit of `kind` is set where there is nothing to execute, but in the cycle of a redirection
        at = steps["execute"]
        a = Signal(32)
        b = Signal(32)
        upper = Signal(16)
        shifted = Signal(32, reset_less=True)
        m.d.comb += [
            a.eq(Mux(follows_a, last, operand_a)),
            b.eq(
                Cat(Mux(follows_b, last[:16], operand_b[:16]), Mux(follows_upper, last[16:], operand_b[16:]))
                ^ decoder.subtract.replicate(32)
            ),
            upper.eq(Mux(follows_c, last[:16], Mux(follows_upper, last[16:], operand_b[16:]))),
            result.eq(
                Mux(
                    kind.slli,
                    shifted << word[_AMOUNT][:3],
                    (Cat(Const(1, 1), a) + Cat(decoder.subtract, b))[1:],
                )
            ),
        ]
        # Second cycle of loop, slli, fence and halt: sums and conditions of the first are registers then.
        second = Signal()
        count = word[_LOOP_COUNT]
        loop_count = Signal(16, reset_less=True)
        loop_end = Signal(PC_BITS, reset_less=True)
        loop_long = Signal(reset_less=True)
        nothing = Signal(2, reset_less=True)
        skip = Signal()
        settle = Signal(range(SETTLE_CYCLES + 1))
        idle = Signal(len(ENGINES))
        drained = Signal()
        awaited = Mux(kind.halt, (1 << len(ENGINES)) - 1, word[_FENCE_ENGINES])
        occupied = Signal(SLOTS)
        odd, carry = count ^ a[:16], Cat(Const(0, 1), count | a[:16])
        m.d.comb += skip.eq(nothing.all())
        m.d.sync += [
            shifted.eq(a << (word[_AMOUNT] & 0b11000)),
            loop_count.eq(count + a[:16]),
            loop_end.eq(at.pc + word[_LOOP_LENGTH]),
            # A sum is zero where each bit is the carry that zero bits below it make: in both its halves.
            nothing.eq(Cat((odd[i : i + 8] == carry[i : i + 8]) & kind.loop & ~second_go for i in (0, 8))),
            second.eq((kind.fence | kind.halt) & ~second_go),
            idle.eq(self.idle),
            drained.eq((settle == 0) & ~occupied.any() & ((idle | ~awaited).all())),
            second_go.eq(
                ~redirected & ~second_go
                & (kind.slli | (kind.loop & ~loops.deep & ~loop_long) | (kind.fence & second & drained))
            ),
        ]  # fmt: skip
        with m.If(move):
            m.d.sync += loop_long.eq(words["decode"][_LOOP_LENGTH] >= self.config.ibuf_depth)
        with m.If(occupied.any()):
            m.d.sync += settle.eq(SETTLE_CYCLES)
        with m.Elif(settle != 0):
            m.d.sync += settle.eq(settle - 1)

        jump = Signal()
        right_target = Signal(reset_less=True)
        full = Signal()
        completed = Signal()
        halt = running & ~redirected & kind.halt & second & drained
        m.d.comb += [
            complete.eq(
                ~redirected
                & (kind.single | second_go | (kind.dispatch & ~full) | (kind.endloop & loops.active))
            ),
            jump.eq(kind.endloop & ~loops.last),
            redirect.eq(complete & (skip | (jump != at.taken) | (jump & ~right_target))),
            loops.push.eq(kind.loop & second_go & ~skip),
            loops.i_pc.eq(at.pc),
            loops.i_end.eq(loop_end),
            loops.i_count.eq(loop_count),
            loops.advance.eq(~redirected & kind.endloop & loops.active),
        ]  # fmt: skip
        with m.If(move):
            m.d.sync += right_target.eq(
                (steps["decode"].target == loops.start[:index_bits]) & ~loops.push & ~(loops.advance & loops.last)
            )
        m.d.sync += [
            redirected.eq(redirect),
            next_pc.eq(Mux(jump, loops.start, Mux(skip, loop_end, at.pc) + ~kind.halt)),
            completed.eq(complete | halt),
            self.instruction.eq(completed),
            self.user_irq.eq(~redirected & kind.single & decoder.irq),
            self.fetch_wait.eq(running & ~valid["execute"] & ~redirected & ~present & ~fetch.complete),
        ]
        with m.If(completed):
            m.d.sync += execute_pc.eq(next_pc)
        with m.If(~redirected & kind.single & decoder.irq):
            m.d.sync += self.user_code.eq(word[_IRQ_CODE])

        # A loop whose endloop is not where its length says may run out of the buffer: nothing would ever arrive.
        empty = Signal(range(OVERRUN_CYCLES + 1))
        starved = fetch.full & ~fetch.complete & ~Cat(valid.values()).any()
        m.d.sync += empty.eq(Mux(starved, Mux(empty == OVERRUN_CYCLES, empty, empty + 1), 0))
        overrun = running & (empty == OVERRUN_CYCLES)

        # ---- ends: an instruction that cannot complete stays
        lost = (kind.loop & (loops.deep | loop_long)) | (kind.endloop & ~loops.active)
        faulty = valid["execute"] & ~redirected & (~decoder.legal | lost)
        with m.If(self.start):
            m.d.sync += running.eq(1)
        with m.If(halt):
            m.d.sync += [self.halted.eq(1), running.eq(0)]
        with m.If(faulty | overrun):
            m.d.sync += [self.fault.valid.eq(1), running.eq(0)]
        with m.If(~self.fault.valid):
            m.d.sync += [self.fault.cause.eq(Cause.LOOP), self.fault.info.eq(word[:32])]
            with m.If(overrun):
                m.d.sync += self.fault.info.eq(0)
            with m.Elif(at.beyond):
                m.d.sync += [self.fault.cause.eq(Cause.PC_RANGE), self.fault.info.eq(at.pc)]
            with m.Elif(resps["execute"][1]):
                m.d.sync += [
                    self.fault.cause.eq(Mux(resps["execute"][0], Cause.BUS_DECERR, Cause.BUS_SLVERR)),
                    self.fault.info.eq(self.prog_addr + (at.pc << 4)),
                ]
            with m.Elif(~decoder.legal):
                m.d.sync += self.fault.cause.eq(decoder.cause)
        m.d.comb += [self.fault.pc.eq(execute_pc), self.pc.eq(execute_pc)]

        # Loops run again from the buffer: nothing from the outermost active `loop` on may be overwritten.
        m.d.comb += [fetch.floor.eq(Mux(loops.active, loops.outermost, execute_pc)), fetch.pinned.eq(loops.active)]

        # ---- dispatch: two places in turn
        sums = Signal(EngineInstruction)
        m.d.comb += [
            sums.pc.eq(at.pc),
            sums.word.eq(word),
            sums.word[48:64].eq(word[48:64] + a[:16]),
            # One chain: a bit between the halves lets the carry through only where the slot has 32 bits.
            Cat(sums.word[64:80], Signal(name="carry"), sums.word[80:96]).eq(
                Cat(word[64:80], decoder.wide, word[80:96]) + Cat(b[:16], Const(0, 1), upper)
            ),
        ]
        places = [Signal(EngineInstruction, name=f"place{i}", reset_less=True) for i in range(SLOTS)]
        engines = [Signal(len(ENGINES), name=f"engine{i}") for i in range(SLOTS)]
        first, free = Signal(), Signal()
        offered = Mux(first, engines[1], engines[0])
        ready = Cat(port.ready for port in self.instr)
        dispatch, gone = Signal(), Signal()
        staying = Signal(SLOTS)
        m.d.comb += [dispatch.eq(~redirected & kind.dispatch & ~full), gone.eq((offered & ready).any())]
        for i, (place, engine) in enumerate(zip(places, engines, strict=True)):
            arrives = dispatch & (free == i)
            m.d.comb += staying[i].eq(arrives | (occupied[i] & ~(gone & (first == i))))
            # What is in a free place means nothing.
            with m.If(~occupied[i]):
                m.d.sync += [place.eq(sums), engine.eq(decoder.engine & arrives.replicate(len(ENGINES)))]
            with m.Elif(gone & (first == i)):
                m.d.sync += engine.eq(0)
        m.d.sync += [
            occupied.eq(staying),
            full.eq(staying.all()),
            first.eq(first ^ gone),
            free.eq(free ^ dispatch),
            self.queue_full.eq((offered & ~ready).any()),
        ]
        for i, port in enumerate(self.instr):
            m.d.comb += [port.valid.eq(offered[i]), port.payload.eq(Mux(first, places[1], places[0]))]
        return m
