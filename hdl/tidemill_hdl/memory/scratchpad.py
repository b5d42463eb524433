"""The scratchpad: int8 rows for activations, weights and results."""

from __future__ import annotations

import enum

from tidemill.config import Config
from tidemill_hdl.interfaces import spad_row

from .banked import BankedMemory


class SpadRead(enum.IntEnum):
    """Index of each read port, in the order of priority."""

    MATRIX_ACT = 0
    MATRIX_WGT = 1
    VECTOR_A = 2
    VECTOR_B = 3
    STORE = 4


class SpadWrite(enum.IntEnum):
    """Index of each write port, in the order of priority."""

    LOAD = 0
    VECTOR = 1


class Scratchpad(BankedMemory):
    """`spad_rows` rows of `rows` int8 lanes in `spad_banks` banks.

    Members
    -------
    r : In(ReadPort).array: indexed by `SpadRead`.
    w : In(WritePort).array: indexed by `SpadWrite`.

    Timing and arbitration: `BankedMemory`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(spad_row(config), config.spad_rows, config.spad_banks, len(SpadRead), len(SpadWrite))
