"""The NPU as a LiteX module. Needs LiteX: `pip install litex`."""

from __future__ import annotations

from litex.gen import ClockSignal, Instance, LiteXModule, ResetSignal, Signal
from litex.soc.interconnect.axi import AXIInterface, AXILiteInterface
from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel

from tidemill.config import Config
from tidemill_fpga.axi.module import MASTER, MODULE, SLAVE, verilog
from tidemill_hdl.interfaces import Axi4LiteSlave

REGION_SIZE = 1 << Axi4LiteSlave.ADDR_BITS
"""Bytes of address space that the registers take."""

_ADDRESS = ("addr", "len", "size", "burst", "lock", "cache", "prot", "qos")


class Tidemill(LiteXModule):
    """An NPU in the clock domain `sys`.

    Parameters
    ----------
    platform : a LiteX platform, which is given the Verilog.
    config : Config

    Members
    -------
    bus : AXIInterface: master; its addresses are those of the system's bus. For `soc.bus.add_master`.
    control : AXILiteInterface: slave, the registers (`tidemill.csr`) in `REGION_SIZE` bytes, whose place must be a
        multiple of that. For `soc.bus.add_slave`.
    irq : Signal: level.
    ev : EventManager: its source `npu` follows `irq`. For `soc.irq.add`.

    An error on `bus` is an error of the running program, so the windows of a program must be memory. Raises
    `ElaborationError`.
    """

    def __init__(self, platform: object, config: Config) -> None:
        self.bus = AXIInterface(data_width=config.axi_data_width, address_width=config.axi_addr_width, id_width=1)
        self.control = AXILiteInterface(data_width=32, address_width=32)
        self.irq = Signal()
        self.ev = EventManager()
        self.ev.npu = EventSourceLevel(description="The NPU's interrupt line.")
        self.ev.finalize()
        self.comb += self.ev.npu.trigger.eq(self.irq)
        self.specials += Instance(
            MODULE,
            i_clk=ClockSignal("sys"),
            i_rst=ResetSignal("sys"),
            o_irq=self.irq,
            **_master_ports(self.bus),
            **_slave_ports(self.control),
        )
        self.add_sources(platform, config)

    @staticmethod
    def add_sources(platform: object, config: Config) -> None:
        """Give `platform` the Verilog of the NPU of `config`."""
        platform.add_source(str(verilog(config)))  # type: ignore[attr-defined]


def _master_ports(bus: AXIInterface) -> dict[str, object]:
    """Ports of the instance for its master."""
    ports: dict[str, object] = {}
    for channel in ("aw", "ar"):
        endpoint = getattr(bus, channel)
        for name in ("id", "valid", *_ADDRESS):
            ports[f"o_{MASTER}_{channel}{name}"] = getattr(endpoint, name)
        ports[f"i_{MASTER}_{channel}ready"] = endpoint.ready
    ports |= {f"o_{MASTER}_w{name}": getattr(bus.w, name) for name in ("valid", "data", "strb", "last")}
    ports[f"i_{MASTER}_wready"] = bus.w.ready
    for channel, names in (("b", ("id", "resp")), ("r", ("id", "resp", "data", "last"))):
        endpoint = getattr(bus, channel)
        ports |= {f"i_{MASTER}_{channel}{name}": getattr(endpoint, name) for name in ("valid", *names)}
        ports[f"o_{MASTER}_{channel}ready"] = endpoint.ready
    return ports


def _slave_ports(control: AXILiteInterface) -> dict[str, object]:
    """Ports of the instance for its slave."""
    ports: dict[str, object] = {}
    for channel in ("aw", "ar"):
        endpoint = getattr(control, channel)
        ports[f"i_{SLAVE}_{channel}addr"] = endpoint.addr[: Axi4LiteSlave.ADDR_BITS]
        ports[f"i_{SLAVE}_{channel}prot"] = 0
        ports[f"i_{SLAVE}_{channel}valid"] = endpoint.valid
        ports[f"o_{SLAVE}_{channel}ready"] = endpoint.ready
    ports |= {f"i_{SLAVE}_w{name}": getattr(control.w, name) for name in ("valid", "data", "strb")}
    ports[f"o_{SLAVE}_wready"] = control.w.ready
    for channel, names in (("b", ("resp",)), ("r", ("resp", "data"))):
        endpoint = getattr(control, channel)
        ports |= {f"o_{SLAVE}_{channel}{name}": getattr(endpoint, name) for name in ("valid", *names)}
        ports[f"i_{SLAVE}_{channel}ready"] = endpoint.ready
    return ports
