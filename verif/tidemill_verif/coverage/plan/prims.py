"""Buffers and the address generator."""

from tidemill_verif.coverage.point import Point, cross, streams

DEPTHS = (2, 3, 5)
SIDES = ("idle", "stalled", "transfer")

POINTS = (
    streams("prims", ("i", "o")),
    Point(
        "prims.sides",
        "Both ends of a buffer do everything at once; an input only stalls while something is held.",
        tuple(name for name in cross(SIDES, SIDES) if name != "stalled, idle"),
    ),
    Point(
        "prims.level",
        "A buffer holds each number of items from none to its depth; off-by-one errors of full and empty live there.",
        tuple(
            name
            for name in cross((f"depth {depth}" for depth in DEPTHS), ("empty", "one", "between", "full"))
            if name != "depth 2, between"
        ),
    ),
    Point("prims.reset", "Reset drops what is held.", ("while holding",)),
    Point(
        "prims.nest_counts",
        "Each level of the address generator runs once and several times, in every combination.",
        cross(("1", "more"), ("1", "more"), ("1", "more")),
    ),
    Point("prims.nest_largest", "The counters of each level reach their largest count.", ("level 0", "level 1")),
    Point(
        "prims.nest_stride", "Strides of both signs, none, and the extremes.", ("min", "minus", "zero", "plus", "max")
    ),
    Point("prims.nest_wrap", "Addresses wrap at both ends and stay inside.", ("below", "above", "inside")),
    Point("prims.nest_step", "Steps follow each other and pause.", ("back to back", "paused")),
)
