"""Engine queues and semaphores: what makes the engines run decoupled, and in the right order."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import ENGINES, WAIT, Engine
from tidemill_hdl.interfaces import PC_BITS, Done, EngineInstruction, Fault
from tidemill_hdl.prim.queue import Queue, SkidBuffer

WEIGHT_LOADER = len(ENGINES)
"""Index of the matrix engine's weight loader among the `done` ports."""

DONE_PORTS = len(ENGINES) + 1

_COUNT_BITS = 8


def _sum(bits: list[Value]) -> Value:
    """Number of set bits, as a balanced tree."""
    if len(bits) == 1:
        return bits[0]
    half = len(bits) // 2
    return _sum(bits[:half]) + _sum(bits[half:])


class Sync(wiring.Component):
    """A queue per engine and the counting semaphores between them.

    A queue holds `queue_depth` instructions, and two more at its head.
    The head of each queue is offered to its engine once every semaphore of its `wait` mask is above zero; all are
    decremented at once at that moment, whether or not the engine takes the instruction at once. If heads that could
    go in the same cycle share a semaphore, the lowest engine goes and the others look again.

    Parameters
    ----------
    config : Config

    Members
    -------
    i_instr, o_instr : In / Out(array of 4 streams of EngineInstruction, in the order of `isa.ENGINES`)
    done : In(array of 5 Done): 0 to 3 as `isa.ENGINES`, 4 the matrix engine's weight loader; any may pulse in any
        cycle. One pulse per instruction taken from `o_instr`; at most 255 instructions of an engine are under way.
    idle : Out(4): nothing of the engine is queued or running. Follows `i_instr` within 2 cycles of the transfer; when
        it is up, every signal of that engine has been counted.
    busy : Out(4): event, an instruction is inside the engine.
    sem_wait : Out(4): event, the head waits for a semaphore.
    fault : Out(Fault): SEM_OVERFLOW; info = mask of the semaphores, pc = 0: whose signal it was is not kept.
    dispatched : Out(1): an instruction entered or left a queue.
    completed : Out(1): an instruction completed.
    blocked : Out(1): some head waits. With `blocked_pc` (24) and `blocked_mask` (16, its wait mask) of the waiting
        engine with the lowest index.

    Timing
    ------
    An instruction that need not wait: 2 or 3 cycles from `i_instr` to `o_instr`, one a cycle.
    `done` in cycle 0 offers the instruction that waits for it in cycle 4; a queue's head
    with a wait mask takes 2 cycles more than one without. Grants happen at most every third cycle.
    After reset all queues are empty and all semaphores zero.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        ports = stream.Signature(EngineInstruction)
        engines = len(ENGINES)
        super().__init__(
            {
                "i_instr": In(ports).array(engines),
                "o_instr": Out(ports).array(engines),
                "done": In(Done()).array(DONE_PORTS),
                "idle": Out(engines),
                "busy": Out(engines),
                "sem_wait": Out(engines),
                "fault": Out(Fault()),
                "dispatched": Out(1),
                "completed": Out(1),
                "blocked": Out(1),
                "blocked_pc": Out(PC_BITS),
                "blocked_mask": Out(WAIT.width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        engines = range(len(ENGINES))
        semaphores = range(self.config.semaphores)
        above_zero = Signal(self.config.semaphores)

        # ---- heads
        held = Signal(len(ENGINES))
        offered = Signal(len(ENGINES))
        could_go = Signal(len(ENGINES))
        grant = Signal(len(ENGINES))
        next_free = Signal(len(ENGINES), reset_less=True)
        granted = Signal()
        taken = Signal(self.config.semaphores)
        heads = [Signal(EngineInstruction, name=f"head{i}") for i in engines]
        masks = [head.word[WAIT.lo : WAIT.hi + 1] for head in heads]
        taken_in, taken_out = Signal(len(ENGINES)), Signal(len(ENGINES))
        for i in engines:
            queue = Queue(EngineInstruction, self.config.queue_depth)
            head = SkidBuffer(EngineInstruction)
            m.submodules[f"queue_{ENGINES[i].name.lower()}"] = queue
            m.submodules[f"head_{ENGINES[i].name.lower()}"] = head
            port = self.i_instr[i]
            out = self.o_instr[i]
            free = queue.o.payload.word[WAIT.lo : WAIT.hi + 1] == 0
            m.d.comb += [
                queue.i.valid.eq(port.valid),
                queue.i.payload.eq(port.payload),
                port.ready.eq(queue.i.ready),
                taken_in[i].eq(port.valid & queue.i.ready),
                head.i.valid.eq(queue.o.valid),
                head.i.payload.eq(queue.o.payload),
                queue.o.ready.eq(head.i.ready),
                held[i].eq(head.o.valid),
                heads[i].eq(head.o.payload),
                out.valid.eq(offered[i]),
                out.payload.eq(heads[i]),
                taken_out[i].eq(offered[i] & out.ready),
                head.o.ready.eq(taken_out[i]),
            ]
            # Moves with the buffer: whether its entries wait for nothing.
            with m.If(head.i.ready):
                m.d.sync += next_free[i].eq(free)
            with m.If(~held[i] | taken_out[i]):
                m.d.sync += offered[i].eq(Mux(head.i.ready, queue.o.valid & free, next_free[i]))
            with m.Elif(grant[i]):
                m.d.sync += offered[i].eq(1)

            # A grant may have taken what this look found, and is subtracted a cycle later: look again.
            m.d.sync += could_go[i].eq(
                held[i] & ~offered[i] & ~(masks[i] & ~above_zero).any() & ~grant.any() & ~granted
            )
            m.d.comb += grant[i].eq(could_go[i])
            if i:
                # A head that could go stays, so its overlaps of the cycle before still hold.
                overlaps = Signal(i, name=f"overlaps{i}", reset_less=True)
                m.d.sync += overlaps.eq(Cat((masks[i] & masks[j]).any() for j in range(i)))
                m.d.comb += grant[i].eq(could_go[i] & ~(could_go[:i] & overlaps).any())
        m.d.sync += [
            granted.eq(grant.any()),
            taken.eq(Cat(Cat(grant[i] & masks[i][s] for i in engines).any() for s in semaphores)),
        ]

        # ---- semaphores
        overflow = Signal(self.config.semaphores)
        largest = (1 << self.config.semaphore_width) - 1
        for s in semaphores:
            count = Signal(self.config.semaphore_width, name=f"count{s}")
            added = Signal(range(DONE_PORTS + 1), name=f"added{s}")
            total = Signal(max(self.config.semaphore_width, 3) + 1, name=f"total{s}")
            change = Signal(signed(4), name=f"change{s}")
            m.d.sync += added.eq(_sum([port.valid & port.signal[s] for port in self.done]))
            m.d.comb += [change.eq(added - taken[s]), total.eq(count + change)]
            m.d.sync += [count.eq(total), above_zero[s].eq(total != 0), overflow[s].eq(total > largest)]
        with m.If(overflow.any() & ~self.fault.valid):
            m.d.sync += [
                self.fault.valid.eq(1), self.fault.cause.eq(Cause.SEM_OVERFLOW), self.fault.info.eq(overflow),
            ]  # fmt: skip

        # ---- who is busy
        for i in engines:
            finished = [self.done[i].valid]
            if ENGINES[i] is Engine.MATRIX:
                finished.append(self.done[WEIGHT_LOADER].valid)
            completed = Signal(range(len(finished) + 1), name=f"finished{i}")
            entered, left = Signal(name=f"entered{i}"), Signal(name=f"left{i}")
            known = Signal(_COUNT_BITS, name=f"known{i}")
            inside = Signal(_COUNT_BITS, name=f"inside{i}")
            m.d.sync += [
                completed.eq(_sum(finished)),
                entered.eq(taken_in[i]),
                left.eq(taken_out[i]),
                known.eq(known + entered - completed),
                inside.eq(inside + left - completed),
            ]
            m.d.comb += [self.idle[i].eq((known == 0) & ~entered), self.busy[i].eq(inside != 0)]

        # ---- events
        waiting = held & ~offered
        m.d.sync += [
            self.sem_wait.eq(waiting),
            self.dispatched.eq((taken_in | taken_out).any()),
            self.completed.eq(Cat(port.valid for port in self.done).any()),
            self.blocked.eq(waiting.any()),
        ]
        pc, mask = heads[-1].pc, masks[-1]
        for i in reversed(engines[:-1]):
            pc, mask = Mux(waiting[i], heads[i].pc, pc), Mux(waiting[i], masks[i], mask)
        m.d.sync += [self.blocked_pc.eq(pc), self.blocked_mask.eq(mask)]
        return m
