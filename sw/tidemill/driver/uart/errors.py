"""What can go wrong between the driver and a board."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.driver.errors import DeviceError, ProgramMismatch


class LinkError(DeviceError):
    """Base of the errors of the serial link. After one of them the device is to be opened again."""


class PortError(LinkError):
    """The serial port cannot be opened: it does not exist, may not be used, or is in use."""


class NoAnswer(LinkError):
    """Nothing on the port speaks the link's protocol."""


class NotTidemill(LinkError):
    """Something answers that is not this driver's Tidemill board."""


class WrongBitstream(LinkError, ProgramMismatch):
    """The board carries another configuration than the one asked for."""


class LinkLost(LinkError):
    """The link ended: the port is gone, or the board was reset."""


class BusError(LinkError):
    """The board's bus refused an address."""


class TooManyRetries(LinkError):
    """A request failed again and again; `kinds` counts how."""

    def __init__(self, port: str, request: str, kinds: Mapping[str, int]) -> None:
        counted = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
        super().__init__(f"{port}: {request} failed {sum(kinds.values())} times: {counted}")
        self.kinds = dict(kinds)
