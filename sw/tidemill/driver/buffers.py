"""DRAM of a device: an arena and typed buffers in it."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tidemill.driver.device import Device
from tidemill.driver.errors import BufferMismatch, OutOfMemory
from tidemill.program import BUFFER_ALIGNMENT, DTYPES

ARENA_BASE = 0x1000
"""First address that is given away; address 0 stays unused."""


class Arena:
    """First-fit allocator of the bytes `base` to `end - 1`; addresses and sizes are multiples of
    `BUFFER_ALIGNMENT`."""

    def __init__(self, base: int, end: int) -> None:
        self._free = [(base, end)]

    def allocate(self, nbytes: int) -> int:
        """Address of `nbytes` free bytes. Raises `OutOfMemory`."""
        size = max(1, -(-nbytes // BUFFER_ALIGNMENT)) * BUFFER_ALIGNMENT
        for position, (begin, end) in enumerate(self._free):
            if end - begin >= size:
                self._free[position : position + 1] = [(begin + size, end)] if end - begin > size else []
                return begin
        total = sum(end - begin for begin, end in self._free)
        raise OutOfMemory(
            f"no room for {nbytes} bytes: {total} bytes are free, in {len(self._free)} pieces; "
            "free buffers or open the device with a larger mem_size"
        )

    def release(self, address: int, nbytes: int) -> None:
        """Give back what `allocate(nbytes)` returned."""
        end = address + max(1, -(-nbytes // BUFFER_ALIGNMENT)) * BUFFER_ALIGNMENT
        position = bisect.bisect(self._free, (address, end))
        if position < len(self._free) and self._free[position][0] == end:
            end = self._free.pop(position)[1]
        if position and self._free[position - 1][1] == address:
            position -= 1
            address = self._free.pop(position)[0]
        self._free.insert(position, (address, end))


class Buffer:
    """A typed array in a device's DRAM at byte `address`. `name` is for messages."""

    def __init__(self, device: Device, name: str, address: int, shape: Sequence[int], dtype: str) -> None:
        self.name = name
        self.address = address
        self.shape = tuple(shape)
        self.dtype = DTYPES[dtype]
        self._device = device

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def write(self, array: ArrayLike) -> None:
        """Write the whole buffer. Raises `BufferMismatch` unless shape and element type are the buffer's."""
        array = np.asarray(array)
        if array.dtype != self.dtype:
            raise BufferMismatch(f"buffer {self.name!r} holds {self.dtype.name}, not {array.dtype.name}")
        if array.shape != self.shape:
            raise BufferMismatch(f"buffer {self.name!r} has shape {self.shape}, not {array.shape}")
        self._device.mem_write(self.address, array.astype(self.dtype, copy=False).tobytes())

    def read(self) -> np.ndarray:
        """A copy of the whole buffer."""
        data = self._device.mem_read(self.address, self.nbytes)
        return np.frombuffer(data, self.dtype).reshape(self.shape).copy()


def check_dtype(dtype: str | np.dtype | type) -> str:
    """The name of an element type a buffer may have; raises `BufferMismatch` for others."""
    name = np.dtype(dtype).name
    if name not in DTYPES:
        raise BufferMismatch(f"a buffer cannot hold {name}; element types: {', '.join(DTYPES)}")
    return name
