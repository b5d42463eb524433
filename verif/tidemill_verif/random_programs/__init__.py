"""Random legal programs in lockstep: a program from a seed, run on the Verilated hardware and on the simulator.

    from tidemill.config import preset
    from tidemill_verif.random_programs import Lockstep, generate

    config = preset("tiny")
    case = generate(config, seed=7)          # the same on every machine
    with Lockstep(config) as lockstep:       # opened once for many cases
        print(lockstep.compare(case))        # None, or the first `Difference`
        outcome = lockstep.rtl(case)         # or .iss(case): memories, registers, counters of work, how it ended

A `Case` is data: instruction words, where they lie in DRAM, windows, seed of the memories' content, options of the bus
(`Bus`, what `RtlDevice.set_timing` takes). Change one with `dataclasses.replace` or `Case.with_words`; more than
`generate.MAX_WORDS` instructions do not fit. `Case.program` is for `tidemill.checker.check` and the disassembler: it
finds no errors in programs of `generate(..., exclusive=True)`; of the others, a quarter hand semaphores from one pair
of engines to another, which is legal but beyond what the checker can follow.

Every program ends with `halt` (illegal words may follow it, never executed) and is legal by construction: `corners` and
`writer` choose instructions that are legal by themselves and note what they touch (`footprint`), `order` adds the
semaphores and fences that make the result independent of timing.
"""

from tidemill_verif.random_programs.case import Bus, Case, Image, image
from tidemill_verif.random_programs.generate import generate
from tidemill_verif.random_programs.lockstep import Difference, Lockstep, Outcome, difference
from tidemill_verif.random_programs.tree import GeneratorError

__all__ = [
    "Bus",
    "Case",
    "Difference",
    "GeneratorError",
    "Image",
    "Lockstep",
    "Outcome",
    "difference",
    "generate",
    "image",
]
