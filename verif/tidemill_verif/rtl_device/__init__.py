"""The device `rtl`: the Verilated NPU behind the driver's device protocol."""

from tidemill_verif.rtl_device.model import RtlDevice
from tidemill_verif.rtl_device.waves import Waves

open_device = RtlDevice
"""Factory of the device `rtl`."""

__all__ = ["RtlDevice", "Waves", "open_device"]
