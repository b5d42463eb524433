"""Lattice iCE40 UltraPlus: Yosys, nextpnr-ice40 and icepack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from tidemill.config import Config
from tidemill_fpga.families.family import FitError
from tidemill_fpga.families.ice40_memory import LOCAL_SPRAMS, SPRAMS, SpramMemory, local_words, sprams
from tidemill_fpga.families.ice40_multipliers import multiplier_pairs
from tidemill_fpga.families.nextpnr import NextpnrFamily
from tidemill_fpga.tools import ICEPACK, NEXTPNR_ICE40
from tidemill_hdl.sequential.sequencer import NO_BYPASS

LUT4 = 5280
"""Tables of an iCE40UP5K, a flip-flop behind each (Lattice FPGA-DS-02008, "iCE40 UltraPlus Family")."""
MULTIPLIERS = 8
"""SB_MAC16 of an iCE40UP5K."""
SMALLEST_LUT4 = 28_125
"""Tables of the smallest configuration that is not sequential, with bridge and memory: `docs/fpga/ice40.md`."""

_SYNTHESIS = f"""\
read_rtlil plain.il
memory_collect a:{NO_BYPASS}=1
setparam -set RD_COLLISION_X_MASK 1'1 a:{NO_BYPASS}=1 t:$mem_v2 %i
synth_ice40 -device u -top top
"""
"""Without `-dsp`: it absorbs adders into SB_MAC16 and makes wrong hardware of them. Memories that say so get no bypass
around a write."""

_VCO_MHZ = (533.0, 1066.0)
_REFERENCE_MHZ = (10.0, 133.0)
_OUTPUT_MHZ = (16.0, 275.0)
"""Limits of the SB_PLL40: its oscillator, the input of its comparison, its output (FPGA-DS-02008, "sysCLOCK PLL
Timing")."""
_FILTERS = ((17.0, 1), (26.0, 2), (44.0, 3), (66.0, 4), (101.0, 5), (133.0, 6))
"""FILTER_RANGE up to a frequency of the comparison (`icepll` of Project IceStorm)."""
_TOLERANCE = 0.02
"""The clock may be so much below what was asked for, relative."""


@dataclass(frozen=True)
class PllSettings:
    """Dividers of an SB_PLL40 with simple feedback.

    Members
    -------
    mhz, vco_mhz : float: frequencies of the clock and of the oscillator.
    reference, feedback, output : int: DIVR, DIVF, DIVQ.
    filter : int: FILTER_RANGE.
    """

    mhz: float
    vco_mhz: float
    reference: int
    feedback: int
    output: int
    filter: int


def pll_settings(input_mhz: float, mhz: float) -> PllSettings:
    """The dividers whose clock is nearest to `mhz` and not above it. Raises `FitError` out of reach."""
    best: PllSettings | None = None
    for reference in range(16):
        compared = input_mhz / (reference + 1)
        if not _REFERENCE_MHZ[0] <= compared <= _REFERENCE_MHZ[1]:
            continue
        smoothed = next(number for limit, number in _FILTERS if compared <= limit)
        for feedback in range(128):
            vco = compared * (feedback + 1)
            for output in range(1, 7):
                made = vco / (1 << output)
                legal = _VCO_MHZ[0] <= vco <= _VCO_MHZ[1] and _OUTPUT_MHZ[0] <= made <= _OUTPUT_MHZ[1]
                if legal and made <= mhz * (1 + 1e-9) and (best is None or made > best.mhz):
                    best = PllSettings(made, vco, reference, feedback, output, smoothed)
    if best is None or best.mhz < mhz * (1 - _TOLERANCE):
        raise FitError(
            f"the clock of {mhz:g} MHz cannot be made from {input_mhz:g} MHz; the iCE40's PLL makes "
            f"{_OUTPUT_MHZ[0]:g} to {_OUTPUT_MHZ[1]:g} MHz"
        )
    return best


class Ice40Up(NextpnrFamily):
    """An iCE40UP5K.

    Parameters
    ----------
    package : str
        As in nextpnr: sg48 and the like.
    bounded : bool
        Only what fits is legal. Without it nothing is refused: for netlists that are only simulated.
    """

    suffix = "bin"
    router = NEXTPNR_ICE40
    packer = ICEPACK
    pin_file = "top.pcf"
    recipe = _SYNTHESIS
    cells = ("ICESTORM_LC", "ICESTORM_DSP", "ICESTORM_RAM", "ICESTORM_SPRAM")
    models = ("ice40/cells_sim.v",)
    model_defines = ("NO_ICE40_DEFAULT_ASSIGNMENTS",)

    def __init__(self, package: str, *, bounded: bool = True) -> None:
        self._package = package
        self._bounded = bounded
        self.device = f"iCE40UP5K-{package.upper()}"

    def check(self, config: Config, memory: int) -> None:
        """See `Family.check`."""
        if not self._bounded:
            return
        if not config.sequential:
            raise FitError(
                f"configuration {config.name!r} does not fit the iCE40UP5K: the smallest one that is not sequential "
                f"takes {SMALLEST_LUT4:,} LUT4 after mapping, the device has {LUT4:,} (docs/fpga/ice40.md)"
            )
        if memory:
            used = sprams(config, memory) + LOCAL_SPRAMS
            if used > SPRAMS:
                raise FitError(
                    f"memory of {memory} bytes and the local memory need {used} SB_SPRAM256KA, the device has {SPRAMS}"
                )

    def hooks(self, config: Config) -> Mapping[str, Callable[..., Module]]:
        """Two multipliers of the array in a multiplier block; the sequential NPU's memory in single-port RAM. Row
        memories are inferred as block RAM."""
        return {"get_multiplier": multiplier_pairs(MULTIPLIERS), "get_local_words": local_words}

    def memory(self, config: Config, size: int) -> SpramMemory:
        """See `Family.memory`: in single-port RAM."""
        return SpramMemory(config, size)

    def clock(self, m: Module, port: io.PortLike, pin_hz: float, mhz: float) -> float:
        """See `Family.clock`: the pin itself feeds the PLL, whose place takes its input buffer away."""
        settings = pll_settings(pin_hz / 1e6, mhz)
        assert isinstance(port, io.SingleEndedPort)
        m.domains.sync = ClockDomain("sync")
        locked = Signal()
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=Const(settings.reference, 4),
            p_DIVF=Const(settings.feedback, 7),
            p_DIVQ=Const(settings.output, 3),
            p_FILTER_RANGE=Const(settings.filter, 3),
            io_PACKAGEPIN=port.io,
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=ClockSignal("sync"),
            o_LOCK=locked,
        )
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return settings.mhz

    def free_pins(self, mhz: float) -> str:
        """See `Family.free_pins`."""
        return f"set_frequency clk {mhz:g}\n"

    def routing(self) -> list[str]:
        """See `NextpnrFamily.routing`."""
        return ["--up5k", "--package", self._package, "--pcf", "pins", "--pcf-allow-unconstrained"]

    def writing(self) -> list[str]:
        """See `NextpnrFamily.writing`."""
        return ["--asc", "routed"]

    def packing(self) -> list[str]:
        """See `NextpnrFamily.packing`."""
        return ["routed", "bitstream"]
