"""The constraint solver's plan of the arena: nothing overlaps, and it is never larger than the greedy one."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.compiler.dram import Lifetime, first_fit, lower_bound
from tidemill.compiler.dram_cpsat import optimal_fit
from tidemill.compiler.ir import Tensor


def lifetimes(seed: int, count: int) -> list[Lifetime]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, count, count)
    last = first + rng.integers(1, 8, count)
    sizes = rng.integers(1, 200, count) * 64
    tensors = [Tensor(f"t{number}", (1,)) for number in range(count)]
    return [Lifetime(*entry) for entry in zip(tensors, first.tolist(), last.tolist(), sizes.tolist(), strict=True)]


def peak(lives: list[Lifetime], offsets: dict[int, int]) -> int:
    return max((offsets[id(life.tensor)] + life.nbytes for life in lives), default=0)


def clashes(lives: list[Lifetime], offsets: dict[int, int]) -> list[tuple[str, str]]:
    found = []
    for number, a in enumerate(lives):
        for b in lives[:number]:
            at_once = a.first <= b.last and b.first <= a.last
            low, high = sorted((a, b), key=lambda life: offsets[id(life.tensor)])
            if at_once and offsets[id(low.tensor)] + low.nbytes > offsets[id(high.tensor)]:
                found.append((a.tensor.name, b.tensor.name))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_is_valid_and_reaches_the_bound(seed: int) -> None:
    lives = lifetimes(seed, 40)
    offsets = optimal_fit(lives)
    assert clashes(lives, offsets) == []
    assert all(offset % 64 == 0 for offset in offsets.values())
    assert lower_bound(lives) <= peak(lives, offsets) <= peak(lives, first_fit(lives))
    assert offsets == optimal_fit(lives)


def test_it_is_better_where_greedy_is_not_optimal() -> None:
    lives = lifetimes(4, 60)
    assert peak(lives, optimal_fit(lives)) == lower_bound(lives) < peak(lives, first_fit(lives))


def test_nothing_to_place() -> None:
    assert optimal_fit([]) == {}
