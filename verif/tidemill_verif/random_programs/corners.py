"""Random numbers that like corners: ends of ranges, powers of two, small numbers."""

from __future__ import annotations

from random import Random

from tidemill.isa import Field, Kind


def number(rng: Random, low: int, high: int) -> int:
    """A number of `low` to `high`: its ends, powers of two and their neighbours, small ones, or any."""
    kind = rng.randrange(8)
    if kind < 2:
        return rng.choice((low, high, min(low + 1, high), max(high - 1, low)))
    if kind < 4:
        value = (1 << rng.randrange(max(abs(low), abs(high)).bit_length() + 1)) + rng.choice((-1, 0, 1))
        value = -value if low < 0 and rng.random() < 0.5 else value
    elif kind < 6:
        value = rng.randint(-4, 8)
    else:
        return rng.randint(low, high)
    return min(max(value, low), high)


def field_value(rng: Random, field: Field) -> int:
    """A legal value of `field`, on its own."""
    if field.kind is Kind.ENUM or field.legal_max - field.legal_min < 4:
        return rng.randint(field.legal_min, field.legal_max)
    if field.default is not None and rng.random() < 0.15:
        return field.default
    return number(rng, field.legal_min, field.legal_max)


def count(rng: Random, limit: int) -> int:
    """How often something repeats: 1 to `limit`, small as a rule."""
    if limit <= 1:
        return 1
    kind = rng.randrange(10)
    if kind < 3:
        return 1
    if kind < 8:
        return rng.randint(1, min(limit, 6))
    if kind < 9:
        return rng.randint(1, min(limit, 40))
    return rng.randint(1, limit)


def stride(rng: Random, repeats: int, span: int, unit: int, field: Field) -> int:
    """A stride in steps of `unit` for `repeats` points that may reach over `span`; where nothing repeats, any value
    that the field holds. Legal only for itself: see `fit`."""
    if repeats == 1:
        return rng.choice((0, unit, number(rng, field.legal_min, field.legal_max) // unit * unit))
    kind = rng.randrange(10)
    if kind < 5:
        return unit * rng.choice((1, 1, 1, 2, -1, 0))
    if kind < 7:
        return unit * rng.randint(-8, 8)
    reach = max(1, span // unit // max(1, repeats - 1))
    return unit * rng.choice((rng.randint(-reach, reach), reach, -reach, rng.randint(0, min(64, reach))))


def fit(counts: tuple[int, ...], strides: list[int], run: int, span: int, unit: int) -> list[int]:
    """`strides` with the largest steps halved until the walk of `counts`, with `run` at each point, reaches over at
    most `span`."""
    strides = list(strides)
    while sum((n - 1) * abs(s) for n, s in zip(counts, strides, strict=True)) + run > span:
        widest = max(range(len(strides)), key=lambda k: (counts[k] - 1) * abs(strides[k]))
        if not (counts[widest] - 1) * strides[widest]:
            break
        strides[widest] = int(strides[widest] / 2) // unit * unit if abs(strides[widest]) > unit else 0
    return strides
