"""The array and its engine."""

from tidemill.isa import Engine
from tidemill_verif.coverage.isa_bins import engine_bins, names, ops_of
from tidemill_verif.coverage.point import Point, cross, streams

OPS = ops_of(Engine.MATRIX)
BYTES = ("-128", "negative", "0", "positive", "127")

POINTS = (
    streams("matrix", ("instr",)),
    Point("matrix.activation", "Every kind of activation in the array.", BYTES),
    Point("matrix.weight", "Every kind of weight in the array.", BYTES),
    Point("matrix.sum", "The largest sums of the array, of both signs, and zero.", ("smallest", "0", "largest")),
    Point(
        "matrix.array_input",
        "Activation rows and weight rows in the same cycle and alone, with and without swap.",
        cross(("row", "row with swap", "no row"), ("weights", "no weights"))[:-1],
    ),
    Point(
        "matrix.array_flow",
        "Rows without gaps and with gaps; two swaps in a row.",
        ("row, row", "row, gap", "swap, swap"),
    ),
    Point("matrix.opcode", "Every matrix instruction.", names(OPS)),
    Point("matrix.operand", "Every operand at its corners, as the engine gets it.", engine_bins(OPS)),
    Point(
        "matrix.loops",
        "Each of the three loops runs once and several times, in every combination.",
        cross(("n0 1", "n0 more"), ("n1 1", "n1 more"), ("n2 1", "n2 more")),
    ),
    Point(
        "matrix.run",
        "Overwrite and accumulate, old and new weights.",
        cross(("overwrite", "accumulate"), ("keep", "swap")),
    ),
    Point(
        "matrix.hazard",
        "An accumulate to a row that was touched just before: 1 is the row before.",
        ("1 row ago", "2 rows ago", "3 rows ago", "more"),
    ),
    Point("matrix.ahead", "Weights of the next tile are loaded while rows of this one run.", ("loaded ahead",)),
    Point(
        "matrix.fault",
        "Every fault of the engine, at both ends of the memories and in the wrong one.",
        (*cross(("act", "acc", "wload"), ("below", "above", "wrong memory")), "swap without weights", "weights twice"),
    ),
    Point("matrix.port", "Both scratchpad ports wait for their bank.", ("act stalled", "wgt stalled")),
)
