"""Each rule of the bus checker fires on the one bad cycle that breaks it, and on nothing legal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tidemill.config import preset
from tidemill.csr import offset
from tidemill_verif.agents.axi_rules import HEADER, RULES, Axi4, AxiRules, Limits, Lite

CONFIG = preset("small")
BUS = CONFIG.axi_bytes
ALL = (1 << BUS) - 1
READ, WRITE, PROGRAM = 0x4000, 0x8000, 0x1000
PAGE = Path(__file__).resolve().parents[2] / "docs" / "verification" / "bus-faults.md"


class Ports:
    """Both ports, driven cycle by cycle: each channel's fields as keywords, valid and ready where not said."""

    def __init__(self, config: Any = CONFIG) -> None:
        self.rules = AxiRules(Limits.of(config))

    def axi4(self, reset: bool = False, **channels: dict[str, int]) -> None:
        self.rules.axi4(fill(Axi4(), channels), reset=reset)

    def lite(self, reset: bool = False, **channels: dict[str, int]) -> None:
        self.rules.lite(fill(Lite(), channels), reset=reset)

    def ready(self) -> Ports:
        """After a reset, windows of a page each, a program of 64 instructions, a start."""
        for _ in range(3):
            self.axi4(reset=True)
            self.lite(reset=True)
        self.axi4()
        self.lite()
        for name, value in (
            ("PROG_ADDR", PROGRAM), ("PROG_LEN", 64), ("READ_BASE", READ), ("READ_LIMIT", READ + 4095),
            ("WRITE_BASE", WRITE), ("WRITE_LIMIT", WRITE + 4095), ("CONTROL", 1),
        ):  # fmt: skip
            self.write(name, value)
        return self

    def write(self, name: str, value: int, strb: int = 15) -> None:
        """A whole register write."""
        self.lite(aw={"addr": offset(name)}, w={"data": value, "strb": strb})
        self.lite(b={})

    def status(self, value: int) -> None:
        """A whole read of STATUS."""
        self.lite(ar={"addr": offset("STATUS")})
        self.lite(r={"data": value})

    def store(self, beats: int, *, addr: int = WRITE, strb: int = ALL) -> None:
        """Address and data of a write burst."""
        self.axi4(aw=address(addr, beats))
        for i in range(beats):
            self.axi4(w={"strb": strb, "last": int(i == beats - 1)})

    def load(self, beats: int) -> None:
        """A whole load burst."""
        self.axi4(ar=address(READ, beats, id=1))
        for i in range(beats):
            self.axi4(r={"id": 1, "last": int(i == beats - 1)})


def fill(port: Any, channels: dict[str, dict[str, int]]) -> Any:
    for name, fields in channels.items():
        channel = getattr(port, name)
        channel.valid, channel.ready = fields.get("valid", 1), fields.get("ready", 1)
        for field, value in fields.items():
            if field == "data" and hasattr(channel.payload.data, "__len__"):
                channel.payload.data[0] = value
            elif field not in ("valid", "ready"):
                setattr(channel.payload, field, value)
    return port


def address(addr: int, beats: int = 1, **fields: int) -> dict[str, int]:
    """A burst as the machine makes them."""
    return {"addr": addr, "len": beats - 1, "size": BUS.bit_length() - 1, "burst": 1, "cache": 3} | fields


READ_1, WRITE_1 = address(READ, id=1), address(WRITE)
STALLED = {"ready": 0}
Breach = Callable[[Ports], None]
BREACHES: list[tuple[str, str, Breach]] = []


def breach(rule: str, what: str) -> Callable[[Breach], Breach]:
    """Registers a sequence whose last cycle breaks `rule`."""

    def register(drive: Breach) -> Breach:
        BREACHES.append((rule, what, drive))
        return drive

    return register


def sequence(rule: str, what: str, port: str, *cycles: dict[str, Any]) -> None:
    """Registers a breach made of cycles of one port."""

    def drive(ports: Ports) -> None:
        for cycle in cycles:
            getattr(ports, port)(**cycle)

    BREACHES.append((rule, what, drive))


RESET = {"reset": True}
for name in ("ar", "aw", "w"):
    payload = {"ar": READ_1, "aw": WRITE_1, "w": {"strb": ALL, "last": 1}}[name]
    before = [{"aw": WRITE_1}] if name == "w" else []
    changed = payload | ({"strb": 0} if name == "w" else {"addr": payload["addr"] + BUS})
    sequence("axi.reset", f"{name} in reset", "axi4", RESET, RESET | {name: payload})
    sequence("axi.reset", f"{name} right after reset", "axi4", RESET, RESET, {name: payload})
    sequence("axi.hold", name, "axi4", *before, {name: payload | STALLED}, {})
    sequence("axi.stable", name, "axi4", *before, {name: payload | STALLED}, {name: changed})
sequence("axi.stable", "data", "axi4", {"aw": WRITE_1}, {"w": {"strb": ALL, "last": 1} | STALLED},
         {"w": {"strb": ALL, "last": 1, "data": 1}})  # fmt: skip
for channel, good in (("ar", READ_1), ("aw", WRITE_1)):
    for field, bad in (("size", 2), ("size", 4), ("burst", 0), ("burst", 2), ("addr", good["addr"] + 1)):
        sequence("axi.burst", f"{channel} {field} {bad}", "axi4", {channel: good | {field: bad}})
    sequence("axi.length", channel, "axi4", {channel: good | {"len": CONFIG.max_burst}})
    sequence("axi.4k", channel, "axi4", {channel: good | {"addr": good["addr"] + 4096 - BUS, "len": 1}})
    for field, bad in (("lock", 1), ("cache", 2), ("prot", 1), ("qos", 1)):
        sequence("axi.attributes", f"{channel} {field}", "axi4", {channel: good | {field: bad}})
sequence("axi.id", "read", "axi4", {"ar": READ_1 | {"id": 2}})
sequence("axi.id", "write", "axi4", {"aw": WRITE_1 | {"id": 1}})
TWO = address(WRITE, 2)
sequence("axi.wlast", "early", "axi4", {"aw": TWO}, {"w": {"strb": ALL, "last": 1}})
sequence("axi.wlast", "missing", "axi4", {"aw": TWO}, {"w": {"strb": ALL}}, {"w": {"strb": ALL}})
sequence("axi.early-data", "first burst", "axi4", {"w": {"strb": ALL, "last": 1}})
sequence("axi.early-data", "a beat too many", "axi4", {"aw": WRITE_1}, *[{"w": {"strb": ALL, "last": 1}}] * 2)
sequence("axi.strobe", "partial", "axi4", {"aw": WRITE_1}, {"w": {"strb": ALL >> 1, "last": 1}})
sequence("axi.strobe", "on again", "axi4", {"aw": TWO}, {"w": {"strb": 0}}, {"w": {"strb": ALL, "last": 1}})
sequence("axi.window", "load below", "axi4", {"ar": READ_1 | {"addr": READ - BUS}})
sequence("axi.window", "load beyond", "axi4", {"ar": READ_1 | {"addr": READ + 4096}})
sequence("axi.window", "fetch below", "axi4", {"ar": address(PROGRAM - BUS)})
sequence("axi.window", "fetch beyond", "axi4", {"ar": address(PROGRAM + 64 * 16 - BUS, 2)})
sequence("axi.window", "store below", "axi4", {"aw": WRITE_1 | {"addr": WRITE - BUS}})
sequence("axi.window", "store beyond", "axi4", {"aw": WRITE_1 | {"addr": WRITE + 4096}})
sequence("mem.reset", "r", "axi4", RESET, RESET | {"r": {}})
sequence("mem.reset", "b", "axi4", RESET, RESET | {"b": {}})
ASKED, SENT = {"ar": READ_1}, [{"aw": WRITE_1}, {"w": {"strb": ALL, "last": 1}}]
sequence("mem.hold", "r", "axi4", ASKED, {"r": {"id": 1, "last": 1} | STALLED}, {})
sequence("mem.hold", "b", "axi4", *SENT, {"b": STALLED}, {})
sequence("mem.stable", "r", "axi4", ASKED, {"r": {"id": 1, "last": 1} | STALLED},
         {"r": {"id": 1, "last": 1, "data": 1}})  # fmt: skip
sequence("mem.stable", "b", "axi4", *SENT, {"b": STALLED}, {"b": {"resp": 2}})
sequence("mem.unasked", "r", "axi4", {"r": {"id": 1}})
sequence("mem.unasked", "r of the wrong ID", "axi4", ASKED, {"r": {"id": 0}})
sequence("mem.unasked", "a beat too many", "axi4", ASKED, *[{"r": {"id": 1, "last": 1}}] * 2)
sequence("mem.unasked", "b before its data", "axi4", {"aw": WRITE_1}, {"b": {}})
sequence("mem.unasked", "b before its address", "axi4", {"aw": WRITE_1 | STALLED},
         {"aw": WRITE_1 | STALLED, "w": {"strb": ALL, "last": 1}}, {"aw": WRITE_1 | STALLED, "b": {}})  # fmt: skip
sequence("mem.unasked", "b of the wrong ID", "axi4", *SENT, {"b": {"id": 1}})
sequence("mem.unasked", "b twice", "axi4", *SENT, {"b": {}}, {"b": {}})
sequence("mem.rlast", "early", "axi4", {"ar": address(READ, 2, id=1)}, {"r": {"id": 1, "last": 1}})
sequence("mem.rlast", "missing", "axi4", ASKED, {"r": {"id": 1}})
sequence("mem.response", "r", "axi4", ASKED, {"r": {"id": 1, "last": 1, "resp": 1}})
sequence("mem.response", "b", "axi4", *SENT, {"b": {"resp": 1}})

STATUS = {"addr": offset("STATUS")}
PROG = {"addr": offset("PROG_ADDR")}
WROTE = {"aw": PROG, "w": {"strb": 15}}
for name in ("b", "r"):
    sequence("lite.reset", f"{name} in reset", "lite", RESET, RESET | {name: {}})
    sequence("lite.reset", f"{name} right after reset", "lite", RESET, RESET, {name: {}})
    sequence("lite.unasked", name, "lite", {name: {}})
for name in ("aw", "w", "ar"):
    sequence("host.reset", name, "lite", RESET, RESET | {name: {}})
    sequence("host.hold", name, "lite", {name: STALLED}, {})
    sequence("host.stable", name, "lite", {name: STALLED}, {name: {"strb": 1} if name == "w" else {"addr": 4}})
sequence("lite.hold", "b", "lite", WROTE, {"b": STALLED}, {})
sequence("lite.hold", "r", "lite", {"ar": STATUS}, {"r": {"data": 1} | STALLED}, {})
sequence("lite.stable", "b", "lite", WROTE, {"b": STALLED}, {"b": {"resp": 2}})
sequence("lite.stable", "r", "lite", {"ar": STATUS}, {"r": {"data": 1} | STALLED}, {"r": {"data": 3}})
sequence("lite.unasked", "b without data", "lite", {"aw": PROG}, {"b": {}})
sequence("lite.unasked", "b without address", "lite", {"w": {"strb": 15}}, {"b": {}})
sequence("lite.unasked", "b twice", "lite", WROTE, {"b": {}}, {"b": {}})
sequence("lite.unasked", "r twice", "lite", {"ar": STATUS}, {"r": {"data": 1}}, {"r": {"data": 1}})
sequence("lite.response", "b", "lite", WROTE, {"b": {"resp": 2}})
sequence("lite.response", "r", "lite", {"ar": STATUS}, {"r": {"data": 1, "resp": 1}})
sequence("lite.one", "write address", "lite", {"aw": PROG}, {"aw": PROG})
sequence("lite.one", "write data", "lite", {"w": {"strb": 15}}, {"w": {"strb": 15}})
sequence("lite.one", "read", "lite", {"ar": STATUS}, {"ar": STATUS})
sequence("lite.late", "write", "lite", WROTE, *[{}] * 16)
sequence("lite.late", "read", "lite", {"ar": STATUS}, *[{}] * 16)
sequence("lite.late", "never ready", "lite", *[{"ar": STATUS | STALLED}] * 17)


@breach("axi.idle", "before any start")
def _(ports: Ports) -> None:
    for _ in range(2):
        ports.axi4(reset=True)
        ports.lite(reset=True)
    ports.axi4()
    ports.axi4(ar=address(PROGRAM))


@breach("axi.idle", "a burst while STATUS says idle")
def _(ports: Ports) -> None:
    ports.load(2)
    ports.status(2)
    ports.axi4(ar=READ_1)


@breach("axi.idle", "STATUS says idle though a read is in flight")
def _(ports: Ports) -> None:
    ports.axi4(ar=READ_1)
    ports.status(0)


@breach("axi.idle", "STATUS says idle though a write has no response")
def _(ports: Ports) -> None:
    ports.store(1)
    ports.status(4)


@breach("axi.outstanding", "loads")
def _(ports: Ports) -> None:
    for _ in range(CONFIG.max_outstanding + 1):
        ports.axi4(ar=READ_1)


@breach("axi.outstanding", "writes")
def _(ports: Ports) -> None:
    for _ in range(CONFIG.max_outstanding + 1):
        ports.store(1)


@breach("axi.outstanding", "fetch beats")
def _(ports: Ports) -> None:
    for _ in range(2):
        ports.axi4(ar=address(PROGRAM, CONFIG.max_burst))
    ports.axi4(ar=address(PROGRAM))


@breach("axi.strobe", "on again in a later burst of the drain")
def _(ports: Ports) -> None:
    ports.store(2, strb=0)
    ports.store(1)


@pytest.mark.parametrize("case", [pytest.param(b, id=f"{b[0]}: {b[1]}") for b in BREACHES])
def test_a_breach_is_named(case: tuple[str, str, Breach]) -> None:
    rule, _, drive = case
    ports = Ports().ready()
    assert not ports.rules.violation
    drive(ports)
    assert ports.rules.violation.split(":")[0] == rule, ports.rules.violation


def test_every_rule_has_a_breach_and_a_line_in_the_page() -> None:
    assert {rule for rule, _, _ in BREACHES} == RULES.keys()
    complains = set(re.findall(r'(?:complain|quiet)\("([a-z]+\.[a-z0-9-]+)"', HEADER.read_text()))
    complains |= {f"{side}.{rule}" for side in ("axi", "mem", "lite", "host") for rule in ("hold", "stable")}
    complains.add("lite.late")
    assert complains == RULES.keys()
    page = PAGE.read_text()
    for rule, (source, text) in RULES.items():
        assert f"| `{rule}` | {text} | {source} |" in page, rule


def test_legal_traffic_is_legal() -> None:
    ports = Ports().ready()
    ports.axi4(ar=READ_1 | STALLED)
    ports.axi4(ar=READ_1)
    ports.axi4(ar=address(PROGRAM, 2))
    ports.axi4(r={"id": 0} | STALLED)
    ports.axi4(r={"id": 0})
    ports.axi4(r={"id": 1, "last": 1, "resp": 2})
    ports.axi4(r={"id": 0, "last": 1, "resp": 3})
    ports.axi4(aw=address(WRITE, 2) | STALLED)
    ports.axi4(aw=address(WRITE, 2) | STALLED, w={"strb": ALL} | STALLED)
    ports.axi4(aw=address(WRITE, 2) | STALLED, w={"strb": ALL})
    ports.axi4(aw=address(WRITE, 2), w={"strb": 0, "last": 1})
    ports.axi4(b={"resp": 2} | STALLED)
    ports.status(1)
    ports.axi4(b={"resp": 2})
    ports.store(1)
    ports.axi4(b={})
    ports.axi4(ar=address(READ + 4096 - 2 * BUS, 2, id=1))
    for last in (0, 1):
        ports.axi4(r={"id": 1, "last": last})
    ports.status(0)
    ports.write("READ_BASE", 0x20, strb=1)
    ports.write("CONTROL", 1)
    ports.axi4(ar=address(READ + 0x20, id=1))
    ports.lite(aw=PROG)
    for _ in range(100):
        ports.lite()
    ports.lite(w={"strb": 15})
    ports.lite(b=STALLED)
    for _ in range(100):
        ports.lite(b=STALLED)
    ports.lite(b={})
    assert not ports.rules.violation


def test_a_start_between_the_read_of_status_and_its_answer_is_no_breach() -> None:
    ports = Ports().ready()
    ports.status(2)
    ports.lite(ar=STATUS)
    ports.write("CONTROL", 1)
    ports.axi4(ar=READ_1)
    ports.lite(r={"data": 2})
    assert not ports.rules.violation


def test_an_instruction_may_be_longer_than_the_longest_burst() -> None:
    ports = Ports(CONFIG.replace(name="narrow", axi_data_width=32, max_burst=2)).ready()
    ports.axi4(ar=address(PROGRAM, 4) | {"size": 2})
    assert not ports.rules.violation
    ports.axi4(ar=address(READ, 4, id=1) | {"size": 2})
    assert ports.rules.violation.startswith("axi.length")


def test_byte_strobes_of_windows_count() -> None:
    ports = Ports().ready()
    ports.write("READ_BASE", 0x20, strb=1)
    ports.write("CONTROL", 1)
    ports.axi4(ar=READ_1)
    assert ports.rules.violation.startswith("axi.window")


def test_a_reset_forgets_what_was_in_flight() -> None:
    ports = Ports().ready()
    ports.axi4(ar=READ_1 | STALLED, aw=WRITE_1 | STALLED)
    ports.ready()
    ports.load(1)
    ports.store(1)
    ports.axi4(b={})
    assert not ports.rules.violation
