"""A `Soc` with SDRAM, its pads included, for a simulated device that takes every pin's time seriously."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from amaranth.hdl import ClockDomain, ClockSignal, Fragment, Module, Mux, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out, connect

from tidemill.config import Config
from tidemill_fpga.boards.ulx3s import SDRAM_PADS_NS
from tidemill_fpga.soc.sdram import WORD_BITS, SdramMemory
from tidemill_fpga.soc.sdram_pads import Capture, SdramPads
from tidemill_fpga.soc.sdram_part import AS4C16M16SA_6, SdramPart
from tidemill_fpga.soc.soc import Soc

_OUTPUTS = {"clk": 1, "clk_en": 1, "cs": 1, "ras": 1, "cas": 1, "we": 1, "ba": 2, "a": 13, "dqm": 2}
_ACTIVE_LOW = ("cs", "ras", "cas", "we")


PART = AS4C16M16SA_6
"""What the hardware is made for."""


@dataclass(frozen=True)
class SimulatedSdram:
    """The ULX3S's SDRAM.

    Members
    -------
    mhz : float: clock of the board in which the device's times are counted.
    pads : float: what output, wires and input really take in all, in ns; the board reckons with `SDRAM_PADS_NS`.
    device : SdramPart: the device that is there; the board reckons with `PART`.
    """

    mhz: float = 60.0
    pads: float = SDRAM_PADS_NS
    device: SdramPart = PART

    @property
    def capture(self) -> Capture:
        """When the hardware takes a word: the board's own choice."""
        return Capture.earliest(PART, self.mhz * 1e6, SDRAM_PADS_NS)

    @property
    def times(self) -> tuple[float, ...]:
        """What `sdram.h` takes, in its order."""
        part = self.device
        return (
            1e3 / self.mhz, self.pads, part.access_time(self.mhz * 1e6), part.t_oh, part.t_rcd, part.t_rp, part.t_ras,
            part.t_rc, part.t_rrd, part.t_wr, part.t_rfc, part.t_refresh, part.t_power_up, part.row_bits, part.col_bits,
        )  # fmt: skip


class SdramBoard(wiring.Component):
    """`Soc` with SDRAM behind simulated pads.

    Members
    -------
    rx, tx, irq, locked : see `Soc`.
    sdram_... : pins of the device, with the levels they have at it; `sdram_dq_oe` says whether the board drives
        `sdram_dq_o`, `sdram_dq_i` is what it sees otherwise.

    The serial line counts its bits in `clock_hz`, the SDRAM in its own `mhz`.
    """

    def __init__(self, config: Config, sdram: SimulatedSdram, *, clock_hz: int, baud: int) -> None:
        self._capture = sdram.capture
        self._memory = SdramMemory(config, PART, sdram.mhz * 1e6, capture_delay=self._capture.delay)
        self._soc = Soc(config, memory=self._memory, clock_hz=clock_hz, baud=baud)
        super().__init__(
            {
                "rx": In(1, init=1), "tx": Out(1, init=1), "irq": Out(1), "locked": Out(1),
                **{f"sdram_{name}": Out(width) for name, width in _OUTPUTS.items()},
                "sdram_dq_o": Out(WORD_BITS), "sdram_dq_oe": Out(1), "sdram_dq_i": In(WORD_BITS),
            }
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Both edges of `sync`.
        m.domains.fall = fall = ClockDomain("fall", clk_edge="neg", reset_less=True, local=True)
        m.d.comb += fall.clk.eq(ClockSignal())
        m.submodules.soc = soc = self._soc
        ports = {
            name: io.SimulationPort("o", width, invert=name in _ACTIVE_LOW, name=name)
            for name, width in _OUTPUTS.items()
        }
        dq = io.SimulationPort("io", WORD_BITS, name="dq")
        pads = SdramPads(PART, SimpleNamespace(**ports, dq=dq), self._capture)
        connect(m, self._memory.pins, pads.pins)
        m.submodules.pads = Fragment.get(pads, _Cells())
        m.d.comb += [getattr(self, f"sdram_{name}").eq(port.o) for name, port in ports.items()]
        m.d.comb += [self.sdram_dq_o.eq(dq.o), self.sdram_dq_oe.eq(dq.oe.any()), dq.i.eq(self.sdram_dq_i)]
        m.d.comb += [soc.rx.eq(self.rx), self.tx.eq(soc.tx), self.irq.eq(soc.irq), self.locked.eq(soc.locked)]
        return m


class _Cells:
    """A platform whose double data rate cells behave as Lattice describes ODDRX1F, IDDRX1F and the register of the
    output enable (FPGA-TN-02035)."""

    def get_io_buffer(self, buffer: io.DDRBuffer) -> Module:
        """The cells of `buffer`."""
        m = Module()
        port = buffer.port
        inverted = sum(bit << index for index, bit in enumerate(port.invert))
        if buffer.direction is not io.Direction.Input:
            first, second = (_delayed(m, buffer.o[phase] ^ inverted, 2, f"o{phase}") for phase in (0, 1))
            high, low = Signal(len(port)), Signal(len(port))
            m.d.fall += high.eq(first)
            m.d.sync += low.eq(second)
            enable = _delayed(m, buffer.oe, 3, "oe")
            m.d.comb += [port.o.eq(Mux(ClockSignal(), high, low)), port.oe.eq(enable.replicate(len(port)))]
        if buffer.direction is not io.Direction.Output:
            rising, falling = Signal(len(port)), Signal(len(port))
            m.d.sync += rising.eq(port.i)
            m.d.fall += falling.eq(port.i)
            for phase, taken in enumerate((rising, falling)):
                out = Signal(len(port), name=f"i{phase}")
                m.d.sync += out.eq(taken)
                m.d.comb += buffer.i[phase].eq(out ^ inverted)
        return m


def _delayed(m: Module, value: object, cycles: int, name: str) -> Signal:
    """`value`, `cycles` later."""
    for cycle in range(cycles):
        after = Signal.like(value, name=f"{name}_{cycle}", reset_less=True)
        m.d.sync += after.eq(value)
        value = after
    return value
