"""The device `rtl`: the Verilated NPU behind the driver's device protocol."""

from tidemill_verif.rtl_device.model import RtlDevice
from tidemill_verif.rtl_device.waves import read_waves

open_device = RtlDevice
"""Factory of the device `rtl`."""

__all__ = ["RtlDevice", "open_device", "read_waves"]
