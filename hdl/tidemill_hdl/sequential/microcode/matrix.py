"""Matrix engine. The array's weights are in the hardware, the second weight buffer in the register file."""

from __future__ import annotations

from tidemill.config import Config
from tidemill.csr import Cause, Unit
from tidemill.isa import BY_MNEMONIC
from tidemill_hdl.sequential import registers as r
from tidemill_hdl.sequential.assembler import WORD_BITS, Assembler, Flag
from tidemill_hdl.sequential.microcode.control import fault

_ACT2, _ACT1, _ACT, _ACC2, _ACC1, _ACC = r.A_N1, r.A_N0, r.A_K1, r.B_N1, r.B_N0, r.B_K1
_ACT_DEPTH, _ACC_DEPTH = r.A_DEPTH, r.B_DEPTH
_N2, _N1, _N0 = r.N1, r.N0, r.K1
_ACT_SPAN, _ACC_SPAN, _STEP = r.D_N1, r.D_N0, r.A_K0
_ROWS = r.csr_register("MATRIX_ROWS")


def emit(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    """`mx.wload` and `mx.run`."""
    _wload(u, config)
    _run(u, config, memory)


def _bit(u: Assembler, name: str) -> None:
    """Flags of a bit of `mx.run`."""
    field = BY_MNEMONIC["mx.run"].field(name)
    u.and_(r.SCRATCH, (r.I0, r.I1, r.I2, r.I3)[field.lo // WORD_BITS], 1 << field.lo % WORD_BITS)


def _wload(u: Assembler, config: Config) -> None:
    u.label("do.mx.wload")
    u.mov(r.SCRATCH, r.PENDING_LOAD)
    u.unless(Flag.ZERO, "matrix.order")
    u.extract(r.T1, BY_MNEMONIC["mx.wload"].field("stride"))
    u.srl(r.T0, r.I1, 16)
    u.sub(r.SCRATCH, r.T0, 0x8000)
    u.when(Flag.CARRY, "wload.space")
    for row in range(config.rows):
        u.sub(r.SCRATCH, r.T0, config.spad_rows)
        u.when(Flag.CARRY, "wload.range")
        u.load(r.WEIGHTS[row], r.T0)
        u.add(r.T0, r.T0, r.T1)
    u.mov(r.PENDING_LOAD, 1)
    u.go("complete")
    u.label("wload.space")
    u.and_(r.T0, r.T0, 0x7FFF)
    u.label("wload.range")
    fault(u, Cause.LOCAL_RANGE, Unit.MATRIX, r.T0)
    u.label("matrix.order")
    fault(u, Cause.ILLEGAL_OPERAND, Unit.MATRIX, r.I0)


def _run(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    n0, n1, n2, s0, s1, s2 = (r.SETTING["mx.act", name] for name in ("n0", "n1", "n2", "s0", "s1", "s2"))
    t0, t1, t2 = (r.SETTING["mx.acc", name] for name in ("t0", "t1", "t2"))
    u.label("do.mx.run")
    _bit(u, "swap")
    u.when(Flag.ZERO, "run.weights")
    u.mov(r.SCRATCH, r.PENDING_LOAD)
    u.when(Flag.ZERO, "matrix.order")
    for row in range(config.rows):
        u.weights(r.WEIGHTS[row], row)
    u.mov(r.PENDING_LOAD, 0)
    u.label("run.weights")
    # A wrong memory is one of no rows.
    u.srl(r.T0, r.I1, 16)
    u.and_(_ACT2, r.T0, 0x7FFF)
    u.mov(_ACT_DEPTH, config.spad_rows)
    u.sub(r.SCRATCH, r.T0, 0x8000)
    u.unless(Flag.CARRY, "run.acc")
    u.mov(_ACT_DEPTH, 0)
    u.label("run.acc")
    u.and_(_ACC2, r.I2, 0x7FFF)
    u.mov(_ACC_DEPTH, config.acc_rows)
    u.and_(r.SCRATCH, r.I2, 0x8000)
    u.unless(Flag.ZERO, "run.spans")
    u.mov(_ACC_DEPTH, 0)
    u.label("run.spans")
    u.sub(r.T0, n0, 1)
    u.mul(_ACT_SPAN, r.T0, s0)
    u.mul(_ACC_SPAN, r.T0, t0)
    u.sll(_STEP, t0, 2)
    u.mov(_N2, n2)

    u.label("run.2")
    u.mov(_ACT1, _ACT2)
    u.mov(_ACC1, _ACC2)
    u.mov(_N1, n1)
    u.label("run.1")
    u.mov(_ACT, _ACT1)
    u.mov(_ACC, _ACC1)
    u.mov(_N0, n0)
    # Where the first and the last row of the innermost loop are legal all are.
    for first, span, depth in ((_ACT, _ACT_SPAN, _ACT_DEPTH), (_ACC, _ACC_SPAN, _ACC_DEPTH)):
        u.sub(r.SCRATCH, first, depth)
        u.when(Flag.CARRY, "run.checked")
        u.add(r.T0, first, span)
        u.sub(r.SCRATCH, r.T0, depth)
        u.when(Flag.CARRY, "run.checked")
    u.add(_ROWS, _ROWS, n0)
    u.sll(r.T1, _ACC, 2)
    u.add(r.T1, r.T1, memory.acc)
    _bit(u, "accumulate")
    u.when(Flag.ZERO, "run.overwrite")
    _rows(u, accumulate=True)
    u.go("run.end")
    u.label("run.overwrite")
    _rows(u, accumulate=False)

    u.label("run.end")
    u.add(_ACT1, _ACT1, s1)
    u.add(_ACC1, _ACC1, t1)
    u.sub(_N1, _N1, 1)
    u.unless(Flag.ZERO, "run.1")
    u.add(_ACT2, _ACT2, s2)
    u.add(_ACC2, _ACC2, t2)
    u.sub(_N2, _N2, 1)
    u.unless(Flag.ZERO, "run.2")
    u.go("complete")

    u.label("run.checked")
    u.mov(r.T0, _ACT)
    u.sub(r.SCRATCH, _ACT, _ACT_DEPTH)
    u.when(Flag.CARRY, "wload.range")
    u.mov(r.T0, _ACC)
    u.sub(r.SCRATCH, _ACC, _ACC_DEPTH)
    u.when(Flag.CARRY, "wload.range")
    u.add(_ROWS, _ROWS, 1)
    u.sll(r.T1, _ACC, 2)
    u.add(r.T1, r.T1, memory.acc)
    _bit(u, "accumulate")
    u.when(Flag.ZERO, "run.checked.overwrite")
    u.row(_ACT, r.T1, accumulate=True)
    u.go("run.checked.next")
    u.label("run.checked.overwrite")
    u.row(_ACT, r.T1, accumulate=False)
    u.label("run.checked.next")
    u.add(_ACT, _ACT, s0)
    u.add(_ACC, _ACC, t0)
    u.sub(_N0, _N0, 1)
    u.unless(Flag.ZERO, "run.checked")
    u.go("run.end")


def _rows(u: Assembler, *, accumulate: bool) -> None:
    """The innermost loop; T1 is the first accumulator word."""
    again = u.fresh("run.rows")
    u.label(again)
    u.row(_ACT, r.T1, accumulate=accumulate)
    u.add(_ACT, _ACT, r.SETTING["mx.act", "s0"])
    u.add(r.T1, r.T1, _STEP)
    u.sub(_N0, _N0, 1)
    u.unless(Flag.ZERO, again)
