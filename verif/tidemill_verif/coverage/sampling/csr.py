"""Samples the points of `plan/csr.py`."""

from __future__ import annotations

import itertools
from typing import Any

from tidemill.csr import BY_NAME, COUNTERS, CSRS, Access, Cause, Unit, bit, counter_offsets
from tidemill_verif.coverage.collect import hit
from tidemill_verif.coverage.plan.csr import IRQS
from tidemill_verif.coverage.point import join
from tidemill_verif.coverage.sampling.wires import Streams, Wires, every_cycle

_COUNTERS = counter_offsets()
_READ = {register.offset: register.name for register in CSRS} | {
    _COUNTERS[counter.name] + 4 * word: counter.name for counter in COUNTERS for word in range(counter.width // 32)
}
_CAUSES = frozenset(map(int, Cause))
_START, _SOFT_RESET = bit("CONTROL", "start"), bit("CONTROL", "soft_reset")


class _Writes:
    """Puts the halves of register writes together."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._address: int | None = None
        self._data: tuple[int, int] | None = None

    def take(self) -> tuple[int, int, int] | None:
        """(address, data, strobes) in the cycle in which both have come."""
        wires = self._wires
        address = bool(wires["s_axil__awvalid"] and wires["s_axil__awready"])
        data = bool(wires["s_axil__wvalid"] and wires["s_axil__wready"])
        if address:
            order = "together" if data else "address first" if self._data is None else "data first"
            hit("csr.order", order)
            self._address = wires["s_axil__awaddr"]
        if data:
            self._data = wires["s_axil__wdata"], wires["s_axil__wstrb"]
        if self._address is None or self._data is None:
            return None
        result = self._address, *self._data
        self._address = self._data = None
        return result


def watch(dut: Any) -> None:
    """Sample the control unit in every cycle of this test."""
    wires = Wires(dut)
    channels = ("aw", "w", "b", "ar", "r")
    ports = {name: (f"s_axil__{name}valid", f"s_axil__{name}ready") for name in channels}
    writes = _Writes(wires)
    state = {"busy": False, "error": False, "resetting": False, "halting": False, "enabled": 0}

    def machine() -> None:
        if wires["start"]:
            state.update(busy=True, error=False)
        if wires["halted"]:
            state["halting"] = bool(state["busy"])
        faults = [unit for unit in Unit if wires[f"faults__{unit.value}__valid"]]
        if faults and state["busy"] and not state["error"]:
            hit("csr.fault", faults[0].name)
            # Benches also raise codes of no cause, to see that every bit is kept.
            if (cause := wires[f"faults__{faults[0].value}__cause"]) in _CAUSES:
                hit("csr.fault", Cause(cause).name)
            for first, second in itertools.combinations(faults, 2):
                hit("csr.faults_together", join(first.name, second.name))
            state["error"] = True
        if wires["quiet"] and wires["quiesce"]:
            state.update(busy=False, resetting=False, halting=False)

    def registers() -> None:
        if wires["s_axil__arvalid"] and wires["s_axil__arready"]:
            hit("csr.read", _READ.get(wires["s_axil__araddr"] & 0xFFC, "unmapped"))
        write = writes.take()
        if write is None:
            return
        address, data, strobes = write
        name = _READ.get(address & 0xFFC, "")
        register = BY_NAME.get(name)
        if register is None:
            hit("csr.write", "read-only" if name else "unmapped")
        elif register.access is Access.RW:
            hit("csr.write", *(join(name, f"byte {lane}") for lane in range(4) if strobes >> lane & 1))
            if name == "IRQ_ENABLE" and strobes & 1:
                state["enabled"] = data & 7
        elif register.access is Access.RO:
            hit("csr.write", "read-only")
        elif name == "IRQ_STATUS" and strobes & 1:
            hit("csr.irq", *(join(irq, "cleared") for index, irq in enumerate(IRQS) if data >> index & 1))
        elif name == "CONTROL" and strobes & 1:
            _control(data, state)

    def interrupts() -> None:
        events = {"user": bool(wires["user_irq"]), "error": bool(state["error"]), "done": bool(state["halting"])}
        for irq, now in events.items():
            if now:
                enabled = state["enabled"] >> IRQS.index(irq) & 1
                hit("csr.irq", join(irq, "enabled" if enabled else "masked"))

    every_cycle(dut, Streams(wires, "csr", ports), machine, registers, interrupts)


def _control(data: int, state: dict[str, Any]) -> None:
    if data & _START and data & _SOFT_RESET:
        hit("csr.start", "with soft_reset")
    elif data & _START:
        found = [name for name in ("resetting", "error", "busy") if state[name]]
        hit("csr.start", found[0] if found else "idle")
    if data & _SOFT_RESET:
        found = [name for name in ("halting", "error", "busy") if state[name]]
        hit("csr.soft_reset", found[0] if found else "idle")
        state.update(resetting=True, error=False, halting=False, busy=False)


def counted(name: str, events: int, width: int) -> None:
    """A counter counted `events`; `width`: bits of its event."""
    if events:
        hit("csr.counter", name)
        if width > 1:
            hit("csr.conflicts", join(name, events))


def watchdog(kind: str) -> None:
    """The watchdog did what the bin `kind` says."""
    hit("csr.watchdog", kind)
