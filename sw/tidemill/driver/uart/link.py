"""The host's end of the serial link: checked frames, retries, resynchronization."""

from __future__ import annotations

import errno
import random
import struct
import time
import zlib
from collections import Counter
from contextlib import suppress

import numpy as np
import serial
from numpy.typing import NDArray

from tidemill.driver.uart.errors import BusError, LinkLost, NoAnswer, NotTidemill, PortError, TooManyRetries
from tidemill.driver.uart.protocol import (
    ANSWER,
    BUS_ERROR,
    FRAME_TIMEOUT,
    IDLE_BITS,
    LINK_BASE,
    LOCK_VALUE,
    LOCKED,
    MAGIC,
    MAX_WORDS,
    VERSION,
    Command,
    Register,
)

ATTEMPTS = 10
"""Times that a request is sent before the link gives up."""
_SEQUENCE_TOP = 0x80
"""Set in every sequence number, so that none looks like a command."""
_LATENCY = 0.02
"""Seconds that an adapter may keep bytes."""

_LONGEST_REST = 0.5
"""Seconds that the line rests at most before a request is sent again."""
_POLL = 0.01
"""Seconds that a read of the port waits for its first byte."""
_BROKEN: tuple[type[Exception], ...] = (OSError, TypeError)
"""What pyserial raises when the port goes away: its own exception is an OSError, a closed port has no number, and
termios has an exception of its own."""
with suppress(ImportError):
    import termios

    _BROKEN = (*_BROKEN, termios.error)

Words = NDArray[np.uint32]


class _Damage(Exception):
    """An attempt failed; the argument says how."""


class SerialLink:
    """An open link to a board: words of its bus.

    Parameters
    ----------
    port : str, name of the serial port.
    baud : int, its speed.
    patience : float, seconds that an answer may take beyond its time on the wire.

    Opening checks that a Tidemill board answers, and takes the lock. Every method returns what the board did, or raises
    a `LinkError`; none waits for ever. Raises `PortError`, `NoAnswer`, `NotTidemill`.
    """

    def __init__(self, port: str, baud: int, patience: float) -> None:
        self.port = port
        self.patience = patience
        self._bit_time = 1 / baud
        self._locked = False
        self._broken = False
        self._read_sequence = random.randrange(_SEQUENCE_TOP)
        self._write_sequence = 0
        self._serial = _open_port(port, baud, self._wire_time(8 + 4 * MAX_WORDS) + patience)
        self.retries: Counter[str] = Counter()
        """Failed attempts so far, by kind."""
        try:
            self._begin(baud)
        except BaseException:
            self._serial.close()
            raise

    def _begin(self, baud: int) -> None:
        self._drain(_LATENCY + IDLE_BITS * self._bit_time)
        try:
            registers = self.registers()
        except TooManyRetries as error:
            raise NoAnswer(
                f"{self.port}: no Tidemill board answers at {baud} baud ({error}); check the port, the bitstream and "
                "the speed (uart:PORT?baud=...)"
            ) from None
        if registers[Register.MAGIC] != MAGIC or registers[Register.VERSION] != VERSION:
            raise NotTidemill(
                f"{self.port}: the device is no Tidemill board of this version: its link says "
                f"{registers[Register.MAGIC]:#010x} version {registers[Register.VERSION]}, "
                f"not {MAGIC:#010x} version {VERSION}"
            )
        # On a pseudo-terminal the speed is the board's alone.
        self._bit_time = registers[Register.DIVISOR] / registers[Register.CLOCK_HZ]
        self._write_sequence = registers[Register.STATUS] >> 8 & 0xFF
        # Eight words, of which only the lock can be written: without its first bytes the frame is no plain command.
        self._lock(LOCK_VALUE)

    def _lock(self, value: int) -> None:
        self._locked = value != 0
        words = np.zeros(len(Register), np.uint32)
        words[Register.LOCK] = value
        self.write(LINK_BASE, words)

    def close(self) -> None:
        """Give the lock back unless the link is broken, and close the port."""
        try:
            if self._locked and not self._broken:
                self._lock(0)
        except (BusError, LinkLost, TooManyRetries):
            pass
        finally:
            self._serial.close()

    def registers(self) -> list[int]:
        """The link's registers, in the order of `protocol.Register`."""
        return [int(word) for word in self.read(LINK_BASE, len(Register))]

    def read(self, address: int, count: int) -> Words:
        """`count` words (at most `MAX_WORDS`) from byte address `address`: uint32. Raises `BusError`, `LinkLost`,
        `TooManyRetries`."""
        self._read_sequence = (self._read_sequence + 1) % _SEQUENCE_TOP
        return self._request(Command.CHECKED_READ, self._read_sequence | _SEQUENCE_TOP, address, b"", count)

    def write(self, address: int, words: Words) -> None:
        """Write 1 to `MAX_WORDS` uint32 to byte address `address`, each once. Raises `BusError`, `LinkLost`,
        `TooManyRetries`: after the last some words may be written."""
        self._write_sequence = (self._write_sequence + 1) % _SEQUENCE_TOP | _SEQUENCE_TOP
        self._request(Command.CHECKED_WRITE, self._write_sequence, address, words.astype(">u4").tobytes(), len(words))

    def _request(self, command: Command, sequence: int, address: int, data: bytes, count: int) -> Words:
        if not 1 <= count <= MAX_WORDS:
            raise ValueError(f"a frame carries 1 to {MAX_WORDS} words, not {count}")
        frame = struct.pack(">BBBI", command, sequence, count, address >> 2) + data
        frame += zlib.crc32(frame).to_bytes(4, "little")
        header = bytes([ANSWER | command, sequence])
        size = 4 * count if command is Command.CHECKED_READ else 0
        kinds: Counter[str] = Counter()
        for attempt in range(ATTEMPTS):
            try:
                answer = self._attempt(frame, header, size)
            except _Damage as damage:
                kinds[str(damage)] += 1
                self.retries[str(damage)] += 1
                self._resynchronize(attempt)
                continue
            status = answer[-1]
            if self._locked and not status & LOCKED:
                self._broken = True
                raise LinkLost(f"{self.port}: the board lost the lock: it was reset, or the line had a BREAK")
            if status & BUS_ERROR:
                raise BusError(
                    f"{self.port}: the board's bus refused {_name(command)} of {count} words at {address:#010x}"
                )
            return np.frombuffer(answer[:-1], ">u4").astype(np.uint32)
        self._broken = True
        raise TooManyRetries(self.port, f"{_name(command)} of {count} words at {address:#010x}", kinds)

    def _attempt(self, frame: bytes, header: bytes, size: int) -> bytes:
        """Data and status of the answer. Raises `_Damage`."""
        try:
            self._serial.reset_input_buffer()
            try:
                self._serial.write(frame)
            except serial.SerialTimeoutException:
                self._serial.reset_output_buffer()
                raise _Damage("request not taken by the port") from None
            answer = self._receive(len(header) + size + 5, self._wire_time(len(frame)))
        except _BROKEN as error:
            self._broken = True
            raise LinkLost(f"{self.port}: the link broke off: {_reason(error)}") from None
        if zlib.crc32(answer[:-4]) != int.from_bytes(answer[-4:], "little"):
            raise _Damage("damaged answer")
        if not answer.startswith(header):
            raise _Damage("answer to another request")
        return answer[len(header) : -4]

    def _wire_time(self, size: int) -> float:
        """Seconds that `size` bytes may take; twice what they need."""
        return 20 * size * self._bit_time

    def _receive(self, size: int, head_start: float) -> bytes:
        """Exactly `size` bytes; between two of them never more than `patience`. Raises `_Damage`."""
        answer = b""
        deadline = time.monotonic() + head_start + self.patience
        while len(answer) < size:
            part = self._serial.read(max(1, min(size - len(answer), self._serial.in_waiting)))
            answer += part
            if part:
                deadline = time.monotonic() + self._wire_time(1) + self.patience
            elif time.monotonic() >= deadline:
                raise _Damage("incomplete answer" if answer else "no answer")
        return answer

    def _resynchronize(self, attempt: int) -> None:
        """Let the line rest until a board that lost its place listens again; later attempts wait longer and longer
        for a frame that the board believes to be in the middle of, too."""
        rest = _LATENCY + 2 * IDLE_BITS * self._bit_time
        self._drain(max(rest, min(1.5 * FRAME_TIMEOUT * attempt, _LONGEST_REST)))

    def _drain(self, rest: float) -> None:
        """Throw away what arrives until nothing did for `rest` seconds, or `patience` is over, too."""
        quiet_at = time.monotonic() + rest
        end = quiet_at + self.patience
        try:
            while time.monotonic() < min(quiet_at, end):
                if self._serial.read(max(1, self._serial.in_waiting)):
                    quiet_at = time.monotonic() + rest
        except _BROKEN as error:
            self._broken = True
            raise LinkLost(f"{self.port}: the link broke off: {_reason(error)}") from None


def _name(command: Command) -> str:
    return "read" if command is Command.CHECKED_READ else "write"


def _reason(error: Exception) -> str:
    number = error.args[0] if error.args else None
    gone = number in (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF) or "disconnected" in str(error)
    return "the port is gone" if gone or isinstance(error, TypeError) else str(error)


def _open_port(port: str, baud: int, write_timeout: float) -> serial.Serial:
    """The port; both time-outs stay as they are, for changing them sets up the port anew."""
    try:
        return serial.Serial(port, baud, timeout=_POLL, write_timeout=write_timeout, exclusive=True)
    except ValueError as error:
        raise PortError(f"{port}: {error}") from None
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise PortError(f"{port}: there is no such port") from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PortError(
                f"{port}: no permission to use the port; its group (often dialout) is shown by: ls -l {port}"
            ) from None
        if error.errno in (errno.EBUSY, errno.EAGAIN):
            raise PortError(f"{port}: the port is in use by another program") from None
        raise PortError(f"{port}: cannot open the port: {error}") from None
