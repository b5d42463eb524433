"""The sequential NPU's engine: microcode, register file and everything that microinstructions move."""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill.config import Config
from tidemill_hdl.interfaces import Axi4LiteSlave, Axi4Master
from tidemill_hdl.sequential.array import LANES, RowArray
from tidemill_hdl.sequential.assembler import CALL_DEPTH, FILE_WORDS, TARGET_BITS, WORD_BITS, Flag, Op
from tidemill_hdl.sequential.bus import BusMaster
from tidemill_hdl.sequential.datapath import FIRST_WITHOUT_FLAGS, OP_BITS, Arithmetic, Product
from tidemill_hdl.sequential.host import Host
from tidemill_hdl.sequential.memory import LocalWords
from tidemill_hdl.sequential.microcode import TRAP, assemble
from tidemill_hdl.sequential.registers import CSR_BASE, MemoryMap

NO_BYPASS = "no_bypass"
"""Attribute of a memory that needs no logic for reads of a word in the very cycle of its write; flows that would add it
look for the attribute."""


class RegisterFile(wiring.Component):
    """256 words with two read ports and a write port: two copies of a block RAM.

    Members
    -------
    en : In(1): read; the words are there from the next cycle on, until the next read.
    a, b : In(8), r_a, r_b : Out(32)
    write : In(1), d : In(8), w_data : In(32)

    A word read in the very cycle of its write has no defined value.
    """

    def __init__(self, init: list[int]) -> None:
        self._init = init
        number, word = FILE_WORDS.bit_length() - 1, WORD_BITS
        super().__init__(
            {
                "en": In(1), "a": In(number), "b": In(number), "r_a": Out(word), "r_b": Out(word),
                "write": In(1), "d": In(number), "w_data": In(word),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for name, number, data in (("a", self.a, self.r_a), ("b", self.b, self.r_b)):
            ram = memory.Memory(shape=unsigned(WORD_BITS), depth=FILE_WORDS, init=self._init, attrs={NO_BYPASS: 1})
            m.submodules[f"copy_{name}"] = ram
            read, write = ram.read_port(), ram.write_port()
            m.d.comb += [
                read.en.eq(self.en),
                read.addr.eq(number),
                data.eq(read.data),
                write.en.eq(self.write),
                write.addr.eq(self.d),
                write.data.eq(self.w_data),
            ]
        return m


class SequentialNpu(wiring.Component):
    """The whole NPU as one microcoded sequencer (`docs/blocks/sequential.md`).

    Parameters
    ----------
    config : Config, with `sequential`.

    Members
    -------
    s_axil, m_axi, irq : as of `tidemill_hdl.top.Npu`.

    A microinstruction reads its registers in one cycle and is executed in the next, in which the next one is looked up;
    branches take one cycle; those that wait take more.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        super().__init__({"s_axil": Out(Axi4LiteSlave()), "m_axi": Out(Axi4Master(config)), "irq": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = MemoryMap.of(self.config).words
        m.submodules.memory = local = LocalWords(words)
        code = assemble(self.config, cold=hasattr(platform, "get_local_words"))
        m.submodules.code = rom = memory.Memory(
            shape=unsigned(WORD_BITS), depth=1 << TARGET_BITS, init=code.words, attrs={"rom_style": "block"}
        )
        look = rom.read_port()
        m.submodules.file = file = RegisterFile(code.registers)
        m.submodules.host = host = Host()
        m.submodules.bus = bus = BusMaster(self.config)
        m.submodules.array = array = RowArray(len(local.addr))
        m.submodules.arithmetic = arithmetic = Arithmetic()
        m.submodules.product = product = Product()
        connect(m, flipped(self.s_axil), host.s_axil)
        connect(m, bus.m_axi, flipped(self.m_axi))
        m.d.comb += self.irq.eq(host.irq)

        # ---- the microinstruction
        word = look.data
        argument, op = word[16:24], word[24 : 24 + OP_BITS]
        index = Signal(FILE_WORDS.bit_length() - 1)
        number_a = word[:8] | Mux(word[29], index, 0)
        number_d = argument | Mux(word[30], index, 0)

        def doing(*ops: Op) -> Value:
            return Cat(op == one for one in ops).any()

        branches = op[3:] == Op.BR >> 3
        waits = doing(Op.LOAD, Op.MUL, Op.TAKE, Op.GIVE, Op.RESPONSE)
        needs_memory = doing(Op.LOAD, Op.STORE, Op.ROW, Op.WEIGHTS)

        # ---- sequence
        pc, following = Signal(TARGET_BITS), Signal(TARGET_BITS)
        calls = [Signal(TARGET_BITS, name=f"call{i}", reset_less=True) for i in range(CALL_DEPTH)]
        advance = Signal()
        m.d.comb += [look.addr.eq(following), look.en.eq(advance), following.eq(pc + 1)]
        with m.If(advance):
            m.d.sync += pc.eq(following)
        # Whether the latest result is zero is only looked at in the next cycle.
        latest = Signal(WORD_BITS, reset_less=True)
        flags = Signal(3)
        tests = [
            Const(1, 1), latest == 0, *flags, bus.reading, bus.writing, bus.owed, bus.bad, bus.late, bus.decerr,
            host.start,
        ]  # fmt: skip
        assert len(tests) == len(Flag)
        tests += [Const(0, 1)] * (16 - len(tests))
        taken = Array(tests)[word[16:20]] ^ word[20]

        executing, waiting, complete = Signal(), Signal(), Signal()
        with m.FSM(name="step"):
            with m.State("RESET"):
                m.d.comb += [following.eq(0), advance.eq(1)]
                m.next = "READ"
            with m.State("READ"):
                with m.If(host.want | host.active):
                    m.d.comb += host.slot.eq(host.want & ~host.active)
                with m.Elif(host.trap):
                    m.d.comb += [host.trapped.eq(1), following.eq(TRAP), advance.eq(1)]
                with m.Elif(branches):
                    m.d.comb += advance.eq(1)
                    with m.Switch(op[:2]):
                        with m.Case(Op.BR & 3), m.If(taken):
                            m.d.comb += following.eq(word[:TARGET_BITS])
                        with m.Case(Op.CALL & 3):
                            m.d.comb += following.eq(word[:TARGET_BITS])
                            m.d.sync += [calls[0].eq(pc + 1), *(b.eq(a) for a, b in pairwise(calls))]
                        with m.Case(Op.RET & 3):
                            m.d.comb += following.eq(calls[0])
                            m.d.sync += [a.eq(b) for a, b in pairwise(calls)]
                        with m.Case(Op.JUMP & 3):
                            m.d.comb += following.eq(word[:TARGET_BITS] + index)
                with m.Else():
                    m.d.comb += file.en.eq(1)
                    m.next = "EXECUTE"
            with m.State("EXECUTE"), m.If(~(needs_memory & array.busy)):
                m.d.comb += executing.eq(1)
                with m.If(waits):
                    m.next = "WAIT"
                with m.Else():
                    m.d.comb += advance.eq(1)
                    m.next = "READ"
            with m.State("WAIT"):
                with m.If(host.active):
                    pass
                with m.Else():
                    m.d.comb += [waiting.eq(1), host.slot.eq(host.want & ~doing(Op.LOAD))]
                    with m.If(complete):
                        m.d.comb += advance.eq(1)
                        m.next = "READ"
        with m.If(host.slot):
            m.d.comb += file.en.eq(1)

        # ---- operands and results
        a, b = file.r_a, Signal(WORD_BITS)
        m.d.comb += [
            b.eq(Mux(word[31], word[8:16], file.r_b)),
            file.a.eq(Mux(host.slot, CSR_BASE | host.address, number_a)),
            file.b.eq(word[8:16]),
            host.r_data.eq(file.r_a),
            arithmetic.op.eq(op),
            arithmetic.a.eq(a),
            arithmetic.b.eq(b),
            arithmetic.high.eq(product.high),
            product.a.eq(a),
            product.b.eq(b),
            product.start.eq(executing & doing(Op.MUL)),
        ]
        with m.If(executing & (op < FIRST_WITHOUT_FLAGS)):
            m.d.sync += [
                latest.eq(arithmetic.result),
                flags.eq(Cat(arithmetic.negative, arithmetic.carry, arithmetic.less)),
            ]
        with m.If(executing & doing(Op.INDEX)):
            m.d.sync += index.eq(arithmetic.sum)

        writes_now = (op <= Op.HIGH) | doing(Op.STORE)
        writes_late = doing(Op.LOAD, Op.MUL, Op.TAKE)
        m.d.comb += [
            file.d.eq(number_d),
            # While it waits too: what is written last counts.
            file.write.eq((executing & writes_now) | (waiting & writes_late)),
            file.w_data.eq(arithmetic.result),
        ]
        with m.If(host.active):
            m.d.comb += [
                file.d.eq(CSR_BASE | host.address), file.write.eq(host.write), file.w_data.eq(host.w_data),
            ]  # fmt: skip
        with m.Elif(waiting):
            m.d.comb += file.w_data.eq(product.low)
            with m.If(doing(Op.LOAD)):
                m.d.comb += file.w_data.eq(local.r_data)
            with m.If(doing(Op.TAKE)):
                m.d.comb += file.w_data.eq(bus.beat)
        m.d.comb += complete.eq(1)
        with m.If(doing(Op.MUL)):
            m.d.comb += complete.eq(product.done)
        with m.If(doing(Op.TAKE, Op.GIVE, Op.RESPONSE)):
            m.d.comb += complete.eq(bus.done)

        # ---- units
        with m.If(executing & doing(Op.REPORT)):
            m.d.comb += host.changes.eq(argument)
        again = argument[1]
        m.d.comb += [
            bus.read.eq(executing & doing(Op.READ)),
            bus.write.eq(executing & doing(Op.WRITE)),
            bus.load.eq(argument[0]),
            bus.address.eq(a),
            bus.beats.eq(b),
            bus.give.eq(executing & doing(Op.GIVE) & ~again),
            bus.data.eq(a),
            bus.strobe.eq(argument[0]),
            bus.begin.eq(executing),
            bus.take.eq(waiting & doing(Op.TAKE)),
            bus.given.eq(waiting & doing(Op.GIVE)),
            bus.response.eq(waiting & doing(Op.RESPONSE)),
            array.value.eq(a),
            array.load.eq(Mux(executing & doing(Op.WEIGHTS), 1 << argument[: (LANES - 1).bit_length()], 0)),
            array.start.eq(executing & doing(Op.ROW)),
            array.accumulate.eq(argument[0]),
            array.acc.eq(b),
            array.r_data.eq(local.r_data),
        ]
        with m.If(array.busy):
            m.d.comb += [
                local.en.eq(array.en), local.write.eq(array.write), local.addr.eq(array.addr),
                local.w_data.eq(array.w_data),
            ]  # fmt: skip
        with m.Else():
            m.d.comb += [
                local.en.eq(executing & doing(Op.LOAD, Op.STORE, Op.ROW)),
                local.write.eq(doing(Op.STORE)),
                local.addr.eq(Mux(doing(Op.LOAD), arithmetic.sum, a)),
                local.w_data.eq(file.r_b),
            ]
        return m
