"""Amaranth layouts of the instructions, generated from `tidemill.isa`."""

from __future__ import annotations

from functools import cache

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from tidemill.isa import BY_MNEMONIC, INSTRUCTION_BITS


@cache
def layout(mnemonic: str) -> data.FlexibleLayout:
    """Layout of the 128-bit word of `mnemonic`: one member per field of its table entry, `opcode` included.

    Use: `view = layout("ld.run")(instr.word)` and then `view.dst`, `view.n0`, ...
    """
    fields = {
        field.name: data.Field(signed(field.width) if field.signed else unsigned(field.width), field.lo)
        for field in BY_MNEMONIC[mnemonic].all_fields
    }
    return data.FlexibleLayout(INSTRUCTION_BITS, fields)
