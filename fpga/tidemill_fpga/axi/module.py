"""The NPU with the port names that other people's tools expect, and a description of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out, Signature

from tidemill.config import Config
from tidemill.csr import CSRS
from tidemill_hdl.interfaces import Axi4LiteSlave, Axi4Master
from tidemill_hdl.top import Npu
from tidemill_verif.elaborate import verilog_file

MODULE = "tidemill"
"""Name of the Verilog module."""

MASTER, SLAVE = "m_axi", "s_axil"
"""Prefixes of the two ports."""


class AxiNpu(wiring.Component):
    """`Npu` with flat ports: `m_axi_awaddr`, `s_axil_awaddr`, `irq`; as Verilog also `clk` and `rst`.

    Parameters
    ----------
    config : Config

    Members
    -------
    m_axi_* : AXI4 master, as in `Axi4Master`.
    s_axil_* : AXI4-Lite slave, as in `Axi4LiteSlave`.
    irq : Out(1): level.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__({"irq": Out(1), **dict(_members(config))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.npu = npu = Npu(self._config)
        m.d.comb += self.irq.eq(npu.irq)
        for prefix, signature in _buses(self._config).items():
            port = getattr(npu, prefix)
            for name, member in signature.members.items():
                outside, inside = getattr(self, f"{prefix}_{name}"), getattr(port, name)
                m.d.comb += inside.eq(outside) if member.flow is In else outside.eq(inside)
        return m


def _buses(config: Config) -> Mapping[str, Signature]:
    return {MASTER: Axi4Master(config), SLAVE: Axi4LiteSlave()}


def _members(config: Config) -> Iterator[tuple[str, Member]]:
    for prefix, signature in _buses(config).items():
        for name, member in signature.members.items():
            yield f"{prefix}_{name}", member


def verilog(config: Config) -> Path:
    """Path of the Verilog of `AxiNpu`, module `MODULE`, in the build cache. Raises `ElaborationError`."""
    return verilog_file(partial(AxiNpu, config), MODULE)


def description(config: Config) -> dict[str, object]:
    """The module in plain data: its ports, buses with their widths and signals, registers, and the configuration.

    A bus's `signals` go from the name in AMBA's specification, in lower case, to port, bits and direction.
    """
    directions = {In: "input", Out: "output"}

    def signals(prefix: str) -> dict[str, object]:
        return {
            name: {"port": f"{prefix}_{name}", "bits": member.shape, "direction": directions[member.flow]}
            for name, member in _buses(config)[prefix].members.items()
        }

    return {
        "module": MODULE,
        "clock": {"port": "clk", "edge": "rising"},
        "reset": {"port": "rst", "active": "high", "synchronous": True},
        "interrupt": {"port": "irq", "sensitivity": "level", "active": "high"},
        "buses": {
            MASTER: {
                "protocol": "AXI4",
                "role": "master",
                "data_width": config.axi_data_width,
                "address_width": config.axi_addr_width,
                "id_width": _buses(config)[MASTER].members["arid"].shape,
                "max_burst": config.max_burst,
                "signals": signals(MASTER),
            },
            SLAVE: {
                "protocol": "AXI4-Lite",
                "role": "slave",
                "data_width": 32,
                "address_width": Axi4LiteSlave.ADDR_BITS,
                "signals": signals(SLAVE),
            },
        },
        "registers": {csr.name: csr.offset for csr in CSRS},
        "configuration": {**dataclasses.asdict(config), "hash": config.hash},
    }


def description_text(config: Config) -> str:
    """`description` as JSON."""
    return json.dumps(description(config), indent=2) + "\n"
