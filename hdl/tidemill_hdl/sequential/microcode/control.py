"""Power-up, start, end, errors, soft reset."""

from __future__ import annotations

from tidemill.config import Config
from tidemill.csr import COUNTERS, Cause, Unit
from tidemill.isa import BY_MNEMONIC, ENGINES
from tidemill_hdl.sequential import registers as r
from tidemill_hdl.sequential.assembler import Assembler, Flag, Operand, Reg, Report

LATE_CYCLES = 256
"""Cycles after which a bus operation gives up with the flag LATE."""
BLOCKED_CYCLES = 4
"""Cycles of the loop in which the machine waits for its watchdog."""
ERRORS = ("ERROR_CAUSE", "ERROR_UNIT", "ERROR_PC", "ERROR_INFO")
_WATCHDOG = r.csr_register("WATCHDOG")


def fault(u: Assembler, cause: Cause, unit: Unit, info: Operand) -> None:
    """Stop with an error: of the instruction at PC if it is the frontend's, of the program for SEM_OVERFLOW, of the
    instruction at EXECUTED for all others."""
    u.mov(r.INFO, info)
    u.mov(r.CAUSE, int(cause) | int(unit) << 4)
    where = {Unit.FRONTEND: ".frontend", Unit.SYNC: ".program"}.get(unit, ".engine")
    u.go(f"fault{where}")


def bus_fault(u: Assembler, unit: Unit, info: Operand) -> None:
    """Stop with the error that the bus answered."""
    slave = u.fresh("slave_error")
    u.unless(Flag.DECERR, slave)
    fault(u, Cause.BUS_DECERR, unit, info)
    u.label(slave)
    fault(u, Cause.BUS_SLVERR, unit, info)


def emit(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    """Labels: boot, trap, halted, patience, blocked, drain, and where `fault` goes."""
    _boot(u, config, memory)
    _end(u)
    _watchdog(u)


def _zero(u: Assembler, first: int, end: int) -> None:
    """Registers `first` to `end` - 1 become zero."""
    u.mov(r.T0, first)
    u.mov(r.T1, end)
    u.call("zero")


def _zero_counters(u: Assembler) -> None:
    first = r.csr_register(COUNTERS[0].name).number
    _zero(u, first, first + sum(counter.width for counter in COUNTERS) // 32)


def _boot(u: Assembler, config: Config, memory: r.MemoryMap) -> None:
    clear, ready = "boot.clear", "idle"
    u.label("boot")
    for name in ERRORS:
        u.mov(r.csr_register(name), 0)
    _zero_counters(u)
    u.mov(r.T0, r.COLD)
    u.when(Flag.ZERO, ready)
    u.mov(r.T0, 0)
    u.label(clear)
    u.store(r.T0, r.SCALAR)
    u.sub(r.SCRATCH, r.T0, memory.words)
    u.unless(Flag.ZERO, clear)
    u.mov(r.COLD, 0)

    u.label("idle")
    u.unless(Flag.START, "idle")
    u.report(Report.STARTED)
    u.mov(r.csr_register("USER_CODE"), 0)
    _zero_counters(u)
    _zero(u, 0, r.STATE_END)
    for (mnemonic, name), register in r.SETTING.items():
        default = BY_MNEMONIC[mnemonic].field(name).default
        if default:
            u.mov(register, default)
    for index in range(len(ENGINES)):
        u.mov(Reg(r.QUEUE_HEAD.number + index), memory.queue(index))
        u.mov(Reg(r.QUEUE_TAIL.number + index), memory.queue(index))
    for row in range(config.rows):
        u.weights(0, row)
    u.go("fetch")


def _end(u: Assembler) -> None:
    u.label("zero")
    u.index(r.T0)
    u.mov(Reg(0).x, 0)
    u.add(r.T0, r.T0, 1)
    u.sub(r.SCRATCH, r.T0, r.T1)
    u.unless(Flag.ZERO, "zero")
    u.ret()

    u.label("halted")
    u.report(Report.DONE | Report.IDLE)
    u.go("idle")

    u.label("fault.program")
    u.mov(r.EXECUTED, 0)
    u.go("fault.engine")
    u.label("fault.frontend")
    u.mov(r.EXECUTED, r.PC)
    u.label("fault.engine")
    u.and_(r.csr_register("ERROR_CAUSE"), r.CAUSE, 0xF)
    u.srl(r.csr_register("ERROR_UNIT"), r.CAUSE, 4)
    u.mov(r.csr_register("ERROR_INFO"), r.INFO)
    u.sll(r.T0, r.EXECUTED, 4)
    u.add(r.csr_register("ERROR_PC"), r.T0, r.csr_register("PROG_ADDR"))
    u.report(Report.ERROR)
    u.call("drain")
    u.report(Report.IDLE)
    u.go("idle")

    u.label("trap")
    u.call("drain")
    for name in ERRORS:
        u.mov(r.csr_register(name), 0)
    u.report(Report.RESET_DONE | Report.STARTED)
    u.go("idle")

    u.label("drain")
    u.unless(Flag.READING, "drain.write")
    u.take(r.T0)
    u.go("drain")
    u.label("drain.write")
    u.give(0, again=True)
    u.when(Flag.LATE, "drain.write")
    u.unless(Flag.WRITING, "drain.response")
    u.give(0, strobe=False)
    u.go("drain.write")
    u.label("drain.response")
    u.unless(Flag.OWED, "drain.end")
    u.response()
    u.go("drain.response")
    u.label("drain.end")
    u.ret()


def _watchdog(u: Assembler) -> None:
    # After LATE_CYCLES without an answer of the bus.
    u.label("patience")
    u.mov(r.SCRATCH, _WATCHDOG)
    u.when(Flag.ZERO, "patience.end")
    u.sub(r.PATIENCE, r.PATIENCE, LATE_CYCLES)
    u.when(Flag.ZERO, "bite")
    u.unless(Flag.CARRY, "bite")
    u.label("patience.end")
    u.ret()

    # No queue's head may start and the frontend cannot go on: nothing will ever happen.
    u.label("blocked")
    u.mov(r.PATIENCE, _WATCHDOG)
    u.label("blocked.forever")
    u.when(Flag.ZERO, "blocked.forever")
    u.label("blocked.wait")
    u.sub(r.PATIENCE, r.PATIENCE, BLOCKED_CYCLES)
    u.when(Flag.ZERO, "bite")
    u.when(Flag.CARRY, "blocked.wait")

    u.label("bite")
    u.mov(r.ENGINE, 0)
    u.label("bite.engine")
    u.index(r.ENGINE)
    u.mov(r.SCRATCH, r.QUEUED.x)
    u.unless(Flag.ZERO, "bite.waiting")
    u.add(r.ENGINE, r.ENGINE, 1)
    u.sub(r.SCRATCH, r.ENGINE, len(ENGINES))
    u.unless(Flag.ZERO, "bite.engine")
    fault(u, Cause.WATCHDOG, Unit.FRONTEND, 0)
    u.label("bite.waiting")
    u.mov(r.T1, r.QUEUE_HEAD.x)
    u.load(r.EXECUTED, r.T1, 4)
    u.load(r.T0, r.T1)
    u.sll(r.T0, r.T0, 8)
    u.srl(r.INFO, r.T0, 16)
    u.mov(r.CAUSE, int(Cause.WATCHDOG) | int(Unit.SYNC) << 4)
    u.go("fault.engine")
