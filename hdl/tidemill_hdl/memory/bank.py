"""One bank of a local memory: a block RAM that holds whole rows."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


class RowMemory(wiring.Component):
    """Simple dual-port memory with an output register.

    Parameters
    ----------
    width : int
        Bits of a row.
    depth : int
        Rows, a power of two, at least 2.

    Members
    -------
    r_en : In(1): read row `r_addr`.
    r_addr : In(row index)
    o_en : In(1): the output register moves; left alone it always does. While low `r_data` holds.
    r_data : Out(width): the row, `latency` cycles after `r_en`, with a low `o_en` in the last so much later.
    w_en : In(1): write `w_data` to row `w_addr`; reads of later cycles see it.
    w_addr : In(row index)
    w_data : In(width)

    A row read in the very cycle of its write has no defined value. Content is zero at power-up and survives reset.

    A platform with a method `get_row_memory(memory)` supplies the implementation (an elaboratable that drives
    `r_data`); without it the memory is inferred.
    """

    latency = 2

    def __init__(self, width: int, depth: int) -> None:
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two, at least 2, not {depth!r}")
        self.width = width
        self.depth = depth
        address = unsigned((depth - 1).bit_length())
        super().__init__(
            {
                "r_en": In(1),
                "r_addr": In(address),
                "o_en": In(1, init=1),
                "r_data": Out(width),
                "w_en": In(1),
                "w_addr": In(address),
                "w_data": In(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        if hasattr(platform, "get_row_memory"):
            return platform.get_row_memory(self)
        m = Module()
        # Requesters never depend on a row read while it is written, so no bypass logic is worth its LUTs.
        m.submodules.ram = ram = memory.Memory(
            shape=unsigned(self.width), depth=self.depth, init=[], attrs={"no_rw_check": 1}
        )
        read = ram.read_port()
        write = ram.write_port()
        output = Signal(self.width, reset_less=True)
        m.d.comb += [
            read.en.eq(self.r_en),
            read.addr.eq(self.r_addr),
            write.en.eq(self.w_en),
            write.addr.eq(self.w_addr),
            write.data.eq(self.w_data),
            self.r_data.eq(output),
        ]
        with m.If(self.o_en):
            m.d.sync += output.eq(read.data)
        return m
