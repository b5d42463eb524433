"""Gowin: Yosys, nextpnr-himbaechel-gowin and gowin_pack of Project Apicula."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from tidemill.config import Config, preset
from tidemill_fpga.families.common import (
    check_block_rams,
    check_wide_multipliers,
    inferred_multiplier,
    wide_multipliers,
)
from tidemill_fpga.families.family import FitError
from tidemill_fpga.families.gowin_multipliers import dsp_multiplier
from tidemill_fpga.families.nextpnr import NextpnrFamily
from tidemill_fpga.tools import GOWIN_PACK, NEXTPNR_GOWIN
from tidemill_hdl.prim.multiplier import Multiplier


@dataclass(frozen=True)
class _Device:
    """A device: Gowin DS102, "GW2A series of FPGA Products"; what nextpnr's database says of the GW5AST.

    Members
    -------
    series : str: what Yosys calls it.
    luts, flip_flops, rams : int: tables of four inputs, flip-flops, block RAMs of 18 Kbit.
    dsp : int: MULT18X18, each of which can be two MULT9X9; 0 where multipliers are made of tables.
    pll : bool: whether the flow here knows its clock generator.
    pins : tuple of str: four pins that any design may use, the first of them a clock's.
    pack : tuple of str: options of gowin_pack.
    """

    series: str
    luts: int
    flip_flops: int
    rams: int
    dsp: int
    pll: bool
    pins: tuple[str, str, str, str]
    pack: tuple[str, ...] = ()


_DEVICES = {
    "GW2A-18C": _Device(
        "gw2a", 20_736, 15_552, 46, 48, True, ("H11", "T10", "T13", "M11"),
        ("--mspi_as_gpio", "--sspi_as_gpio", "--ready_as_gpio", "--done_as_gpio"),
    ),
    "GW5AST-138C": _Device("gw5a", 138_240, 138_240, 340, 0, False, ("P16", "K16", "P15", "N16")),
}  # fmt: skip

_GEOMETRIES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""Words and bits of a block RAM."""

_PFD_MHZ = (3.0, 500.0)
_VCO_MHZ = (500.0, 1250.0)
_OUTPUT_DIVIDERS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)
"""The GW2A's rPLL at speed C8/I7: limits of its comparison and its oscillator, values of the divider at its end (DS102,
"PLL Switching Characteristic"; UG286, "Gowin Clock User Guide")."""

_TOLERANCE = 0.02
"""The clock may be so much below what was asked for, relative."""

_TINY_FLIP_FLOPS = 20_400
"""What `tiny` takes on a GW2A without bridge and memory: `docs/fpga/gowin.md`."""


@dataclass(frozen=True)
class PllSettings:
    """Dividers of an rPLL: the clock is input * `feedback` / `reference`, the oscillator `output` times that."""

    mhz: float
    reference: int
    feedback: int
    output: int


def pll_settings(input_mhz: float, mhz: float) -> PllSettings:
    """The dividers whose clock is nearest to `mhz` and not above it. Raises `FitError` out of reach."""
    possible = [
        PllSettings(made, reference, feedback, output)
        for reference in range(1, 65)
        if _PFD_MHZ[0] <= input_mhz / reference <= _PFD_MHZ[1]
        for feedback in range(1, 65)
        if (made := input_mhz * feedback / reference) <= mhz * (1 + 1e-9)
        for output in _OUTPUT_DIVIDERS
        if _VCO_MHZ[0] < made * output < _VCO_MHZ[1]
    ]
    best = max(possible, key=lambda settings: (settings.mhz, -settings.reference), default=None)
    if best is None or best.mhz < mhz * (1 - _TOLERANCE):
        raise FitError(
            f"the clock of {mhz:g} MHz cannot be made from {input_mhz:g} MHz to 2%; the rPLL makes "
            f"{_VCO_MHZ[0] / _OUTPUT_DIVIDERS[-1]:.3g} to {_VCO_MHZ[1] / _OUTPUT_DIVIDERS[0]:g} MHz"
        )
    return best


class Gowin(NextpnrFamily):
    """A Gowin device.

    Parameters
    ----------
    device : str
        The die, as gowin_pack calls it: GW2A-18C or GW5AST-138C.
    part : str
        Order number with package and speed.
    """

    suffix = "fs"
    router = NEXTPNR_GOWIN
    packer = GOWIN_PACK
    pin_file = "top.cst"
    cells = ("LUT4", "ALU", "DFF", "RAM16SDP4", "BSRAM", "MULT9X9", "MULT18X18")
    models = ("gowin/cells_sim.v",)
    model_defines = ()

    def __init__(self, device: str, part: str) -> None:
        self._die = device
        self._device = _DEVICES[device]
        self._part = part
        self.device = part
        option = "" if self._device.dsp else " -nodsp"
        self.recipe = f"read_rtlil plain.il\nsynth_gowin -top top -family {self._device.series}{option}\n"

    def check(self, config: Config, memory: int) -> None:
        """See `Family.check`."""
        device = self._device
        if device.dsp:
            check_wide_multipliers(config, self._die, device.dsp)
        check_block_rams(config, memory, self._die, device.rams, _GEOMETRIES)
        parallel = not config.sequential
        if parallel and device.flip_flops < _TINY_FLIP_FLOPS and _at_least(config, preset("tiny")):
            raise FitError(
                f"configuration {config.name!r} needs {_TINY_FLIP_FLOPS:,} flip-flops or more; "
                f"{self._die} has {device.flip_flops:,}"
            )

    def hooks(self, config: Config) -> Mapping[str, Callable[..., Module]]:
        """Multipliers of the array in DSP blocks as far as the wide ones, which Yosys puts there, leave any."""
        if not self._device.dsp:
            return {}
        left = 2 * (self._device.dsp - wide_multipliers(config))

        def get_multiplier(multiplier: Multiplier) -> Module:
            nonlocal left
            if left > 0:
                left -= 1
                return dsp_multiplier(multiplier)
            return inferred_multiplier(multiplier)

        return {"get_multiplier": get_multiplier}

    def clock(self, m: Module, port: io.PortLike, pin_hz: float, mhz: float) -> float:
        """See `Family.clock`: the pin's own clock where that is asked for, else the rPLL's."""
        pin_mhz = pin_hz / 1e6
        if not self._at_pin(pin_mhz, mhz) and not self._device.pll:
            raise FitError(f"the clock of {mhz:g} MHz cannot be made; {self._die} runs at its pin's, {pin_mhz:g} MHz")
        pin = Signal(name="clock_pin")
        m.submodules.clock_pin = buffer = io.Buffer("i", port)
        m.d.comb += pin.eq(buffer.i)
        m.domains.sync = ClockDomain("sync")
        locked = Signal()
        if self._at_pin(pin_mhz, mhz):
            m.d.comb += [ClockSignal("sync").eq(pin), locked.eq(1)]
            made = pin_mhz
        else:
            settings = pll_settings(pin_mhz, mhz)
            made = settings.mhz
            m.submodules.pll = Instance(
                "rPLL",
                p_FCLKIN=f"{pin_mhz:g}",
                p_DEVICE=self._die,
                p_IDIV_SEL=settings.reference - 1,
                p_FBDIV_SEL=settings.feedback - 1,
                p_ODIV_SEL=settings.output,
                p_DYN_IDIV_SEL="false",
                p_DYN_FBDIV_SEL="false",
                p_DYN_ODIV_SEL="false",
                p_CLKFB_SEL="internal",
                i_CLKIN=pin,
                i_CLKFB=Const(0),
                i_RESET=Const(0),
                i_RESET_P=Const(0),
                i_IDSEL=Const(0, 6),
                i_FBDSEL=Const(0, 6),
                i_ODSEL=Const(0, 6),
                i_PSDA=Const(0, 4),
                i_DUTYDA=Const(0, 4),
                i_FDLY=Const(0, 4),
                o_CLKOUT=ClockSignal("sync"),
                o_LOCK=locked,
            )
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return made

    @staticmethod
    def _at_pin(pin_mhz: float, mhz: float) -> bool:
        """Whether the pin's clock is what is asked for."""
        return pin_mhz <= mhz * (1 + 1e-9) and pin_mhz >= mhz * (1 - _TOLERANCE)

    def free_pins(self, mhz: float) -> str:
        """See `Family.free_pins`. Pins have to be somewhere here; the clock's frequency is an option of `route`."""
        named = zip(("clk", "rst", "i", "o"), self._device.pins, strict=True)
        return "".join(f'IO_LOC "{name}" {pin};\nIO_PORT "{name}" IO_TYPE=LVCMOS33;\n' for name, pin in named)

    def routing(self) -> list[str]:
        """See `NextpnrFamily.routing`."""
        return ["--device", self._part, "--vopt", f"family={self._die}", "--vopt", "cst=pins"]

    def writing(self) -> list[str]:
        """See `NextpnrFamily.writing`."""
        return ["--write", "routed"]

    def packing(self) -> list[str]:
        """See `NextpnrFamily.packing`."""
        return ["-d", self._die, *self._device.pack, "-o", "bitstream", "routed"]


def _at_least(config: Config, other: Config) -> bool:
    """Whether no number of `config` is below that of `other`."""
    mine, theirs = dataclasses.asdict(config), dataclasses.asdict(other)
    return all(mine[field] >= value for field, value in theirs.items() if isinstance(value, int))
