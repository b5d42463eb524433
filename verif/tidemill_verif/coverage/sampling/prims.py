"""Samples the points of `plan/prims.py`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tidemill_verif.coverage.collect import hit
from tidemill_verif.coverage.plan.prims import DEPTHS
from tidemill_verif.coverage.point import join
from tidemill_verif.coverage.sampling.wires import Streams, Wires, every_cycle


def watch_buffer(dut: Any, depth: int) -> None:
    """Sample a buffer of `depth` in every cycle of this test."""
    wires = Wires(dut)
    held = 0

    def side(stream: str) -> str:
        valid, ready = wires[f"{stream}__valid"], wires[f"{stream}__ready"]
        return "idle" if not valid else "transfer" if ready else "stalled"

    def sample() -> None:
        nonlocal held
        sides = side("i"), side("o")
        hit("prims.sides", join(*sides))
        if depth in DEPTHS:
            level = "empty" if not held else "full" if held == depth else "one" if held == 1 else "between"
            hit("prims.level", f"depth {depth}, {level}")
        held += (sides[0] == "transfer") - (sides[1] == "transfer")

    every_cycle(dut, Streams(wires, "prims", {"i": "i", "o": "o"}), sample)


def reset_while_holding() -> None:
    """A reset came while the buffer held something."""
    hit("prims.reset", "while holding")


def nest_walk(
    counts: Sequence[int],
    count_bits: Sequence[int],
    bases: Sequence[int],
    address_bits: Sequence[int],
    strides: Sequence[Sequence[int]],
    stride_bits: int,
) -> None:
    """Sample one walk of the address generator; arguments as of its bench."""
    if len(counts) == 3:
        hit("prims.nest_counts", join(*("1" if count == 1 else "more" for count in counts)))
    for level, (count, bits) in enumerate(zip(counts, count_bits, strict=True)):
        if len(counts) == 2 and count == (1 << bits) - 1:
            hit("prims.nest_largest", f"level {level}")
    limit = 1 << (stride_bits - 1)
    for base, bits, levels in zip(bases, address_bits, strides, strict=True):
        for stride in levels:
            extreme = {-limit: "min", limit - 1: "max", 0: "zero"}
            hit("prims.nest_stride", extreme.get(stride, "minus" if stride < 0 else "plus"))
        ends = [(0, (count - 1) * stride) for count, stride in zip(counts, levels, strict=True)]
        for offsets in itertools.product(*ends):
            at = base + sum(offsets)
            hit("prims.nest_wrap", "below" if at < 0 else "above" if at >> bits else "inside")


def nest_steps(previous: bool, step: bool) -> None:
    """Sample whether the address generator stepped in the cycle before and steps in this one."""
    if previous:
        hit("prims.nest_step", "back to back" if step else "paused")
