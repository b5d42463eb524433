"""Bench of one requantizer lane against the golden model."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from tidemill.golden.requant import requantize
from tidemill.isa import RequantMode
from tidemill_verif.agents.clock import start
from tidemill_verif.benches import params
from tidemill_verif.coverage.sampling import vector as coverage

_EDGES = (0, 1, -1, 2, -2, 127, -128, (1 << 31) - 1, -(1 << 31), 1 << 30, -(1 << 30), (1 << 24) - 1, (1 << 25) + 2)
_MULTIPLIERS = (0, 1, 127, 128, 1 << 30, (1 << 31) - 1, (1 << 31) - 128, (1 << 30) + 128, 3 << 29)


def _int32(rng: random.Random) -> int:
    """An int32 of random magnitude, or an edge value."""
    if rng.random() < 0.2:
        return rng.choice(_EDGES)
    bits = rng.randint(1, 32)
    return rng.randrange(-(1 << (bits - 1)), 1 << (bits - 1))


def _sparse(rng: random.Random, bits: int) -> int:
    """A number with one to three ones: products of two such meet ties and single bits below the rounding point."""
    return sum({1 << rng.randrange(bits) for _ in range(rng.randint(1, 3))})


def _near_tie(rng: random.Random) -> tuple[int, int, int, int]:
    """A product that is above or below a tie of the first rounding by a single bit, of either sign."""
    multiplier = rng.getrandbits(31) | 1
    wanted = (1 << 30) + rng.choice((-1, 0, 1)) * (1 << rng.randrange(30))
    value = wanted * pow(multiplier, -1, 1 << 31) % (1 << 31)
    return rng.choice((value, -value)), 0, multiplier, rng.randint(-3, 0)


def _vector(rng: random.Random) -> tuple[int, int, int, int]:
    """Value, bias, multiplier and shift."""
    if rng.random() < 0.05:
        return _near_tie(rng)
    if rng.random() < 0.25:
        return rng.choice((-1, 1)) * _sparse(rng, 31), 0, _sparse(rng, 31), rng.randint(-33, 12)
    bias = rng.choice((0, _int32(rng), rng.getrandbits(8)))
    multiplier = rng.choice(
        (rng.getrandbits(31) | 1 << 30, rng.getrandbits(31) >> rng.randint(0, 30), rng.choice(_MULTIPLIERS))
    )
    shift = rng.choice((rng.randint(-128, 127), rng.randint(-33, 33), rng.randint(-12, 2)))
    return _int32(rng), bias, multiplier, shift


@cocotb.test()
@cocotb.parametrize(mode=list(RequantMode))
async def test_requantizer_equals_golden(dut: Any, mode: RequantMode) -> None:
    """A new random value in every cycle gives the golden result `latency` cycles later."""
    rng = random.Random(f"{params()['seed']}/{mode.name}")
    latency, total = params()["latency"], params()["vectors"]
    await start(dut)
    preshifts = (0, 0, 0, *range(32))
    checked = 0
    for preshift in preshifts:
        zero_point = rng.choice((0, -128, 127, rng.randint(-128, 127)))
        dut.mode.value, dut.preshift.value, dut.zero_point.value = int(mode), preshift, zero_point & 0xFF
        for _ in range(latency + 2):
            await RisingEdge(dut.clk)
        vectors = [_vector(rng) for _ in range(total // len(preshifts))]
        columns = [np.array(column, dtype=np.int64) for column in zip(*vectors, strict=True)]
        coverage.requantized(columns[0], np.array(columns[1:]), preshift, mode)
        expected = requantize(*columns, zero_point=zero_point, preshift=preshift, mode=mode).tolist()
        # A value driven after an edge is taken by the next one; its result can be sampled `latency` edges after that.
        for cycle in range(len(vectors) + latency + 1):
            if cycle < len(vectors):
                v, bias, multiplier, shift = vectors[cycle]
                dut.v.value = v & 0xFFFF_FFFF
                dut.bias.value = bias & 0xFFFF_FFFF
                dut.multiplier.value = multiplier
                dut.shift.value = shift & 0xFF
            await RisingEdge(dut.clk)
            index = cycle - latency
            if 0 <= index < len(vectors):
                result = dut.y.value.to_signed()
                assert result == expected[index], (
                    f"{mode.name} {vectors[index]} preshift {preshift} zero point {zero_point}: "
                    f"{result}, golden {expected[index]}"
                )
                checked += 1
    assert checked >= total - len(preshifts)
