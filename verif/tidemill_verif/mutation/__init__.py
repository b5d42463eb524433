"""Mutation score of the hardware's blocks.

Yosys chooses small changes (a bit inverted, stuck or inverted by another bit) of a block's netlist, all of which go
into one Verilog file behind a selector input. The block's own benches, unchanged, run on each mutant (`fork_server`);
one that no bench notices is run in the whole machine (`mutated_npu`, `whole_machine`), and may be proved equivalent
(`equivalence`). The score is killed / (all - equivalent).

How to run a block
    make mutate BLOCK=requantizer     (or: python -m tidemill_verif.mutation run requantizer; --minutes M stops early)
    make mutate-sample                a few mutants of every block
    make mutate BLOCK=all             every block; then writes docs/verification/mutation.md

    What was run before on the same netlist and mutant comes from the build cache: a kill in any case, survival while
    the bench is the same. With --fresh everything runs again.

How the whole machine tries them
    After the benches come random legal and illegal programs, programs for every error and disturbances of the bus on
    the NPU of `tiny`, in which the mutated module stands for every block of the same class and parameters;
    --no-machine leaves this stage out. The NPU is built once for each design with all of its mutants, each mutant runs
    in a copy of the process. A target of `blocks` that the NPU has no such block for is `alone`.

How to read the survivors
    Each line names the target, the Python line the cell comes from, the mutant (change, cell, port, bit, signal), and
    an identity of eight digits. `python -m tidemill_verif.mutation show BLOCK IDENTITY` prints the whole mutant.

How to judge
    A survivor is killed by a better bench (`benches/`, `bench_runs.py`), or it is `equivalent`: then it gets an entry
    in `judgements.json` with the reason why no input that keeps the block's contract can show it. Entries name the
    mutant by content: target, change, and the text of the Python line, so that they outlive edits elsewhere;
    `python -m tidemill_verif.mutation judge BLOCK IDENTITY REASON` writes one. With --survives the entry says why a
    mutant that is not equivalent survives, which changes no score. A test fails when a judged line is gone.
"""

from __future__ import annotations

SELECTOR = "mutant_select"
"""Input of the mutated toplevel: 0 is the original, n the n-th mutant."""
SELECTOR_BITS = 16


class MutationError(RuntimeError):
    """A tool failed or an argument is wrong; the message says which and what would be right."""
