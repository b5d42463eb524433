"""Walks of billions of points that fault early: the simulator does only what comes before the fault."""

from __future__ import annotations

from random import Random

import pytest

from tidemill.config import preset
from tidemill.csr import Cause, Unit, bit, offset
from tidemill.golden.dma import nest
from tidemill.isa import ACC_SPACE, encode
from tidemill.iss.device import IssDevice
from tidemill.iss.memory import Levels, cut, first_outside

TINY = preset("tiny")


def rows_of(row: int, levels: Levels) -> list[int]:
    """Every row of the walk, in order, written out."""
    counts, strides = zip(*reversed(levels), strict=True)
    return [int(value) for value in nest(row, counts, strides).reshape(-1)]


def test_the_first_row_outside_is_that_of_the_walk_written_out() -> None:
    rng = Random(4)
    outside = 0
    for _ in range(3000):
        depth = rng.choice((16, 64, 100))
        levels = tuple((rng.randint(1, 5), rng.randint(-20, 20)) for _ in range(rng.randint(1, 4)))
        row = rng.randrange(depth)
        expected = next((at for at, value in enumerate(rows_of(row, levels)) if not 0 <= value < depth), None)
        assert first_outside(row, levels, depth) == expected, (row, levels, depth)
        outside += expected is not None
    assert 500 < outside < 2900


def test_the_wrong_memory_is_outside_at_once() -> None:
    assert first_outside(3, ((2, 1),), 64, space=True) == 0
    assert first_outside(ACC_SPACE | 3, ((2, 1),), 64, space=True) is None
    assert first_outside(64, ((2, -1),), 64) == 0


def test_a_cut_walk_keeps_its_first_points() -> None:
    rng = Random(5)
    for _ in range(1000):
        levels = tuple((rng.randint(1, 6), rng.randint(-9, 9)) for _ in range(rng.randint(1, 4)))
        whole = rows_of(0, levels)
        points = rng.randint(1, len(whole))
        kept = rows_of(0, cut(levels, points))
        assert kept == whole[: len(kept)]
        assert points <= len(kept) <= 2 * points


HUGE = 4095
"""Largest count of the instructions below."""
LOADS = [
    encode("ld.stride", s1=64, s2=0),
    encode("ld.dst", d1=1, d2=1, pad_lo=255, pad_hi=255),
    encode("ld.run", dst=0, dram=0x1000, n0=4095, n1=1023, n2=1023),
]


@pytest.mark.parametrize(
    ("words", "unit", "cause", "info"),
    [
        (
            [
                encode("mx.act", n0=HUGE, n1=HUGE, n2=HUGE, s0=1),
                encode("mx.acc", t0=0, t1=0, t2=0),
                encode("mx.run", act=4090, acc=ACC_SPACE, swap=0),
            ],
            Unit.MATRIX, Cause.LOCAL_RANGE, 4096,
        ),
        (
            [
                encode("mx.act", n0=HUGE, n1=HUGE, n2=HUGE),
                encode("mx.acc", t0=0, t1=0, t2=-1),
                encode("mx.run", act=0, acc=5, swap=0),
            ],
            Unit.MATRIX, Cause.LOCAL_RANGE, 5,
        ),
        (
            [
                encode("vx.dims", n0=HUGE, n1=HUGE, k0=1, k1=3, d0=-2),
                encode("vx.add", dst=5, a=0, b=1, b_imm=1),
            ],
            Unit.VECTOR, Cause.LOCAL_RANGE, 0xFFFF_FFFF,
        ),
        (
            [
                encode("vx.dims", n0=HUGE, n1=HUGE, k0=1, k1=1),
                encode("vx.bstride", n0=1),
                encode("vx.add", dst=5, a=0, b=ACC_SPACE | 500),
            ],
            Unit.VECTOR, Cause.LOCAL_RANGE, 512,
        ),
        (LOADS, Unit.LOAD, Cause.LOCAL_RANGE, 4096),
        ([LOADS[0], LOADS[2]], Unit.LOAD, Cause.WINDOW, 0x1000 + 64 * 705),
    ],
)  # fmt: skip
def test_a_fault_early_in_a_huge_instruction_is_reported(words: list[int], unit: Unit, cause: Cause, info: int) -> None:
    device = IssDevice(TINY, mem_size=1 << 16)
    code = b"".join(word.to_bytes(16, "little") for word in [*words, encode("halt")])
    device.mem_write(0, code)
    for name, value in (
        ("PROG_LEN", len(code) // 16), ("READ_LIMIT", 0xFFFF), ("WRITE_LIMIT", 0xFFFF),
        ("IRQ_ENABLE", bit("IRQ_ENABLE", "error")), ("CONTROL", bit("CONTROL", "start")),
    ):  # fmt: skip
        device.csr_write(offset(name), value)
    assert device.run(10_000_000)
    assert device.csr_read(offset("ERROR_UNIT")) == unit
    assert device.csr_read(offset("ERROR_CAUSE")) == cause
    assert device.csr_read(offset("ERROR_INFO")) == info
