"""The synthesized NPU, cell by cell: the device `gates`, and what shows that a netlist does what the RTL does."""

from tidemill_fpga.gate_level.device import open_device

__all__ = ["open_device"]
