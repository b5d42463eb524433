"""Engine queues and semaphores: which instruction is executed next."""

from __future__ import annotations

from tidemill.config import Config
from tidemill.csr import Cause, Unit
from tidemill.isa import ENGINES, OPS
from tidemill_hdl.sequential import registers as r
from tidemill_hdl.sequential.assembler import Assembler, Flag
from tidemill_hdl.sequential.microcode.control import fault

_RING = r.QUEUE_ENTRIES * r.ENTRY_WORDS
_OPCODES = 32
"""Opcodes of one engine."""
_INSTRUCTIONS = r.csr_register("INSTRUCTIONS")


def emit(u: Assembler, config: Config) -> None:
    """Labels: dispatch (the decoded instruction at PC goes to ENGINE), schedule (call: every queue's head that may
    start is executed; MADE_PROGRESS says whether any did), complete (an engine's instruction is complete)."""
    _dispatch(u, config)
    _schedule(u)
    _execute(u)
    _semaphores(u, config)


def _waits_for(u: Assembler, free: str, blocked: str) -> None:
    """T0 = wait mask of the instruction; go on at `free` where it is empty, at `blocked` where some are missing."""
    u.sll(r.T0, r.I0, 8)
    u.srl(r.T0, r.T0, 16)
    u.when(Flag.ZERO, free)
    u.andn(r.SCRATCH, r.T0, r.AVAILABLE)
    u.unless(Flag.ZERO, blocked)
    u.call("take")


def _wrap(u: Assembler) -> None:
    """T1, just past an entry's words, is the next entry of the ring."""
    inside = u.fresh("ring")
    u.and_(r.SCRATCH, r.T1, _RING - 1)
    u.unless(Flag.ZERO, inside)
    u.sub(r.T1, r.T1, _RING)
    u.label(inside)


def _dispatch(u: Assembler, config: Config) -> None:
    u.label("dispatch")
    u.index(r.ENGINE)
    u.mov(r.SCRATCH, r.QUEUED.x)
    u.unless(Flag.ZERO, "enqueue")
    _waits_for(u, "dispatch.now", "enqueue")
    u.label("dispatch.now")
    u.mov(r.EXECUTED, r.PC)
    u.add(r.PC, r.PC, 1)
    u.add(_INSTRUCTIONS, _INSTRUCTIONS, 1)
    u.call("execute")
    u.go("after")

    u.label("enqueue")
    u.sub(r.SCRATCH, r.QUEUED.x, config.queue_depth)
    u.when(Flag.ZERO, "waiting")
    u.mov(r.T1, r.QUEUE_TAIL.x)
    for word in (r.I0, r.I1, r.I2, r.I3, r.PC):
        u.store(r.T1, word)
    u.add(r.T1, r.T1, r.ENTRY_WORDS - 5)
    _wrap(u)
    u.mov(r.QUEUE_TAIL.x, r.T1)
    u.add(r.QUEUED.x, r.QUEUED.x, 1)
    u.add(r.QUEUED_ALL, r.QUEUED_ALL, 1)
    u.go("advance")


def _schedule(u: Assembler) -> None:
    ever, now = 1, 2
    u.label("schedule")
    u.mov(r.MADE_PROGRESS, 0)
    u.label("schedule.round")
    u.mov(r.ENGINE, 0)
    u.label("schedule.engine")
    u.index(r.ENGINE)
    u.mov(r.SCRATCH, r.QUEUED.x)
    u.when(Flag.ZERO, "schedule.next")
    u.mov(r.T1, r.QUEUE_HEAD.x)
    u.load(r.I0, r.T1)
    _waits_for(u, "schedule.start", "schedule.next")
    u.label("schedule.start")
    for offset, word in enumerate((r.I1, r.I2, r.I3, r.EXECUTED), 1):
        u.load(word, r.T1, offset)
    u.add(r.T1, r.T1, r.ENTRY_WORDS)
    _wrap(u)
    u.index(r.ENGINE)
    u.mov(r.QUEUE_HEAD.x, r.T1)
    u.sub(r.QUEUED.x, r.QUEUED.x, 1)
    u.sub(r.QUEUED_ALL, r.QUEUED_ALL, 1)
    u.mov(r.MADE_PROGRESS, ever | now)
    u.call("execute")
    u.go("schedule.engine")
    u.label("schedule.next")
    u.add(r.ENGINE, r.ENGINE, 1)
    u.sub(r.SCRATCH, r.ENGINE, len(ENGINES))
    u.unless(Flag.ZERO, "schedule.engine")
    u.and_(r.SCRATCH, r.MADE_PROGRESS, now)
    u.when(Flag.ZERO, "schedule.end")
    u.mov(r.MADE_PROGRESS, ever)
    u.go("schedule.round")
    u.label("schedule.end")
    u.ret()


def _execute(u: Assembler) -> None:
    names = {op.opcode: op.mnemonic for op in OPS}
    u.label("execute")
    u.and_(r.T0, r.I0, _OPCODES - 1)
    u.index(r.ENGINE)
    u.jump("execute.engine")
    u.label("execute.engine")
    for engine in ENGINES:
        u.go(f"execute.{engine.name}")
    for engine in ENGINES:
        last = max(opcode for opcode in names if opcode // _OPCODES == engine)
        u.label(f"execute.{engine.name}")
        u.index(r.T0)
        u.jump(f"execute.{engine.name}.table")
        u.label(f"execute.{engine.name}.table")
        for opcode in range(engine * _OPCODES, last + 1):
            u.go(f"do.{names[opcode]}" if opcode in names else "complete")
    for op in OPS:
        if op.mnemonic.endswith(".sync"):
            u.label(f"do.{op.mnemonic}")
            u.go("complete")
        elif op.mnemonic in r.CONFIGURED:
            u.label(f"do.{op.mnemonic}")
            for field in op.fields:
                u.extract(r.SETTING[op.mnemonic, field.name], field)
            u.go("complete")


def _semaphores(u: Assembler, config: Config) -> None:
    # Decrement the semaphores of T0, all of which are above zero. T1 stays.
    u.label("take")
    u.mov(r.T2, 0)
    u.mov(r.T3, 1)
    u.label("take.next")
    u.and_(r.SCRATCH, r.T0, 1)
    u.when(Flag.ZERO, "take.passed")
    u.index(r.T2)
    u.sub(r.SEMAPHORES.x, r.SEMAPHORES.x, 1)
    u.unless(Flag.ZERO, "take.passed")
    u.andn(r.AVAILABLE, r.AVAILABLE, r.T3)
    u.label("take.passed")
    u.add(r.T2, r.T2, 1)
    u.sll(r.T3, r.T3, 1)
    u.srl(r.T0, r.T0, 1)
    u.unless(Flag.ZERO, "take.next")
    u.ret()

    u.label("complete")
    u.srl(r.T0, r.I0, 24)
    u.and_(r.T1, r.I1, 0xFF)
    u.sll(r.T1, r.T1, 8)
    u.or_(r.T0, r.T0, r.T1)
    u.when(Flag.ZERO, "complete.end")
    u.mov(r.T1, 0)
    u.mov(r.T2, 0)
    u.mov(r.T3, 1)
    u.label("signal.next")
    u.and_(r.SCRATCH, r.T0, 1)
    u.when(Flag.ZERO, "signal.passed")
    u.index(r.T2)
    u.sub(r.SCRATCH, r.SEMAPHORES.x, (1 << config.semaphore_width) - 1)
    u.when(Flag.ZERO, "signal.full")
    u.add(r.SEMAPHORES.x, r.SEMAPHORES.x, 1)
    u.or_(r.AVAILABLE, r.AVAILABLE, r.T3)
    u.go("signal.passed")
    u.label("signal.full")
    u.or_(r.T1, r.T1, r.T3)
    u.label("signal.passed")
    u.add(r.T2, r.T2, 1)
    u.sll(r.T3, r.T3, 1)
    u.srl(r.T0, r.T0, 1)
    u.unless(Flag.ZERO, "signal.next")
    u.mov(r.T1, r.T1)
    u.unless(Flag.ZERO, "signal.overflow")
    u.label("complete.end")
    u.ret()
    u.label("signal.overflow")
    fault(u, Cause.SEM_OVERFLOW, Unit.SYNC, r.T1)
