"""Bench of the address generator (`prim/nest.py`)."""

from __future__ import annotations

import itertools
import math
import operator
import random
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, Timer

from tidemill_verif.agents.clock import PERIOD_NS, start
from tidemill_verif.benches import params
from tidemill_verif.coverage.sampling import prims as coverage

LARGEST = 3000
"""Most steps of one level that a test walks."""


def _largest(bits: int) -> int:
    """Largest count of a level."""
    return (1 << bits) - 1


def _walk(counts: list[int], base: int, strides: list[int]) -> list[int]:
    """Addresses of the nested loops, level 0 innermost."""
    points = itertools.product(*(range(count) for count in reversed(counts)))
    return [
        base + sum(index * stride for index, stride in zip(reversed(point), strides, strict=True)) for point in points
    ]


async def _begin(dut: Any, counts: list[int], bases: list[int], strides: list[list[int]]) -> None:
    """Start a walk; its first point is there in the next cycle."""
    count_bits, address_bits, stride_bits = params()["counts"], params()["addresses"], params()["stride_bits"]
    dut.nest__count.value = _pack(counts, count_bits)
    dut.nest__base.value = _pack(bases, address_bits)
    flat = [stride for stream in strides for stride in stream]
    dut.nest__stride.value = _pack(flat, [stride_bits] * len(flat))
    dut.nest__start.value = 1
    await RisingEdge(dut.clk)
    dut.nest__start.value = 0


@cocotb.test()
async def test_nest_walks_all_points(dut: Any) -> None:
    """Every point of random walks has its address (modulo the width) and its first, final and last flags."""
    count_bits, address_bits, stride_bits = params()["counts"], params()["addresses"], params()["stride_bits"]
    rng = random.Random(params()["seed"])
    dut.nest__start.value = 0
    dut.nest__step.value = 0
    await start(dut)
    assert not dut.nest__valid.value
    step_before = False
    limit = 1 << (stride_bits - 1)
    corners = (0, 1, -1, -limit, limit - 1)
    for walk_number in range(100):
        counts = [rng.randint(1, min(5, (1 << bits) - 1)) for bits in count_bits]
        if walk_number < len(counts):
            # Once per level as many steps as its counter can count, or very many.
            counts = [
                1 if n > LARGEST >> 5 else count for n, count in zip(map(_largest, count_bits), counts, strict=True)
            ]
            counts[walk_number] = min(_largest(count_bits[walk_number]), LARGEST)
        strides = [
            [rng.choice((rng.choice(corners), rng.randrange(-limit, limit))) for _ in counts] for _ in address_bits
        ]
        bases = [rng.randrange(1 << bits) for bits in address_bits]
        coverage.nest_walk(counts, count_bits, bases, address_bits, strides, stride_bits)
        await _begin(dut, counts, bases, strides)
        walks = [_walk(counts, base, stride) for base, stride in zip(bases, strides, strict=True)]
        indices = [point[::-1] for point in itertools.product(*(range(count) for count in reversed(counts)))]
        for number, index in enumerate(indices):
            step = False
            while not step:
                before, step = step_before, rng.random() < 0.7
                coverage.nest_steps(before, step)
                step_before = step
                dut.nest__step.value = int(step)
                await RisingEdge(dut.clk)
                assert dut.nest__valid.value, (counts, number)
                addresses = _unpack(int(dut.nest__address.value), address_bits)
                expected = [walk[number] % (1 << bits) for walk, bits in zip(walks, address_bits, strict=True)]
                assert addresses == expected, (counts, bases, strides, number)
                assert int(dut.nest__last.value) == (number == len(indices) - 1)
                first = [all(i == 0 for i in index[: k + 1]) for k in range(len(counts))]
                ends = [i == n - 1 for i, n in zip(index, counts, strict=True)]
                final = [all(ends[: k + 1]) for k in range(len(counts))]
                assert int(dut.nest__first.value) == sum(flag << k for k, flag in enumerate(first))
                assert int(dut.nest__final.value) == sum(flag << k for k, flag in enumerate(final))
        dut.nest__step.value = 0
        await RisingEdge(dut.clk)
        assert not dut.nest__valid.value


@cocotb.test()
async def test_every_bit_of_a_count_counts(dut: Any) -> None:
    """Levels with a count of 2^n + 1, n one of its two highest bits, walked twice where there is a level above."""
    count_bits, address_bits, stride_bits = params()["counts"], params()["addresses"], params()["stride_bits"]
    rng = random.Random(params()["seed"])
    dut.nest__start.value = 0
    dut.nest__step.value = 0
    await start(dut)
    for level, bit in itertools.product(range(len(count_bits)), (1, 2)):
        count = (1 << (count_bits[level] - bit)) + 1
        counts = [1] * len(count_bits)
        counts[level : level + 2] = [count, 2][: len(counts) - level]
        strides = [[rng.randrange(1 << (stride_bits - 1)) for _ in counts] for _ in address_bits]
        bases = [rng.randrange(1 << bits) for bits in address_bits]
        await _begin(dut, counts, bases, strides)
        dut.nest__step.value = 1
        total = math.prod(counts)
        looks = {0, 1, count - 2, count - 1, count, total - 2, total - 1, rng.randrange(total)}
        for before, number in itertools.pairwise([-1, *sorted(looks & set(range(total)))]):
            if number - before > 1:
                await Timer((number - before - 1) * PERIOD_NS + PERIOD_NS // 2, "ns")
            await RisingEdge(dut.clk)
            assert dut.nest__valid.value, (counts, number)
            index = [0] * len(counts)
            index[level : level + 2] = [number % count, number // count][: len(counts) - level]
            addresses = [
                (base + sum(map(operator.mul, index, stream))) % (1 << bits)
                for base, stream, bits in zip(bases, strides, address_bits, strict=True)
            ]
            assert _unpack(int(dut.nest__address.value), address_bits) == addresses, (counts, number)
            assert int(dut.nest__last.value) == (number == total - 1), (counts, number)
            for flags, ends in (
                (dut.nest__first, [i == 0 for i in index]),
                (dut.nest__final, [i == n - 1 for i, n in zip(index, counts, strict=True)]),
            ):
                assert int(flags.value) == sum(all(ends[: k + 1]) << k for k in range(len(ends))), (counts, number)
        dut.nest__step.value = 0
        await RisingEdge(dut.clk)
        assert not dut.nest__valid.value, counts


def _pack(values: list[int], widths: list[int]) -> int:
    word, offset = 0, 0
    for value, width in zip(values, widths, strict=True):
        word |= (value & ((1 << width) - 1)) << offset
        offset += width
    return word


def _unpack(word: int, widths: list[int]) -> list[int]:
    values = []
    for width in widths:
        values.append(word & ((1 << width) - 1))
        word >>= width
    return values
