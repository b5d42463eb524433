"""Engine queues and semaphores: `sync.py`."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value

from tidemill.config import PRESETS
from tidemill.csr import Cause
from tidemill.isa import ENGINES, INSTRUCTION_BITS, WAIT, Engine
from tidemill_hdl.interfaces import PC_BITS
from tidemill_hdl.sync import WEIGHT_LOADER, Sync
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "sync.py"
_N = len(ENGINES)
_SEMAPHORES = 16
_HEAD_BITS = INSTRUCTION_BITS + PC_BITS
_CONFIG = PRESETS["base"].replace(queue_depth=2, semaphore_width=2)


def _mask(word: Value) -> Value:
    return word[WAIT.lo : WAIT.hi + 1]


class SemaphoreHarness(Harness):
    """Any instructions and any signals at any time, also more signals than the semaphores can count.

    The model watches the ports: a semaphore has the tokens that were signalled and not yet taken; an instruction takes
    one of each of its wait mask when it is first offered. It counts until the first overflow (`clean`).
    """

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Sync(_CONFIG)
        self.free_inputs(dut)
        engines, semaphores = range(_N), range(_SEMAPHORES)
        masks = [_mask(port.payload.word) for port in dut.o_instr]
        fresh = Signal(_N)
        for i, port in enumerate(dut.o_instr):
            kept = self.past(port.valid & ~port.ready, f"kept{i}")
            payload = Value.cast(port.payload)
            unchanged = port.valid & (payload == self.past(payload, f"payload{i}"))
            m.d.comb += fresh[i].eq(port.valid & ~kept)
            self.prove(f"stable_{ENGINES[i].name.lower()}", ~kept | unchanged)

        takers = [Signal(3, name=f"takers{s}") for s in semaphores]
        tokens = [Signal(6, name=f"tokens{s}") for s in semaphores]
        counted = [Signal(6, name=f"counted{s}") for s in semaphores]
        arriving = [Signal(3, name=f"arriving{s}") for s in semaphores]
        too_many = Signal(_SEMAPHORES)
        for s in semaphores:
            signals = sum(port.valid & port.signal[s] for port in dut.done)
            m.d.comb += [
                takers[s].eq(sum(fresh[i] & masks[i][s] for i in engines)),
                counted[s].eq(tokens[s] - arriving[s]),
                too_many[s].eq(counted[s] >= 1 << _CONFIG.semaphore_width),
            ]
            m.d.sync += [arriving[s].eq(signals), tokens[s].eq(tokens[s] + signals - takers[s])]
        dirty, clean = Signal(), Signal()
        m.d.sync += dirty.eq(dirty | too_many.any())
        m.d.comb += clean.eq(~dirty & ~too_many.any())

        self.prove("never_below_zero", dirty | Cat(tokens[s] >= takers[s] for s in semaphores).all())
        self.prove("exclusive", dirty | Cat(takers[s] <= 1 for s in semaphores).all())
        news = dirty & ~self.past(dirty, "was_dirty")
        right = (dut.fault.cause == Cause.SEM_OVERFLOW) & (dut.fault.info == self.past(too_many, "was_too_many"))
        self.prove("overflow", (dut.fault.valid == dirty) & (~news | right))

        held, offered = self.inner("dut.held", _N), self.inner("dut.offered", _N)
        wants = [_mask(self.inner(f"dut.head{i}", _HEAD_BITS)) for i in engines]
        present = Cat(count != 0 for count in counted)
        finds, granted = Signal(_N), Signal(_N)
        for i in engines:
            m.d.comb += finds[i].eq(held[i] & ~offered[i] & ((wants[i] & ~present) == 0))
            m.d.comb += granted[i].eq(fresh[i] & (masks[i] != 0))
        found = self.past(finds & clean.replicate(_N), "found")
        lately = granted.any() | self.past(granted.any(), "granted_before")
        found_before = self.past(found & (~lately).replicate(_N), "found_before")
        masks_before = [self.past(self.past(want, f"want{i}"), f"want_before{i}") for i, want in enumerate(wants)]
        for i in engines:
            shares = [(masks_before[j] & masks_before[i]).any() for j in range(i)]
            rivals = granted[:i].any() if i else 0
            self.prove(
                f"no_lost_signal_{ENGINES[i].name.lower()}", ~(clean & found_before[i]) | dut.o_instr[i].valid | rivals
            )
            if i:
                first = Cat(found_before[j] & shares[j] for j in range(i)).any()
                self.prove(f"priority_{ENGINES[i].name.lower()}", ~(clean & granted[i]) | ~first)
        self._lemmas(clean, dirty, too_many, counted, arriving, held, offered, wants)
        self._lemmas_of_grants(clean, takers, granted, wants)
        self.cover("two_start", granted[0] & granted[1] & (tokens[3] == 1) & masks[0][3])
        self.cover("overflows", dut.fault.valid)
        self.cover("rivals", found_before[0] & found_before[3] & (masks_before[0] & masks_before[3]).any() & clean)

    def _lemmas(
        self, clean: Value, dirty: Value, too_many: Value, counted: list[Signal], arriving: list[Signal], held: Value,
        offered: Value, wants: list[Value],
    ) -> None:  # fmt: skip
        """The unit's counts are the model's."""
        above, could_go = self.inner("dut.above_zero", _SEMAPHORES), self.inner("dut.could_go", _N)
        for s in range(_SEMAPHORES):
            count = self.inner(f"dut.count{s}", _CONFIG.semaphore_width)
            facts = [counted[s] == count, arriving[s] == self.inner(f"dut.added{s}", 3), above[s] == (count != 0)]
            self.lemma(f"count_{s}", ~clean | Cat(facts).all())
        self.lemma("overflow_comes", dirty | (self.inner("dut.overflow", _SEMAPHORES) == too_many))
        for i in range(_N):
            buffer, free = f"dut.head_{ENGINES[i].name.lower()}", self.inner("dut.next_free", _N)[i]
            known = free == (_mask(self.inner(f"{buffer}.spare", _HEAD_BITS)) == 0)
            self.lemma(f"free_{i}", ~self.inner(f"{buffer}.spare_full") | (held[i] & known))
            goes = held[i] & ~offered[i] & ((wants[i] & ~above) == 0)
            waits = ~held[i] | offered[i] | (wants[i] != 0)
            self.lemma(f"goes_{i}", (~(clean & could_go[i]) | goes) & (~offered[i] | held[i]) & waits)

    def _lemmas_of_grants(self, clean: Value, takers: list[Signal], granted: Value, wants: list[Value]) -> None:
        """What was granted is taken a cycle later; nobody is granted anything until it is counted."""
        could_go, taken = self.inner("dut.could_go", _N), self.inner("dut.taken", _SEMAPHORES)
        taking = Cat(taken[s] == (takers[s] != 0) for s in range(_SEMAPHORES)).all()
        self.lemma("taken", ~clean | (taking & (self.inner("dut.granted") == granted.any())))
        self.lemma("one_grant", ~clean | ~granted.any() | ~could_go.any())
        for i in range(1, _N):
            overlaps = self.inner(f"dut.overlaps{i}", i)
            shared = [overlaps[j] == (wants[i] & wants[j]).any() for j in range(i)]
            both = [could_go[i] & could_go[j] for j in range(i)]
            self.lemma(f"overlaps_{i}", Cat(~pair | fact for pair, fact in zip(both, shared, strict=True)).all())


class EngineQueueHarness(Harness):
    """Any instructions; the engine completes each that it has taken exactly once, when it likes.

    Parameters
    ----------
    engine : int
        Index of the engine that is watched. One entry is tracked as in the proofs of the queues.
    """

    def __init__(self, engine: int) -> None:
        self.engine = engine
        super().__init__()

    def build(self, m: Module) -> None:
        m.submodules.dut = dut = Sync(_CONFIG)
        self.free_inputs(dut)
        e, name = self.engine, ENGINES[self.engine].name.lower()
        source, sink = dut.i_instr[e], dut.o_instr[e]
        taken, given = source.valid & source.ready, sink.valid & sink.ready
        ports = [dut.done[e], *([dut.done[WEIGHT_LOADER]] if ENGINES[e] is Engine.MATRIX else [])]
        done = Signal(2)
        m.d.comb += done.eq(sum(port.valid for port in ports))

        waiting, running = Signal(8), Signal(8)
        m.d.sync += [waiting.eq(waiting + taken - given), running.eq(running + given - done)]
        self.assume(done <= running)
        self.assume(running < 200)
        marked, leaves, ahead = Signal(), Signal(), Signal(2)
        value = Signal(_HEAD_BITS)
        m.d.comb += leaves.eq(marked & (ahead == 0) & given)
        with m.If(~marked & self.free("mark") & taken):
            m.d.sync += [marked.eq(1), ahead.eq(waiting - given), value.eq(source.payload)]
        with m.Elif(marked & given):
            m.d.sync += [marked.eq(ahead != 0), ahead.eq(Mux(ahead == 0, 0, ahead - 1))]

        self.prove("order", ~leaves | (Value.cast(sink.payload) == value))
        self.prove("no_invention", ~sink.valid | (waiting != 0))
        just_done = self.past(done, "just_done")
        self.prove("idle", dut.idle[e] == ((waiting == 0) & (running == 0) & (just_done == 0)))

        buffers = (f"dut.head_{name}", f"dut.queue_{name}.buffer")
        full = [self.inner(f"{buffer}.{entry}") for buffer in buffers for entry in ("o_valid", "spare_full")]
        entries = [self.inner(f"{buffer}.{entry}", _HEAD_BITS) for buffer in buffers for entry in ("front", "spare")]
        self.lemma("entries", (waiting == sum(full)) & (full[0] | ~full[1]) & (full[2] | ~full[3]))
        where = Mux(full[1] | (full[0] & (ahead == 0)), ahead, Mux(full[0], ahead + 1, ahead + 2))
        self.lemma("value", ~marked | ((ahead < waiting) & (Array(entries)[where] == value)))
        self.lemma("offered", ~sink.valid | full[0])
        entered, finished = self.inner(f"dut.entered{e}"), self.inner(f"dut.finished{e}", range(len(ports) + 1))
        known = self.inner(f"dut.known{e}", 8)
        self.lemma("known", (finished == just_done) & ((known + entered - finished)[:8] == (waiting + running)[:8]))
        self.cover("all_done", dut.idle[e] & self.past(just_done != 0, "done_before") & (value[:8] == 0x41))
        self.cover("full", waiting == 4)


_SEMAPHORE_SAYS = {
    **{f"stable_{e.name.lower()}": f"what {e.name} is offered stays until taken" for e in ENGINES},
    "never_below_zero": "an instruction starts only when each semaphore it waits for has a token; it takes them all",
    "exclusive": "a token is never taken by two engines",
    "overflow": "SEM_OVERFLOW is reported, with the semaphores' mask, exactly when a count exceeds its largest value",
    **{
        f"no_lost_signal_{e.name.lower()}": f"{e.name}'s next instruction that finds all its tokens is offered two "
        "cycles later, unless one was granted since the cycle before"
        for e in ENGINES
    },
    **{
        f"priority_{e.name.lower()}": f"{e.name} takes no token that an engine before it in the order could have had"
        for e in ENGINES[1:]
    },
}
_STABLE = "head.o.ready.eq(taken_out[i])"
_LOST = "added.eq(_sum([port.valid & port.signal[s] for port in self.done]))"
_LESS = "added.eq(Cat(port.valid & port.signal[s] for port in self.done).any())"
_CLASH = "could_go[i] & ~(could_go[:i] & overlaps).any()"
_SEMAPHORE_TWINS = (
    *(Twin(f"stable_{e.name.lower()}", _FILE, _STABLE, "head.o.ready.eq(1)") for e in ENGINES),
    Twin("never_below_zero", _FILE, "& ~(masks[i] & ~above_zero).any()", "& (masks[i] & above_zero).any()"),
    Twin("exclusive", _FILE, _CLASH, "could_go[i]"),
    Twin("overflow", _FILE, "overflow[s].eq(total > largest)", "overflow[s].eq(total > largest + 1)"),
    *(Twin(f"no_lost_signal_{e.name.lower()}", _FILE, _LOST, _LESS) for e in ENGINES),
    *(Twin(f"priority_{e.name.lower()}", _FILE, _CLASH, "could_go[i]") for e in ENGINES[1:]),
)  # fmt: skip
_QUEUE_SAYS = {
    "order": "instructions reach the engine unchanged, each once and in order",
    "no_invention": "what is offered was dispatched and has not been taken",
    "idle": "`idle` says that every dispatched instruction is complete, from the second cycle after its `done`",
}
_QUEUE_TWINS = (
    Twin("order", _FILE, "head.i.payload.eq(queue.o.payload),", "head.i.payload.eq(port.payload),"),
    Twin("no_invention", _FILE, "head.i.valid.eq(queue.o.valid),", "head.i.valid.eq(queue.o.valid | offered[i]),"),
    Twin("idle", _FILE, "(known == 0) & ~entered", "known == 0"),
)
_QUEUE_COVERS = {"all_done": "an instruction passes and completes", "full": "four instructions wait"}

PROOFS = (
    Proof(
        "semaphores",
        partial(SemaphoreHarness),
        _SEMAPHORE_SAYS,
        _SEMAPHORE_TWINS,
        {
            "two_start": "two instructions that waited start in the same cycle",
            "overflows": "a semaphore overflows",
            "rivals": "LOAD and VECTOR wait for the same token, which is there",
        },
        depth=12,
    ),
    *(
        Proof(
            f"queue_{ENGINES[engine].name.lower()}",
            partial(EngineQueueHarness, engine),
            _QUEUE_SAYS,
            _QUEUE_TWINS,
            _QUEUE_COVERS,
            depth=12,
        )
        for engine in (ENGINES.index(Engine.LOAD), ENGINES.index(Engine.MATRIX))
    ),
)
