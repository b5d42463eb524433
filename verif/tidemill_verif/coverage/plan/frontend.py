"""Fetch, decoder, registers, loops, dispatch."""

from tidemill.csr import Cause
from tidemill.isa import OPS, SCALAR_REGISTERS, Engine
from tidemill_verif.coverage.isa_bins import illegal_bins, names, operand_bins
from tidemill_verif.coverage.plan.sync import ENGINE_NAMES
from tidemill_verif.coverage.point import Point, cross, streams

INDEXED = tuple(f"{op.mnemonic}.{field.name}" for op in OPS for field in op.fields if field.index is not None)
REGISTER_FIELDS = ("rd", "rs", "rt", "ra", "rb", "rc")
FAULTS = (
    *(
        cause.name
        for cause in (
            Cause.PC_RANGE,
            Cause.BUS_SLVERR,
            Cause.BUS_DECERR,
            Cause.ILLEGAL_OPCODE,
            Cause.RESERVED_BITS,
            Cause.ILLEGAL_OPERAND,
        )
    ),
    "LOOP, runs away",
    "LOOP, too deep",
    "LOOP, too long",
    "LOOP, endloop alone",
)
DEEPEST = 8

POINTS = (
    # By contract a command comes in three cycles at the earliest, and beats are always taken.
    streams(
        "frontend",
        (*(f"instr {name}" for name in ENGINE_NAMES), "fetch cmd", "fetch beat"),
        "fetch cmd, back to back",
        "fetch beat, stalled",
    ),
    Point("frontend.opcode", "Every instruction of the table is executed.", names(OPS)),
    Point(
        "frontend.operand",
        "Every operand at its smallest, largest, zero and other values: the decoder's legal ranges and the dispatch.",
        operand_bins(),
    ),
    Point(
        "frontend.illegal",
        "A reserved bit of every instruction and every value next to a legal range is refused.",
        illegal_bins(),
    ),
    Point(
        "frontend.illegal_opcode",
        "An opcode that is in no table, of every engine's group.",
        tuple(engine.name for engine in Engine) + tuple(f"group {group}" for group in range(len(Engine), 8)),
    ),
    Point(
        "frontend.register",
        "Every register in every register field that can name it.",
        cross(REGISTER_FIELDS, (f"r{number}" for number in range(SCALAR_REGISTERS))),
    ),
    Point(
        "frontend.index",
        "A register is added to every address operand: zero, without wrap, and past the end of the field.",
        cross(INDEXED, ("r0", "added", "wraps")),
    ),
    Point("frontend.fence", "Every set of engines.", tuple(str(mask) for mask in range(1, 16))),
    Point("frontend.loop_depth", "Every nesting.", tuple(str(depth) for depth in range(1, DEEPEST + 1))),
    Point(
        "frontend.loop_count",
        "No pass, one, two, many, and a count that wraps with its register.",
        ("0", "1", "2", "many", "wraps"),
    ),
    Point("frontend.loop_length", "The shortest body, the longest that fits, and others.", ("1", "longest", "between")),
    Point("frontend.fault", "Every cause that the frontend reports.", FAULTS),
    Point(
        "frontend.program",
        "Programs from nothing to longer than the instruction buffer, across 4 KiB pages.",
        ("empty", "one instruction", "fits the buffer", "longer than the buffer", "crosses a page"),
    ),
)
