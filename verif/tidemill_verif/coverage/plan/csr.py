"""Control, counters and the register bus."""

from tidemill.csr import COUNTERS, CSRS, Access, Cause, Unit
from tidemill_verif.coverage.point import Point, cross, streams

CAUSES = tuple(cause.name for cause in Cause if cause is not Cause.NONE)
UNITS = tuple(unit.name for unit in Unit)
WRITABLE = tuple(register.name for register in CSRS if register.access is Access.RW)
IRQS = ("done", "error", "user")

POINTS = (
    # One read and one write at a time.
    streams("csr", ("aw", "w", "b", "ar", "r"), *(f"{name}, back to back" for name in ("aw", "w", "b", "ar", "r"))),
    Point(
        "csr.read",
        "Every register and counter is read, and words that do not exist.",
        (*(register.name for register in CSRS), *(counter.name for counter in COUNTERS), "unmapped"),
    ),
    Point(
        "csr.write",
        "Every byte of every writable register is written; writes elsewhere do nothing.",
        (*cross(WRITABLE, (f"byte {number}" for number in range(4))), "read-only", "unmapped"),
    ),
    Point("csr.order", "Address before data, after it, and together.", ("address first", "data first", "together")),
    Point("csr.counter", "Every counter counts.", tuple(counter.name for counter in COUNTERS)),
    Point(
        "csr.conflicts",
        "Counters of several events a cycle add each number.",
        cross(("CONFLICT_LOAD", "CONFLICT_STORE", "CONFLICT_MATRIX", "CONFLICT_VECTOR"), ("1", "2", "3")),
    ),
    Point("csr.fault", "Every unit reports a fault, and every cause is kept.", (*UNITS, *CAUSES)),
    Point(
        "csr.faults_together",
        "Each pair of units reports in one cycle: the lower one counts.",
        tuple(f"{a}, {b}" for i, a in enumerate(UNITS) for b in UNITS[i + 1 :]),
    ),
    Point(
        "csr.irq",
        "Each event sets its status, drives the line when enabled, and not otherwise; is cleared.",
        cross(IRQS, ("enabled", "masked", "cleared")),
    ),
    Point(
        "csr.start",
        "Start when idle, busy, with an error, while resetting, together with a soft reset.",
        ("idle", "busy", "error", "resetting", "with soft_reset"),
    ),
    Point(
        "csr.soft_reset",
        "A soft reset when idle, starting, running, stopping, and with an error.",
        ("idle", "busy", "error", "halting"),
    ),
    Point(
        "csr.watchdog",
        "Fires on a blocked engine and on the frontend, is restarted by progress, is off.",
        ("blocked", "frontend", "restarted", "off"),
    ),
)
