"""SDR SDRAM devices: geometry and times, in nanoseconds as datasheets give them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SdramPart:
    """A device of four banks with 16 data lines.

    Members
    -------
    name : str
    row_bits, col_bits : int: address bits of a row and of a column; a column is a word of 16 bits.
    t_rcd : float: ACTIVATE to READ or WRITE of the same bank, in ns like the rest.
    t_rp : float: PRECHARGE to ACTIVATE or REFRESH.
    t_ras, t_ras_max : float: ACTIVATE to PRECHARGE of the same bank, least and most.
    t_rc : float: ACTIVATE to ACTIVATE of the same bank.
    t_rrd : float: ACTIVATE to ACTIVATE of another bank.
    t_wr : float: last word written to PRECHARGE; at least two cycles besides.
    t_rfc : float: REFRESH to any command.
    t_refresh : float: every row is refreshed once in this time.
    t_power_up : float: from stable power and clock to the first command.
    t_ck2, t_ck3 : float: least period with a CAS latency of 2 and of 3 cycles.
    t_ac2, t_ac3 : float: clock edge to data there, with a CAS latency of 2 and of 3 cycles.
    t_oh : float: clock edge to the end of data, least.
    t_is, t_ih : float: set-up and hold times of all inputs.
    """

    name: str
    row_bits: int
    col_bits: int
    t_rcd: float
    t_rp: float
    t_ras: float
    t_ras_max: float
    t_rc: float
    t_rrd: float
    t_wr: float
    t_rfc: float
    t_refresh: float
    t_power_up: float
    t_ck2: float
    t_ck3: float
    t_ac2: float
    t_ac3: float
    t_oh: float
    t_is: float
    t_ih: float

    BANK_BITS = 2
    WORD_BYTES = 2
    MODE_CYCLES = 2
    """MODE REGISTER SET to any command."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.WORD_BYTES << self.row_bits + self.BANK_BITS + self.col_bits

    def cycles(self, nanoseconds: float, clock_hz: float) -> int:
        """Cycles that last at least so long, one at least."""
        return max(1, math.ceil(nanoseconds * clock_hz / 1e9 - 1e-9))

    def cas_latency(self, clock_hz: float) -> int:
        """2 where the clock allows it, else 3. Raises ValueError for a clock above the device's."""
        period = 1e9 / clock_hz
        if period < self.t_ck3 - 1e-9:
            raise ValueError(f"{self.name} runs at {1e3 / self.t_ck3:.0f} MHz at most, not {clock_hz / 1e6:g} MHz")
        return 2 if period >= self.t_ck2 - 1e-9 else 3

    def access_time(self, clock_hz: float) -> float:
        """Clock edge to data there, in ns. Raises ValueError for a clock above the device's."""
        return self.t_ac2 if self.cas_latency(clock_hz) == 2 else self.t_ac3


AS4C16M16SA_6 = SdramPart(
    name="AS4C16M16SA-6",
    row_bits=13,
    col_bits=9,
    t_rcd=18,
    t_rp=18,
    t_ras=42,
    t_ras_max=100_000,
    t_rc=60,
    t_rrd=12,
    t_wr=12,
    t_rfc=60,
    t_refresh=64e6,
    t_power_up=200_000,
    t_ck2=10,
    t_ck3=6,
    t_ac2=6,
    t_ac3=5,
    t_oh=2.5,
    t_is=1.5,
    t_ih=0.8,
)
"""Alliance Memory, 32 MiB, 166 MHz: one of the parts on ULX3S boards, with the numbers of its datasheet's -6 column;
others of the size and grade (W9825G6KH-6, IS42S16160G-6) have the same or shorter times."""
