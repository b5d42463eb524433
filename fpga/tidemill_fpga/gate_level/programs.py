"""Random programs on a netlist and on the simulator.

Nothing inside a netlist has a name. Before each program another one fills all local memories and the vector unit's
table from DRAM, and one after it stores scratchpad and accumulators to DRAM, so that every byte is compared all the
same; the table shows in what programs make of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from tidemill.builder import ProgramBuilder, acc, spad
from tidemill.config import Config
from tidemill.csr import offset
from tidemill.driver.errors import DeviceError
from tidemill.iss.device import IssDevice
from tidemill_verif.random_programs.case import MEM_SIZE, Case, Image, image
from tidemill_verif.random_programs.generate import generate
from tidemill_verif.random_programs.lockstep import (
    DONE,
    MAX_CYCLES,
    Difference,
    Outcome,
    difference,
    read_registers,
    run_case,
)
from tidemill_verif.rtl_device.model import RtlDevice

CODE = MEM_SIZE
"""Where in DRAM the programs that fill and store lie, behind everything that random programs reach."""
DATA = CODE + (1 << 14)
"""Where the content of the local memories lies: table, accumulators, scratchpad."""
ROWS = 512
"""Rows that one instruction moves."""
PATIENCE = 20
"""Times the simulator's cycles, and more, that a program may take with the slowest memory."""
SEQUENTIAL = 50
"""So many times longer where there is one sequencer: the simulator counts cycles of engines side by side."""


def data_bytes(config: Config) -> int:
    """Bytes of table, accumulators and scratchpad."""
    return 1024 + config.acc_rows * config.acc_row_bytes + config.spad_rows * config.spad_row_bytes


def memory_size(config: Config) -> int:
    """Bytes of DRAM that a device needs here."""
    return -(-(DATA + data_bytes(config)) // 4096) * 4096


def fill_program(config: Config) -> tuple[int, ...]:
    """Loads the table and all local memories from `DATA`."""
    b = ProgramBuilder(config)
    b.ld_run(dst=acc(0), dram=DATA, n0=1024 // config.acc_row_bytes)
    b.fence()
    b.vx_lut(src=acc(0))
    b.fence()
    for place, row, count, dram in _pieces(config):
        b.ld_run(dst=acc(row) if place == "acc" else spad(row), dram=dram, n0=count)
    b.halt()
    return b.build().words


def store_program(config: Config) -> tuple[int, ...]:
    """Stores all local memories to `DATA`, behind the table's place."""
    b = ProgramBuilder(config)
    for place, row, count, dram in _pieces(config):
        b.st_run(src=acc(row) if place == "acc" else spad(row), dram=dram, n0=count)
    b.halt()
    return b.build().words


def _pieces(config: Config) -> Iterator[tuple[str, int, int, int]]:
    """(memory, first row, rows, first byte of DRAM) of transfers that cover both memories."""
    dram = DATA + 1024
    for place, rows, size in (
        ("acc", config.acc_rows, config.acc_row_bytes),
        ("spad", config.spad_rows, config.spad_row_bytes),
    ):
        for row in range(0, rows, ROWS):
            count = min(ROWS, rows - row)
            yield place, row, count, dram
            dram += count * size


class Comparison:
    """A netlist, opened with `memory_size` bytes of DRAM, and the simulator beside it."""

    def __init__(self, gates: RtlDevice) -> None:
        self.config = config = gates.config
        self._gates = gates
        self._iss = IssDevice(config, mem_size=memory_size(config))
        self._fill, self._store = (self._around(make(config)) for make in (fill_program, store_program))

    def _around(self, words: tuple[int, ...]) -> Case:
        everything = (0, memory_size(self.config) - 1)
        return Case(self.config, 0, words, CODE, everything, everything, 0, watchdog=0)

    def compare(self, seed: int) -> tuple[Difference | None, int]:
        """What differs first in the random program of `seed`, and its cycles on the netlist.

        Raises `DeviceError` where the simulator does not end the program, which is not the netlist's fault.
        """
        case = generate(self.config, seed)
        start = image(self.config, case.image)
        iss = self._outcome(self._iss, case, start, MAX_CYCLES)
        if not iss.done:
            raise DeviceError(f"random program {seed} does not end on the simulator: {iss.end}")
        patience = PATIENCE * (SEQUENTIAL if self.config.sequential else 1)
        gates = self._outcome(self._gates, case, start, patience * iss.cycles + case.watchdog)
        return difference(gates, iss), gates.cycles

    def _outcome(self, device: RtlDevice | IssDevice, case: Case, start: Image, max_cycles: int) -> Outcome:
        content = np.concatenate([part.view(np.uint8).reshape(-1) for part in (start.table, start.acc, start.spad)])
        device.memory[DATA : DATA + len(content)] = content
        breach, finished = "", False
        registers, counters, cycles = read_registers(lambda _: 0)
        try:
            self._run_alone(device, self._fill)
            device.memory[:MEM_SIZE] = start.dram
            device.mem_write(case.address, case.code)
            if isinstance(device, RtlDevice):
                device.set_timing(**asdict(case.bus))
            finished = run_case(device, case, max_cycles)
            if finished:
                registers, counters, cycles = read_registers(device.csr_read)
                self._run_alone(device, self._store)
        except DeviceError as error:
            breach = str(error)
        dram = device.memory[:MEM_SIZE].copy()
        split = DATA + 1024 + start.acc.nbytes
        acc_rows = device.memory[DATA + 1024 : split].copy().view(np.int32).reshape(start.acc.shape)
        spad_rows = device.memory[split : split + start.spad.nbytes].copy().view(np.int8).reshape(start.spad.shape)
        return Outcome(dram, spad_rows, acc_rows, start.table, registers, counters, cycles, finished, breach)

    def _run_alone(self, device: RtlDevice | IssDevice, case: Case) -> None:
        if isinstance(device, RtlDevice):
            device.set_timing()
        device.mem_write(CODE, case.code)
        if not run_case(device, case, PATIENCE * data_bytes(self.config)):
            raise DeviceError(f"a program of {len(case.words)} transfers does not end")
        if device.csr_read(offset("STATUS")) != DONE:
            raise DeviceError(f"a program of {len(case.words)} transfers ends with an error")

    def close(self) -> None:
        """Free the simulator; the netlist stays open."""
        self._iss.close()
