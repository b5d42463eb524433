"""Programs that end with an error, one for every cause and place, and the reports that they must end with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tidemill as tm
from tidemill.builder import ProgramBuilder, acc, spad
from tidemill.config import preset
from tidemill.csr import Cause, Unit, bit, offset
from tidemill.isa import ACC_SPACE as ACC
from tidemill.isa import INSTRUCTION_BYTES, Post, encode

CONFIG = preset("tiny")
MEM_SIZE = 1 << 20
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
    """Known content everywhere: random bytes in the data page, and from there in both local memories, which are of the
    size of `CONFIG`'s."""
    content = np.random.default_rng(seed).integers(0, 256, DATA_END - DATA, dtype=np.uint8)
    b = ProgramBuilder(npu.config)
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
    b = ProgramBuilder(npu.config)
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


def judge(npu: tm.Npu, case: Case) -> tuple[str, bytes]:
    """Run `case`, reset, and run a good program: (what is wrong, empty where nothing is; as `dump` after the reset).

    Raises `AssertionError` where the good program goes wrong.
    """
    fill(npu, seed=5)
    start(npu, case)
    if not npu.device.run(CYCLES):
        return "no interrupt", b""
    interrupts, status = read(npu, "IRQ_STATUS"), read(npu, "STATUS")
    ends = status & (bit("STATUS", "error") | bit("STATUS", "done"))
    if interrupts != bit("IRQ_STATUS", "error") or ends != bit("STATUS", "error"):
        return f"IRQ_STATUS is {interrupts:#x}, STATUS {status:#x}", b""
    report = (
        Cause(read(npu, "ERROR_CAUSE")).name, Unit(read(npu, "ERROR_UNIT")).name,
        (read(npu, "ERROR_PC") - PROGRAM) / INSTRUCTION_BYTES, hex(read(npu, "ERROR_INFO")),
    )  # fmt: skip
    expected = (case.cause.name, case.unit.name, case.index, hex(case.info))
    if report != expected:
        return f"{report} reported, not {expected}", b""
    npu.soft_reset()
    for name in ("STATUS", "IRQ_STATUS", "ERROR_CAUSE", "ERROR_UNIT", "ERROR_INFO"):
        if left := read(npu, name):
            return f"{name} is {left:#x} after a soft reset", b""
    content = dump(npu)
    good_program_works(npu, seed=6)
    return "", content
