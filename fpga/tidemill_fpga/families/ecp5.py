"""Lattice ECP5: Yosys, nextpnr-ecp5 and ecppack."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from tidemill.config import Config
from tidemill_fpga.families.common import check_block_rams, check_wide_multipliers, wide_multipliers
from tidemill_fpga.families.ecp5_memory import GEOMETRIES, row_memory
from tidemill_fpga.families.ecp5_multipliers import dsp_multiplier, fabric_multiplier
from tidemill_fpga.families.family import FitError
from tidemill_fpga.families.nextpnr import NextpnrFamily
from tidemill_fpga.families.replication import Replication
from tidemill_fpga.tools import ECPPACK, NEXTPNR_ECP5
from tidemill_hdl.prim.multiplier import Multiplier


@dataclass(frozen=True)
class _Device:
    """Cells of a device (Lattice FPGA-DS-02012, "ECP5 and ECP5-5G Family")."""

    option: str
    dsp: int
    bram: int


_DEVICES = {
    "LFE5U-25F": _Device("--25k", 28, 56),
    "LFE5U-45F": _Device("--45k", 72, 108),
    "LFE5U-85F": _Device("--85k", 156, 208),
    "LFE5UM5G-45F": _Device("--um5g-45k", 72, 108),
    "LFE5UM5G-85F": _Device("--um5g-85k", 156, 208),
}
_PACKAGES = {"BG256": "CABGA256", "MG285": "CSFBGA285", "BG381": "CABGA381", "BG554": "CABGA554", "BG756": "CABGA756"}

_SYNTHESIS = """\
read_rtlil plain.il
synth_ecp5 -top top
"""

_VCO_MHZ = (400.0, 800.0)
_PHASE_DETECTOR_MHZ = 10.0
_OUTPUT_MHZ = 400.0
"""Limits of the EHXPLLL: its oscillator, the least input of its comparison, its outputs (FPGA-DS-02012, "sysCLOCK PLL
Timing")."""

_DSP_SHARE = 0.9
"""Of the DSP blocks, how many the array fills up to: the last ones lie where wires are long, and a design around the
NPU may need some."""

_TOLERANCE = 0.02
"""The clock may be so much below what was asked for, relative."""


@dataclass(frozen=True)
class PllSettings:
    """Dividers of an EHXPLLL that takes its feedback from its first output and makes the clock at its second.

    Members
    -------
    mhz, vco_mhz : float: frequencies of the clock and of the oscillator.
    reference, feedback, first, second : int: CLKI_DIV, CLKFB_DIV, CLKOP_DIV, CLKOS_DIV.
    """

    mhz: float
    vco_mhz: float
    reference: int
    feedback: int
    first: int
    second: int


def pll_settings(input_mhz: float, mhz: float) -> PllSettings:
    """The dividers whose clock is nearest to `mhz` and not above it. Raises `FitError` out of reach."""
    best: PllSettings | None = None
    for reference in range(1, int(input_mhz / _PHASE_DETECTOR_MHZ) + 1):
        compared = input_mhz / reference
        for first in range(2, 9):
            for feedback in range(1, int(_VCO_MHZ[1] / compared / first) + 1):
                vco = compared * feedback * first
                second = math.ceil(vco / mhz * (1 - 1e-9))
                if vco < _VCO_MHZ[0] or vco / first > _OUTPUT_MHZ or not 2 <= second <= 128:
                    continue
                if best is None or vco / second > best.mhz:
                    best = PllSettings(vco / second, vco, reference, feedback, first, second)
    if best is None or best.mhz < mhz * (1 - _TOLERANCE):
        raise FitError(
            f"the clock of {mhz:g} MHz cannot be made from {input_mhz:g} MHz; the ECP5's PLL makes "
            f"{_VCO_MHZ[0] / 128:.3g} to {_OUTPUT_MHZ:g} MHz"
        )
    return best


class Ecp5(NextpnrFamily):
    """An ECP5.

    Parameters
    ----------
    device : str
        As in `amaranth`: LFE5U-85F and the like.
    package : str
        BG381 and the like.
    speed : str
        6, 7 or 8.
    """

    suffix = "bit"
    router = NEXTPNR_ECP5
    packer = ECPPACK
    pin_file = "top.lpf"
    recipe = _SYNTHESIS
    cells = ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD")
    models = ("ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh")
    placer = ("--placer", "static")
    replication = Replication({"LUT4": "Z", "TRELLIS_FF": "Q"}, frozenset({"CLK", "WCK"}))
    model_defines = ("NO_INCLUDES",)

    def __init__(self, device: str, package: str, speed: str) -> None:
        self._device = _DEVICES[device]
        self._part = device
        self._package = _PACKAGES[package]
        self._speed = speed
        self.device = f"{device}-{speed} {self._package}"

    def check(self, config: Config, memory: int) -> None:
        """See `Family.check`."""
        check_wide_multipliers(config, self._part, self._device.dsp)
        check_block_rams(config, memory, self._part, self._device.bram, GEOMETRIES)

    def hooks(self, config: Config) -> Mapping[str, Callable[..., Module]]:
        """Wide multipliers in DSP blocks, those of the array as far as `_DSP_SHARE` of the blocks goes, the rest on
        carry chains; local memories in block RAMs with their output registers."""
        left = int(_DSP_SHARE * self._device.dsp) - wide_multipliers(config)

        def get_multiplier(multiplier: Multiplier) -> Module:
            nonlocal left
            if multiplier.a_bits > 8:
                return dsp_multiplier(multiplier)
            if left > 0:
                left -= 1
                return dsp_multiplier(multiplier)
            return fabric_multiplier(multiplier)

        return {"get_multiplier": get_multiplier, "get_row_memory": row_memory}

    def clock(self, m: Module, port: io.PortLike, pin_hz: float, mhz: float) -> float:
        """See `Family.clock`."""
        m.submodules.clock_pin = pin = io.Buffer("i", port)
        settings = pll_settings(pin_hz / 1e6, mhz)
        m.domains.sync = ClockDomain("sync")
        locked = Signal()
        feedback = Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{pin_hz / 1e6:.6f}",
            a_FREQUENCY_PIN_CLKOP=f"{settings.vco_mhz / settings.first:.6f}",
            a_FREQUENCY_PIN_CLKOS=f"{settings.mhz:.6f}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_CLKI_DIV=settings.reference,
            p_CLKFB_DIV=settings.feedback,
            p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=settings.first,
            p_CLKOP_CPHASE=settings.first - 1,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=settings.second,
            p_CLKOS_CPHASE=settings.second - 1,
            p_CLKOS_FPHASE=0,
            i_CLKI=pin.i,
            i_CLKFB=feedback,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(0),
            i_PHASESTEP=Const(0),
            i_PHASELOADREG=Const(0),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            i_ENCLKOS=Const(0),
            o_CLKOP=feedback,
            o_CLKOS=ClockSignal("sync"),
            o_LOCK=locked,
        )
        # The last stage has copies all over the die, so two before it.
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync", stages=3)
        return settings.mhz

    def free_pins(self, mhz: float) -> str:
        """See `Family.free_pins`."""
        return f'FREQUENCY PORT "clk" {mhz:g} MHZ;\n'

    def routing(self) -> list[str]:
        """See `NextpnrFamily.routing`."""
        return [
            self._device.option, "--package", self._package, "--speed", self._speed,
            "--lpf", "pins", "--lpf-allow-unconstrained",
        ]  # fmt: skip

    def writing(self) -> list[str]:
        """See `NextpnrFamily.writing`."""
        return ["--textcfg", "routed"]

    def packing(self) -> list[str]:
        """See `NextpnrFamily.packing`."""
        return ["--compress", "--input", "routed", "--bit", "bitstream"]
