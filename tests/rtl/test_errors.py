"""Every hardware error, on the simulator and on the hardware: the same report, and a working machine afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tidemill as tm
from tidemill.builder import ProgramBuilder, acc, spad
from tidemill.csr import Cause, Unit, bit
from tidemill.isa import Post, encode
from tidemill_verif.error_programs import (
    CONFIG,
    CYCLES,
    FRONTEND_CASES,
    GROUPS,
    MEM_SIZE,
    WATCHDOG,
    Case,
    dump,
    fill,
    good_program_works,
    judge,
    read,
    start,
    write,
)  # fmt: skip

DEVICES: dict[str, tuple[str, dict[str, Any]]] = {
    "iss": ("iss", {}),
    "rtl": ("rtl", {}),
    "rtl with stalls": ("rtl", {"stall_probability": 0.4, "seed": 3, "read_latency": 50, "write_latency": 40}),
}
"""Name and options."""
CASES = [pytest.param(case, id=f"{group}: {case.name}") for group, cases in GROUPS.items() for case in cases]


def open_device(name: str, errors: list[tuple[int, int, str, str]] | None = None) -> tm.Npu:
    device, options = DEVICES[name]
    return tm.open(device, preset="tiny", mem_size=MEM_SIZE, errors=errors or [], **options)


@pytest.fixture(scope="module")
def machines() -> Iterator[dict[str, tm.Npu]]:
    """All devices, without bus errors."""
    opened = {name: open_device(name) for name in DEVICES}
    yield opened
    for npu in opened.values():
        npu.close()


@pytest.mark.parametrize("case", CASES)
def test_an_error_is_reported_and_the_machine_recovers(case: Case, machines: dict[str, tm.Npu]) -> None:
    contents = {}
    for name in DEVICES:
        npu = open_device(name, case.errors) if case.errors else machines[name]
        wrong, contents[name] = judge(npu, case)
        assert not wrong, f"{name}: {wrong}"
        if case.errors:
            npu.close()
    for name, content in contents.items():
        assert content == contents["iss"], f"{name}: rows written before the error differ"


@pytest.mark.parametrize("name", DEVICES)
def test_start_is_ignored_until_the_error_is_cleared(name: str, machines: dict[str, tm.Npu]) -> None:
    npu = machines[name]
    start(npu, FRONTEND_CASES[0])
    assert npu.device.run(CYCLES)
    write(npu, "IRQ_STATUS", bit("IRQ_STATUS", "error"))
    write(npu, "CONTROL", bit("CONTROL", "start"))
    assert not npu.device.run(1000)
    assert read(npu, "STATUS") & bit("STATUS", "error")
    assert read(npu, "ERROR_CAUSE") == Cause.ILLEGAL_OPCODE
    npu.soft_reset()
    good_program_works(npu, seed=7)


@pytest.mark.parametrize("name", DEVICES)
def test_the_driver_raises_with_the_source_line(name: str, machines: dict[str, tm.Npu]) -> None:
    npu = machines[name]
    b = ProgramBuilder(CONFIG)
    data = b.buffer("data", "int8", (4, 4))
    ready = b.semaphore("ready")
    b.ld_run(dst=spad(0), dram=data, n0=4, signal=[ready])
    b.st_run(src=spad(0), dram=data, n0=4, wait=[ready])
    b.st_sync(wait=[ready])
    b.halt()
    with pytest.raises(tm.HardwareError) as info:
        npu.run(npu.load(b.build()), inputs={"data": np.zeros((4, 4), np.int8)}, watchdog=WATCHDOG)
    error = info.value
    assert (error.cause, error.unit, error.index, error.info) == (Cause.WATCHDOG, Unit.SYNC, 2, 1)
    assert str(error) == (
        "WATCHDOG in SYNC at instruction 2: st.sync wait=1: no instruction made progress for WATCHDOG cycles "
        "(info 0x1: ready)"
    )
    good_program_works(npu, seed=8)


@pytest.mark.parametrize("name", DEVICES)
def test_loops_of_no_turns_and_transfers_of_no_rows_do_nothing(name: str, machines: dict[str, tm.Npu]) -> None:
    npu = machines[name]
    fill(npu, seed=9)
    before = dump(npu)
    start(npu, Case("", [
        encode("loop", count=0, rs=0, length=2), 0xFF, encode("endloop"),
        encode("ld.run", dst=0, dram=0, n0=0), encode("st.run", src=0, dram=3, n0=0, signal=1),
        encode("ld.sync", wait=1),
    ], Cause.NONE, Unit.FRONTEND, 0, 0))  # fmt: skip
    assert npu.device.run(CYCLES)
    assert read(npu, "IRQ_STATUS") == bit("IRQ_STATUS", "done")
    write(npu, "IRQ_STATUS", bit("IRQ_STATUS", "done"))
    assert read(npu, "STATUS") == bit("STATUS", "done")
    assert dump(npu) == before


@pytest.mark.parametrize("name", DEVICES)
def test_an_upper_clamp_limit_below_the_lower_one_wins(name: str, machines: dict[str, tm.Npu]) -> None:
    npu = machines[name]
    rows = np.array([[-128, -20, -10, 0], [5, 30, 127, 29]], np.int8)
    b = ProgramBuilder(CONFIG)
    a, params, out = b.buffer("A", "int8", (2, 4)), b.buffer("P", "int32", (3, 4)), b.buffer("C", "int8", (4, 4))
    b.ld_run(dst=spad(0), dram=a, n0=2)
    b.ld_run(dst=acc(0), dram=params, n0=3)
    b.fence()
    b.vx_dims(n0=2, d0=1)
    b.vx_astride(n0=1)
    b.vx_quant(qmin=30, qmax=-20)
    b.vx_param(src=acc(0))
    b.vx_clamp(dst=spad(2), a=spad(0), b=0)
    b.vx_add(dst=spad(4), a=spad(0), b=0, post=Post.RQ)
    b.fence()
    b.st_run(src=spad(2), dram=out, n0=4)
    b.halt()
    identity = np.array([[0] * 4, [1 << 30] * 4, [1] * 4], np.int32)
    result = npu.run(npu.load(b.build()), inputs={"A": rows, "P": identity})
    np.testing.assert_array_equal(result.outputs["C"], np.full((4, 4), -20, np.int8))
