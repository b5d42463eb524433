"""The loop unit `frontend/loops.py` against a stack of counters."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Cat, Module, Mux, Signal

from tidemill.config import PRESETS
from tidemill_hdl.frontend.loops import COUNT_BITS, LoopStack
from tidemill_hdl.interfaces import PC_BITS
from tidemill_verif.formal.harness import Harness
from tidemill_verif.formal.proof import Proof, Twin

_FILE = "frontend/loops.py"


class LoopHarness(Harness):
    """Any loops and any moments at which bodies end.

    Parameters
    ----------
    depth : int
        Loops that may be active.

    The model is a stack that grows upward; every entry knows how often its body has run.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__()

    def build(self, m: Module) -> None:
        levels = range(self.depth)
        m.submodules.dut = dut = LoopStack(PRESETS["base"].replace(loop_depth=self.depth))
        self.free_inputs(dut)
        height = Signal(range(self.depth + 1))
        self.assume(~dut.push | ((height < self.depth) & (dut.i_count != 0)))
        self.assume(~dut.advance | ((height != 0) & ~dut.push))

        entries = {
            name: Array(Signal(bits, name=f"{name}{i}") for i in levels)
            for name, bits in {"pc": PC_BITS, "end": PC_BITS, "count": COUNT_BITS, "runs": COUNT_BITS}.items()
        }
        top = height - 1
        with m.If(dut.push):
            m.d.sync += [
                height.eq(height + 1),
                entries["pc"][height].eq(dut.i_pc),
                entries["end"][height].eq(dut.i_end),
                entries["count"][height].eq(dut.i_count),
                entries["runs"][height].eq(0),
            ]
        with m.Elif(dut.advance):
            # The body has run once more; after as many runs as the count says the loop is over.
            runs = entries["runs"][top] + 1
            m.d.sync += entries["runs"][top].eq(runs)
            with m.If(runs == entries["count"][top]):
                m.d.sync += height.eq(height - 1)

        active = height != 0
        self.prove("nesting", (dut.active == active) & (dut.deep == (height == self.depth)))
        self.prove(
            "body", ~active | ((dut.start == (entries["pc"][top] + 1)[:PC_BITS]) & (dut.end == entries["end"][top]))
        )
        self.prove("iterations", ~active | (dut.last == (entries["runs"][top] + 1 == entries["count"][top])))
        self.prove("outermost", ~active | (dut.outermost == entries["pc"][0]))
        # Entry i of the unit is entry height - 1 - i of the model.
        for i in levels:
            word = self.inner(f"dut.entry{i}", 2 * PC_BITS + COUNT_BITS + 1)
            place = height - 1 - i
            left = (entries["count"][place] - entries["runs"][place])[:COUNT_BITS]
            same = Cat((entries["pc"][place] + 1)[:PC_BITS], entries["end"][place], left, left == 1) == word
            used = i < height
            facts = [entries["runs"][place] < entries["count"][place], same]
            self.lemma(f"entry_{i}", (self.inner(f"dut.used{i}") == used) & (~used | Cat(facts).all()))
        self.lemma("height", height <= self.depth)
        self.cover("deep_and_back", self.past(dut.deep & dut.advance, "popped_deep") & ~dut.deep)
        seen_deep = Signal()
        m.d.sync += seen_deep.eq(Mux(dut.push & ~active, 0, seen_deep | dut.deep))
        self.cover("all_over", seen_deep & ~active)


PROOFS = (
    Proof(
        "stack",
        partial(LoopHarness, 4),
        {
            "nesting": "`active` and `deep` say that any, and that `loop_depth`, loops are active",
            "body": "`start` and `end` are those of the innermost active loop, also after inner ones are over",
            "iterations": "`last` marks exactly the count-th run of the innermost body: it runs `count` times",
            "outermost": "`outermost` is the `loop` instruction of the outermost active loop",
        },
        (
            Twin(
                "nesting", _FILE, "used[i].eq(used[i + 1] if above else 0)", "used[i].eq(used[i + 1] if above else 1)"
            ),
            Twin("body", _FILE, "m.d.sync += entries[i].eq(entries[i + 1])", "m.d.sync += entries[i].end.eq(0)"),
            Twin("iterations", _FILE, "top.last.eq(top.count == 2)", "top.last.eq(top.count <= 3)"),
            Twin("outermost", _FILE, "with m.If(~used[0]):", "with m.If(~used[-1]):"),
        ),
        {
            "deep_and_back": "the innermost of four loops ends and the one around it goes on",
            "all_over": "four nested loops have been active and all are over",
        },
        depth=11,
        quick=True,
    ),
)
