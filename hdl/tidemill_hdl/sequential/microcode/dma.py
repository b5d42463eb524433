"""Load and store engine."""

from __future__ import annotations

from collections.abc import Callable

from tidemill.config import Config
from tidemill.csr import Cause, Unit
from tidemill.isa import BY_MNEMONIC
from tidemill_hdl.sequential import registers as r
from tidemill_hdl.sequential.assembler import Assembler, Flag, Reg
from tidemill_hdl.sequential.microcode.control import bus_fault, fault

# A transfer's registers, in those of the vector unit: an engine executes one whole instruction at a time.
_ROW2, _ROW1, _ROW = r.A_N1, r.A_N0, r.A_K1
_DRAM, _BYTES, _PADDING = r.B_N1, r.B_N0, r.B_K1
_DEPTH, _BASE = r.A_DEPTH, r.A_BASE
_N2, _N1, _N0, _LEFT = r.N1, r.N0, r.K1, r.K0
_WORD, _ADDRESS, _RIGHT, _BEFORE, _LEFTWARD = r.T0, r.T1, r.T2, r.T3, r.T4


def space(u: Assembler, config: Config, memory: r.MemoryMap, address: Reg, row: Reg, depth: Reg, base: Reg) -> None:
    """Of a local address of 16 bits: the row, the rows of its memory, that memory's first word."""
    scratchpad = u.fresh("space")
    u.and_(row, address, 0x7FFF)
    u.mov(depth, config.spad_rows)
    u.mov(base, 0)
    u.srl(r.SCRATCH, address, 15)
    u.when(Flag.ZERO, scratchpad)
    u.mov(depth, config.acc_rows)
    u.mov(base, memory.acc)
    u.label(scratchpad)


def emit(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    """`ld.run` and `st.run`."""
    _load(u, config, memory)
    _store(u, config, memory)


def _begin(u: Assembler, config: Config, memory: r.MemoryMap, mnemonic: str) -> None:
    op = BY_MNEMONIC[mnemonic]
    u.srl(r.T0, r.I1, 16)
    space(u, config, memory, r.T0, _ROW2, _DEPTH, _BASE)
    u.mov(_DRAM, r.I2)
    u.extract(_N0, op.field("n0"))
    u.extract(_N2, op.field("n2"))
    u.sll(_BYTES, _N0, 2)
    narrow = u.fresh("narrow")
    u.mov(r.SCRATCH, _BASE)
    u.when(Flag.ZERO, narrow)
    u.sll(_BYTES, _N0, 4)
    u.label(narrow)


def _window(u: Assembler, side: str, bad: str) -> None:
    """Go to `bad` unless all bytes of the line are inside the window."""
    u.sub(r.SCRATCH, r.LINE, r.csr_register(f"{side}_BASE"))
    u.unless(Flag.CARRY, bad)
    u.sub(r.T0, _BYTES, 1)
    u.add(r.T0, r.T0, r.LINE)
    u.when(Flag.CARRY, bad)
    u.sub(r.SCRATCH, r.csr_register(f"{side}_LIMIT"), r.T0)
    u.unless(Flag.CARRY, bad)


def _planes(u: Assembler, name: str, run: str, setting: str, local: str) -> None:
    """The walk's outer loops around what stands between the labels `name`.line and `name`.next."""
    op = BY_MNEMONIC[run]
    u.label(f"{name}.plane")
    u.mov(r.LINE, _DRAM)
    u.mov(_ROW1, _ROW2)
    u.extract(_N1, op.field("n1"))
    u.go(f"{name}.line")
    u.label(f"{name}.next")
    u.add(r.LINE, r.LINE, r.SETTING[setting, "s1"])
    u.add(_ROW1, _ROW1, r.SETTING[local, "d1"])
    u.sub(_N1, _N1, 1)
    u.unless(Flag.ZERO, f"{name}.line")
    u.add(_DRAM, _DRAM, r.SETTING[setting, "s2"])
    u.add(_ROW2, _ROW2, r.SETTING[local, "d2"])
    u.sub(_N2, _N2, 1)
    u.unless(Flag.ZERO, f"{name}.plane")
    u.go("complete")


def _burst(u: Assembler, config: Config, write: bool) -> None:
    """Begin the next burst of the line: it ends with the line or at a multiple of the longest burst."""
    whole = u.fresh("burst")
    u.srl(_ADDRESS, r.BEAT_ADDRESS, 2)
    u.and_(_ADDRESS, _ADDRESS, config.max_burst - 1)
    u.sub(_ADDRESS, config.max_burst, _ADDRESS)
    u.sub(r.SCRATCH, _ADDRESS, r.BEATS_LEFT)
    u.unless(Flag.CARRY, whole)
    u.mov(_ADDRESS, r.BEATS_LEFT)
    u.label(whole)
    u.sub(_ADDRESS, _ADDRESS, 1)
    (u.write if write else u.read)(r.BEAT_ADDRESS, _ADDRESS)


def _burst_fault(u: Assembler, config: Config, unit: Unit) -> None:
    """The bus error of the beat at BEAT_ADDRESS: first byte, of the line's, in its burst."""
    inside = u.fresh("burst.inside")
    u.andn(r.T0, r.BEAT_ADDRESS, config.max_burst * config.axi_bytes - 1)
    u.sub(r.SCRATCH, r.T0, r.LINE)
    u.when(Flag.CARRY, inside)
    u.mov(r.T0, r.LINE)
    u.label(inside)
    bus_fault(u, unit, r.T0)


def _late(u: Assembler, name: str, repeat: Callable[[], None], bad: str) -> None:
    """Label `name`.late: the bus answered an error (go to `bad`) or not yet: `repeat` until it does, then go on at
    `name`.taken."""
    u.label(f"{name}.late")
    u.unless(Flag.LATE, bad)
    u.call("patience")
    repeat()
    u.when(Flag.BAD, f"{name}.late")
    u.mov(r.PATIENCE, r.csr_register("WATCHDOG"))
    u.go(f"{name}.taken")


def _load(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    pad_lo, pad_hi, value = (r.SETTING["ld.dst", name] for name in ("pad_lo", "pad_hi", "value"))
    u.label("do.ld.run")
    _begin(u, config, memory, "ld.run")
    u.and_(_PADDING, value, 0xFF)
    u.sll(r.T0, _PADDING, 8)
    u.or_(_PADDING, _PADDING, r.T0)
    u.sll(r.T0, _PADDING, 16)
    u.or_(_PADDING, _PADDING, r.T0)
    u.add(r.T0, pad_lo, pad_hi)
    u.add(r.T0, r.T0, _N0)
    u.when(Flag.ZERO, "complete")
    _planes(u, "load", "ld.run", "ld.stride", "ld.dst")

    u.label("load.line")
    u.mov(_ROW, _ROW1)
    u.mov(r.SCRATCH, _N0)
    u.when(Flag.ZERO, "load.pad")
    _window(u, "READ", "load.outside")
    u.and_(r.T0, r.LINE, 3)
    u.sll(_RIGHT, r.T0, 3)
    u.sub(_LEFTWARD, 32, _RIGHT)
    u.add(r.T0, r.T0, _BYTES)
    u.add(r.T0, r.T0, 3)
    u.srl(r.BEATS_LEFT, r.T0, 2)
    u.add(r.csr_register("READ_BEATS"), r.csr_register("READ_BEATS"), r.BEATS_LEFT)
    u.andn(r.BEAT_ADDRESS, r.LINE, 3)
    u.label("load.pad")
    u.mov(_LEFT, pad_lo)
    u.when(Flag.ZERO, "load.data")
    u.call("pad")
    u.label("load.data")
    u.mov(_LEFT, _N0)
    u.when(Flag.ZERO, "load.end")
    u.mov(r.SCRATCH, _RIGHT)
    u.when(Flag.ZERO, "load.aligned")
    u.call("next_word")
    u.label("load.aligned")
    u.mov(r.SCRATCH, _BASE)
    u.unless(Flag.ZERO, "load.wide")

    u.label("load.row")
    u.call("next_word")
    u.sub(r.SCRATCH, _ROW, _DEPTH)
    u.when(Flag.CARRY, "load.range")
    u.mov(_ADDRESS, _ROW)
    u.store(_ADDRESS, _WORD)
    u.add(_ROW, _ROW, 1)
    u.sub(_LEFT, _LEFT, 1)
    u.unless(Flag.ZERO, "load.row")

    u.label("load.end")
    u.mov(_LEFT, pad_hi)
    u.when(Flag.ZERO, "load.next")
    u.call("pad")
    u.go("load.next")

    u.label("load.wide")
    for lane in range(config.cols):
        u.call("next_word")
        u.mov(r.V[lane], _WORD)
    u.sub(r.SCRATCH, _ROW, _DEPTH)
    u.when(Flag.CARRY, "load.range")
    u.sll(_ADDRESS, _ROW, 2)
    u.add(_ADDRESS, _ADDRESS, _BASE)
    for lane in range(config.cols):
        u.store(_ADDRESS, r.V[lane])
    u.add(_ROW, _ROW, 1)
    u.sub(_LEFT, _LEFT, 1)
    u.unless(Flag.ZERO, "load.wide")
    u.go("load.end")

    u.label("pad")
    u.sub(r.SCRATCH, _ROW, _DEPTH)
    u.when(Flag.CARRY, "load.range")
    u.mov(_ADDRESS, _ROW)
    u.mov(r.SCRATCH, _BASE)
    u.when(Flag.ZERO, "pad.last")
    u.sll(_ADDRESS, _ROW, 2)
    u.add(_ADDRESS, _ADDRESS, _BASE)
    for _ in range(config.cols - 1):
        u.store(_ADDRESS, _PADDING)
    u.label("pad.last")
    u.store(_ADDRESS, _PADDING)
    u.add(_ROW, _ROW, 1)
    u.sub(_LEFT, _LEFT, 1)
    u.unless(Flag.ZERO, "pad")
    u.ret()

    # _WORD = the line's next four bytes; the first call of a line that begins inside a beat only fills _BEFORE.
    u.label("next_word")
    u.when(Flag.READING, "next_word.take")
    _burst(u, config, write=False)
    u.label("next_word.take")
    u.take(_WORD)
    u.when(Flag.BAD, "next_word.late")
    u.label("next_word.taken")
    u.add(r.BEAT_ADDRESS, r.BEAT_ADDRESS, config.axi_bytes)
    u.sub(r.BEATS_LEFT, r.BEATS_LEFT, 1)
    u.mov(r.SCRATCH, _RIGHT)
    u.when(Flag.ZERO, "next_word.end")
    u.srl(_BEFORE, _BEFORE, _RIGHT)
    u.sll(r.SCRATCH, _WORD, _LEFTWARD)
    u.or_(r.SCRATCH, r.SCRATCH, _BEFORE)
    u.mov(_BEFORE, _WORD)
    u.mov(_WORD, r.SCRATCH)
    u.label("next_word.end")
    u.ret()
    _late(u, "next_word", lambda: u.take(_WORD), "load.bus")

    u.label("load.range")
    fault(u, Cause.LOCAL_RANGE, Unit.LOAD, _ROW)
    u.label("load.outside")
    fault(u, Cause.WINDOW, Unit.LOAD, r.LINE)
    u.label("load.bus")
    _burst_fault(u, config, Unit.LOAD)


def _store(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    u.label("do.st.run")
    _begin(u, config, memory, "st.run")
    u.mov(r.SCRATCH, _N0)
    u.when(Flag.ZERO, "complete")
    _planes(u, "store", "st.run", "st.stride", "st.src")

    u.label("store.line")
    u.mov(_ROW, _ROW1)
    u.and_(r.SCRATCH, r.LINE, config.axi_bytes - 1)
    u.unless(Flag.ZERO, "store.misaligned")
    _window(u, "WRITE", "store.outside")
    u.srl(r.BEATS_LEFT, _BYTES, 2)
    u.add(r.csr_register("WRITE_BEATS"), r.csr_register("WRITE_BEATS"), r.BEATS_LEFT)
    u.mov(r.BEAT_ADDRESS, r.LINE)
    u.mov(_LEFT, _N0)
    u.label("store.row")
    u.sub(r.SCRATCH, _ROW, _DEPTH)
    u.when(Flag.CARRY, "store.range")
    u.mov(r.SCRATCH, _BASE)
    u.unless(Flag.ZERO, "store.wide")
    u.load(_WORD, _ROW)
    u.call("give_word")
    u.label("store.more")
    u.add(_ROW, _ROW, 1)
    u.sub(_LEFT, _LEFT, 1)
    u.unless(Flag.ZERO, "store.row")
    u.go("store.next")
    u.label("store.wide")
    u.sll(_RIGHT, _ROW, 2)
    u.add(_RIGHT, _RIGHT, _BASE)
    for lane in range(config.cols):
        u.load(_WORD, _RIGHT, lane)
        u.call("give_word")
    u.go("store.more")

    u.label("give_word")
    u.when(Flag.WRITING, "give_word.give")
    _burst(u, config, write=True)
    u.label("give_word.give")
    u.give(_WORD)
    u.when(Flag.LATE, "give_word.late")
    u.label("give_word.taken")
    u.when(Flag.WRITING, "give_word.end")
    u.response()
    u.when(Flag.BAD, "response.late")
    u.label("response.taken")
    u.label("give_word.end")
    u.add(r.BEAT_ADDRESS, r.BEAT_ADDRESS, config.axi_bytes)
    u.sub(r.BEATS_LEFT, r.BEATS_LEFT, 1)
    u.ret()
    _late(u, "give_word", lambda: u.give(0, again=True), "store.bus")
    _late(u, "response", u.response, "store.bus")

    u.label("store.range")
    fault(u, Cause.LOCAL_RANGE, Unit.STORE, _ROW)
    u.label("store.misaligned")
    fault(u, Cause.MISALIGNED, Unit.STORE, r.LINE)
    u.label("store.outside")
    fault(u, Cause.WINDOW, Unit.STORE, r.LINE)
    u.label("store.bus")
    _burst_fault(u, config, Unit.STORE)
