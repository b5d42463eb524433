"""Vector engine: operations, window folds, what follows them."""

from __future__ import annotations

from tidemill.config import Config
from tidemill.csr import Cause, Unit
from tidemill.isa import BY_MNEMONIC, OPS, Combine, Post
from tidemill_hdl.sequential import registers as r
from tidemill_hdl.sequential.assembler import Assembler, Flag, Reg
from tidemill_hdl.sequential.microcode.control import fault
from tidemill_hdl.sequential.microcode.dma import space

_OPERATIONS = tuple(op for op in OPS if op.combine is not None)
_FOLDS = tuple(Combine)
_ADD = _OPERATIONS[0]
"""Any of the operations: all have the same fields."""
_LOW, _HIGH = r.LINE, r.BEATS_LEFT
"""What a result for the scratchpad is limited to."""
_ROWS = r.csr_register("VECTOR_ROWS")


def emit(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    """`vx.param`, `vx.lut` and the operations."""
    _parameters(u, config, memory)
    _walk(u, config, memory)
    _operations(u)
    _folds(u)
    _after(u, memory)
    _result(u)


def _parameters(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    def rows(name: str, count: int) -> None:
        """T0 = first word of the row in T1, after checking `count` rows from the source on; T1 steps."""
        u.label(f"do.{name}")
        u.srl(r.T2, r.I1, 16)
        space(u, config, memory, r.T2, r.T1, r.A_DEPTH, r.A_BASE)
        u.mov(r.A_K0, r.T1)
        u.mov(r.SCRATCH, r.A_BASE)
        u.when(Flag.ZERO, "vector.a")
        u.mov(r.T2, count)
        u.label(f"{name}.check")
        u.sub(r.SCRATCH, r.A_K0, r.A_DEPTH)
        u.when(Flag.CARRY, "vector.a")
        u.add(r.A_K0, r.A_K0, 1)
        u.sub(r.T2, r.T2, 1)
        u.unless(Flag.ZERO, f"{name}.check")
        u.add(_ROWS, _ROWS, count)
        u.sll(r.T0, r.T1, 2)
        u.add(r.T0, r.T0, r.A_BASE)

    rows("vx.param", 3)
    for at, register in enumerate((*r.BIAS, *r.MULTIPLIER, *r.SHIFT)):
        u.load(register, r.T0, at)
    # What counts of them.
    for multiplier, shift in zip(r.MULTIPLIER, r.SHIFT, strict=True):
        u.and_(multiplier, multiplier, 0x7FFF_FFFF)
        u.sll(shift, shift, 24)
        u.sra(shift, shift, 24)
    u.go("complete")

    rows("vx.lut", r.TABLE_WORDS // config.cols)
    u.mov(r.T1, memory.table)
    u.mov(r.T2, r.TABLE_WORDS)
    u.label("lut.copy")
    u.load(r.T3, r.T0)
    u.store(r.T1, r.T3)
    u.add(r.T0, r.T0, 1)
    u.sub(r.T2, r.T2, 1)
    u.unless(Flag.ZERO, "lut.copy")
    u.go("complete")


def _setting(mnemonic: str, name: str) -> Reg:
    return r.SETTING[mnemonic, name]


def _walk(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    for number, op in enumerate(_OPERATIONS):
        assert op.combine is not None
        u.label(f"do.{op.mnemonic}")
        u.mov(r.OPERATION, number)
        u.mov(r.FOLD, _FOLDS.index(op.combine))
        u.go("vector")

    u.label("vector")
    u.srl(r.T2, r.I1, 16)
    space(u, config, memory, r.T2, r.D_N1, r.D_DEPTH, r.D_BASE)
    u.and_(r.T2, r.I2, 0xFFFF)
    space(u, config, memory, r.T2, r.A_N1, r.A_DEPTH, r.A_BASE)
    u.extract(r.POST, _ADD.field("post"))
    u.mov(_LOW, -128)
    u.mov(_HIGH, 127)
    u.sub(r.SCRATCH, r.POST, int(Post.RQ))
    u.unless(Flag.ZERO, "vector.limits")
    u.mov(_LOW, _setting("vx.quant", "qmin"))
    u.mov(_HIGH, _setting("vx.quant", "qmax"))
    u.label("vector.limits")
    u.extract(r.T0, _ADD.field("b_imm"))
    u.unless(Flag.ZERO, "vector.number")
    u.srl(r.T2, r.I2, 16)
    space(u, config, memory, r.T2, r.B_N1, r.B_DEPTH, r.B_BASE)
    u.go("vector.begin")
    u.label("vector.number")
    u.mov(r.B_DEPTH, 0)
    for lane in r.B:
        u.sra(lane, r.I2, 16)
    u.label("vector.begin")
    u.mov(r.N1, _setting("vx.dims", "n1"))

    u.label("vector.n1")
    for inner, outer in ((r.A_N0, r.A_N1), (r.B_N0, r.B_N1), (r.D_N0, r.D_N1)):
        u.mov(inner, outer)
    u.mov(r.N0, _setting("vx.dims", "n0"))
    u.label("vector.n0")
    u.mov(r.FIRST, 1)
    u.mov(r.A_K1, r.A_N0)
    u.mov(r.B_K1, r.B_N0)
    u.mov(r.K1, _setting("vx.dims", "k1"))
    u.label("vector.k1")
    u.mov(r.A_K0, r.A_K1)
    u.mov(r.B_K0, r.B_K1)
    u.mov(r.K0, _setting("vx.dims", "k0"))

    u.label("vector.k0")
    _operand(u, "vector.a", r.A_K0, r.A_DEPTH, r.A_BASE, r.A)
    u.mov(r.SCRATCH, r.B_DEPTH)
    u.when(Flag.ZERO, "vector.operate")
    _operand(u, "vector.b", r.B_K0, r.B_DEPTH, r.B_BASE, r.B)
    u.label("vector.operate")
    u.add(_ROWS, _ROWS, 1)
    u.index(r.OPERATION)
    u.jump("operations")

    u.label("vector.folded")
    u.add(r.A_K0, r.A_K0, _setting("vx.astride", "k0"))
    u.add(r.B_K0, r.B_K0, _setting("vx.bstride", "k0"))
    u.sub(r.K0, r.K0, 1)
    u.unless(Flag.ZERO, "vector.k0")
    u.add(r.A_K1, r.A_K1, _setting("vx.astride", "k1"))
    u.add(r.B_K1, r.B_K1, _setting("vx.bstride", "k1"))
    u.sub(r.K1, r.K1, 1)
    u.unless(Flag.ZERO, "vector.k1")

    u.sub(r.SCRATCH, r.D_N0, r.D_DEPTH)
    u.when(Flag.CARRY, "vector.d")
    u.index(r.POST)
    u.jump("posts")

    u.label("vector.written")
    u.add(r.A_N0, r.A_N0, _setting("vx.astride", "n0"))
    u.add(r.B_N0, r.B_N0, _setting("vx.bstride", "n0"))
    u.add(r.D_N0, r.D_N0, _setting("vx.dims", "d0"))
    u.sub(r.N0, r.N0, 1)
    u.unless(Flag.ZERO, "vector.n0")
    u.add(r.A_N1, r.A_N1, _setting("vx.astride", "n1"))
    u.add(r.B_N1, r.B_N1, _setting("vx.bstride", "n1"))
    u.add(r.D_N1, r.D_N1, _setting("vx.dims", "d1"))
    u.sub(r.N1, r.N1, 1)
    u.unless(Flag.ZERO, "vector.n1")
    u.go("complete")

    for name, row in (("vector.a", r.A_K0), ("vector.b", r.B_K0), ("vector.d", r.D_N0)):
        u.label(name)
        fault(u, Cause.LOCAL_RANGE, Unit.VECTOR, row)


def _operand(u: Assembler, bad: str, row: Reg, depth: Reg, base: Reg, lanes: list[Reg]) -> None:
    """The lanes of an operand's row, as int32."""
    wide, end = u.fresh("operand.wide"), u.fresh("operand.end")
    u.sub(r.SCRATCH, row, depth)
    u.when(Flag.CARRY, bad)
    u.mov(r.SCRATCH, base)
    u.unless(Flag.ZERO, wide)
    u.load(r.T0, row)
    for number, lane in enumerate(lanes):
        source = r.T0
        if number + 1 < len(lanes):
            u.sll(lane, r.T0, 24 - 8 * number)
            source = lane
        u.sra(lane, source, 24)
    u.go(end)
    u.label(wide)
    u.sll(r.T0, row, 2)
    u.add(r.T0, r.T0, base)
    for number, lane in enumerate(lanes):
        u.load(lane, r.T0, number)
    u.label(end)


def _smaller(u: Assembler, d: Reg, other: Reg) -> None:
    """d = the smaller of both, signed."""
    kept = u.fresh("smaller")
    u.sub(r.SCRATCH, other, d)
    u.unless(Flag.LESS, kept)
    u.mov(d, other)
    u.label(kept)


def _larger(u: Assembler, d: Reg, other: Reg) -> None:
    """d = the larger of both, signed."""
    kept = u.fresh("larger")
    u.sub(r.SCRATCH, d, other)
    u.unless(Flag.LESS, kept)
    u.mov(d, other)
    u.label(kept)


def _operations(u: Assembler) -> None:
    u.label("operations")
    for op in _OPERATIONS:
        u.go("fold" if op.mnemonic == "vx.maxpool" else f"operation.{op.mnemonic}")
    arithmetic = {"vx.add": u.add, "vx.sub": u.sub, "vx.shl": u.sll, "vx.shr": u.sra}
    for op in _OPERATIONS:
        if op.mnemonic == "vx.maxpool":
            continue
        u.label(f"operation.{op.mnemonic}")
        for a, b in zip(r.A, r.B, strict=True):
            match op.mnemonic:
                case "vx.min":
                    _smaller(u, a, b)
                case "vx.max":
                    _larger(u, a, b)
                case "vx.clamp":
                    _larger(u, a, _setting("vx.quant", "qmin"))
                    _smaller(u, a, _setting("vx.quant", "qmax"))
                case "vx.mul":
                    for factor, lane in ((r.T0, a), (r.T1, b)):
                        u.sll(factor, lane, 16)
                        u.sra(factor, factor, 16)
                    u.mul(a, r.T0, r.T1)
                case _:
                    arithmetic[op.mnemonic](a, a, b)
        u.go("fold")


def _folds(u: Assembler) -> None:
    u.label("fold")
    u.mov(r.SCRATCH, r.FIRST)
    u.when(Flag.ZERO, "fold.more")
    u.mov(r.FIRST, 0)
    for v, a in zip(r.V, r.A, strict=True):
        u.mov(v, a)
    u.go("vector.folded")
    u.label("fold.more")
    u.index(r.FOLD)
    u.jump("folds")
    u.label("folds")
    for fold in _FOLDS:
        u.go(f"fold.{fold.value}")
    for fold in _FOLDS:
        u.label(f"fold.{fold.value}")
        for v, a in zip(r.V, r.A, strict=True):
            match fold:
                case Combine.SUM:
                    u.add(v, v, a)
                case Combine.MAX:
                    _larger(u, v, a)
                case Combine.MIN:
                    _smaller(u, v, a)
        u.go("vector.folded")


def _after(u: Assembler, memory: r.MemoryMap) -> None:
    u.label("posts")
    for post in Post:
        u.go("result.write" if post is Post.NONE else f"post.{post.name}")
    u.label("post.RQ")
    u.index(_setting("vx.quant", "mode"))
    u.jump("requant")
    u.label("post.LUT")
    for v in r.V:
        u.and_(r.T0, v, 0xFF)
        u.load(v, r.T0, memory.table)
    u.go("result.write")
    u.label("post.LSUM")
    u.add(r.T0, r.V[0], r.V[1])
    for v in r.V[2:]:
        u.add(r.T0, r.T0, v)
    u.go("result.spread")
    u.label("post.LMAX")
    u.mov(r.T0, r.V[0])
    for v in r.V[1:]:
        _larger(u, r.T0, v)
    u.label("result.spread")
    for v in r.V:
        u.mov(v, r.T0)
    u.go("result.write")


def _result(u: Assembler) -> None:
    u.label("result.write")
    u.mov(r.SCRATCH, r.D_BASE)
    u.when(Flag.ZERO, "result.narrow")
    u.sll(r.T0, r.D_N0, 2)
    u.add(r.T0, r.T0, r.D_BASE)
    for v in r.V:
        u.store(r.T0, v)
    u.go("vector.written")
    u.label("result.narrow")
    for v in r.V:
        _larger(u, v, _LOW)
        _smaller(u, v, _HIGH)
    u.and_(r.T1, r.V[-1], 0xFF)
    for v in reversed(r.V[:-1]):
        u.sll(r.T1, r.T1, 8)
        u.and_(r.T0, v, 0xFF)
        u.or_(r.T1, r.T1, r.T0)
    u.mov(r.T0, r.D_N0)
    u.store(r.T0, r.T1)
    u.go("vector.written")


assert all(field in BY_MNEMONIC[op.mnemonic].fields for op in _OPERATIONS for field in _ADD.fields)
