"""The arena's plan by constraint programming: OR-tools' CP-SAT, package `ortools` (extra `planner`).

A tensor is a rectangle, its operations wide and its bytes high; rectangles must not overlap, and the highest end is to
be lowest. The greedy plan is the start, so the result is never worse.
"""

from __future__ import annotations

from ortools.sat.python import cp_model

from tidemill.compiler.dram import Lifetime, first_fit, lower_bound
from tidemill.program import BUFFER_ALIGNMENT

SECONDS = 10.0
"""Time for one plan."""


def optimal_fit(lifetimes: list[Lifetime], seconds: float = SECONDS) -> dict[int, int]:
    """Offsets by `id(tensor)` with the smallest arena that is found within `seconds`; the same ones every time unless
    the time runs out."""
    start = first_fit(lifetimes)
    peak = max((start[id(life.tensor)] + life.nbytes for life in lifetimes), default=0)
    if peak == lower_bound(lifetimes):
        return start
    model = cp_model.CpModel()
    largest = peak // BUFFER_ALIGNMENT
    top = model.new_int_var(lower_bound(lifetimes) // BUFFER_ALIGNMENT, largest, "top")
    offsets = []
    times, places = [], []
    for number, life in enumerate(lifetimes):
        height = life.nbytes // BUFFER_ALIGNMENT
        offset = model.new_int_var(0, largest - height, f"offset{number}")
        model.add_hint(offset, start[id(life.tensor)] // BUFFER_ALIGNMENT)
        model.add(offset + height <= top)
        times.append(model.new_fixed_size_interval_var(life.first, life.last - life.first + 1, f"time{number}"))
        places.append(model.new_fixed_size_interval_var(offset, height, f"place{number}"))
        offsets.append(offset)
    model.add_no_overlap_2d(times, places)
    model.minimize(top)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return start
    return {
        id(life.tensor): solver.value(offset) * BUFFER_ALIGNMENT
        for life, offset in zip(lifetimes, offsets, strict=True)
    }
