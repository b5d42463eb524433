"""The vector engine's arithmetic on whole rows: one table entry per operation, and the window fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.isa import OPS, Combine
from tidemill_hdl.interfaces import acc_row
from tidemill_hdl.prim.multiplier import Multiplier
from tidemill_hdl.vector.requantizer import add_with_carry


@dataclass(frozen=True)
class Terms:
    """What a lane offers to the operations, all registered one cycle after the operands.

    a, b : signed 32. total : signed 33, a + b or (entries with `subtract`) a - b. product : signed 32, of the low
    halves. shifted : signed 32, a shifted by b & 31, to the left for entries with `left`. limited : signed 32, a within
    the clamp's limits.
    """

    a: Value
    b: Value
    total: Value
    product: Value
    shifted: Value
    limited: Value

    @property
    def less(self) -> Value:
        """a < b, for entries with `subtract`."""
        return self.total[32]


@dataclass(frozen=True)
class Operation:
    """One ALU operation: its result from the terms of a lane and what the terms' shared hardware has to do."""

    result: Callable[[Terms], Value]
    subtract: bool = False
    left: bool = False


OPERATIONS: dict[str, Operation] = {
    "vx.add": Operation(lambda t: t.total),
    "vx.sub": Operation(lambda t: t.total, subtract=True),
    "vx.mul": Operation(lambda t: t.product),
    "vx.min": Operation(lambda t: Mux(t.less, t.a, t.b), subtract=True),
    "vx.max": Operation(lambda t: Mux(t.less, t.b, t.a), subtract=True),
    "vx.shl": Operation(lambda t: t.shifted, left=True),
    "vx.shr": Operation(lambda t: t.shifted),
    "vx.clamp": Operation(lambda t: t.limited),
    "vx.maxpool": Operation(lambda t: t.a),
}
"""Every ALU operation by its mnemonic; its window fold is `isa.Op.combine`."""

ALU_OPS = tuple(op for op in OPS if op.combine is not None)
"""The instructions the ALU executes."""


def limit(value: Value, low: Value, high: Value) -> Value:
    """`value` limited to low..high, low <= high; all signed."""
    return Mux(value > high, high, Mux(value < low, low, value))


class VectorAlu(wiring.Component):
    """Elementwise operation and window fold of rows, all lanes side by side.

    Parameters
    ----------
    config : Config

    Members
    -------
    opcode : In(8): the instruction, one of `ALU_OPS`; like `low` and `high` constant from two cycles before the first
        row to the last result.
    low, high : In(signed 8): limits of vx.clamp, low <= high.
    valid : In(1): an operand row pair is taken in this cycle.
    first, final : In(1): the pair opens, closes a window.
    a, b : In(acc_row)
    o_valid : Out(1): `latency` cycles after a pair with `final`.
    o : Out(acc_row): the folded row while `o_valid`.

    Throughput one pair a cycle; no backpressure. After reset empty.
    """

    latency = 4
    """Cycles from the operands that close a window to its row."""

    def __init__(self, config: Config) -> None:
        self.config = config
        row = acc_row(config)
        super().__init__(
            {
                "opcode": In(8),
                "low": In(signed(8)),
                "high": In(signed(8)),
                "valid": In(1),
                "first": In(1),
                "final": In(1),
                "a": In(row),
                "b": In(row),
                "o_valid": Out(1),
                "o": Out(row),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The instruction, decoded into registers that stay while its rows pass.
        selected = {op.mnemonic: Signal(name="is_" + op.mnemonic.removeprefix("vx.")) for op in ALU_OPS}
        subtract = Signal()
        left = Signal()
        fold = {combine: Signal(name=f"fold_{combine.value}") for combine in Combine}

        def any_of(condition: Callable[[str], bool]) -> Value:
            return Cat(self.opcode == op.opcode for op in ALU_OPS if condition(op.mnemonic)).any()

        m.d.sync += [selected[op.mnemonic].eq(self.opcode == op.opcode) for op in ALU_OPS]
        m.d.sync += [
            subtract.eq(any_of(lambda name: OPERATIONS[name].subtract)),
            left.eq(any_of(lambda name: OPERATIONS[name].left)),
        ]
        for combine, flag in fold.items():
            m.d.sync += flag.eq(Cat(self.opcode == op.opcode for op in ALU_OPS if op.combine is combine).any())

        valid = Signal(3)
        first = Signal(3)
        final = Signal(3)
        m.d.sync += [
            valid.eq(Cat(self.valid, valid)),
            first.eq(Cat(self.first, first)),
            final.eq(Cat(self.final, final)),
            self.o_valid.eq(valid[2] & final[2]),
        ]
        for lane in range(self.config.cols):
            result = self._operate(m, lane, selected, subtract, left)
            self._fold(m, lane, result, valid[2], first[2], fold)
        return m

    def _operate(self, m: Module, lane: int, selected: dict[str, Signal], subtract: Signal, left: Signal) -> Signal:
        """Three stages: the operands, the shared terms, then the operation's result, which is returned."""

        def register(name: str, shape: ShapeLike) -> Signal:
            return Signal(shape, name=f"{name}{lane}", reset_less=True)

        a_in, b_in = register("a_in", signed(32)), register("b_in", signed(32))
        a, b = register("a", signed(32)), register("b", signed(32))
        total = register("total", signed(33))
        m.submodules[f"multiplier{lane}"] = multiplier = Multiplier(16, 16, latency=2)
        m.d.comb += [
            multiplier.a.eq(self.a[lane][:16].as_signed()),
            multiplier.b.eq(self.b[lane][:16].as_signed()),
        ]
        below, above = register("below", 1), register("above", 1)
        # Left shifts are right shifts of the mirrored word.
        word = Mux(left, Cat(reversed(a_in)), Cat(a_in))
        fill, fine, half_shifted = register("fill", 1), register("fine", 3), register("half_shifted", 32)
        fill_in = ~left & a_in[31]
        for level in (16, 8):
            take = b_in[level.bit_length() - 1]
            word = Mux(take, Cat(word[level:], fill_in.replicate(level)), word)
        wide_a, wide_b = Cat(a_in, a_in[31]), Cat(b_in, b_in[31])
        m.d.sync += [
            a_in.eq(self.a[lane]),
            b_in.eq(self.b[lane]),
            a.eq(a_in),
            b.eq(b_in),
            total.eq(add_with_carry(wide_a, wide_b ^ subtract.replicate(33), subtract, 33)),
            half_shifted.eq(word),
            fill.eq(fill_in),
            fine.eq(b_in[:3]),
            below.eq(a_in < self.low),
            above.eq(a_in > self.high),
        ]
        word = half_shifted
        for level in (4, 2, 1):
            word = Mux(fine[level.bit_length() - 1], Cat(word[level:], fill.replicate(level)), word)
        terms = Terms(
            a=a,
            b=b,
            total=total,
            product=multiplier.p,
            shifted=Mux(left, Cat(reversed(word)), word),
            limited=Mux(above, self.high, Mux(below, self.low, a)),
        )
        result = Signal(signed(32), name=f"result{lane}", reset_less=True)
        # One AND-OR level per distinct expression instead of a priority chain.
        choice = 0
        for name, flag in selected.items():
            value = Signal(signed(32), name=f"{name.removeprefix('vx.')}{lane}")
            m.d.comb += value.eq(OPERATIONS[name].result(terms))
            choice = choice | (value & flag.replicate(32))
        m.d.sync += result.eq(choice)
        return result

    def _fold(
        self, m: Module, lane: int, value: Value, valid: Value, first: Value, fold: dict[Combine, Signal]
    ) -> None:
        """One stage: the running fold of the window in `o`."""
        folded = Signal(signed(32), name=f"folded{lane}", reset_less=True)
        less = Signal(name=f"less{lane}")
        keep = (fold[Combine.MAX] & less) | (fold[Combine.MIN] & ~less)
        m.d.comb += [less.eq(value < folded), self.o[lane].eq(folded)]
        with m.If(valid):
            with m.If(first):
                m.d.sync += folded.eq(value)
            with m.Elif(fold[Combine.SUM]):
                m.d.sync += folded.eq(folded + value)
            with m.Elif(~keep):
                m.d.sync += folded.eq(value)


def sign_extend(row: Value, config: Config) -> Value:
    """The lanes of a scratchpad row as an accumulator row's bits."""
    lanes = []
    for lane in range(config.cols):
        byte = Value.cast(row)[8 * lane : 8 * lane + 8]
        lanes += [byte, byte[7].replicate(24)]
    return Cat(*lanes)


def saturate(row: Value, config: Config) -> Value:
    """The lanes of an accumulator row, saturated to int8, as a scratchpad row's bits."""
    lanes = []
    for lane in range(config.cols):
        word = Value.cast(row)[32 * lane : 32 * lane + 32]
        fits = word[7:].all() | ~word[7:].any()
        lanes += [Mux(fits, word[:7], (~word[31]).replicate(7)), word[31]]
    return Cat(*lanes)
