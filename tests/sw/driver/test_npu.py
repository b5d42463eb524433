"""The driver on the simulator: placement, runs, errors and recovery."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tidemill as tm
from tidemill.csr import MAGIC, Cause, Unit, bit, offset
from tidemill.driver.buffers import Arena
from tidemill.driver.device import open_device
from tidemill.driver.npu import Npu
from tidemill.isa import encode
from tidemill.program import BufferDecl, Program, Relocation, SourceLine

CONFIG = tm.preset("tiny")
R = CONFIG.rows
ACC = 1 << 15
ROWS = 20
HALT = encode("halt")


def gemm(weights: np.ndarray) -> Program:
    """y[ROWS, R] = x @ weights."""
    words = (
        encode("ld.run", dst=0, dram=0, n0=ROWS, signal=1),
        encode("ld.run", dst=1000, dram=0, n0=R, signal=2),
        encode("mx.act", n0=ROWS, s0=1),
        encode("mx.acc", t0=1),
        encode("mx.wload", src=1000, wait=2),
        encode("mx.run", act=0, acc=ACC, wait=1, signal=4),
        encode("st.run", src=ACC, dram=0, n0=ROWS, wait=4),
        HALT,
    )
    buffers = {
        "x": BufferDecl("x", "int8", (ROWS, R)),
        "w": BufferDecl("w", "int8", (R, R), weights.tobytes()),
        "y": BufferDecl("y", "int32", (ROWS, R)),
    }
    relocations = tuple(Relocation(index, "dram", name) for index, name in ((0, "x"), (1, "w"), (6, "y")))
    return Program(CONFIG, words, buffers, relocations)


def arrays(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, (ROWS, R), dtype=np.int8), rng.integers(-128, 128, (R, R), dtype=np.int8)


def test_programs_run_again_with_new_inputs_side_by_side() -> None:
    (x1, w1), (x2, w2) = arrays(1), arrays(2)
    with tm.open("iss", preset="tiny", mem_size=1 << 16) as npu:
        one, two = npu.load(gemm(w1)), npu.load(gemm(w2))
        for loaded, x, w in ((one, x1, w1), (two, x1, w2), (one, x2, w1), (one, x2, w1)):
            result = npu.run(loaded, {"x": x})
            np.testing.assert_array_equal(result.outputs["y"], x.astype(int) @ w.astype(int))
            assert result.cycles == result.counters["CYCLES"] > ROWS
            assert result.counters["MATRIX_ROWS"] == ROWS
            assert result.counters["INSTRUCTIONS"] == 8
        assert npu.run(one, outputs=["w"]).outputs.keys() == {"w"}
        np.testing.assert_array_equal(one.buffer("y").read(), x2.astype(int) @ w1.astype(int))


def test_a_slower_memory_takes_more_cycles() -> None:
    x, w = arrays(3)
    cycles = []
    for options in ({}, {"read_latency": 200}, {"bandwidth": 0.25}):
        with tm.open("iss", config=CONFIG, **options) as npu:
            cycles.append(npu.run(npu.load(gemm(w)), {"x": x}).cycles)
    assert cycles[1] > cycles[0] + 150
    assert cycles[2] > cycles[0] + 60


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.zeros((ROWS, R), np.int32)}, "holds int8, not int32"),
        ({"x": np.zeros((R, ROWS), np.int8)}, r"has shape \(20, 4\), not \(4, 20\)"),
        ({"z": np.zeros(1)}, "no buffer 'z'; its buffers: x, w, y"),
        ({"w": np.zeros((R, R), np.int8)}, "is a constant"),
    ],
)
def test_wrong_inputs_are_refused(inputs: dict[str, np.ndarray], message: str) -> None:
    with tm.open("iss", preset="tiny") as npu:
        loaded = npu.load(gemm(arrays(4)[1]))
        with pytest.raises(tm.BufferMismatch, match=message):
            npu.run(loaded, inputs)


def test_a_program_of_another_configuration_is_refused() -> None:
    with tm.open("iss") as npu, pytest.raises(tm.ProgramMismatch, match=r"'tiny' \(0x.*'base' \(0x"):
        npu.load(gemm(arrays(5)[1]))


def test_a_device_of_another_configuration_is_refused() -> None:
    device = open_device("iss", CONFIG)
    read = device.csr_read
    for name, value, kind in (
        ("MAGIC", 0, tm.DeviceError),
        ("ISA_VERSION", 9, tm.ProgramMismatch),
        ("CONFIG_HASH", 1, tm.ProgramMismatch),
    ):
        device.csr_read = lambda at, name=name, value=value: value if at == offset(name) else read(at)
        with pytest.raises(kind):
            Npu(device)
    assert read(offset("MAGIC")) == MAGIC


def test_a_hardware_error_names_its_source_and_the_machine_works_again() -> None:
    x, w = arrays(6)
    good = gemm(w)
    source = tuple(SourceLine("bad.tasm", number + 1, f"line {number + 1}") for number in range(8))
    words = list(good.words)
    words[5] = encode("mx.run", act=4090, acc=ACC, wait=1, signal=4)
    with tm.open("iss", preset="tiny") as npu:
        for program, text in (
            (dataclasses.replace(good, words=tuple(words)), "mx.run wait=1, signal=4, act=4090, acc=32768"),
            (dataclasses.replace(good, words=tuple(words), source=source), "line 6"),
        ):
            with pytest.raises(tm.HardwareError) as caught:
                npu.run(npu.load(program), {"x": x})
            error = caught.value
            assert (error.cause, error.unit, error.index, error.info) == (Cause.LOCAL_RANGE, Unit.MATRIX, 5, 4096)
            assert error.instruction == text
            assert "LOCAL_RANGE in MATRIX at instruction 5" in str(error)
        assert error.location == "bad.tasm:6"
        result = npu.run(npu.load(good), {"x": x})
        np.testing.assert_array_equal(result.outputs["y"], x.astype(int) @ w.astype(int))


def test_transfers_stay_within_the_program_s_buffers() -> None:
    x, w = arrays(7)
    program = gemm(w)
    words = (*program.words[:6], encode("st.run", src=ACC, dram=256, n0=ROWS, wait=4), HALT)
    with tm.open("iss", preset="tiny") as npu, pytest.raises(tm.HardwareError, match="WINDOW in STORE"):
        npu.run(npu.load(dataclasses.replace(program, words=words)), {"x": x})


def test_timeout_and_watchdog_stop_a_deadlock() -> None:
    x, w = arrays(8)
    with tm.open("iss", preset="tiny") as npu:
        stuck = npu.load(Program(CONFIG, (encode("ld.sync", wait=2), HALT)))
        with pytest.raises(tm.Timeout, match="5000 cycles"):
            npu.run(stuck, timeout_cycles=5000, watchdog=0)
        with pytest.raises(tm.HardwareError, match="WATCHDOG") as caught:
            npu.run(stuck, watchdog=100)
        assert caught.value.index == 0
        assert caught.value.info == 2
        result = npu.run(npu.load(gemm(w)), {"x": x})
        np.testing.assert_array_equal(result.outputs["y"], x.astype(int) @ w.astype(int))


def test_user_interrupts_reach_the_host_in_order() -> None:
    codes: list[int] = []
    words = (encode("irq", code=7), encode("irq", code=9), HALT)
    with tm.open("iss", preset="tiny") as npu:
        loaded = npu.load(Program(CONFIG, words))
        npu.run(loaded, on_irq=codes.append)
        npu.run(loaded)
    assert codes == [7, 9]


def test_start_is_ignored_while_an_error_stands() -> None:
    device = open_device("iss", CONFIG)
    device.csr_write(offset("PROG_LEN"), 0)
    device.csr_write(offset("CONTROL"), bit("CONTROL", "start"))
    assert not device.run(1000)
    assert device.csr_read(offset("STATUS")) == bit("STATUS", "error")
    device.csr_write(offset("CONTROL"), bit("CONTROL", "start"))
    assert device.csr_read(offset("ERROR_CAUSE")) == Cause.PC_RANGE
    device.csr_write(offset("IRQ_ENABLE"), bit("IRQ_ENABLE", "error"))
    assert device.run(1)
    device.csr_write(offset("CONTROL"), bit("CONTROL", "soft_reset"))
    assert device.csr_read(offset("STATUS")) == 0
    assert device.csr_read(offset("ERROR_CAUSE")) == 0


def test_buffers_are_typed_and_memory_is_reused() -> None:
    with tm.open("iss", preset="tiny", mem_size=8192) as npu:
        buffer = npu.alloc("a", (3, 5), np.int16)
        data = np.arange(15, dtype=np.int16).reshape(3, 5)
        buffer.write(data)
        np.testing.assert_array_equal(buffer.read(), data)
        with pytest.raises(tm.OutOfMemory, match="no room for 4096 bytes: 4032"):
            npu.alloc(None, (4096,), "int8")
        npu.free(buffer)
        assert npu.alloc(None, (4096,), "int8").address == 0x1000
        with pytest.raises(tm.BufferMismatch, match="cannot hold float64"):
            npu.alloc("b", (1,), np.float64)


def test_the_arena_merges_what_is_given_back() -> None:
    arena = Arena(0, 640)
    addresses = [arena.allocate(100) for _ in range(5)]
    assert addresses == [0, 128, 256, 384, 512]
    for address in (128, 384, 256, 0, 512):
        arena.release(address, 100)
    assert arena.allocate(640) == 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fpga9", {}, "unknown device 'fpga9'; known devices: gates, iss, rtl"),
        ("iss", {"speed": 3}, "does not take these options.*speed"),
        ("iss", {"bandwidth": 2.0}, "bandwidth must be above 0"),
        ("iss", {"read_latency": 0}, "read_latency must be at least 1"),
        ("iss", {"mem_size": 5}, "mem_size must be a multiple of 4096"),
        ("iss", {"preset": "tiny", "config": CONFIG}, "a preset or a config"),
    ],
)
def test_wrong_ways_to_open_a_device_say_why(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(tm.DeviceError, match=message):
        tm.open(name, **options)
