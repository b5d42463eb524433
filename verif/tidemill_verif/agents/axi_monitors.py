"""Holds the AXI ports of a design against the rules of `axi_rules`, cycle by cycle, for the whole of a test."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.triggers import RisingEdge

from tidemill_verif.agents.axi_rules import Axi4, AxiRules, Limits, Lite


class _Port:
    """The handles of a port's channels: `<prefix>__<channel><field>`."""

    def __init__(self, dut: Any, prefix: str, structure: type[Any]) -> None:
        self._now = structure()
        self._channels = []
        for name, payload in structure.CHANNELS.items():
            fields = {field[0]: getattr(dut, f"{prefix}__{name}{field[0]}") for field in payload._fields_}
            valid, ready = (getattr(dut, f"{prefix}__{name}{signal}") for signal in ("valid", "ready"))
            self._channels.append((getattr(self._now, name), valid, ready, fields))

    def sample(self) -> Any:
        """The port as it stands; payloads only where valid."""
        for channel, valid, ready, fields in self._channels:
            channel.valid, channel.ready = bool(valid.value), bool(ready.value)
            if channel.valid:
                for name, handle in fields.items():
                    number = int(handle.value)
                    if name == "data" and hasattr(channel.payload.data, "__len__"):
                        channel.payload.data[:] = number.to_bytes(16, "little")
                    else:
                        setattr(channel.payload, name, number)
        return self._now


def watch(dut: Any, limits: Limits, *, axi4: str | None = "m_axi", lite: str | None = "s_axil") -> AxiRules:
    """Check the ports with these prefixes (None: the design has no such port) at every rising edge of `dut.clk`.

    A breach fails the test. Windows and idleness are only checked with both ports and `limits.has_registers`.
    """
    rules = AxiRules(limits)
    axi4_port = None if axi4 is None else _Port(dut, axi4, Axi4)
    lite_port = None if lite is None else _Port(dut, lite, Lite)

    async def observe() -> None:
        while True:
            await RisingEdge(dut.clk)
            reset = bool(dut.rst.value)
            if axi4_port is not None:
                rules.axi4(axi4_port.sample(), reset=reset)
            if lite_port is not None:
                rules.lite(lite_port.sample(), reset=reset)
            assert not rules.violation, f"AXI rule broken: {rules.violation}"

    cocotb.start_soon(observe())
    return rules
