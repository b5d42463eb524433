"""Every hardware error, on the simulator and on the hardware: the same report, and a working machine afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import tidemill as tm
from tidemill.builder import ProgramBuilder, acc, spad
from tidemill.config import preset
from tidemill.csr import Cause, Unit, bit, offset
from tidemill.isa import ACC_SPACE as ACC
from tidemill.isa import INSTRUCTION_BYTES, Post, encode

CONFIG = preset("tiny")
MEM_SIZE = 1 << 20
DEVICES: dict[str, tuple[str, dict[str, Any]]] = {
    "iss": ("iss", {}),
    "rtl": ("rtl", {}),
    "rtl with stalls": ("rtl", {"stall_probability": 0.4, "seed": 3, "read_latency": 50, "write_latency": 40}),
}
"""Name and options."""
PROGRAM = 0x80000
"""Where the bad programs are."""
DATA = 0x90000
"""First byte that they may read and write; 4 KiB, so that the data lie in a page of their own."""
DATA_END = DATA + 0x1000
WATCHDOG = 600
CYCLES = 100_000

NOP, HALT = encode("nop"), encode("halt")
WLOAD = encode("mx.wload", src=0)


@dataclass(frozen=True)
class Case:
    """A program, and the report it must end with."""

    name: str
    words: list[int]
    cause: Cause
    unit: Unit
    index: int
    info: int
    errors: list[tuple[int, int, str, str]] = field(default_factory=list)
    length: int | None = None
    window: tuple[int, int] = (DATA, DATA_END - 1)


def word_info(word: int) -> int:
    """Info of the causes that report the instruction."""
    return word & 0xFFFF_FFFF


def frontend(name: str, words: list[int], cause: Cause, index: int, info: int, **extra: Any) -> Case:
    return Case(name, words, cause, Unit.FRONTEND, index, info, **extra)


def outside(name: str, unit: Unit, words: list[int], row: int) -> Case:
    """The last of `words` reaches the illegal `row`."""
    return Case(name, words, Cause.LOCAL_RANGE, unit, len(words) - 1, row & 0xFFFF_FFFF)


ZERO_FENCE = encode("fence") & ~(15 << 8)
ZERO_COUNT = encode("mx.act") & ~(0xFFF << 40)
BAD_POST = encode("vx.add", dst=0, a=0, b=0, post=Post.LMAX) | 1 << 101
BAD_MODE = encode("vx.quant", mode=2) | 1 << 72
LOOP = encode("loop", count=1, rs=0, length=2)
SKIPPED = encode("loop", count=0, rs=0, length=5)
LONG = encode("loop", count=1, rs=0, length=CONFIG.ibuf_depth)
ENDLOOP = encode("endloop")

FRONTEND_CASES = [
    frontend("opcode", [NOP, 0xAB1F], Cause.ILLEGAL_OPCODE, 1, 0xAB1F),
    frontend("opcode before reserved bits", [1 << 127 | 0xFF], Cause.ILLEGAL_OPCODE, 0, 0xFF),
    frontend("reserved bit", [NOP, NOP, NOP | 1 << 100], Cause.RESERVED_BITS, 2, 0),
    frontend("reserved bit of an engine", [encode("ld.sync", signal=1) | 1 << 40], Cause.RESERVED_BITS, 0, 0x0100_0020),
    frontend("reserved bits before operands", [ZERO_FENCE | 1 << 12], Cause.RESERVED_BITS, 0, 0x1002),
    frontend("fence of nothing", [ZERO_FENCE], Cause.ILLEGAL_OPERAND, 0, 2),
    frontend("count zero", [NOP, ZERO_COUNT], Cause.ILLEGAL_OPERAND, 1, 0x61),
    frontend("post", [BAD_POST], Cause.ILLEGAL_OPERAND, 0, 0x90),
    frontend("mode", [BAD_MODE], Cause.ILLEGAL_OPERAND, 0, 0x84),
    frontend("endloop alone", [NOP, ENDLOOP], Cause.LOOP, 1, 9),
    frontend("endloop too many", [encode("loop", count=2, rs=0, length=1), ENDLOOP, ENDLOOP], Cause.LOOP, 2, 9),
    frontend("loops too deep", [LOOP] * 6, Cause.LOOP, CONFIG.loop_depth, 8),
    frontend("skipped loop too deep", [*[LOOP] * 4, SKIPPED], Cause.LOOP, 4, 8),
    frontend("loop too long", [NOP, LONG], Cause.LOOP, 1, 8),
    frontend("skipped loop too long", [LONG & ~(0xFFFF << 32)], Cause.LOOP, 0, 8),
    frontend("loop longer than it says", [NOP, LOOP, *[NOP] * 80], Cause.LOOP, 1 + CONFIG.ibuf_depth, 0),
    frontend("end of the program", [NOP, NOP], Cause.PC_RANGE, 2, 2, length=2),
    frontend("empty program", [], Cause.PC_RANGE, 0, 0, length=0),
    frontend("loop skipped past the end", [SKIPPED, NOP], Cause.PC_RANGE, 6, 6, length=2),
    frontend(
        "fetch SLVERR", [NOP] * 40, Cause.BUS_SLVERR, 33, PROGRAM + 33 * 16,
        errors=[(PROGRAM + 33 * 16 + 7, PROGRAM + 33 * 16 + 7, "slverr", "read")],
    ),
    frontend(
        "fetch DECERR", [NOP, ENDLOOP], Cause.BUS_DECERR, 1, PROGRAM + 16,
        errors=[(PROGRAM + 31, PROGRAM + 60, "decerr", "read")],
    ),
]  # fmt: skip

LOAD_CASES = [
    Case("below the window", [encode("ld.run", dst=0, dram=DATA - 1, n0=1)], Cause.WINDOW, Unit.LOAD, 0, DATA - 1),
    Case(
        "beyond the window", [encode("ld.run", dst=0, dram=DATA_END - 3, n0=1)],
        Cause.WINDOW, Unit.LOAD, 0, DATA_END - 3,
    ),
    Case(
        "second line beyond the window",
        [encode("ld.stride", s1=0xFF8), encode("ld.dst", d1=8), encode("ld.run", dst=4, dram=DATA, n0=4, n1=2)],
        Cause.WINDOW, Unit.LOAD, 2, DATA + 0xFF8,
    ),
    Case(
        "wraps", [encode("ld.run", dst=0, dram=0xFFFF_FFFE, n0=1)], Cause.WINDOW, Unit.LOAD, 0, 0xFFFF_FFFE,
        window=(0, 0xFFFF_FFFF),
    ),
    outside("beyond the scratchpad", Unit.LOAD, [encode("ld.run", dst=4094, dram=DATA, n0=4)], 4096),
    outside("beyond the accumulators", Unit.LOAD, [encode("ld.run", dst=ACC | 511, dram=DATA, n0=2)], 512),
    outside(
        "below row 0", Unit.LOAD,
        [encode("ld.stride", s1=16), encode("ld.dst", d1=-1), encode("ld.run", dst=1, dram=DATA, n0=1, n1=3)], -1,
    ),
    outside("padding", Unit.LOAD, [encode("ld.dst", pad_hi=2), encode("ld.run", dst=4095, dram=0, n0=0)], 4096),
    Case(
        "SLVERR", [encode("ld.run", dst=0, dram=DATA + 4, n0=8)], Cause.BUS_SLVERR, Unit.LOAD, 0, DATA + 4,
        errors=[(DATA + 17, DATA + 17, "slverr", "read")],
    ),
    Case(
        "SLVERR in the second burst", [NOP, encode("ld.run", dst=0, dram=DATA + 5, n0=64)],
        Cause.BUS_SLVERR, Unit.LOAD, 1, DATA + 128, errors=[(DATA + 200, DATA + 200, "slverr", "read")],
    ),
    Case(
        "DECERR in an accumulator row", [encode("ld.run", dst=ACC, dram=DATA + 2, n0=3)],
        Cause.BUS_DECERR, Unit.LOAD, 0, DATA + 2,
        errors=[(DATA + 40, DATA + 43, "decerr", "read"), (DATA + 44, DATA + 47, "slverr", "read")],
    ),
    Case(
        "beyond the memory", [encode("ld.run", dst=0, dram=MEM_SIZE - 8, n0=3)],
        Cause.BUS_DECERR, Unit.LOAD, 0, MEM_SIZE, window=(0, 0xFFFF_FFFF),
    ),
]  # fmt: skip

STORE_CASES = [
    Case(
        "misaligned", [NOP, encode("st.run", src=0, dram=DATA + 2, n0=1)], Cause.MISALIGNED, Unit.STORE, 1, DATA + 2
    ),
    Case(
        "misaligned second line", [encode("st.stride", s1=17), encode("st.run", src=0, dram=DATA, n0=2, n1=3)],
        Cause.MISALIGNED, Unit.STORE, 1, DATA + 17,
    ),
    Case(
        "misaligned before window", [encode("st.run", src=0, dram=DATA - 2, n0=1)],
        Cause.MISALIGNED, Unit.STORE, 0, DATA - 2,
    ),
    Case("below the window", [encode("st.run", src=0, dram=DATA - 4, n0=2)], Cause.WINDOW, Unit.STORE, 0, DATA - 4),
    Case(
        "beyond the window", [encode("st.run", src=ACC, dram=DATA_END - 16, n0=2)],
        Cause.WINDOW, Unit.STORE, 0, DATA_END - 16,
    ),
    outside("beyond the scratchpad", Unit.STORE, [encode("st.run", src=4093, dram=DATA, n0=5)], 4096),
    outside("beyond the accumulators", Unit.STORE, [NOP, encode("st.run", src=ACC | 511, dram=DATA, n0=2)], 512),
    outside(
        "below row 0", Unit.STORE,
        [encode("st.src", d1=-5), encode("st.stride", s1=16), encode("st.run", src=4, dram=DATA, n0=1, n1=2)], -1,
    ),
    Case(
        "SLVERR", [encode("st.run", src=0, dram=DATA + 8, n0=8)], Cause.BUS_SLVERR, Unit.STORE, 0, DATA + 8,
        errors=[(DATA + 12, DATA + 12, "slverr", "write")],
    ),
    Case(
        "DECERR in the second burst", [encode("st.run", src=0, dram=DATA + 64, n0=40)],
        Cause.BUS_DECERR, Unit.STORE, 0, DATA + 128,
        errors=[(DATA + 128, DATA + 131, "slverr", "write"), (DATA + 220, DATA + 223, "decerr", "write")],
    ),
]  # fmt: skip

ROWS = [encode("mx.act", n0=4, s0=1), encode("mx.acc", t0=1), WLOAD]
MATRIX_CASES = [
    outside("weights", Unit.MATRIX, [encode("mx.wload", src=2, stride=-1)], -1),
    outside("weights beyond", Unit.MATRIX, [encode("mx.wload", src=4095)], 4096),
    outside("weights in the accumulators", Unit.MATRIX, [encode("mx.wload", src=ACC | 9)], 9),
    outside("activations", Unit.MATRIX, [*ROWS, encode("mx.run", act=4094, acc=ACC)], 4096),
    outside("results", Unit.MATRIX, [*ROWS, encode("mx.run", act=0, acc=ACC | 510)], 512),
    outside("activations before results", Unit.MATRIX, [*ROWS, encode("mx.run", act=4094, acc=ACC | 510)], 4096),
    outside("activations in the accumulators", Unit.MATRIX, [*ROWS, encode("mx.run", act=ACC | 3, acc=ACC)], 3),
    outside("results in the scratchpad", Unit.MATRIX, [*ROWS, encode("mx.run", act=0, acc=5)], 5),
    Case(
        "second weights", [WLOAD, NOP, WLOAD], Cause.ILLEGAL_OPERAND, Unit.MATRIX, 2, word_info(WLOAD)
    ),
    Case(
        "swap without weights", [encode("mx.run", act=0, acc=ACC, signal=2)],
        Cause.ILLEGAL_OPERAND, Unit.MATRIX, 0, 0x0200_0064,
    ),
]  # fmt: skip

FOUR = [encode("vx.dims", n0=4, d0=1), encode("vx.astride", n0=1), encode("vx.bstride", n0=1)]
FOLD = [encode("vx.dims", n0=4, k0=2, d0=1), encode("vx.astride", n0=2, k0=1)]
VECTOR_CASES = [
    outside("A", Unit.VECTOR, [*FOUR, encode("vx.add", dst=8, a=4094, b=0)], 4096),
    outside("B", Unit.VECTOR, [*FOUR, encode("vx.add", dst=8, a=0, b=ACC | 510)], 512),
    outside("destination", Unit.VECTOR, [*FOUR, encode("vx.add", dst=ACC | 510, a=0, b=4)], 512),
    outside("A before B and destination", Unit.VECTOR, [encode("vx.add", dst=4099, a=4097, b=4098)], 4097),
    outside("B before destination", Unit.VECTOR, [encode("vx.add", dst=4099, a=0, b=4098)], 4098),
    outside("B of an operation that ignores it", Unit.VECTOR, [encode("vx.clamp", dst=0, a=0, b=4098)], 4098),
    outside(
        "destination before the next A", Unit.VECTOR, [*FOLD, encode("vx.add", dst=4094, a=4092, b=0, b_imm=1)], 4096
    ),
    outside("A before the window's end", Unit.VECTOR, [*FOLD, encode("vx.add", dst=4095, a=4093, b=0, b_imm=1)], 4096),
    outside("parameters", Unit.VECTOR, [encode("vx.param", src=ACC | 510)], 512),
    outside("parameters in the scratchpad", Unit.VECTOR, [encode("vx.param", src=6)], 6),
    outside("table", Unit.VECTOR, [encode("vx.lut", src=ACC | 450)], 512),
    outside("table in the scratchpad", Unit.VECTOR, [encode("vx.lut", src=0)], 0),
]

SYNC_CASES = [
    Case("overflow", [encode("ld.sync", signal=4)] * 64, Cause.SEM_OVERFLOW, Unit.SYNC, 0, 4),
    Case("never signalled", [NOP, encode("st.sync", wait=6)], Cause.WATCHDOG, Unit.SYNC, 1, 6),
    Case(
        "engines wait in a circle",
        [encode("vx.sync"), encode("st.sync", wait=6, signal=8), encode("ld.sync", wait=8, signal=6)],
        Cause.WATCHDOG, Unit.SYNC, 2, 8,
    ),
    Case(
        "a full queue", [encode("mx.sync", wait=1)] * 20 + [encode("ld.sync", signal=1)] * 20,
        Cause.WATCHDOG, Unit.SYNC, 0, 1,
    ),
]  # fmt: skip

GROUPS = {
    "frontend": FRONTEND_CASES,
    "load": LOAD_CASES,
    "store": STORE_CASES,
    "matrix": MATRIX_CASES,
    "vector": VECTOR_CASES,
    "sync": SYNC_CASES,
}
CASES = [pytest.param(case, id=f"{group}: {case.name}") for group, cases in GROUPS.items() for case in cases]


def open_device(name: str, errors: list[tuple[int, int, str, str]] | None = None) -> tm.Npu:
    device, options = DEVICES[name]
    return tm.open(device, preset="tiny", mem_size=MEM_SIZE, errors=errors or [], **options)


def read(npu: tm.Npu, name: str) -> int:
    return npu.device.csr_read(offset(name))


def write(npu: tm.Npu, name: str, value: int) -> None:
    npu.device.csr_write(offset(name), value)


def start(npu: tm.Npu, case: Case) -> None:
    """Start the program of `case`, a halt after it."""
    words = [*case.words, HALT]
    npu.device.mem_write(PROGRAM, b"".join(word.to_bytes(INSTRUCTION_BYTES, "little") for word in words))
    for name, value in {
        "PROG_ADDR": PROGRAM,
        "PROG_LEN": len(words) if case.length is None else case.length,
        "READ_BASE": case.window[0],
        "READ_LIMIT": case.window[1],
        "WRITE_BASE": case.window[0],
        "WRITE_LIMIT": case.window[1],
        "WATCHDOG": WATCHDOG,
        "IRQ_ENABLE": bit("IRQ_ENABLE", "done") | bit("IRQ_ENABLE", "error"),
        "CONTROL": bit("CONTROL", "start"),
    }.items():
        write(npu, name, value)


def fill(npu: tm.Npu, seed: int) -> None:
    """Known content everywhere: random bytes in the data page, and from there in both local memories."""
    content = np.random.default_rng(seed).integers(0, 256, DATA_END - DATA, dtype=np.uint8)
    b = ProgramBuilder(CONFIG)
    data = b.buffer("data", "uint8", (len(content),), content)
    b.ld_run(dst=spad(0), dram=data, n0=64)
    b.ld_run(dst=spad(4064), dram=data + 512, n0=32)
    b.ld_run(dst=acc(0), dram=data + 1024, n0=32)
    b.ld_run(dst=acc(480), dram=data + 2048, n0=32)
    b.halt()
    loaded = npu.load(b.build())
    npu.run(loaded, outputs=[])
    loaded.free()
    npu.device.mem_write(DATA, content.tobytes())


def dump(npu: tm.Npu) -> bytes:
    """The rows that `fill` wrote, and the data page."""
    b = ProgramBuilder(CONFIG)
    out = b.buffer("out", "uint8", (2048,))
    b.st_run(src=spad(0), dram=out, n0=64)
    b.st_run(src=spad(4064), dram=out + 256, n0=32)
    b.st_run(src=acc(0), dram=out + 512, n0=32)
    b.st_run(src=acc(480), dram=out + 1024, n0=32)
    b.halt()
    loaded = npu.load(b.build())
    content = npu.run(loaded).outputs["out"].tobytes()
    loaded.free()
    return content + npu.device.mem_read(DATA, DATA_END - DATA)


def good_program_works(npu: tm.Npu, seed: int) -> None:
    """All engines once: A times W on the device, requantized by nothing, against numpy."""
    rng = np.random.default_rng(seed)
    a = rng.integers(-128, 128, (13, 9), dtype=np.int8)
    w = rng.integers(-128, 128, (9, 6), dtype=np.int8)
    bias = rng.integers(-1000, 1000, 6).astype(np.int32)
    product = tm.gemm(npu, a, w, bias=bias)
    np.testing.assert_array_equal(product, a.astype(np.int32) @ w.astype(np.int32) + bias)


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
        fill(npu, seed=5)
        start(npu, case)
        assert npu.device.run(CYCLES), f"{name}: no interrupt"
        assert read(npu, "IRQ_STATUS") == bit("IRQ_STATUS", "error"), name
        status = read(npu, "STATUS")
        assert status & bit("STATUS", "error"), name
        assert not status & bit("STATUS", "done"), name
        report = (
            Cause(read(npu, "ERROR_CAUSE")), Unit(read(npu, "ERROR_UNIT")),
            (read(npu, "ERROR_PC") - PROGRAM) / INSTRUCTION_BYTES, hex(read(npu, "ERROR_INFO")),
        )  # fmt: skip
        assert report == (case.cause, case.unit, case.index, hex(case.info)), name

        npu.soft_reset()
        registers = ("STATUS", "IRQ_STATUS", "ERROR_CAUSE", "ERROR_UNIT", "ERROR_PC", "ERROR_INFO")
        left = {register: read(npu, register) for register in registers}
        assert left | {"ERROR_PC": 0} == dict.fromkeys(registers, 0), name
        contents[name] = dump(npu)
        good_program_works(npu, seed=6)
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
