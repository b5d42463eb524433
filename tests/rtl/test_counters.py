"""Counters: work is counted exactly, and each cause of a stall shows in its own counter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import tidemill as tm
from tidemill.builder import BufferRef, ProgramBuilder, acc, spad
from tidemill.config import preset
from tidemill.csr import COUNTERS

TINY = preset("tiny")
ROWS = 200
WORK = ("INSTRUCTIONS", "MATRIX_ROWS", "VECTOR_ROWS", "READ_BEATS", "WRITE_BEATS")
ACC_BANK = TINY.acc_rows // TINY.acc_banks

Emit = Callable[[ProgramBuilder], object]


def counters(emit: Emit, device: str = "rtl", **options: object) -> dict[str, int]:
    """Counters of a program with buffers A and C of ROWS scratchpad rows, and W of ROWS accumulator rows."""
    b = ProgramBuilder(TINY)
    b.buffer("A", "int8", (ROWS, TINY.rows))
    b.buffer("C", "int8", (ROWS, TINY.rows))
    b.buffer("W", "int32", (ROWS, TINY.cols))
    emit(b)
    b.halt()
    with tm.open(device, preset="tiny", **options) as dev:
        return dev.run(dev.load(b.build()), outputs=[]).counters


def load(b: ProgramBuilder, **semaphores: object) -> None:
    b.ld_run(dst=spad(0), dram=BufferRef("A", ROWS * TINY.rows), n0=ROWS, **semaphores)


def store(b: ProgramBuilder, row: int = 0, **semaphores: object) -> None:
    b.st_run(src=spad(row), dram=BufferRef("C", ROWS * TINY.rows), n0=ROWS, **semaphores)


def vector(b: ProgramBuilder, **semaphores: object) -> None:
    """Both operands from scratchpad bank 0 into accumulator bank 0."""
    b.vx_dims(n0=ROWS, d0=1)
    b.vx_astride(n0=1)
    b.vx_bstride(n0=1)
    b.vx_add(dst=acc(0), a=spad(0), b=spad(300), **semaphores)


def matrix(b: ProgramBuilder, **semaphores: object) -> None:
    b.mx_act(n0=ROWS, s0=1)
    b.mx_acc(t0=1)
    b.mx_wload(src=spad(0), **semaphores)
    b.mx_run(act=spad(0), acc=acc(0))


def vector_beside_store(b: ProgramBuilder) -> None:
    vector(b)
    store(b)


def vector_beside_load(b: ProgramBuilder) -> None:
    vector(b)
    b.ld_run(dst=acc(0), dram=BufferRef("W", 4 * ROWS * TINY.cols), n0=ROWS)


def weights_beside_activations(b: ProgramBuilder) -> None:
    matrix(b)
    b.mx_wload(src=spad(0))


def after(first: Emit, second: Emit) -> Emit:
    """`second` waits for a semaphore of `first`."""

    def emit(b: ProgramBuilder) -> None:
        ready = b.semaphore("ready")
        first(b, signal=[ready])  # type: ignore[call-arg]
        second(b, wait=[ready])  # type: ignore[call-arg]

    return emit


def matrix_after_load(b: ProgramBuilder) -> None:
    ready = b.semaphore("ready")
    load(b, signal=[ready])
    matrix(b, wait=[ready])


def vector_after_load(b: ProgramBuilder) -> None:
    ready = b.semaphore("ready")
    load(b, signal=[ready])
    b.vx_sync(wait=[ready])


def many_stores(b: ProgramBuilder) -> None:
    for _ in range(3 * TINY.queue_depth):
        store(b)


STALLS: dict[str, tuple[Emit, dict[str, object]]] = {
    "SEM_LOAD": (after(store, load), {}),
    "SEM_STORE": (after(load, store), {}),
    "SEM_MATRIX": (matrix_after_load, {}),
    "SEM_VECTOR": (vector_after_load, {}),
    "QUEUE_FULL": (many_stores, {}),
    "FETCH_WAIT": (store, {"read_latency": 200}),
    "BUS_READ_WAIT": (load, {"read_latency": 200}),
    "BUS_WRITE_WAIT": (store, {"bandwidth": 0.25}),
    "CONFLICT_LOAD": (vector_beside_load, {}),
    "CONFLICT_STORE": (vector_beside_store, {}),
    "CONFLICT_MATRIX": (weights_beside_activations, {}),
    "CONFLICT_VECTOR": (vector, {}),
}
"""By counter: a program, and the bus, that makes it count at least 40 cycles."""


@pytest.mark.parametrize("name", STALLS)
def test_a_stall_shows_in_its_own_counter(name: str) -> None:
    emit, options = STALLS[name]
    assert counters(emit, **options)[name] >= 40


def test_a_program_without_conflicts_counts_none() -> None:
    counted = counters(after(load, store))
    for name in ("SEM_LOAD", "SEM_MATRIX", "SEM_VECTOR", "BUSY_MATRIX", "BUSY_VECTOR", "MATRIX_ROWS", "VECTOR_ROWS"):
        assert counted[name] == 0, name
    assert not any(counted[counter.name] for counter in COUNTERS if counter.name.startswith("CONFLICT"))
    for name in ("BUSY_LOAD", "BUSY_STORE"):
        assert ROWS <= counted[name] <= counted["CYCLES"], name


@pytest.mark.parametrize(("emit", "busy"), [(matrix, "BUSY_MATRIX"), (vector, "BUSY_VECTOR")])
def test_an_engine_is_busy_while_it_works(emit: Emit, busy: str) -> None:
    counted = counters(emit)
    assert ROWS <= counted[busy] <= counted["CYCLES"]


@pytest.mark.parametrize("mode", ["none", "tflite"])
def test_work_is_counted_like_the_simulator_counts_it(mode: str) -> None:
    rng = np.random.default_rng(6)
    a, b = (rng.integers(-128, 128, shape, dtype=np.int8) for shape in ((37, 50), (50, 29)))
    requant = None if mode == "none" else tm.Requant.from_scale(0.001)
    work = {}
    for device in ("iss", "rtl"):
        with tm.open(device, preset="tiny") as dev:
            counted = tm.run_gemm(dev, a, b, requant=requant).counters
            work[device] = [counted[name] for name in WORK]
    assert work["rtl"] == work["iss"]
    assert len(set(work["rtl"])) == len(WORK), "numbers that differ tell a swapped wire"
