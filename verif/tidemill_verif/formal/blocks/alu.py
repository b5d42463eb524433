"""The vector engine's arithmetic, `vector/alu.py`: operations, clamp and saturation on one lane; all lanes are alike.

`outside` is also in the clamp behind the requantizer in `vector/post.py`, `fold` in its lane reductions.
"""

from __future__ import annotations

from functools import partial

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed

from tidemill.config import PRESETS
from tidemill.isa import BY_MNEMONIC
from tidemill_hdl.vector.alu import VectorAlu, fold, narrow, outside, saturate, sign_extend
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "vector/alu.py"
_CONFIG = PRESETS["tiny"]
_SETTLED = 4
"""Cycles after reset in which the decoded instruction may not yet be that of the opcode."""


class OperationHarness(Harness):
    """Any operands, first and last of their window in every cycle; any opcode and limits, which stay."""

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = VectorAlu(_CONFIG)
        self.free_inputs(dut, but=["opcode", "low", "high", "first", "final", "a", "b"])
        low, high = self.constant("low", signed(8)), self.constant("high", signed(8))
        opcode = self.constant("opcode", 8)
        a, b = self.free("a", signed(32)), self.free("b", signed(32))
        self.assume(low <= high)
        m.d.comb += [dut.opcode.eq(opcode), dut.low.eq(low), dut.high.eq(high), dut.first.eq(1), dut.final.eq(1)]
        m.d.comb += [dut.a[0].eq(a), dut.b[0].eq(b)]
        known: Value = C(1, 1)
        valid: Value = dut.valid
        for i in range(_SETTLED + 2):
            known = self.past(known, f"known{i}")
        for i in range(dut.latency):
            a, b, valid = self.past(a, f"a{i}"), self.past(b, f"b{i}"), self.past(valid, f"valid{i}")
        result = dut.o[0]
        amount = b[:5]
        expected = {
            "vx.add": a + b,
            "vx.sub": a - b,
            "vx.min": Mux(a < b, a, b),
            "vx.max": Mux(a < b, b, a),
            "vx.shl": a << amount,
            "vx.shr": a >> amount,
            "vx.clamp": Mux(a < low, low, Mux(a > high, high, a)),
            "vx.maxpool": a,
        }
        self.prove("valid", dut.o_valid == valid)
        for name, value in expected.items():
            runs = known & valid & (opcode == BY_MNEMONIC[name].opcode)
            self.prove(name.removeprefix("vx."), ~runs | (result == value[:32].as_signed()))
        self.cover("clamps", known & valid & (opcode == BY_MNEMONIC["vx.clamp"].opcode) & (result == -7) & (a < -7))


class LimitHarness(Harness):
    """The functions that compare and limit values, on any value."""

    def build(self, m: Module) -> None:
        value, low, high = self.free("value", signed(32)), self.free("low", signed(8)), self.free("high", signed(8))
        self.assume(low <= high)
        where = outside(m, "value", value, low, high)
        below, above = self.past(value < low, "below"), self.past(value > high, "above")
        started = self.past(C(1, 1), "started")
        self.prove("outside", ~started | ((where.below == below) & (where.above == above)))
        offered, valid, first = self.free("offered", signed(32)), self.free("valid"), self.free("first")
        for name, compare, least in (("sum", 0, 0), ("least", 1, 1), ("most", 1, 0)):
            value = ~offered if compare else offered
            folded = fold(m, f"_{name}", valid, first, value, C(compare, 1), C(least, 1))
            lesser = offered < folded
            step = Mux(lesser == least, offered, folded) if compare else (folded + offered)[:32].as_signed()
            expected = self.past(Mux(valid, Mux(first, offered, step), folded), f"expected_{name}")
            self.prove(name, ~started | (folded == expected))
        row = self.free("row", 32 * _CONFIG.cols)
        lane = row[32:64].as_signed()
        byte = Signal(signed(8))
        m.d.comb += byte.eq(saturate(narrow(row, _CONFIG), _CONFIG)[8:16])
        self.prove("saturate", byte == Mux(lane > 127, 127, Mux(lane < -128, -128, lane)))
        extended = sign_extend(Cat(C(0, 8), byte, C(0, 16)), _CONFIG)[32:64].as_signed()
        self.prove("extend", extended == byte)
        self.cover("saturates", (byte == -128) & (lane < -1000))


PROOFS = (
    Proof(
        "operations",
        partial(OperationHarness),
        {
            "valid": "a result comes exactly `latency` cycles after its operands",
            "add": "vx.add: a + b modulo 2^32, all values",
            "sub": "vx.sub: a - b modulo 2^32",
            "min": "vx.min: the lesser, signed",
            "max": "vx.max: the greater, signed",
            "shl": "vx.shl: a << (b & 31) modulo 2^32",
            "shr": "vx.shr: a >> (b & 31), arithmetic",
            "clamp": "vx.clamp: a limited to low..high",
            "maxpool": "vx.maxpool: a row alone in its window is unchanged",
        },
        (
            Twin("valid", _FILE, "self.o_valid.eq(valid[-1] & final[-1])", "self.o_valid.eq(valid[-2] & final[-1])"),
            Twin("add", _FILE, "subtract.replicate(33), subtract, 33", "subtract.replicate(33), ~control.left, 33"),
            Twin("sub", _FILE, "subtract.replicate(33), subtract, 33", "subtract.replicate(33), control.left, 33"),
            Twin("min", _FILE, "less = total[32]", "less = total[31]"),
            Twin("max", _FILE, "less = total[32]", "less = total[31]"),
            Twin("shl", _FILE, "fill_in = ~control.left & a_in[31]", "fill_in = a_in[31]"),
            Twin("shr", _FILE, "fill_in = ~control.left & a_in[31]", "fill_in = a_in[30]"),
            Twin("clamp", _FILE, "Mux(self.byte, self.over, ~self.negative)", "self.byte & self.over"),
            Twin("maxpool", _FILE, "control.plain.eq(of(Term.A, Term.LIMITED))", "control.plain.eq(of(Term.LIMITED))"),
        ),
        {"clamps": "a value below the limit"},
        depth=10,
    ),
    Proof(
        "limits",
        partial(LimitHarness),
        {
            "outside": "`outside` tells values below low and above high",
            "sum": "`fold` adds modulo 2^32 from the value that comes first",
            "least": "`fold` gives the least value from the first",
            "most": "`fold` gives the greatest value from the first",
            "saturate": "`saturate` gives the nearest int8 of an int32",
            "extend": "`sign_extend` gives the int32 of an int8",
        },
        (
            Twin("outside", _FILE, "_same(value[7:])", "_same(value[8:])"),
            Twin("sum", _FILE, "folded & ~first.replicate(32)", "folded | first.replicate(32)"),
            Twin("least", _FILE, "(total[32] ^ least)", "total[32]"),
            Twin("most", _FILE, "(total[32] ^ least)", "~total[32]"),
            Twin("saturate", _FILE, "_same(word[7:20])", "_same(word[8:20])"),
            Twin("extend", _FILE, "byte[7].replicate(24)", "byte[6].replicate(24)"),
        ),
        {"saturates": "a value far below int8"},
        depth=3,
        quick=True,
    ),
)  # fmt: skip
