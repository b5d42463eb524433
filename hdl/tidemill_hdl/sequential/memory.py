"""The one local memory of the sequential NPU."""

from __future__ import annotations

from amaranth.hdl import Module, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from tidemill_hdl.sequential.assembler import WORD_BITS


class LocalWords(wiring.Component):
    """Single-port memory of 32-bit words.

    A platform with a method `get_local_words(memory)` supplies the implementation (an elaboratable that drives
    `r_data`), whose content is undefined at power-up; without it the memory is inferred and zero at power-up.

    Parameters
    ----------
    depth : int, words.

    Members
    -------
    en : In(1): an access to word `addr`.
    write : In(1): it writes `w_data`; otherwise it reads.
    addr : In(word index)
    w_data : In(32)
    r_data : Out(32): the word read, from the cycle after the access until the next access.

    Content survives reset.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__(
            {
                "en": In(1),
                "write": In(1),
                "addr": In(unsigned((depth - 1).bit_length())),
                "w_data": In(WORD_BITS),
                "r_data": Out(WORD_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        if hasattr(platform, "get_local_words"):
            return platform.get_local_words(self)
        m = Module()
        m.submodules.ram = ram = memory.Memory(
            shape=unsigned(WORD_BITS), depth=self.depth, init=[], attrs={"no_rw_check": 1}
        )
        read, write = ram.read_port(), ram.write_port()
        m.d.comb += [
            read.en.eq(self.en & ~self.write),
            read.addr.eq(self.addr),
            write.en.eq(self.en & self.write),
            write.addr.eq(self.addr),
            write.data.eq(self.w_data),
            self.r_data.eq(read.data),
        ]
        return m
