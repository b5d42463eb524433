"""What each engine gets to do in a program and where it faults first, worked out engine by engine without time.

Programs are independent of data: registers, loops and addresses do not depend on what the memories hold. So the
frontend's path, each engine's instructions and the first fault of each are facts of the program; only which fault comes
first, and how far the others got, is a matter of timing. The simulator's own frontend and engines work them out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tidemill.csr import Unit
from tidemill.isa import ENGINES, Engine
from tidemill.iss.engines import Window
from tidemill.iss.frontend import Instruction
from tidemill.iss.machine import Failure, Machine
from tidemill.iss.memory import Levels, MachineFault, cut, first_outside, walk
from tidemill.iss.timing import Timing
from tidemill_verif.random_programs.case import MEM_SIZE, Case, image

STEPS = 20_000
"""Instructions that a program may execute."""
ROWS = 20_000
"""Rows that all engines together may touch before their first faults; lines of no rows count as well."""
AHEAD = 8
"""Instructions that an engine may take after one that will fault."""

MATRIX = Engine.MATRIX - 1
_ALL = (1 << len(ENGINES)) - 1


class TooLong(Exception):
    """The program executes more than `STEPS` instructions or touches more than `ROWS` rows."""


@dataclass(frozen=True)
class Step:
    """One instruction that the frontend hands on or stops at. `engine` is a position in `ENGINES`, None for a fence or
    halt with the engines `mask`."""

    index: int
    engine: int | None
    wait: int = 0
    signal: int = 0
    mask: int = 0
    halt: bool = False


@dataclass(frozen=True)
class Streams:
    """`steps` of the frontend in order and `failure` that ends them (None: halt). `faults` of each engine: position
    among its steps and failure of its first one. `overtaking`: faults of the matrix engine that may be reported before
    its first one, and `passed`, positions of weight loads after its first fault that may yet complete."""

    steps: tuple[Step, ...]
    failure: Failure | None
    faults: dict[int, tuple[int, Failure]]
    overtaking: tuple[Failure, ...]
    passed: frozenset[int]


def streams(case: Case) -> Streams:
    """The streams of `case`. Raises `TooLong`."""
    return _Unrolled(case).streams()


class _Unrolled:
    def __init__(self, case: Case) -> None:
        dram = np.zeros(MEM_SIZE, np.uint8)
        dram[case.address : case.address + len(case.code)] = np.frombuffer(case.code, np.uint8)
        if case.prog_addr is not None or case.prog_len is not None:
            dram[:] = image(case.config, case.image).dram
            dram[case.address : case.address + len(case.code)] = np.frombuffer(case.code, np.uint8)
        self.machine = Machine(case.config, dram, Timing())
        address, length = case.kept_start
        self.machine.start(address, length, Window(*case.read_window), Window(*case.write_window), case.watchdog)
        self._rows = 0

    def streams(self) -> Streams:
        frontend = self.machine.frontend
        steps: list[Step] = []
        work: list[list[tuple[Step, Instruction, dict[str, int]]]] = [[] for _ in ENGINES]
        failure = None
        for _ in range(STEPS):
            index = frontend.pc
            try:
                instruction = frontend.current()
                if instruction.queue >= 0:
                    values = frontend.operands(instruction)
                    steps.append(Step(index, instruction.queue, values["wait"], values["signal"]))
                    work[instruction.queue].append((steps[-1], instruction, values))
                    frontend.pc += 1
                elif instruction.mnemonic == "halt":
                    steps.append(Step(index, None, mask=_ALL, halt=True))
                    break
                else:
                    if instruction.mnemonic == "fence":
                        steps.append(Step(index, None, mask=instruction.values["engines"]))
                    frontend.step(instruction)
            except MachineFault as fault:
                failure = Failure(fault.cause, Unit.FRONTEND, index, fault.info)
                break
        else:
            raise TooLong
        faults: dict[int, tuple[int, Failure]] = {}
        overtaking: list[Failure] = []
        passed: set[int] = set()
        for engine, items in enumerate(work):
            for position, (step, instruction, values) in enumerate(items):
                found = self._fault(engine, step, instruction, values)
                if found is not None:
                    faults[engine] = position, found
                    if engine == MATRIX:
                        self._overtake(items[position:], position, overtaking, passed)
                    break
        return Streams(tuple(steps), failure, faults, tuple(overtaking), frozenset(passed))

    def _overtake(
        self,
        items: list[tuple[Step, Instruction, dict[str, int]]],
        position: int,
        overtaking: list[Failure],
        passed: set[int],
    ) -> None:
        """Weights load beside runs: their faults and those of runs that do not wait for them may change places."""
        spoiled = items[0][1].mnemonic == "mx.wload"
        for ahead, (step, instruction, values) in enumerate(items[1 : AHEAD + 1], 1):
            if instruction.mnemonic == "mx.run" and (values["swap"] or not spoiled):
                return
            found = self._fault(MATRIX, step, instruction, values)
            if found is not None:
                overtaking.append(found)
                return
            if instruction.mnemonic == "mx.wload":
                passed.add(position + ahead)

    def _fault(self, engine: int, step: Step, instruction: Instruction, values: dict[str, int]) -> Failure | None:
        """Let the engine of the simulator execute one instruction."""
        self._count(engine, instruction.mnemonic, values)
        machine, mnemonic = self.machine, instruction.mnemonic
        word = instruction.word & 0xFFFF_FFFF
        try:
            if mnemonic == "ld.run":
                machine.load.run(values)
            elif mnemonic == "st.run":
                machine.store.run(values)
            elif mnemonic == "mx.wload":
                machine.matrix.wload(values, word)
            elif mnemonic == "mx.run":
                machine.matrix.run(values, word)
            elif mnemonic == "vx.param":
                machine.vector.param(values)
            elif mnemonic == "vx.lut":
                machine.vector.lut(values)
            elif "post" in values:
                machine.vector.operate(mnemonic, values)
            else:
                (machine.load, machine.store, machine.matrix, machine.vector)[engine].configure(mnemonic, values)
        except MachineFault as fault:
            return Failure(fault.cause, Unit(Unit.LOAD + engine), step.index, fault.info)
        return None

    def _count(self, engine: int, mnemonic: str, values: dict[str, int]) -> None:
        """Raises `TooLong` where an instruction is too much."""
        machine, config = self.machine, self.machine.config
        if mnemonic in ("ld.run", "st.run"):
            state = (machine.load, machine.store)[engine].configuration
            line = values["n0"] + (state["pad_lo"] + state["pad_hi"] if engine == 0 else 0)
            levels: Levels = ((values["n2"], state["d2"]), (values["n1"], state["d1"]), (max(1, line), 1))
            walks = [(values["src" if engine else "dst"], levels)] if line else []
            rows = values["n2"] * values["n1"] * max(1, line)
            if values["n0"] and rows > ROWS:
                rows = min(rows, self._lines(engine, values, state) * line)
        elif mnemonic == "mx.run":
            act, acc = machine.matrix.activation, machine.matrix.accumulator
            walks = [
                (values["act"], tuple((act[f"n{k}"], act[f"s{k}"]) for k in (2, 1, 0))),
                (values["acc"], tuple((act[f"n{k}"], acc[f"t{k}"]) for k in (2, 1, 0))),
            ]
            rows = act["n0"] * act["n1"] * act["n2"]
        elif "post" in values:
            setting = machine.vector.configuration
            dims = setting["vx.dims"]
            window = dims["k0"] * dims["k1"]
            names = ("n1", "n0", "k1", "k0")
            walks = [(values["a"], tuple((dims[n], setting["vx.astride"][n]) for n in names))]
            if not values["b_imm"]:
                walks.append((values["b"], tuple((dims[n], setting["vx.bstride"][n]) for n in names)))
            walks.append((values["dst"], ((dims["n1"], dims["d1"]), (dims["n0"], dims["d0"]), (window, 0))))
            rows = dims["n1"] * dims["n0"] * window
        else:
            walks, rows = [], 1
        if rows > ROWS:
            for address, steps in walks:
                depth = config.acc_rows if address >> 15 else config.spad_rows
                outside = first_outside(address, steps, depth)
                rows = rows if outside is None else min(rows, outside)
        self._rows += rows
        if self._rows > ROWS:
            raise TooLong

    def _lines(self, engine: int, values: dict[str, int], state: dict[str, int]) -> int:
        """Lines of a long transfer before one that the window refuses."""
        window = (self.machine.load, self.machine.store)[engine].window
        counts = cut(((values["n2"], state["s2"]), (values["n1"], state["s1"])), ROWS)
        lines = (values["dram"] + walk(*counts).offsets) & 0xFFFF_FFFF
        bad = (lines < window.base) | (lines > window.limit)
        return int(np.argmax(bad)) if bad.any() else values["n2"] * values["n1"]
