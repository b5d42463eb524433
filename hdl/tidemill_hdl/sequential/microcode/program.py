"""All parts put together, and what the parts share."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill import csr
from tidemill.config import ISA_VERSION, Config
from tidemill_hdl.sequential import registers as r
from tidemill_hdl.sequential.assembler import FILE_WORDS, Assembler
from tidemill_hdl.sequential.microcode import control, dma, frontend, matrix, queues, requant, vector

TRAP = 1
"""Where the sequencer goes on after a soft reset."""


@dataclass(frozen=True)
class Microcode:
    """Microinstructions, the register file's first content, and the address of every label."""

    words: list[int]
    registers: list[int]
    labels: dict[str, int]


def assemble(config: Config, *, cold: bool = False) -> Microcode:
    """The microcode of `config`; `cold`: the local memory is not zero at power-up."""
    u = Assembler((r.I0, r.I1, r.I2, r.I3), r.SCALAR, r.SCRATCH, r.pool())
    memory = r.MemoryMap.of(config)
    u.go("boot")
    u.go("trap")
    control.emit(u, config, memory)
    frontend.emit(u, config)
    queues.emit(u, config)
    dma.emit(u, config, memory)
    matrix.emit(u, config, memory)
    vector.emit(u, config, memory)
    requant.emit(u)
    words = u.finish()
    content = [0] * FILE_WORDS
    for number, value in u.constants.items():
        content[number] = value
    content[r.COLD.number] = int(cold)
    shape = config.rows | config.cols << 8 | config.requant_lanes << 16 | config.axi_bytes << 24
    fixed = {"MAGIC": csr.MAGIC, "ISA_VERSION": ISA_VERSION, "CONFIG_HASH": config.hash, "CONFIG_SHAPE": shape}
    for name, value in fixed.items():
        content[r.csr_register(name).number] = value
    return Microcode(words, content, u.labels)
