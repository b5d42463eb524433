"""The vector engine's arithmetic on whole rows: one table entry per operation, and the window fold."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.isa import OPS, Combine
from tidemill_hdl.interfaces import acc_row
from tidemill_hdl.prim.multiplier import Multiplier
from tidemill_hdl.vector.requantizer import add_with_carry


class Term(enum.Enum):
    """What an operation's result is; `LIMITED`: a within the limits of the clamp, `TOTAL`: a + b or, with `subtract`,
    a - b, `PRODUCT`: of the low halves, `SHIFTED`: a by b & 31, with `left` to the left."""

    A = "a"
    LIMITED = "limited"
    TOTAL = "total"
    PRODUCT = "product"
    LESSER = "lesser"
    GREATER = "greater"
    SHIFTED = "shifted"


@dataclass(frozen=True)
class Operation:
    """One ALU operation: its result, and what the terms' shared hardware has to do (LESSER, GREATER: `subtract`)."""

    term: Term
    subtract: bool = False
    left: bool = False


OPERATIONS: dict[str, Operation] = {
    "vx.add": Operation(Term.TOTAL),
    "vx.sub": Operation(Term.TOTAL, subtract=True),
    "vx.mul": Operation(Term.PRODUCT),
    "vx.min": Operation(Term.LESSER, subtract=True),
    "vx.max": Operation(Term.GREATER, subtract=True),
    "vx.shl": Operation(Term.SHIFTED, left=True),
    "vx.shr": Operation(Term.SHIFTED),
    "vx.clamp": Operation(Term.LIMITED),
    "vx.maxpool": Operation(Term.A),
}
"""Every ALU operation by its mnemonic; its window fold is `isa.Op.combine`."""

ALU_OPS = tuple(op for op in OPS if op.combine is not None)
"""The instructions the ALU executes."""


@dataclass(frozen=True)
class Outside:
    """Where a signed value is in relation to limits of 8 bits, in registers of the cycle after it: so that neither a
    whole comparison nor its fan-out is on one path."""

    byte: Value
    negative: Value
    under: Value
    over: Value

    @property
    def below(self) -> Value:
        """value < low."""
        return Mux(self.byte, self.under, self.negative)

    @property
    def above(self) -> Value:
        """value > high."""
        return Mux(self.byte, self.over, ~self.negative)


def outside(m: Module, name: str, value: Value, low: Value, high: Value) -> Outside:
    """Compare `value`, 32 bits, with low..high, both of 8 bits, low <= high; all signed."""
    flags = [Signal(name=f"{flag}_{name}", reset_less=True) for flag in ("byte", "negative", "under", "over")]
    byte = value[:8].as_signed()
    m.d.sync += [
        flag.eq(state)
        for flag, state in zip(flags, (_same(value[7:]), value[31], byte < low, byte > high), strict=True)
    ]
    return Outside(*flags)


@dataclass(frozen=True)
class _Control:
    """The instruction, decoded: registers. What `Operation` says of it; the term, `left` and `right` for a shift,
    `plain` for a or its limits; how windows fold."""

    subtract: Signal
    left: Signal
    right: Signal
    limit: Signal
    plain: Signal
    lesser: Signal
    greater: Signal
    total: Signal
    product: Signal
    compare: Signal
    least: Signal


class VectorAlu(wiring.Component):
    """Elementwise operation and window fold of rows, all lanes side by side.

    Parameters
    ----------
    config : Config

    Members
    -------
    opcode : In(8): the instruction, one of `ALU_OPS`; like `low` and `high` constant from three cycles before the
        first row to the last result.
    low, high : In(signed 8): limits of vx.clamp, low <= high.
    valid : In(1): an operand row pair is taken in this cycle.
    first, final : In(1): the pair opens, closes a window.
    a, b : In(acc_row)
    o_valid : Out(1): `latency` cycles after a pair with `final`.
    o : Out(acc_row): the folded row while `o_valid`.

    Throughput one pair a cycle; no backpressure. After reset empty.
    """

    latency = 5
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
        # The instruction, decoded in two steps into registers that stay while its rows pass.
        selected = {op.mnemonic: Signal(name="is_" + op.mnemonic.removeprefix("vx.")) for op in ALU_OPS}
        m.d.sync += [selected[op.mnemonic].eq(self.opcode == op.opcode) for op in ALU_OPS]
        control = _Control(*(Signal(name=name) for name in _Control.__annotations__))

        def of(*terms: Term) -> Value:
            return Cat(flag for name, flag in selected.items() if OPERATIONS[name].term in terms).any()

        def among(condition: Callable[[Operation], bool]) -> Value:
            return Cat(flag for name, flag in selected.items() if condition(OPERATIONS[name])).any()

        def folds(combine: Combine) -> Value:
            return Cat(selected[op.mnemonic] for op in ALU_OPS if op.combine is combine).any()

        m.d.sync += [
            control.subtract.eq(among(lambda operation: operation.subtract)),
            control.left.eq(among(lambda operation: operation.left)),
            control.right.eq(among(lambda operation: operation.term is Term.SHIFTED and not operation.left)),
            control.limit.eq(of(Term.LIMITED)),
            control.plain.eq(of(Term.A, Term.LIMITED)),
            control.lesser.eq(of(Term.LESSER)),
            control.greater.eq(of(Term.GREATER)),
            control.total.eq(of(Term.TOTAL)),
            control.product.eq(of(Term.PRODUCT)),
            control.compare.eq(~folds(Combine.SUM)),
            control.least.eq(folds(Combine.MIN)),
        ]

        valid = Signal(4)
        first = Signal(4)
        final = Signal(4)
        m.d.sync += [
            valid.eq(Cat(self.valid, valid)),
            first.eq(Cat(self.first, first)),
            final.eq(Cat(self.final, final)),
            self.o_valid.eq(valid[-1] & final[-1]),
        ]
        for lane in range(self.config.cols):
            result = self._operate(m, lane, control)
            folded = fold(m, str(lane), valid[-1], first[-1], result, control.compare, control.least)
            m.d.comb += self.o[lane].eq(folded)
        return m

    def _operate(self, m: Module, lane: int, control: _Control) -> Signal:
        """Four stages: the operands; the terms; the choice among them begun; the result, which is returned,
        complemented if `compare`."""

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
        # Left shifts are right shifts of the mirrored word.
        word = Mux(control.left, Cat(reversed(a_in)), Cat(a_in))
        fill, fine, half_shifted = register("fill", 1), register("fine", 3), register("half_shifted", 32)
        fill_in = ~control.left & a_in[31]
        for level in (16, 8):
            take = b_in[level.bit_length() - 1]
            word = Mux(take, Cat(word[level:], fill_in.replicate(level)), word)
        wide_a, wide_b = Cat(a_in, a_in[31]), Cat(b_in, b_in[31])
        subtract = control.subtract
        m.d.sync += [
            a_in.eq(self.a[lane]),
            b_in.eq(self.b[lane]),
            a.eq(a_in),
            b.eq(b_in),
            total.eq(add_with_carry(wide_a, wide_b ^ subtract.replicate(33), subtract, 33)),
            half_shifted.eq(word),
            fill.eq(fill_in),
            fine.eq(b_in[:3]),
        ]
        clamp = outside(m, f"a{lane}", a_in, self.low, self.high)

        # What is one instruction's only is ready here; of a and b one is taken in the next stage.
        word = half_shifted
        for level in (4, 2, 1):
            word = Mux(fine[level.bit_length() - 1], Cat(word[level:], fill.replicate(level)), word)
        shifted, number = register("shifted", 32), register("number", 32)
        limited, other = register("limited", signed(32)), register("other", signed(32))
        takes_limited, takes_other = register("takes_limited", 1), register("takes_other", 1)
        below, above = Signal(name=f"below{lane}"), Signal(name=f"above{lane}")
        m.d.comb += [below.eq(control.limit & clamp.below), above.eq(control.limit & clamp.above)]
        less = total[32]
        m.d.sync += [
            shifted.eq((Cat(reversed(word)) & control.left.replicate(32)) | (Cat(word) & control.right.replicate(32))),
            number.eq((total[:32] & control.total.replicate(32)) | (multiplier.p & control.product.replicate(32))),
            limited.eq(Mux(below, self.low, Mux(above, self.high, a))),
            other.eq(b),
            takes_limited.eq(control.plain | (control.lesser & less) | (control.greater & ~less)),
            takes_other.eq((control.lesser & ~less) | (control.greater & less)),
        ]

        result = register("result", signed(32))
        chosen = (Cat(limited) & takes_limited.replicate(32)) | (Cat(other) & takes_other.replicate(32))
        m.d.sync += result.eq((chosen | number | shifted) ^ control.compare.replicate(32))
        return result


def fold(m: Module, name: str, valid: Value, first: Value, value: Value, compare: Value, least: Value) -> Value:
    """The fold, 32 bits, of the values that came with `valid` since the one with `first`, from the cycle after: their
    sum, or with `compare` the least (`least`) or greatest. With `compare` the values come complemented.

    One carry chain adds and compares. What a comparison decides is a register, and the choice is made at the entry of
    the next step: nothing wide waits for the whole chain.
    """
    kept = Signal(32, name=f"kept{name}", reset_less=True)
    offered = Signal(32, name=f"offered{name}", reset_less=True)
    wins = Signal(name=f"wins{name}", reset_less=True)
    folded = (kept & ~wins.replicate(32)) | (offered & wins.replicate(32))
    before = folded & ~first.replicate(32)
    total = add_with_carry(Cat(before, before[31]), Cat(value, value[31]), compare, 33)
    with m.If(valid):
        m.d.sync += [
            kept.eq((total[:32] & ~compare.replicate(32)) | (before & compare.replicate(32))),
            offered.eq(Cat(value) ^ compare.replicate(32)),
            wins.eq(compare & (first | (total[32] ^ least))),
        ]
    return folded.as_signed()


def sign_extend(row: Value, config: Config) -> Value:
    """The lanes of a scratchpad row as an accumulator row's bits."""
    lanes = []
    for lane in range(config.cols):
        byte = Value.cast(row)[8 * lane : 8 * lane + 8]
        lanes += [byte, byte[7].replicate(24)]
    return Cat(*lanes)


def _same(bits: Value) -> Value:
    """Whether all of `bits` are equal."""
    return bits.all() | ~bits.any()


SATURATION = data.StructLayout({"low": 7, "negative": 1, "small": 1, "smaller": 1})
"""A lane on its way to int8: the bits that stay if it fits, its sign, and whether its upper bits say that it fits."""


def narrow(row: Value, config: Config) -> Value:
    """The lanes of an accumulator row, each as `SATURATION`."""
    words = [Value.cast(row)[32 * lane : 32 * lane + 32] for lane in range(config.cols)]
    return Cat(Cat(word[:7], word[31], _same(word[7:20]), _same(word[19:])) for word in words)


def saturate(row: Value, config: Config) -> Value:
    """The lanes of `narrow`, saturated to int8, as a scratchpad row's bits."""
    lanes = []
    for lane in range(config.cols):
        word = data.View(data.ArrayLayout(SATURATION, config.cols), row)[lane]
        fits = word.small & word.smaller
        lanes += [Mux(fits, word.low, (~word.negative).replicate(7)), word.negative]
    return Cat(*lanes)
