"""Frames and registers of the serial link as data: the bridge in hardware and the driver read this file.

`docs/fpga/link.md` has the diagrams and says why.
"""

from __future__ import annotations

import enum


class Command(enum.IntEnum):
    """First byte of a frame. Plain ones are LiteX's UARTBone; checked ones carry a sequence number and a CRC-32.

    No single wrong bit makes a plain command of a checked one.
    """

    WRITE = 0x01
    READ = 0x02
    WRITE_FIXED = 0x03
    READ_FIXED = 0x04
    CHECKED_WRITE = 0x51
    CHECKED_READ = 0x52


ANSWER = 0x80
"""Set in the first byte of an answer to a checked command, which repeats the command."""
BUS_ERROR, LOCKED = 1, 2
"""Bits of an answer's status byte: some word met a bus error; the lock is set."""
MAX_WORDS = 255
"""Words a frame can carry."""

MEMORY_BASE = 0x0000_0000
CSR_BASE = 0xE000_0000
LINK_BASE = 0xF000_0000
"""Byte addresses of the windows: memory (where the NPU sees it, too), the NPU's registers, the link's registers."""
WINDOW_BYTES = 0x1000
"""Size of the two windows of registers."""

MAGIC = int.from_bytes(b"TDLK", "little")
VERSION = 1
LOCK_VALUE = 0xFFFF_FFFF
"""Written to LOCK: sets the lock. 0 clears it."""


class Register(enum.IntEnum):
    """Word index of the link's registers; all but LOCK are read-only."""

    MAGIC = 0
    VERSION = 1
    CONFIG_HASH = 2
    MEMORY_SIZE = 3
    CLOCK_HZ = 4
    DIVISOR = 5
    STATUS = 6
    LOCK = 7


IRQ, STATUS_LOCKED = 1, 2
"""Bits of STATUS: the NPU's interrupt line; the lock. Bits 15:8 are the sequence number of the latest checked write."""

IDLE_BITS = 200
"""Bit times of a quiet line after which a bridge that lost its place listens again."""
BREAK_BITS = 32
"""Bit times of a low line that are a BREAK."""
FRAME_TIMEOUT = 0.1
"""Seconds of a quiet line in the middle of a frame after which the frame is dropped."""
