"""Banks, scratchpad and accumulators."""

from tidemill.config import preset
from tidemill_hdl.memory.accumulators import AccRead, AccWrite
from tidemill_hdl.memory.scratchpad import SpadRead, SpadWrite
from tidemill_verif.coverage.point import Point, cross, pairs

SPAD_READS = tuple(port.name.lower() for port in SpadRead)
SPAD_WRITES = tuple(port.name.lower() for port in SpadWrite)
ACC_READS = ("array", *(port.name.lower() for port in AccRead))
ACC_WRITES = ("array", *(port.name.lower() for port in AccWrite))
SPAD_BANKS, ACC_BANKS = range(preset("tiny").spad_banks), range(preset("tiny").acc_banks)
ROWS = ("first", "last", "inside")

POINTS = (
    Point("memory.spad_read_conflict", "Each pair of read ports wants one bank in one cycle.", pairs(SPAD_READS)),
    Point("memory.spad_write_conflict", "Both write ports want one bank in one cycle.", pairs(SPAD_WRITES)),
    Point(
        "memory.spad_read_write",
        "Each read port and each write port use one bank in one cycle.",
        cross(SPAD_READS, SPAD_WRITES),
    ),
    Point(
        "memory.spad_bank",
        "Each port uses each bank, its first row, its last and others.",
        cross((*(f"read {port}" for port in SPAD_READS), *(f"write {port}" for port in SPAD_WRITES)), SPAD_BANKS, ROWS),
    ),
    Point(
        "memory.acc_read_conflict",
        "Each pair of readers wants one bank in one cycle; the array comes first.",
        pairs(ACC_READS),
    ),
    Point(
        "memory.acc_write_conflict",
        "Each pair of writers wants one bank in one cycle; the array comes first.",
        pairs(ACC_WRITES),
    ),
    Point(
        "memory.acc_bank",
        "Each port uses each bank, its first row, its last and others.",
        cross(
            (*(f"read {port}" for port in ACC_READS), *(f"write {port}" for port in ACC_WRITES[1:])), ACC_BANKS, ROWS
        ),
    ),
    Point(
        "memory.accumulate",
        "The array overwrites and adds; sums wrap at both ends.",
        ("overwrite", "add", "add, wraps above", "add, wraps below"),
    ),
    Point("memory.hazard", "An accumulate as early as the contract allows.", ("at the distance", "later")),
    Point(
        "memory.stall",
        "Each port that can lose a bank has lost one.",
        (
            *(f"spad read {port}" for port in SPAD_READS[1:]),
            *(f"spad write {port}" for port in SPAD_WRITES[1:]),
            *(f"acc read {port}" for port in ACC_READS[1:]),
            *(f"acc write {port}" for port in ACC_WRITES[1:]),
        ),
    ),
)
