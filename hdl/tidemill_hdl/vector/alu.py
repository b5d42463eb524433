"""The vector engine's arithmetic on whole rows: one table entry per operation, and the window fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amaranth.hdl import C, Cat, Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.isa import OPS, Combine
from tidemill_hdl.interfaces import acc_row
from tidemill_hdl.prim.multiplier import Multiplier
from tidemill_hdl.vector.requantizer import add_with_carry


@dataclass(frozen=True)
class Facts:
    """What the operations decide on, of one lane, two cycles after the operands.

    less : a < b, for entries with `subtract`. below, above : a is outside the clamp's limits.
    """

    less: Value
    below: Value
    above: Value


@dataclass(frozen=True)
class Operation:
    """One ALU operation: which term is its result under which condition (at most one holds), and what the terms'
    shared hardware has to do.

    Terms: a, b; total: a + b or, with `subtract`, a - b; product, of the low halves; low, high: the limits of the
    clamp; shifted: a shifted by b & 31, with `left` to the left.
    """

    take: dict[str, Callable[[Facts], Value]]
    subtract: bool = False
    left: bool = False


def _always(_: Facts) -> Value:
    return C(1, 1)


OPERATIONS: dict[str, Operation] = {
    "vx.add": Operation({"total": _always}),
    "vx.sub": Operation({"total": _always}, subtract=True),
    "vx.mul": Operation({"product": _always}),
    "vx.min": Operation({"a": lambda f: f.less, "b": lambda f: ~f.less}, subtract=True),
    "vx.max": Operation({"b": lambda f: f.less, "a": lambda f: ~f.less}, subtract=True),
    "vx.shl": Operation({"shifted": _always}, left=True),
    "vx.shr": Operation({"shifted": _always}),
    "vx.clamp": Operation({"low": lambda f: f.below, "high": lambda f: f.above, "a": lambda f: ~f.below & ~f.above}),
    "vx.maxpool": Operation({"a": _always}),
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

        negate = Signal()  # lanes whose fold compares enter it complemented
        m.d.sync += negate.eq(~fold[Combine.SUM])

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
            result = self._operate(m, lane, selected, subtract, left, negate)
            folded = Signal(signed(32), name=f"folded{lane}", reset_less=True)
            m.d.comb += self.o[lane].eq(folded)
            with m.If(valid[-1]):
                m.d.sync += folded.eq(fold_step(folded, result, first[-1], negate, fold[Combine.MIN]))
        return m

    def _operate(
        self, m: Module, lane: int, selected: dict[str, Signal], subtract: Value, left: Value, negate: Value
    ) -> Signal:
        """Four stages: the operands; the terms; the shifter's end beside the choice of a term; the result, which is
        returned, complemented if `negate`."""

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
        ]
        clamp = outside(m, f"a{lane}", a_in, self.low, self.high)

        word = half_shifted
        for level in (4, 2, 1):
            word = Mux(fine[level.bit_length() - 1], Cat(word[level:], fill.replicate(level)), word)
        shifted = register("shifted", 32)
        m.d.sync += shifted.eq(Mux(left, Cat(reversed(word)), word))
        facts = Facts(less=total[32], below=clamp.below, above=clamp.above)
        terms = {"a": a, "b": b, "total": total, "product": multiplier.p, "low": self.low, "high": self.high}
        # One AND-OR level over the terms instead of a priority chain.
        choice: Value = C(0, 32)
        for term, value in terms.items():
            chosen = Signal(name=f"takes_{term}{lane}")
            m.d.comb += chosen.eq(
                Cat(
                    flag & OPERATIONS[name].take[term](facts)
                    for name, flag in selected.items()
                    if term in OPERATIONS[name].take
                ).any()
            )
            wide = Signal(signed(32), name=f"{term}_term{lane}")
            m.d.comb += wide.eq(value)
            choice = choice | (wide & chosen.replicate(32))
        chosen_term = register("chosen", 32)
        result = register("result", signed(32))
        shifts = Cat(flag for name, flag in selected.items() if "shifted" in OPERATIONS[name].take).any()
        m.d.sync += [
            chosen_term.eq(choice),
            result.eq((chosen_term | (shifted & shifts.replicate(32))) ^ negate.replicate(32)),
        ]
        return result


def fold_step(folded: Value, value: Value, first: Value, compare: Value, least: Value) -> Value:
    """The next fold of 32 bits: `value` if `first`; else the sum, or with `compare` the lesser (`least`) or greater of
    both. One carry chain adds and compares, so with `compare` the value comes complemented."""
    total = add_with_carry(Cat(folded, folded[31]), Cat(value, value[31]), compare, 33)
    wins = total[32] ^ least
    # No multiplexers: Yosys would make the one that keeps the fold a clock enable, behind the whole chain.
    return (
        (total[:32] & (~first & ~compare).replicate(32))
        | (folded[:32] & (~first & compare & ~wins).replicate(32))
        | ((value[:32] ^ compare.replicate(32)) & (first | (compare & wins)).replicate(32))
    ).as_signed()


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
