"""The NPU with outputs that show what the coverage of the whole machine samples."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out, connect, flipped

from tidemill.config import Config
from tidemill.isa import ENGINES, INSTRUCTION_BITS
from tidemill_hdl.sync import DONE_PORTS
from tidemill_hdl.top import Npu

OWNER = "top.py"
"""File of the hardware that the toplevel module stands for."""


class ProbedNpu(wiring.Component):
    """An `Npu` of the same hierarchy, with more outputs.

    Members
    -------
    those of `Npu`.
    probe_issued : Out(4): the engine takes an instruction in this cycle; in the order of `isa.ENGINES`.
    probe_word : Out(128).array(4): the instruction, with registers added.
    probe_done : Out(5): instructions that complete, as `Sync.done`.
    """

    def __init__(self, config: Config) -> None:
        self._npu = Npu(config)
        super().__init__(
            {
                **self._npu.signature.members,
                "probe_issued": Out(len(ENGINES)),
                "probe_word": Out(INSTRUCTION_BITS).array(len(ENGINES)),
                "probe_done": Out(DONE_PORTS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = self._npu.elaborate(platform)
        # Amaranth warns of components that are elaborated by hand.
        self._npu._MustUse__used = True
        sync = m.submodules["sync"]._elaboratable_
        for name in self._npu.signature.members:
            inner, outer = getattr(self._npu, name), getattr(self, name)
            if name == "irq":
                m.d.comb += outer.eq(inner)
            else:
                connect(m, inner, flipped(outer))
        for index, stream in enumerate(sync.o_instr):
            m.d.comb += [
                self.probe_issued[index].eq(stream.valid & stream.ready),
                self.probe_word[index].eq(stream.payload.word),
            ]
        for index, done in enumerate(sync.done):
            m.d.comb += self.probe_done[index].eq(done.valid)
        return m
