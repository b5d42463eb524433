"""The whole machine."""

from tidemill.config import preset
from tidemill.csr import Cause, Unit
from tidemill.isa import ENGINES, OPS, Engine, Field, Op
from tidemill_verif.coverage.isa_bins import corners, names, operand_bins, operands, ops_of
from tidemill_verif.coverage.plan.sync import DONES, ENGINE_NAMES, SEMAPHORES
from tidemill_verif.coverage.point import Point, cross, join, pairs

ENGINE_OPS = ops_of()


def others(engine: Engine) -> tuple[str, ...]:
    """The engines beside `engine`."""
    return tuple(other.name.lower() for other in ENGINES if other is not engine)


def _outside(op: Op, field: Field, name: str) -> bool:
    """Whether an engine that gets this corner reports an error: the address, with its register, is in no memory, or in
    the scratchpad where only accumulators are legal; the rows of a weight tile are too far apart."""
    only_accumulators = op.mnemonic in ("vx.param", "vx.lut") or (op.mnemonic, field.name) == ("mx.run", "acc")
    return (
        (field.index is not None and name == "max")
        or (field.index is not None and name == "min" and only_accumulators)
        or (op.mnemonic == "mx.wload" and field.name == "stride" and name in ("min", "max"))
    )


ERRORS = (
    *(
        join(Unit.FRONTEND.name, cause.name)
        for cause in (
            Cause.PC_RANGE,
            Cause.LOOP,
            Cause.BUS_SLVERR,
            Cause.BUS_DECERR,
            Cause.ILLEGAL_OPCODE,
            Cause.RESERVED_BITS,
            Cause.ILLEGAL_OPERAND,
            Cause.WATCHDOG,
        )
    ),
    *cross(
        (Unit.LOAD.name, Unit.STORE.name),
        (cause.name for cause in (Cause.WINDOW, Cause.BUS_SLVERR, Cause.BUS_DECERR, Cause.LOCAL_RANGE)),
    ),
    join(Unit.STORE.name, Cause.MISALIGNED.name),
    *(join(Unit.MATRIX.name, cause.name) for cause in (Cause.ILLEGAL_OPERAND, Cause.LOCAL_RANGE)),
    join(Unit.VECTOR.name, Cause.LOCAL_RANGE.name),
    *(join(Unit.SYNC.name, cause.name) for cause in (Cause.SEM_OVERFLOW, Cause.WATCHDOG)),
)

POINTS = (
    Point("npu.opcode", "Every instruction is executed in a program.", names(OPS)),
    Point(
        "npu.operand", "Every operand of every instruction at its corners, as written in the program.", operand_bins()
    ),
    Point(
        "npu.concurrent",
        "Every engine instruction runs while each other engine is busy.",
        tuple(join(op.mnemonic, other) for op in ENGINE_OPS for other in others(op.engine)),
    ),
    Point(
        "npu.operand_concurrent",
        "Every operand corner that is legal for an engine, registers added, while each other engine is busy.",
        tuple(
            f"{op.mnemonic}.{field.name} {name}, {other}"
            for op in ENGINE_OPS
            for field in operands(op)
            for name in corners(field)
            if not _outside(op, field, name)
            for other in others(op.engine)
        ),
    ),
    Point(
        "npu.engines",
        "Each set of engines is busy in one cycle.",
        tuple(
            "+".join(name for index, name in enumerate(ENGINE_NAMES) if mask >> index & 1) or "none"
            for mask in range(16)
        ),
    ),
    Point("npu.finish", "Each pair of engines finishes an instruction in the same cycle.", pairs(DONES)),
    Point("npu.wait", "Every engine waits for every semaphore.", cross(ENGINE_NAMES, SEMAPHORES)),
    Point("npu.signal", "Every engine signals every semaphore.", cross(DONES, SEMAPHORES)),
    Point(
        "npu.loop_depth",
        "Every nesting of loops.",
        tuple(str(depth) for depth in range(1, preset("tiny").loop_depth + 1)),
    ),
    Point("npu.error", "Every cause of every unit that can raise it.", ERRORS),
    Point(
        "npu.window",
        "Transfers whose first byte is the window's first, and whose last is its last.",
        cross(("load", "store"), ("at base", "at limit")),
    ),
    Point(
        "npu.row",
        "The first and the last row of each memory is used by each engine that addresses it.",
        cross(ENGINE_NAMES, ("spad first", "spad last", "acc first", "acc last")),
    ),
    Point(
        "npu.end",
        "A program ends by halt, by an error, and by a soft reset while it runs.",
        ("halt", "error", "soft reset"),
    ),
)
