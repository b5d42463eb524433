"""Places for the multipliers of an array on an LFE5U-85F."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

from amaranth.hdl import Module

from tidemill_fpga.families.ecp5_multipliers import dsp_multiplier
from tidemill_fpga.families.family import FitError
from tidemill_hdl.prim.multiplier import Multiplier

_LINES = (10, 34, 58)
"""Y of the rows of DSP blocks, as nextpnr-ecp5 names them."""

_BLOCKS = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)
"""X of the blocks of a row."""

_SITES = ((0, "MULT18_0"), (1, "MULT18_1"), (4, "MULT18_4"), (5, "MULT18_5"))
"""The multipliers of a block: X in it, name."""


def place(row: int, col: int, cols: int) -> str:
    """Where the multiplier of a cell of an array with `cols` columns goes: a column of the array in the blocks of one
    column of the device, four rows a block, in the middle of the device."""
    x, name = _SITES[row % len(_SITES)]
    block = _BLOCKS[(len(_BLOCKS) - cols) // 2 + col]
    return f"X{block + x}/Y{_LINES[row // len(_SITES)]}/{name}"


def placed(rows: int, cols: int) -> Mapping[str, Callable[..., Module]]:
    """Hooks of one elaboration of an array of `rows` x `cols`, whose cells ask for their multipliers row by row. Raises
    `FitError`."""
    highest = (len(_LINES) * len(_SITES), len(_BLOCKS))
    if rows > highest[0] or cols > highest[1]:
        raise FitError(f"an array of {rows} x {cols} has no places; at most {highest[0]} x {highest[1]} have")
    number = count()

    def get_multiplier(multiplier: Multiplier) -> Module:
        return dsp_multiplier(multiplier, place(*divmod(next(number), cols), cols))

    return {"get_multiplier": get_multiplier}
