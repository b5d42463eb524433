"""The frontend's pipeline: buffer read, decode, registers, execute, dispatch."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import ENGINES, INSTRUCTION_BITS, SCALAR_REGISTERS
from tidemill_hdl.frontend.decoder import Decoder
from tidemill_hdl.frontend.fetch import Fetch
from tidemill_hdl.frontend.loops import LoopStack
from tidemill_hdl.interfaces import PC_BITS, BurstRead, EngineInstruction, Fault

SETTLE_CYCLES = 6
"""Cycles after a dispatch in which `idle` does not yet tell the truth."""

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
    One instruction a cycle, loop ends included (predicted); `loop` takes 2, `fence` and `halt` 2 or 9 from the last
    dispatch on; a mispredicted loop end (bodies under 5 instructions, two endloops in a row), a skipped loop 4 more.
    A register written by one instruction can be used by the next without a wait.
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
        words = {name: Signal(INSTRUCTION_BITS, name=f"{name}_bits", reset_less=True) for name in names[1:]}
        resps = {name: Signal(2, name=f"{name}_resp", reset_less=True) for name in names[1:]}

        running = Signal()
        move = Signal()
        complete = Signal()
        redirect = Signal()
        next_pc = Signal(PC_BITS)
        execute_pc = Signal(PC_BITS)
        m.d.comb += move.eq(~valid["execute"] | complete)

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
            m.d.sync += [words["word"].eq(fetch.r_data.word), resps["word"].eq(fetch.r_data.resp)]
            for before, name in (("word", "decode"), ("decode", "execute")):
                m.d.sync += [words[name].eq(words[before]), resps[name].eq(resps[before])]
        with m.If(redirect):
            m.d.sync += [valid[name].eq(0) for name in names]
            m.d.sync += read_pc.eq(next_pc)
        m.d.comb += [decoder.en.eq(move), decoder.word.eq(words["word"])]

        # ---- registers: read in the decode step, written from the execute step
        registers = [Signal(32, name=f"r{i}") for i in range(1, SCALAR_REGISTERS)]
        readable = Array([Const(0, 32), *registers])
        write = Signal()
        result = Signal(32)
        operand_a = Signal(32, reset_less=True)
        operand_b = Signal(32, reset_less=True)
        operand_c = Signal(16, reset_less=True)
        word = words["execute"]
        rd = word[_RD]
        with m.If(write):
            for i, register in enumerate(registers, 1):
                with m.If(rd == i):
                    m.d.sync += register.eq(result)

        def operand(select: Value, use: Value) -> Value:
            """The register's value, also when it is being written; zero if the instruction does not use it."""
            forward = write & (rd == select) & (rd != 0)
            return Mux(use, Mux(forward, result, readable[select]), 0)

        with m.If(move):
            m.d.sync += [
                operand_a.eq(operand(decoder.select_a, decoder.use_a)),
                operand_b.eq(
                    Mux(
                        decoder.immediate,
                        words["decode"][_IMMEDIATE],
                        operand(decoder.select_b, decoder.use_b),
                    )
                ),
                operand_c.eq(operand(decoder.select_c, decoder.use_c)),
            ]

        # ---- execute
        control = decoder.control
        at = steps["execute"]
        alu = control["addi"] | control["add"] | control["sub"] | control["slli"]
        m.d.comb += result.eq(
            Mux(
                control["slli"],
                operand_a << word[_AMOUNT],
                Mux(control["sub"], operand_a - operand_b, operand_a + operand_b),
            )
        )

        # Second cycle of loop, fence and halt: sums and conditions of the first are registers then.
        second = Signal()
        loop_count = Signal(16, reset_less=True)
        loop_end = Signal(PC_BITS, reset_less=True)
        loop_long = Signal(reset_less=True)
        settle = Signal(range(SETTLE_CYCLES + 1))
        drained = Signal()
        awaited = Mux(control["halt"], (1 << len(ENGINES)) - 1, word[_FENCE_ENGINES])
        out_valid = Signal(len(ENGINES))
        out_blocked = Signal()
        m.d.sync += [
            second.eq(valid["execute"] & ~complete),
            loop_count.eq(word[_LOOP_COUNT] + operand_a[:16]),
            loop_end.eq(at.pc + word[_LOOP_LENGTH]),
            loop_long.eq(word[_LOOP_LENGTH] >= self.config.ibuf_depth),
            drained.eq((settle == 0) & ~out_valid.any() & ((self.idle | ~awaited).all())),
        ]
        with m.If(out_valid.any()):
            m.d.sync += settle.eq(SETTLE_CYCLES)
        with m.Elif(settle != 0):
            m.d.sync += settle.eq(settle - 1)

        cause = Signal(4)
        info = Signal(32)
        with m.If(at.beyond):
            m.d.comb += [cause.eq(Cause.PC_RANGE), info.eq(at.pc)]
        with m.Elif(resps["execute"][1]):
            m.d.comb += [
                cause.eq(Mux(resps["execute"][0], Cause.BUS_DECERR, Cause.BUS_SLVERR)),
                info.eq(self.prog_addr + (at.pc << 4)),
            ]
        with m.Else():
            m.d.comb += [cause.eq(decoder.cause), info.eq(word[:32])]
            with m.If(decoder.cause == Cause.NONE):
                with m.If(control["loop"] & second & (loops.deep | loop_long)):
                    m.d.comb += cause.eq(Cause.LOOP)
                with m.If(control["endloop"] & ~loops.active):
                    m.d.comb += cause.eq(Cause.LOOP)

        fine = Signal()
        jump = Signal()
        skip = Signal()
        target = Signal(PC_BITS)
        m.d.comb += [
            fine.eq(valid["execute"] & running & (cause == Cause.NONE)),
            jump.eq(control["endloop"] & ~loops.last),
            skip.eq(control["loop"] & (loop_count == 0)),
            target.eq(Mux(jump, loops.start, Mux(skip, loop_end, at.pc) + 1)),
            complete.eq(
                fine
                & Mux(
                    control["loop"],
                    second,
                    Mux(control["fence"], second & drained, ~control["halt"] & ~(decoder.engine.any() & out_blocked)),
                )
            ),
            write.eq(fine & alu),
            redirect.eq(complete & (skip | (jump != at.taken) | (jump & (at.target != loops.start[:index_bits])))),
            next_pc.eq(target),
            loops.push.eq(complete & control["loop"] & ~skip),
            loops.i_pc.eq(at.pc),
            loops.i_end.eq(loop_end),
            loops.i_count.eq(loop_count),
            loops.advance.eq(complete & control["endloop"]),
        ]
        with m.If(complete):
            m.d.sync += execute_pc.eq(next_pc)
        halt = fine & control["halt"] & second & drained
        m.d.sync += [
            self.instruction.eq(complete | halt),
            self.user_irq.eq(complete & control["irq"]),
            self.fetch_wait.eq(running & ~valid["execute"] & ~present & ~fetch.complete),
            self.queue_full.eq(out_blocked),
        ]
        with m.If(complete & control["irq"]):
            m.d.sync += self.user_code.eq(word[_IRQ_CODE])

        # A loop whose endloop is not where its length says may run out of the buffer: nothing would ever arrive.
        empty = Signal(range(OVERRUN_CYCLES + 1))
        starved = fetch.full & ~fetch.complete & ~Cat(valid.values()).any()
        m.d.sync += empty.eq(Mux(starved, Mux(empty == OVERRUN_CYCLES, empty, empty + 1), 0))
        overrun = running & (empty == OVERRUN_CYCLES)

        with m.If(self.start):
            m.d.sync += running.eq(1)
        with m.If(halt):
            m.d.sync += [self.halted.eq(1), running.eq(0)]
        with m.If(running & valid["execute"] & (cause != Cause.NONE)):
            m.d.sync += [self.fault.cause.eq(cause), self.fault.info.eq(info), self.fault.valid.eq(1), running.eq(0)]
        with m.Elif(overrun):
            m.d.sync += [
                self.fault.cause.eq(Cause.LOOP), self.fault.info.eq(0), self.fault.valid.eq(1), running.eq(0),
            ]  # fmt: skip
        m.d.comb += [self.fault.pc.eq(execute_pc), self.pc.eq(execute_pc)]

        # Loops run again from the buffer: nothing from the outermost active `loop` on may be overwritten.
        m.d.comb += [fetch.floor.eq(Mux(loops.active, loops.outermost, execute_pc)), fetch.pinned.eq(loops.active)]

        # ---- dispatch: one register for all engines
        out_instr = Signal(EngineInstruction, reset_less=True)
        ready = Cat(port.ready for port in self.instr)
        m.d.comb += out_blocked.eq((out_valid & ~ready).any())
        for i, port in enumerate(self.instr):
            m.d.comb += [port.valid.eq(out_valid[i]), port.payload.eq(out_instr)]
        with m.If(~out_blocked):
            m.d.sync += [
                out_valid.eq(Mux(complete, decoder.engine, 0)),
                out_instr.pc.eq(at.pc),
                out_instr.word.eq(word),
                out_instr.word[48:64].eq(word[48:64] + operand_a[:16]),
                out_instr.word[64:96].eq(
                    Mux(
                        decoder.wide,
                        word[64:96] + operand_b,
                        Cat((word[64:80] + operand_b[:16])[:16], (word[80:96] + operand_c)[:16]),
                    )
                ),
            ]
        return m
