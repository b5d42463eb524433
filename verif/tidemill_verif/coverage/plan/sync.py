"""Queues and semaphores."""

from tidemill.isa import ENGINES
from tidemill_verif.coverage.point import Point, cross, pairs, streams

ENGINE_NAMES = tuple(engine.name.lower() for engine in ENGINES)
DONES = (*ENGINE_NAMES, "weights")
SEMAPHORES = tuple(range(16))
MASKS = ("none", "one", "several", "all")

POINTS = (
    streams("sync", (f"{side} {name}" for side in ("i", "o") for name in ENGINE_NAMES)),
    Point(
        "sync.waited",
        "Every engine has waited at every semaphore and gone on: each bit of each wait mask is wired to its counter.",
        cross(ENGINE_NAMES, SEMAPHORES),
    ),
    Point(
        "sync.signalled",
        "Every source of completions has signalled every semaphore: each bit of each signal mask is wired.",
        cross(DONES, SEMAPHORES),
    ),
    Point("sync.wait_mask", "A head waits for none, one, several and all semaphores.", cross(ENGINE_NAMES, MASKS)),
    Point("sync.signal_mask", "A completion signals none, one, several and all.", cross(DONES, MASKS)),
    Point(
        "sync.together",
        "Any number of completions in one cycle: a semaphore must count them all.",
        tuple(str(count) for count in range(1, len(DONES) + 1)),
    ),
    Point(
        "sync.same_semaphore",
        "Up to five signals of one semaphore in one cycle.",
        tuple(str(count) for count in range(1, len(DONES) + 1)),
    ),
    Point(
        "sync.clash",
        "Each pair of engines waits for a common semaphore at the same time: only one may take it.",
        pairs(ENGINE_NAMES),
    ),
    Point("sync.overflow", "Each semaphore overflows and is named.", tuple(map(str, SEMAPHORES))),
    Point("sync.idle", "Each engine's idle rises and falls.", cross(ENGINE_NAMES, ("rises", "falls"))),
    Point("sync.busy", "Each engine is seen busy and waiting.", cross(ENGINE_NAMES, ("busy", "waits"))),
    Point("sync.blocked", "Each engine is the one reported as blocked.", ENGINE_NAMES),
)
