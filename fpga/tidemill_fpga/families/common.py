"""What several families share: resources that every configuration takes, and multipliers left to Yosys."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module

from tidemill.config import Config
from tidemill_fpga.families.family import FitError
from tidemill_hdl.frontend.fetch import Slot
from tidemill_hdl.prim.multiplier import Multiplier
from tidemill_hdl.sequential.assembler import FILE_WORDS, TARGET_BITS, WORD_BITS
from tidemill_hdl.sequential.registers import MemoryMap
from tidemill_hdl.vector.post import TABLE_ENTRIES


def wide_multipliers(config: Config) -> int:
    """Multipliers of 16 bits and more: four a requantizer lane, one a lane of the vector ALU. A sequential NPU has
    none."""
    return 0 if config.sequential else 4 * config.requant_lanes + config.cols


def check_wide_multipliers(config: Config, part: str, blocks: int) -> None:
    """Raises `FitError` where `part`, with `blocks` multiplier blocks, has too few for the wide multipliers."""
    wide = wide_multipliers(config)
    if wide > blocks:
        raise FitError(f"configuration {config.name!r} needs {wide} 16-bit multipliers; {part} has {blocks}")


def check_block_rams(
    config: Config, memory: int, part: str, blocks: int, geometries: Sequence[tuple[int, int]]
) -> None:
    """Raises `FitError` where local memories, tables, loop buffer and `memory` bytes of on-chip memory take more than
    the `blocks` block RAMs of `part`; one has words and bits of any of `geometries`."""

    def rams(width: int, depth: int) -> int:
        return min(-(-width // columns) * -(-depth // rows) for rows, columns in geometries)

    if config.sequential:
        needed = rams(WORD_BITS, MemoryMap.of(config).words) + rams(WORD_BITS, 1 << TARGET_BITS)
        needed += 2 * rams(WORD_BITS, FILE_WORDS)
    else:
        needed = (
            config.spad_banks * rams(8 * config.rows, config.spad_rows // config.spad_banks)
            + config.acc_banks * rams(32 * config.cols, config.acc_rows // config.acc_banks)
            + config.requant_lanes * rams(32, TABLE_ENTRIES)
            + rams(Slot.size, config.ibuf_depth)
        )
    needed += rams(config.axi_data_width, memory * 8 // config.axi_data_width)
    if needed > blocks:
        raise FitError(
            f"configuration {config.name!r} with {memory} bytes of memory needs {needed} block RAMs; "
            f"{part} has {blocks}"
        )


def inferred_multiplier(multiplier: Multiplier) -> Module:
    """`multiplier` as a product that Yosys maps: a DSP block without its registers, or tables and carry chains."""
    return multiplier.elaborate(None)
