"""Control and status registers: what the host sees of the machine."""

from tidemill_hdl.csr.control import Control

__all__ = ["Control"]
