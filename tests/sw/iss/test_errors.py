"""Every error: cause, unit, instruction, info, and what was done before it."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.config import preset
from tidemill.csr import Cause, Unit
from tidemill.isa import encode
from tidemill.iss.engines import Window
from tidemill.iss.machine import Failure, Machine
from tidemill.iss.timing import Timing

CONFIG = preset("tiny")
ACC = 1 << 15
PROGRAM = 0xF000
WINDOW = Window(0x1000, 0x1FFF)
NOP, HALT = encode("nop"), encode("halt")


def fail(*words: int, length: int | None = None, window: Window = WINDOW) -> tuple[Machine, Failure]:
    """Run `words` and a halt; return the machine and its failure."""
    machine = Machine(CONFIG, np.full(1 << 16, 0x55, np.uint8), Timing())
    machine.local.spad[:] = 1
    program = [*words, HALT]
    image = b"".join(word.to_bytes(16, "little") for word in program)
    machine.dram[PROGRAM : PROGRAM + len(image)] = np.frombuffer(image, np.uint8)
    machine.start(PROGRAM, len(program) if length is None else length, window, window, 500)
    machine.advance(1_000_000, lambda: False)
    assert machine.failure is not None
    assert not machine.busy
    assert not machine.done
    return machine, machine.failure


LONG_LOOP = encode("loop", count=1, rs=0, length=CONFIG.ibuf_depth)
LOOP = encode("loop", count=1, rs=0, length=2)
WLOAD = encode("mx.wload", src=0)
RUN = encode("mx.run", act=0, acc=ACC)
OVERFLOW = [encode("ld.sync", signal=4)] * 64


@pytest.mark.parametrize(
    ("words", "cause", "unit", "index", "info"),
    [
        ([NOP, 0x1F], Cause.ILLEGAL_OPCODE, Unit.FRONTEND, 1, 0x1F),
        ([NOP | 1 << 100], Cause.RESERVED_BITS, Unit.FRONTEND, 0, 0),
        ([encode("mx.act") & ~(0xFFF << 40)], Cause.ILLEGAL_OPERAND, Unit.FRONTEND, 0, 0x61),
        ([encode("endloop")], Cause.LOOP, Unit.FRONTEND, 0, 9),
        ([NOP, LONG_LOOP], Cause.LOOP, Unit.FRONTEND, 1, 8),
        ([LOOP] * 5, Cause.LOOP, Unit.FRONTEND, CONFIG.loop_depth, 8),
        ([encode("ld.run", dst=0, dram=0xFFF, n0=1)], Cause.WINDOW, Unit.LOAD, 0, 0xFFF),
        ([encode("ld.run", dst=0, dram=0x1FFD, n0=1)], Cause.WINDOW, Unit.LOAD, 0, 0x1FFD),
        ([encode("st.run", src=0, dram=0x1FFC, n0=2)], Cause.WINDOW, Unit.STORE, 0, 0x1FFC),
        ([encode("st.run", src=0, dram=0x1002, n0=1)], Cause.MISALIGNED, Unit.STORE, 0, 0x1002),
        ([encode("ld.run", dst=4095, dram=0x1000, n0=2)], Cause.LOCAL_RANGE, Unit.LOAD, 0, 4096),
        ([encode("st.run", src=ACC | 511, dram=0x1000, n0=2)], Cause.LOCAL_RANGE, Unit.STORE, 0, 512),
        ([encode("mx.wload", src=2, stride=-1)], Cause.LOCAL_RANGE, Unit.MATRIX, 0, 0xFFFFFFFF),
        ([encode("mx.wload", src=ACC | 7)], Cause.LOCAL_RANGE, Unit.MATRIX, 0, 7),
        ([WLOAD, WLOAD], Cause.ILLEGAL_OPERAND, Unit.MATRIX, 1, WLOAD & 0xFFFFFFFF),
        ([RUN], Cause.ILLEGAL_OPERAND, Unit.MATRIX, 0, RUN & 0xFFFFFFFF),
        ([encode("vx.param", src=ACC | 510)], Cause.LOCAL_RANGE, Unit.VECTOR, 0, 512),
        ([encode("vx.lut", src=0)], Cause.LOCAL_RANGE, Unit.VECTOR, 0, 0),
        ([encode("vx.add", dst=5, a=4096, b=0)], Cause.LOCAL_RANGE, Unit.VECTOR, 0, 4096),
        ([encode("vx.add", dst=4097, a=5, b=0)], Cause.LOCAL_RANGE, Unit.VECTOR, 0, 4097),
        ([*OVERFLOW], Cause.SEM_OVERFLOW, Unit.SYNC, 0, 4),
        (
            [encode("vx.sync"), encode("st.sync", wait=6), encode("ld.sync", wait=8)],
            Cause.WATCHDOG, Unit.SYNC, 2, 8,
        ),
    ],
)  # fmt: skip
def test_an_error_names_its_instruction(words: list[int], cause: Cause, unit: Unit, index: int, info: int) -> None:
    _, failure = fail(*words)
    assert failure == Failure(cause, unit, index, info)


def test_running_past_the_end_is_pc_range() -> None:
    assert fail(NOP, NOP, length=2)[1] == Failure(Cause.PC_RANGE, Unit.FRONTEND, 2, 2)


def test_reading_beyond_the_memory_is_a_bus_error() -> None:
    window = Window(0, 0xFFFFFFFF)
    _, failure = fail(encode("ld.run", dst=0, dram=0x20000, n0=1), window=window)
    assert failure == Failure(Cause.BUS_DECERR, Unit.LOAD, 0, 0x20000)


def test_rows_before_the_error_keep_their_effect() -> None:
    machine, _ = fail(
        encode("ld.stride", s1=16), encode("ld.dst", d1=-1), encode("ld.run", dst=1, dram=0x1000, n0=1, n1=3)
    )
    assert (machine.local.spad[:2] == 0x55).all()
    assert (machine.local.spad[2:] == 1).all()
    machine, _ = fail(
        WLOAD, encode("mx.act", n0=4, s0=1), encode("mx.acc", t0=1), encode("mx.run", act=0, acc=ACC | 510)
    )
    assert (machine.local.acc[510:] == CONFIG.rows).all()
    assert not machine.local.acc[:510].any()
    machine, failure = fail(
        encode("vx.dims", n0=4, d0=1), encode("vx.astride", n0=1), encode("vx.add", dst=8, a=4094, b=2, b_imm=1)
    )
    assert failure.info == 4096
    assert (machine.local.spad[8:10] == 3).all()
    assert (machine.local.spad[10:] == 1).all()
    assert machine.counter("VECTOR_ROWS") == 2
