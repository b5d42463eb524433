"""Random illegal programs: legal ones spoiled, run on the Verilated hardware and on the simulator.

    from tidemill_verif.illegal_programs import judge, spoil
    from tidemill_verif.random_programs import Lockstep

    spoiled = spoil(config, seed=7)          # the same on every machine
    with Lockstep(config) as lockstep:
        print(judge(lockstep, spoiled.case).failure)   # empty where all is well

`spoil` makes the program, `ends` says how it may end, `judge` runs it and checks what it left, `campaign` runs many.
"""

from tidemill_verif.illegal_programs.ends import Ends, TooLong, possible_ends
from tidemill_verif.illegal_programs.judge import Verdict, judge
from tidemill_verif.illegal_programs.spoil import KINDS, Spoiled, spoil

__all__ = ["KINDS", "Ends", "Spoiled", "TooLong", "Verdict", "judge", "possible_ends", "spoil"]
