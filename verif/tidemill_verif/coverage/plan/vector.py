"""The vector engine."""

from tidemill.isa import Engine, Post, RequantMode
from tidemill_verif.coverage.isa_bins import ALU, engine_bins, names, ops_of
from tidemill_verif.coverage.point import Point, cross, streams

OPS = ops_of(Engine.VECTOR)
POSTS = tuple(post.name for post in Post)
MODES = tuple(mode.name for mode in RequantMode)
SPACES = ("spad", "acc")
WORDS = ("smallest", "negative", "-1", "0", "1", "positive", "largest")
"""Kinds of int32."""

POINTS = (
    # The engine decodes one instruction at a time.
    streams("vector", ("instr",), "instr, back to back"),
    Point("vector.opcode", "Every vector instruction.", names(OPS)),
    Point("vector.operand", "Every operand at its corners, as the engine gets it.", engine_bins(OPS)),
    Point("vector.post", "Every operation with every post step into both memories.", cross(names(ALU), POSTS, SPACES)),
    Point(
        "vector.space",
        "Every operation with its operands in every memory or as a number.",
        cross(names(ALU), SPACES, (*SPACES, "number")),
    ),
    Point(
        "vector.window",
        "Every operation folds windows of one row, of one line and of several lines.",
        cross(names(ALU), ("one", "line", "lines")),
    ),
    Point("vector.a", "Every operation on every kind of A.", cross(names(ALU), WORDS)),
    Point("vector.b", "Every operation on every kind of B.", cross(names(ALU), WORDS)),
    Point(
        "vector.shape",
        "Output loops of one and of several rows, and in place.",
        (*cross(("n0 1", "n0 more"), ("n1 1", "n1 more")), "in place"),
    ),
    Point("vector.requantize", "Every kind of input of the requantizer in every rounding.", cross(MODES, WORDS)),
    Point("vector.bias", "Every kind of bias in every rounding.", cross(MODES, WORDS)),
    Point(
        "vector.multiplier",
        "The multiplier's corners in every rounding: zero, one, its top bit alone, its largest.",
        cross(MODES, ("0", "1", "2^30", "largest", "other")),
    ),
    Point(
        "vector.shift",
        "Shifts beyond the limits, at them, and around zero in every rounding.",
        cross(MODES, ("below -31", "-31", "negative", "-1", "0", "1", "positive", "31", "above 31")),
    ),
    Point(
        "vector.preshift", "No preshift, the largest and others in every rounding.", cross(MODES, ("0", "31", "other"))
    ),
    Point(
        "vector.clamp",
        "The limits: full range, narrow, equal, crossed; clamped at either end and not.",
        (*cross(("full", "narrow", "equal", "crossed")), "at qmin", "at qmax", "between"),
    ),
    Point(
        "vector.fault",
        "A row outside its memory, for each operand, below and above, in both memories.",
        (
            *cross(("a", "b", "dst"), SPACES, ("below", "above")),
            "vx.param wrong memory",
            "vx.param above",
            "vx.lut wrong memory",
            "vx.lut above",
        ),
    ),
    Point("vector.saturate", "Rows written to the scratchpad saturate at both ends.", ("low", "high", "fits")),
)
