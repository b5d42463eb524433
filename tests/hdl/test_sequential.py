"""Parts of the sequential NPU alone: microassembler, arithmetic, products, the array's rows."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Elaboratable
from amaranth.sim import Simulator

from tidemill.config import preset
from tidemill.golden import matrix
from tidemill.isa import OPS, Field, extract
from tidemill_hdl.sequential.array import RowArray
from tidemill_hdl.sequential.assembler import CALL_DEPTH, Assembler, Flag, MicrocodeError, Op, Reg
from tidemill_hdl.sequential.datapath import Arithmetic, Product
from tidemill_hdl.sequential.microcode import TRAP, assemble

U32 = 0xFFFF_FFFF
ZERO, SCRATCH, RESULT = Reg(0), Reg(5), Reg(6)
WORDS = (Reg(1), Reg(2), Reg(3), Reg(4))


def assembler(pool: range = range(32, 40)) -> Assembler:
    return Assembler(WORDS, ZERO, SCRATCH, pool)


def signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def compute(op: Op, a: int, b: int) -> int:
    """What the arithmetic of `assembler.Op` is, for operands of 32 bits."""
    match op:
        case Op.ADD:
            value = a + b
        case Op.SUB:
            value = a - b
        case Op.AND:
            value = a & b
        case Op.ANDN:
            value = a & ~b
        case Op.OR:
            value = a | b
        case Op.XOR:
            value = a ^ b
        case Op.SLL:
            value = a << (b & 31)
        case Op.SRL:
            value = a >> (b & 31)
        case Op.SRA:
            value = signed(a) >> (b & 31)
        case _:
            raise AssertionError(op)
    return value & U32


def interpret(words: list[int], registers: dict[int, int]) -> None:
    """Straight microcode of nothing but arithmetic."""
    for word in words:
        a, b, d = registers[word & 0xFF], word >> 8 & 0xFF, word >> 16 & 0xFF
        registers[d] = compute(Op(word >> 24 & 0x1F), a, b if word >> 31 else registers[b])


@pytest.mark.parametrize("field", {(f.lo, f.width, f.signed): f for op in OPS for f in op.fields}.values(), ids=str)
def test_a_field_is_extracted_as_the_instruction_table_says(field: Field) -> None:
    u = assembler()
    u.extract(RESULT, field)
    code, rng = u.finish(), Random(field.lo)
    for word in (0, (1 << 128) - 1, *(rng.getrandbits(128) for _ in range(20))):
        registers = {1 + i: word >> 32 * i & U32 for i in range(4)}
        interpret(code, registers)
        assert registers[RESULT.number] == extract(word, field) & U32


def test_constants_share_registers_and_small_second_operands_are_literals() -> None:
    u = assembler()
    u.add(RESULT, 1000, -1)
    u.add(RESULT, 1000, 255)
    u.add(RESULT, 0, 256)
    assert sorted(u.constants.values()) == [256, 1000, U32]
    assert u.finish()[1] >> 31 == 1
    assert u.finish()[1] >> 8 & 0xFF == 255
    assert u.finish()[2] & 0xFF == ZERO.number


def test_labels_are_resolved_forwards_and_backwards() -> None:
    u = assembler()
    u.label("begin")
    u.when(Flag.ZERO, "end")
    u.go("begin")
    u.label("end")
    u.ret()
    assert [word & 0x7FF for word in u.finish()] == [2, 0, 0]
    assert u.labels == {"begin": 0, "end": 2}


def _twice(u: Assembler) -> None:
    u.label("a")
    u.label("a")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda u: u.go("nowhere"), "no label 'nowhere'"),
        (_twice, "label 'a' twice"),
        (lambda u: u.add(RESULT, RESULT, RESULT.x), "operand B cannot be indexed"),
        (lambda u: u.add(Reg(256), RESULT, 1), r"ADD: a register or an argument is not in 0\.\.255"),
        (
            lambda u: [u.add(RESULT, value, 0) for value in range(300, 309)],
            "no register is left for the constant 0x134",
        ),
        (lambda u: [u.ret() for _ in range(2049)], "2049 microinstructions; at most 2048"),
    ],
)
def test_impossible_microcode_is_refused(write: Callable[[Assembler], object], message: str) -> None:
    def build() -> None:
        u = assembler()
        write(u)
        u.finish()

    with pytest.raises(MicrocodeError, match=message):
        build()


def test_calls_are_no_deeper_than_the_sequencer_remembers() -> None:
    """Over the whole microcode: the deepest chain of calls from where no call is open. Errors never return."""
    code = assemble(preset("micro"))
    final = {code.labels[name] for name in ("idle", "bite", "fault.program", "fault.frontend", "fault.engine")}
    deepest = {0: 0, TRAP: 0}
    open_ = [0, TRAP]
    tables = {at for at, word in enumerate(code.words) if Op(word >> 24 & 0x1F) is Op.JUMP}
    assert tables

    def reach(at: int, depth: int) -> None:
        depth = 0 if at in final else depth
        if deepest.get(at, -1) < depth:
            deepest[at] = depth
            open_.append(at)

    while open_:
        at = open_.pop()
        op, target, depth = Op(code.words[at] >> 24 & 0x1F), code.words[at] & 0x7FF, deepest[at]
        assert depth <= CALL_DEPTH
        if op is Op.CALL:
            reach(target, depth + 1)
        elif op is Op.JUMP:
            entry = target
            while entry < len(code.words) and Op(code.words[entry] >> 24 & 0x1F) is Op.BR:
                reach(entry, depth)
                entry += 1
        elif op is Op.BR:
            reach(target, depth)
        always = op is Op.BR and not code.words[at] >> 16 & 0x1F
        if not always and op not in (Op.RET, Op.JUMP):
            reach(at + 1, depth)
    assert max(deepest.values()) > 1


def simulate(dut: Elaboratable, bench: Callable[[Any], Any], clocked: bool = True) -> None:
    simulator = Simulator(dut)
    if clocked:
        simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def operands(rng: Random) -> int:
    return rng.choice((0, 1, 31, 32, 0x7FFF_FFFF, 1 << 31, U32, rng.getrandbits(32), rng.getrandbits(6)))


def test_arithmetic_and_its_flags() -> None:
    dut, rng = Arithmetic(), Random(3)

    async def bench(ctx: Any) -> None:
        for op in (op for op in Op if op < Op.HIGH):
            for _ in range(60):
                a, b = operands(rng), operands(rng)
                for port, value in ((dut.op, op), (dut.a, a), (dut.b, b)):
                    ctx.set(port, value)
                expected = compute(op, a, b)
                assert ctx.get(dut.result) == expected, (op, a, b)
                assert ctx.get(dut.negative) == expected >> 31
                if op is Op.SUB:
                    assert ctx.get(dut.carry) == (a >= b)
                    assert ctx.get(dut.less) == (signed(a) < signed(b))
                if op is Op.ADD:
                    assert ctx.get(dut.carry) == (a + b) >> 32
        ctx.set(dut.op, Op.STORE)
        ctx.set(dut.a, 41)
        assert ctx.get(dut.result) == 42

    simulate(dut, bench, clocked=False)


def test_products() -> None:
    dut, rng = Product(), Random(4)

    async def bench(ctx: Any) -> None:
        for _ in range(40):
            a, b = operands(rng), operands(rng)
            for port, value in ((dut.a, a), (dut.b, b), (dut.start, 1)):
                ctx.set(port, value)
            await ctx.tick()
            ctx.set(dut.start, 0)
            cycles = 1
            while not ctx.get(dut.done) and cycles < 20:
                await ctx.tick()
                cycles += 1
            assert cycles == 9
            assert ctx.get(dut.high) << 32 | ctx.get(dut.low) == a * b

    simulate(dut, bench)


def test_rows_of_the_array_and_their_cycles() -> None:
    """Against numpy, beside a memory of 16 words; the weights are back in their places after each row."""
    dut, rng = RowArray(4), np.random.default_rng(5)

    async def bench(ctx: Any) -> None:
        content = rng.integers(0, 1 << 32, 16, dtype=np.uint32)

        async def step() -> None:
            en, write, addr, data = (ctx.get(port) for port in (dut.en, dut.write, dut.addr, dut.w_data))
            await ctx.tick()
            if en and write:
                content[addr] = data
            elif en:
                ctx.set(dut.r_data, int(content[addr]))

        for _ in range(6):
            weights = rng.integers(-128, 128, (4, 4), dtype=np.int8)
            for row in range(4):
                ctx.set(dut.value, int(weights[row].view(np.uint32)[0]))
                ctx.set(dut.load, 1 << row)
                await step()
            ctx.set(dut.load, 0)
            for accumulate in (0, 1, 1, 0):
                x = rng.integers(-128, 128, (1, 4), dtype=np.int8)
                before = content[8:12].view(np.int32).copy()
                ctx.set(dut.start, 1)
                ctx.set(dut.accumulate, accumulate)
                ctx.set(dut.acc, 8)
                await step()
                ctx.set(dut.start, 0)
                ctx.set(dut.r_data, int(x.view(np.uint32)[0, 0]))
                cycles = 0
                while ctx.get(dut.busy) and cycles < 20:
                    await step()
                    cycles += 1
                assert cycles == (9 if accumulate else 6)
                y = matrix.product(x, weights)[0] + (before if accumulate else 0)
                np.testing.assert_array_equal(content[8:12].view(np.int32), y.astype(np.int32))

    simulate(dut, bench)
