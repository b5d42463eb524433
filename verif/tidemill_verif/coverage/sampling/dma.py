"""Samples the points of `plan/dma.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.isa import ACC_SPACE, BY_MNEMONIC
from tidemill_verif.coverage.collect import hit
from tidemill_verif.coverage.isa_bins import engine_hits
from tidemill_verif.coverage.plan.dma import CLIENTS
from tidemill_verif.coverage.point import join
from tidemill_verif.coverage.sampling.kinds import side
from tidemill_verif.coverage.sampling.wires import Streams, Wires, every_cycle

AXI = ("ar", "r", "aw", "w", "b")
RESPONSES = {0: "OKAY", 2: "SLVERR", 3: "DECERR"}
_BUS = {
    "load": ("cmd", "beat"),
    "store": ("cmd", "beat", "resp"),
}


def watch_engine(dut: Any, name: str) -> None:
    """Sample the streams of the load or store engine in every cycle of this test."""
    ports = {f"{name} instr": "instr"} | {f"{name} {stream}": f"bus__{stream}" for stream in _BUS[name]}
    every_cycle(dut, Streams(Wires(dut), "dma", ports))


def watch_gateway(dut: Any) -> Callable[[], None]:
    """Sample the gateway in every cycle of this test; call the result when a drain begins."""
    wires = Wires(dut)
    ports: dict[str, str | tuple[str, str]] = {
        f"gateway {client} {stream}": f"{client}__{stream}"
        for client in CLIENTS
        for stream in _BUS["store" if client == "store" else "load"]
    }
    ports |= {
        f"axi {channel}": (f"m_axi__{channel}valid", f"m_axi__{channel}ready")
        for channel in ["ar", "r", "aw", "w", "b"]
    }
    under_way = {"reads": 0, "write beats": 0, "responses": 0}
    width = len(dut.fetch__beat__payload) - 2

    def moves(channel: str) -> bool:
        return bool(wires[f"m_axi__{channel}valid"] and wires[f"m_axi__{channel}ready"])

    def sample() -> None:
        if wires["fetch__cmd__valid"] and wires["load__cmd__valid"]:
            hit("dma.arbitration", "fetch and load ask")
        for client in ("fetch", "load"):
            if wires.transfer(f"{client}__beat"):
                hit("dma.response", join(client, RESPONSES[wires[f"{client}__beat__payload"] >> width]))
                if wires.transfer("store__beat"):
                    hit("dma.arbitration", f"{client} and store transfer")
        if wires.transfer("store__resp"):
            hit("dma.response", join("store", RESPONSES[wires["store__resp__payload"]]))
        under_way["reads"] += moves("ar") - (moves("r") and wires["m_axi__rlast"])
        last = moves("w") and wires["m_axi__wlast"]
        under_way["write beats"] += moves("aw") - last
        under_way["responses"] += last - moves("b")

    def drains() -> None:
        for name, number in under_way.items():
            if number > 0:
                hit("dma.drain", name)
        if not any(under_way.values()):
            hit("dma.drain", "nothing")

    every_cycle(dut, Streams(wires, "dma", ports), sample)
    return drains


def burst(name: str, config: Config, beats: int, in_flight: int) -> None:
    """Sample a burst of the engine called `name`, and how many are under way with it."""
    hit("dma.burst", join(name, "one" if beats == 1 else "longest" if beats == config.max_burst else "between"))
    if in_flight in range(1, config.max_outstanding + 1):
        hit("dma.in_flight", join(name, in_flight))


def instruction(mnemonic: str, values: dict[str, int]) -> None:
    """Sample an instruction of either engine."""
    hit("dma.opcode", mnemonic)
    op = BY_MNEMONIC[mnemonic]
    full = {field.name: values.get(field.name, field.default or 0) for field in op.all_fields}
    hit("dma.operand", *engine_hits(op, full))


def transfer(name: str, config: Config, values: dict[str, int], state: dict[str, int]) -> None:
    """Sample a run: its operands and the configuration that applies to it."""
    acc = bool(values["dst" if name == "load" else "src"] & ACC_SPACE)
    space = "acc" if acc else "spad"
    kinds = [f"n0 {min(values['n0'], 2)}".replace("2", "more")]
    kinds += [f"{key} {'1' if values[key] == 1 else 'more'}" for key in ("n1", "n2")]
    hit("dma.shape", join(name, space, *kinds))
    if name != "load":
        return
    if values["n0"] and config.axi_bytes == 4:
        hit("dma.alignment", join(space, values["dram"] % 4, "one row" if values["n0"] == 1 else "rows"))
    rows = [state.get(pad, 0) for pad in ("pad_lo", "pad_hi")]
    padding = [str(number) if number < 2 else "more" for number in rows]
    if values["n0"] or padding != ["0", "0"]:
        hit("dma.padding", join(f"lo {padding[0]}", f"hi {padding[1]}", "data" if values["n0"] else "no data"))


def line(name: str, first: int, nbytes: int, window: tuple[int, int]) -> None:
    """Sample a line of `nbytes` from byte `first`."""
    end = first + nbytes
    if first // 4096 != (end - 1) // 4096:
        hit("dma.page", join(name, "crosses"))
    else:
        hit("dma.page", join(name, "ends" if end % 4096 == 0 else "inside"))
    if end > 1 << 32:
        hit("dma.window", join(name, "wraps"))
    elif first < window[0]:
        hit("dma.window", join(name, "below"))
    elif end - 1 > window[1]:
        hit("dma.window", join(name, "above"))
    else:
        for place, at in (("at base", first == window[0]), ("at limit", end - 1 == window[1])):
            if at:
                hit("dma.window", join(name, place))


def fault(name: str, config: Config, cause: Cause, info: int, acc: bool, bursts: Sequence[int], first: bool) -> None:
    """Sample a fault of the engine called `name` in a transfer to or from the accumulators (`acc`).

    `bursts` are the addresses of the faulty line's bursts, `first` tells whether the line is its transfer's first.
    """
    if cause is Cause.LOCAL_RANGE:
        row = info - (1 << 32) if info >> 31 else info
        hit("dma.local_range", join(name, "acc" if acc else "spad", side(row)))
    elif cause is Cause.MISALIGNED:
        hit("dma.misaligned", "first line" if first else "later line")
    elif cause in (Cause.BUS_SLVERR, Cause.BUS_DECERR):
        early = not bursts or info // config.axi_bytes <= min(bursts) // config.axi_bytes
        hit("dma.bus_error", join(name, cause.name.removeprefix("BUS_"), "first burst" if early else "later burst"))
