"""DMA: the AXI4 gateway and the load and store engines behind it."""

from tidemill_hdl.dma.gateway import Gateway
from tidemill_hdl.dma.load import LoadEngine
from tidemill_hdl.dma.store import StoreEngine

__all__ = ["Gateway", "LoadEngine", "StoreEngine"]
