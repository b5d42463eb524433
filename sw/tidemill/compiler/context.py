"""What a kernel gets: the stream, the rings of local memory, and where tensors lie in DRAM.

A kernel is a function `emit(context, op)`; `kernels.KERNELS` maps each class of `ir` to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.ir import Requantize, Tensor
from tidemill.compiler.memory import Ring, blocks_of, pack
from tidemill.compiler.stream import Stream
from tidemill.config import Config
from tidemill.operands import BufferRef, acc

TABLE_ENTRIES = 256


@dataclass(frozen=True)
class Place:
    """A tensor in DRAM: rows [blocks, pixels, dim], int8 rows of `dim` bytes or int32 rows of 4 * dim.

    Lanes beyond the last channel hold anything.
    """

    ref: BufferRef
    pixels: int
    blocks: int
    row_bytes: int

    def at(self, block: int, pixel: int = 0) -> BufferRef:
        """Address of one row."""
        return self.ref + (block * self.pixels + pixel) * self.row_bytes

    @property
    def block_bytes(self) -> int:
        """Distance from block to block."""
        return self.pixels * self.row_bytes

    @property
    def nbytes(self) -> int:
        """Size of the whole tensor."""
        return self.blocks * self.block_bytes


class Context:
    """Shared by the kernels of one program.

    Zones (rows of the configuration's memories): scratchpad `weights` is bank 0, `inputs` the banks from 1 to the last
    but one, `outputs` the last bank; accumulators `sums` for results, and at their end `parameters` for requantization
    parameters (three rows a set) and tables (`table_rows` each). Every region is taken and released by the kernel.
    """

    def __init__(self, config: Config, stream: Stream, locate: Callable[[Tensor], BufferRef]) -> None:
        self.config, self.stream = config, stream
        self._locate = locate
        bank = config.spad_rows // config.spad_banks
        self.weights = Ring("weights", 0, bank)
        self.inputs = Ring("inputs", bank, config.spad_rows - 2 * bank)
        self.outputs = Ring("outputs", config.spad_rows - bank, bank)
        self.table_rows = max(1, TABLE_ENTRIES // config.cols)
        reserved = 2 * self.table_rows + max(32, config.acc_rows // 16)
        self.sums = Ring("sums", 0, config.acc_rows - reserved)
        self.parameters = Ring("parameters", config.acc_rows - reserved, reserved)

    def input_halves(self) -> tuple[Ring, Ring]:
        """The zone of inputs as two, in banks of their own where there are enough, so that array and vector engine
        read without conflicts. Nothing may be taken from the whole zone meanwhile."""
        inputs, bank = self.inputs, self.config.spad_rows // self.config.spad_banks
        rows = inputs.rows // bank // 2 * bank or inputs.rows // 2
        return Ring("inputs", inputs.first, rows), Ring("inputs", inputs.first + rows, inputs.rows - rows)

    def place(self, tensor: Tensor) -> Place:
        """Where `tensor` lies. A constant is written into a constant buffer on first use."""
        row_bytes = 4 * self.config.cols if tensor.dtype == "int32" else self.config.rows
        blocks = blocks_of(tensor.channels, self.config)
        if tensor.data is not None:
            ref = self.stream.constant(pack(tensor.data, self.config), tensor.name)
        else:
            ref = self._locate(tensor)
        return Place(ref, tensor.pixels, blocks, row_bytes)

    def parameter_rows(self, requantize: Requantize, channels: int, bias: NDArray[np.int32] | int = 0) -> BufferRef:
        """Constant int32 rows [blocks, 3, dim] for `vx.param`: bias (`requantize.bias` + `bias`, modulo 2**32),
        multiplier, shift of every channel; zeros beyond the last."""
        columns = np.zeros((3, blocks_of(channels, self.config) * self.config.cols), np.int32)
        total = np.asarray(requantize.bias, np.int64) + np.asarray(bias, np.int64)
        columns[0, :channels] = np.asarray(total & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
        columns[1, :channels] = requantize.multiplier
        columns[2, :channels] = requantize.shift
        rows = columns.reshape(3, -1, self.config.cols).transpose(1, 0, 2)
        return self.stream.constant(np.ascontiguousarray(rows), "parameters")

    def table_rows_of(self, table: NDArray[np.int8] | NDArray[np.int32]) -> BufferRef:
        """Constant int32 rows [table_rows, dim] for `vx.lut`: entry v & 255."""
        return self.stream.constant(np.asarray(table, np.int32).reshape(-1, self.config.cols), "table")

    def load_rows(self, ring: Ring, ref: BufferRef, rows: int) -> int:
        """Load contiguous DRAM rows into a new accumulator region of `ring` and release it at once: it stays valid
        until the ring comes round, so use it before taking much more. Returns the first row."""
        region = ring.take(rows)
        self.stream.ld_stride(s1=0, s2=0)
        self.stream.ld_dst()
        self.stream.ld_run(dst=acc(region.start), dram=ref, n0=rows)
        ring.release(region)
        return region.start
