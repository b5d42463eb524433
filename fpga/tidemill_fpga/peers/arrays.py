"""What is measured: our array in several shapes, and the published ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from amaranth.hdl import Module

from tidemill.config import preset
from tidemill_fpga.families.ecp5_multipliers import dsp_multiplier, fabric_multiplier
from tidemill_fpga.peers.measure import FAMILY, Array
from tidemill_fpga.peers.paired import PRODUCT_BITS, PairedArray
from tidemill_fpga.peers.placement import placed
from tidemill_fpga.peers.published import Published, PublishedArray
from tidemill_hdl.matrix.array import SystolicArray

PEER_SIZE = 8
"""Rows and columns of the comparison with published arrays."""

LARGEST = 12
"""Rows and columns of the largest square array with nothing but the DSP blocks of an LFE5U-85F."""

_INT8_PRODUCT = 16


def _sum_bits(rows: int, product: int = _INT8_PRODUCT) -> int:
    return product + (rows - 1).bit_length()


def _dsp() -> Mapping[str, Callable[..., Module]]:
    return {"get_multiplier": dsp_multiplier}


def _fabric() -> Mapping[str, Callable[..., Module]]:
    return {"get_multiplier": fabric_multiplier}


def _ours(name: str, size: int, hooks: Callable[[], Mapping[str, Callable[..., Module]]], sum_bits: int = 0) -> Array:
    """The NPU's array with the multipliers of `hooks`; sums that never overflow unless `sum_bits` says otherwise."""
    bits = sum_bits or _sum_bits(size)
    return Array(name, size, size, size * size, bits, partial(SystolicArray, size, size, bits), hooks)


def published(array: Published, checkout: Path) -> Array:
    """`array`, read from the git repository `checkout`; its multipliers are what Yosys makes of `*`. Raises
    `ToolError`."""
    size = PEER_SIZE
    unit = partial(PublishedArray, array, size)
    return Array(array.name, size, size, size * size, array.sum_bits, unit, dict, array.rtlil(checkout, size))


def beside_peers() -> list[Array]:
    """Ours in the size of the published ones: the NPU's own sums, and sums as wide as the widest of theirs."""
    return [
        _ours("Tidemill, DSP blocks", PEER_SIZE, _dsp),
        _ours("Tidemill, DSP blocks in given places", PEER_SIZE, partial(placed, PEER_SIZE, PEER_SIZE)),
        _ours("Tidemill, DSP blocks, wide sums", PEER_SIZE, _dsp, 32),
        _ours("Tidemill, carry chains", PEER_SIZE, _fabric),
    ]


def shapes() -> list[Array]:
    """Ours in the shapes that an LFE5U-85F could hold; the multipliers of the last as in the whole NPU `base`."""
    places = partial(placed, LARGEST, LARGEST)
    bits = _sum_bits(LARGEST, PRODUCT_BITS)
    paired = partial(PairedArray, LARGEST, LARGEST, bits)
    base = preset("base")
    return [
        _ours("DSP blocks", LARGEST, _dsp),
        _ours("DSP blocks in given places", LARGEST, places),
        Array("two 4-bit weights a DSP block, in given places", LARGEST, LARGEST, 2 * LARGEST**2, bits, paired, places),
        _ours("DSP blocks and carry chains", base.rows, partial(FAMILY.hooks, base)),
    ]
