"""Load, store and the gateway."""

from tidemill.config import preset
from tidemill.isa import Engine
from tidemill_verif.coverage.isa_bins import engine_bins, names, ops_of
from tidemill_verif.coverage.point import Point, cross, streams

BEAT = tuple(range(preset("tiny").axi_bytes))
SPACES = ("spad", "acc")
PLACES = ("first burst", "later burst")
CLIENTS = ("fetch", "load", "store")

POINTS = (
    # The gateway takes a command when it has passed the one before on, a write when its address channel is free: in
    # every second cycle at most.
    streams(
        "dma",
        (
            "load instr",
            "load cmd",
            "load beat",
            "store instr",
            "store cmd",
            "store beat",
            "store resp",
            *(
                f"gateway {name}"
                for name in (
                    "fetch cmd",
                    "fetch beat",
                    "load cmd",
                    "load beat",
                    "store cmd",
                    "store beat",
                    "store resp",
                )
            ),
            *(f"axi {channel}" for channel in ("ar", "r", "aw", "w", "b")),
        ),
        *(f"gateway {client} cmd, back to back" for client in CLIENTS),
        "axi aw, back to back",
    ),
    Point("dma.opcode", "Every instruction of both engines.", names(ops_of(Engine.LOAD, Engine.STORE))),
    Point(
        "dma.operand",
        "Every operand at its corners, as the engines get it.",
        engine_bins(ops_of(Engine.LOAD, Engine.STORE)),
    ),
    Point(
        "dma.shape",
        "Lines and planes, one and several, into and from both memories.",
        cross(("load", "store"), SPACES, ("n0 0", "n0 1", "n0 more"), ("n1 1", "n1 more"), ("n2 1", "n2 more")),
    ),
    Point(
        "dma.alignment",
        "A load starts at each byte of a beat, to both memories, one row and several.",
        cross(SPACES, BEAT, ("one row", "rows")),
    ),
    Point(
        "dma.page",
        "Lines that end at a 4 KiB page, cross it, or stay inside.",
        cross(("load", "store"), ("ends", "crosses", "inside")),
    ),
    Point(
        "dma.burst",
        "Bursts of one beat, the longest and between.",
        cross(("load", "store"), ("one", "between", "longest")),
    ),
    Point(
        "dma.in_flight",
        "Each number of bursts under way up to the limit.",
        cross(("load", "store"), range(1, preset("tiny").max_outstanding + 1)),
    ),
    Point(
        "dma.padding",
        "Padding before and after a line: none, one row, several; alone and with data.",
        tuple(
            name
            for name in cross(("lo 0", "lo 1", "lo more"), ("hi 0", "hi 1", "hi more"), ("data", "no data"))
            if name != "lo 0, hi 0, no data"
        ),
    ),
    Point(
        "dma.window",
        "Lines at the window's edges and outside them, and over the end of the address space.",
        cross(("load", "store"), ("at base", "at limit", "below", "above", "wraps")),
    ),
    Point(
        "dma.local_range",
        "Rows outside the memory, below and above.",
        cross(("load", "store"), SPACES, ("below", "above")),
    ),
    Point(
        "dma.misaligned",
        "A store that does not start at a beat: its first line, a later one.",
        ("first line", "later line"),
    ),
    Point(
        "dma.bus_error",
        "Both error responses in the first burst and in later ones.",
        cross(("load", "store"), ("SLVERR", "DECERR"), PLACES),
    ),
    Point(
        "dma.arbitration",
        "Both readers want the bus in one cycle; each wins; fetch and store, load and store run at once.",
        ("fetch and load ask", "load and store transfer", "fetch and store transfer"),
    ),
    Point(
        "dma.drain",
        "Draining with nothing, read bursts, unfinished write bursts or unanswered ones under way.",
        ("nothing", "reads", "write beats", "responses"),
    ),
    Point("dma.response", "Each client gets each response.", cross(CLIENTS, ("OKAY", "SLVERR", "DECERR"))),
)
