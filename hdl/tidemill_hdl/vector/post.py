"""The serial path behind the ALU: requantization, table look-up and lane reductions, `requant_lanes` values a cycle."""

from __future__ import annotations

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill_hdl.interfaces import acc_row
from tidemill_hdl.memory.bank import RowMemory
from tidemill_hdl.prim.queue import Queue
from tidemill_hdl.vector.alu import fold, outside
from tidemill_hdl.vector.requantizer import Requantizer, add_with_carry

TABLE_ENTRIES = 256
_TREE_CYCLES = 2
"""Cycles of a level of the lane reduction: sum or difference; the choice."""


class PostKind(enum.Enum, shape=unsigned(3)):
    """What happens to the rows of an instruction: the first five are `isa.Post`, the others load tables."""

    NONE = 0
    RQ = 1
    LUT = 2
    LSUM = 3
    LMAX = 4
    LOAD_PARAM = 5
    LOAD_LUT = 6


PARAMETERS = data.StructLayout({"bias": signed(32), "multiplier": unsigned(31), "shift": signed(8)})
"""Requantization parameters of one lane."""


class PostPath(wiring.Component):
    """Takes rows apart into groups of `requant_lanes` lanes, works on them in a pipeline and puts rows together again.

    Parameters
    ----------
    config : Config

    Members
    -------
    kind : In(PostKind): like the members that follow constant from three cycles before the first row to the last
        result; no rows come while it is NONE.
    mode, preshift, zero_point : In: as of `Requantizer`.
    clamp : In(1): requantized values are limited to low..high.
    low, high : In(signed 8): low <= high.
    restart : In(1): a pulse before each instruction, when every result of the one before it is out: parameter rows and
        table entries are counted from here, and what is left in the pipeline is forgotten.
    i : In(stream of acc_row): `cols / requant_lanes` cycles a row (LOAD_LUT: `cols` cycles).
    o : Out(stream of acc_row): results in order; none while loading.
    loaded : Out(1): a pulse for each row of LOAD_PARAM (bias, multiplier, shift) and LOAD_LUT; its values are in use
        two cycles later.

    Reset empties the path and makes every parameter zero; the table keeps its content.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.lanes = config.requant_lanes
        self.groups = config.cols // config.requant_lanes
        row = acc_row(config)
        super().__init__(
            {
                "kind": In(PostKind),
                "mode": In(2),
                "preshift": In(5),
                "zero_point": In(signed(8)),
                "clamp": In(1),
                "low": In(signed(8)),
                "high": In(signed(8)),
                "restart": In(1),
                "i": In(stream.Signature(row)),
                "o": Out(stream.Signature(row)),
                "loaded": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, groups = self.lanes, self.groups
        tree_levels = (lanes - 1).bit_length()
        # Cycles from `value` to the lane results by kind.
        latency = {
            PostKind.RQ: Requantizer.latency + 1,
            PostKind.LUT: RowMemory.latency,
            PostKind.LSUM: _TREE_CYCLES * tree_levels + groups + 1,
            PostKind.LMAX: _TREE_CYCLES * tree_levels + groups + 1,
        }
        longest = max(latency.values())
        # Rows that may be on their way when the output queue reports that it has room.
        in_flight = -(-(longest + 4) // groups) + 2
        m.submodules.results = results = Queue(self.i.payload.shape(), in_flight + 6)
        wiring.connect(m, results.o, wiring.flipped(self.o))
        room = Signal()
        m.d.sync += room.eq(results.level <= 4)

        # ---- row to groups
        # The kind in one register each, so that no path decodes it.
        is_kind = {kind: Signal(name=f"is_{kind.name.lower()}") for kind in PostKind}
        m.d.sync += [flag.eq(self.kind == kind) for kind, flag in is_kind.items()]
        is_param, is_table = is_kind[PostKind.LOAD_PARAM], is_kind[PostKind.LOAD_LUT]
        group = Signal(range(max(groups, 2)))
        within = Signal(range(max(lanes, 2)))  # LOAD_LUT: entry of the group
        busy = Signal()  # in the middle of a row
        go = Signal()
        # Flags beside the counters: at the last group, entry of the group, step of the row.
        last_group = Signal(init=groups == 1)
        last_within = Signal(init=lanes == 1)
        ends = Signal(init=groups == 1)
        step = Signal()
        m.d.comb += [
            go.eq(self.i.valid & (busy | room)),
            step.eq(~is_table | last_within),
            self.i.ready.eq((busy | room) & ends),
        ]
        next_group, next_within = Signal.like(group), Signal.like(within)
        m.d.comb += [next_group.eq(group), next_within.eq(within)]
        with m.If(go):
            m.d.sync += busy.eq(~ends)
            with m.If(is_table):
                m.d.comb += next_within.eq(Mux(last_within, 0, within + 1))
            with m.If(step):
                m.d.comb += next_group.eq(Mux(last_group, 0, group + 1))
        ends_group, ends_within = next_group == groups - 1, next_within == lanes - 1
        m.d.sync += [
            group.eq(next_group),
            within.eq(next_within),
            last_group.eq(ends_group),
            last_within.eq(ends_within),
            ends.eq(ends_group & (~is_table | ends_within)),
        ]
        value = [Signal(signed(32), name=f"value{lane}", reset_less=True) for lane in range(lanes)]
        words = [self.i.payload[lane] for lane in range(self.config.cols)]
        for lane in range(lanes):
            m.d.sync += value[lane].eq(Array(words[lane::lanes])[group])
        value_valid = Signal()
        value_last = Signal()
        value_group = Signal(range(max(groups, 2)), reset_less=True)
        entry_lane = Signal(range(max(lanes, 2)), reset_less=True)
        m.d.sync += [
            value_valid.eq(go),
            value_last.eq(last_group),
            value_group.eq(group),
            entry_lane.eq(within),
            self.loaded.eq((is_param | is_table) & self.i.valid & self.i.ready),
        ]

        # ---- tables: parameters by group, look-up table by value
        param_row = Signal(range(3))
        entry = Signal(range(TABLE_ENTRIES))
        known = Signal()  # parameters are zero until the first vx.param after reset
        with m.If(is_param & self.loaded):
            m.d.sync += known.eq(1)
        with m.If(self.restart):
            m.d.sync += [param_row.eq(0), entry.eq(0)]
        with m.Elif(value_valid):
            m.d.sync += entry.eq(entry + 1)
            with m.If(value_last & (param_row != 2)):
                m.d.sync += param_row.eq(param_row + 1)
        # Registers of its own: the ALU has the same limits elsewhere.
        clamp = Signal()
        low = Signal(signed(8))
        high = Signal(signed(8))
        m.d.sync += [clamp.eq(self.clamp), low.eq(self.low), high.eq(self.high)]
        results_of: list[tuple[Value, Value]] = []  # requantized, looked up
        for lane in range(lanes):
            parameters = {}
            for index, (name, field) in enumerate(PARAMETERS):
                memory = Memory(shape=field.shape, depth=max(groups, 2), init=[])
                m.submodules[f"{name}{lane}"] = memory
                write, read = memory.write_port(), memory.read_port()
                m.d.comb += [
                    write.addr.eq(value_group),
                    write.data.eq(value[lane]),
                    write.en.eq(is_param & value_valid & (param_row == index)),
                    read.addr.eq(group),
                ]
                parameters[name] = Mux(known, read.data, 0)
            m.submodules[f"table{lane}"] = table = RowMemory(32, TABLE_ENTRIES)
            m.d.comb += [
                table.w_addr.eq(entry),
                table.w_data.eq(Array(value)[entry_lane]),
                table.w_en.eq(is_table & value_valid),
                table.r_addr.eq(value[lane][:8]),
                table.r_en.eq(1),
            ]

            m.submodules[f"requantizer{lane}"] = requantizer = Requantizer()
            scaled = Signal(signed(32), name=f"scaled{lane}", reset_less=True)
            m.d.comb += [
                requantizer.v.eq(value[lane]),
                requantizer.bias.eq(parameters["bias"]),
                requantizer.multiplier.eq(parameters["multiplier"]),
                requantizer.shift.eq(parameters["shift"]),
                requantizer.mode.eq(self.mode),
                requantizer.preshift.eq(self.preshift),
                requantizer.zero_point.eq(self.zero_point),
            ]
            m.d.sync += scaled.eq(requantizer.y)
            where = outside(m, f"scaled{lane}", requantizer.y, low, high)
            limited = Mux(clamp & where.above, high, Mux(clamp & where.below, low, scaled))
            results_of.append((limited, table.r_data))

        # ---- the groups on their way: tap n is n cycles behind `value`
        token = Signal()  # values of a load give no results, also not to the instruction after it
        m.d.comb += token.eq(value_valid & ~is_param & ~is_table)
        valid = [token]
        last = [value_last]
        for n in range(1, longest + 1):
            valid.append(Signal(name=f"valid_{n}"))
            last.append(Signal(name=f"last_{n}", reset_less=True))
            # A row leaves at its kind's tap; behind that tap it must not meet an instruction of a longer kind.
            m.d.sync += [valid[n].eq(valid[n - 1] & ~self.restart), last[n].eq(last[n - 1])]
        tap = _TREE_CYCLES * tree_levels
        reduced = self._reduce(m, value, is_kind[PostKind.LMAX], valid[tap], last[tap])

        # ---- groups to row
        out = [Signal(signed(32), name=f"out{lane}", reset_less=True) for lane in range(lanes)]
        out_valid = Signal()
        out_last = Signal()
        leaves = [(is_kind[kind], valid[cycles], last[cycles]) for kind, cycles in latency.items()]
        m.d.sync += [
            out_valid.eq(Cat(flag & there for flag, there, _ in leaves).any()),
            out_last.eq(Cat(flag & closing for flag, _, closing in leaves).any()),
        ]
        for lane in range(lanes):
            scaled, looked_up = results_of[lane]
            m.d.sync += out[lane].eq(Mux(is_kind[PostKind.RQ], scaled, Mux(is_kind[PostKind.LUT], looked_up, reduced)))
        collected = Signal(32 * lanes * max(groups - 1, 1), reset_less=True)
        row = Cat(collected, *out) if groups > 1 else Cat(*out)
        with m.If(out_valid):
            m.d.sync += collected.eq(row[32 * lanes :])
        m.d.comb += [
            results.i.valid.eq(out_valid & out_last),
            Value.cast(results.i.payload).eq(row),
        ]
        return m

    def _reduce(self, m: Module, value: list[Signal], maximum: Value, valid: Value, last: Value) -> Signal:
        """Sum or `maximum` over the lanes of a row: a tree over the group, then over the row's groups.

        `valid` and `last` belong to the tree's result. The reduction stays in the returned register from two cycles
        after the row's last group for as many cycles as a row has groups.
        """
        level, terms = 0, [Value.cast(word) for word in value]
        while len(terms) > 1:
            level += 1
            terms = [
                self._combine(m, f"{level}_{index}", *pair, maximum, complement=len(terms) == 2)
                for index, pair in enumerate(zip(terms[::2], terms[1::2], strict=True))
            ]
        if not level:
            terms = [(terms[0] ^ maximum.replicate(32))[:32]]
        opened = Signal()
        reduced = Signal(signed(32), reset_less=True)
        closed = Signal()
        total = fold(m, "_groups", valid, ~opened, terms[0], maximum, C(0, 1))
        m.d.sync += closed.eq(valid & last)
        with m.If(closed):
            m.d.sync += reduced.eq(total)
        with m.If(valid):
            m.d.sync += opened.eq(~last)
        with m.If(self.restart):
            m.d.sync += opened.eq(0)
        return reduced

    @staticmethod
    def _combine(m: Module, name: str, a: Value, b: Value, maximum: Value, *, complement: bool) -> Signal:
        """Sum or `maximum` of two values, `_TREE_CYCLES` later; with `complement` a maximum comes complemented."""
        kept = [Signal(32, name=f"pair{name}_{side}", reset_less=True) for side in "ab"]
        total = Signal(33, name=f"total{name}", reset_less=True)
        term = Signal(signed(32), name=f"tree{name}", reset_less=True)
        wide_a, wide_b = Cat(a, a[31]), Cat(b, b[31]) ^ maximum.replicate(33)
        m.d.sync += [word.eq(value) for word, value in zip(kept, (a, b), strict=True)]
        m.d.sync += [
            total.eq(add_with_carry(wide_a, wide_b, maximum, 33)),
            term.eq(
                Mux(
                    maximum,
                    Mux(total[32], kept[1], kept[0]) ^ C(complement, 1).replicate(32),
                    total[:32],
                )
            ),
        ]
        return term
