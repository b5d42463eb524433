# amaranth: UnusedElaboratable=no
"""Mapped multipliers alone, as functions on arrays."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from tidemill_fpga.families import gowin_multipliers
from tidemill_fpga.families.common import inferred_multiplier
from tidemill_fpga.families.ecp5_multipliers import dsp_multiplier, fabric_multiplier
from tidemill_fpga.families.ice40_multipliers import multiplier_pairs
from tidemill_fpga.gate_level.netlist import CELL_FLAGS, MODULE, cell_counts, cell_models, models_key, netlist
from tidemill_fpga.tools import ToolError
from tidemill_hdl.prim.multiplier import Multiplier
from tidemill_verif.cache import build_once, content_key
from tidemill_verif.toolchain import build_env, verilator_bin, verilator_version

Values = NDArray[np.int64]
Implementation = Callable[[Multiplier], Module]

KINDS: dict[str, tuple[str, Implementation]] = {
    "dsp": ("ecp5", dsp_multiplier),
    "fabric": ("ecp5", fabric_multiplier),
    "gw2a-dsp": ("gw2a", gowin_multipliers.dsp_multiplier),
    "gw2a-inferred": ("gw2a", inferred_multiplier),
    "gw5a-tables": ("gw5a", inferred_multiplier),
}
"""Families and their multipliers: blocks of the device, carry chains, what Yosys makes of a product."""

_HARNESS = Path(__file__).with_name("multiplier.cpp")
_LIBRARY = "libmultiplier.so"


def every_pair(a_bits: int, b_bits: int) -> tuple[Values, Values]:
    """All pairs of two signed numbers."""
    a, b = (np.arange(-(1 << bits - 1), 1 << bits - 1) for bits in (a_bits, b_bits))
    return np.repeat(a, len(b)), np.tile(b, len(a))


def corner_pairs(a_bits: int, b_bits: int, count: int, seed: int) -> tuple[Values, Values]:
    """All pairs of corners (ends, their neighbours, small numbers, lone bits), then `count` random pairs."""
    rng = np.random.default_rng(seed)
    corners = []
    for bits in (a_bits, b_bits):
        high = (1 << bits - 1) - 1
        lone = [sign << bit for bit in range(bits - 1) for sign in (1, -1)]
        corners.append(sorted({-high - 1, -high, high - 1, high, 0, *lone}))
    pairs = np.array(list(product(*corners)), np.int64)
    a, b = (rng.integers(-(1 << bits - 1), 1 << bits - 1, count) for bits in (a_bits, b_bits))
    return np.concatenate([pairs[:, 0], a]), np.concatenate([pairs[:, 1], b])


def products(kind: str, a_bits: int, b_bits: int, latency: int, a: Values, b: Values) -> Values:
    """What the mapped multiplier makes of the pairs `a`, `b` (int64 [N]), a pair a cycle: signed numbers, int64 [N].

    Raises `ToolError` where it cannot be built.
    """
    family, implementation = KINDS[kind]
    mapped = netlist(Multiplier(a_bits, b_bits, latency), family, {"get_multiplier": implementation})
    result = _run(_library(mapped, family, a_bits, b_bits), latency, a, b)
    spare = 64 - a_bits - b_bits
    return result << spare >> spare


class MultiplierPair(wiring.Component):
    """Two multipliers of 8 x 8 bits that may share a cell.

    Members
    -------
    a, b : In(16): the factors of the first multiplier in the low bytes, of the second in the high ones.
    p : Out(32): the products in the same order; timing of `Multiplier`.
    """

    def __init__(self, latency: int) -> None:
        self.latency = latency
        super().__init__({"a": In(16), "b": In(16), "p": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for half in range(2):
            m.submodules[f"multiplier{half}"] = multiplier = Multiplier(8, 8, self.latency)
            m.d.comb += [
                multiplier.a.eq(self.a.word_select(half, 8)),
                multiplier.b.eq(self.b.word_select(half, 8)),
                self.p.word_select(half, 16).eq(multiplier.p),
            ]
        return m


def pair_products(latency: int, a: Values, b: Values) -> Values:
    """What an SB_MAC16 of the iCE40 with two multipliers makes of the pairs `a`, `b` (int64 [N, 2], 8 bits signed), one
    pair a cycle in each half: int64 [N, 2]. Raises `ToolError` where it cannot be built, or is not that cell alone."""
    mapped = netlist(MultiplierPair(latency), "ice40up5k", {"get_multiplier": multiplier_pairs(1)})
    cells = {kind: count for kind, count in cell_counts(mapped).items() if not kind.startswith("$")}
    if cells != {"SB_MAC16": 1}:
        raise ToolError(f"the pair of multipliers is not one SB_MAC16 and nothing else: {cells}")
    first, second = ((values[:, 0] & 0xFF) | (values[:, 1] & 0xFF) << 8 for values in (a, b))
    both = _run(_library(mapped, "ice40up5k", 16, 16), latency, first, second)
    return np.stack([both << 48 >> 48, both << 32 >> 48], axis=1)


def _run(library: Path, latency: int, a: Values, b: Values) -> Values:
    lib = ctypes.CDLL(str(library))
    lib.multiply.restype = None
    lib.multiply.argtypes = [ctypes.c_int64, ctypes.c_int, *[ctypes.c_void_p] * 3]
    a, b = (np.ascontiguousarray(values, np.int64) for values in (a, b))
    result = np.zeros(len(a), np.int64)
    lib.multiply(len(a), latency, a.ctypes.data, b.ctypes.data, result.ctypes.data)
    return result


def _library(mapped: Path, family: str, a_bits: int, b_bits: int) -> Path:
    def build(folder: Path) -> None:
        masks = f"-DA_MASK={(1 << a_bits) - 1:#x} -DB_MASK={(1 << b_bits) - 1:#x}"
        command = [
            str(verilator_bin() / "verilator"), "--cc", "--exe", "--build", *CELL_FLAGS, "--top-module", MODULE,
            "--Mdir", str(folder / "obj"), "-o", _LIBRARY, "-LDFLAGS", "-shared", "-CFLAGS",
            f"-fPIC -std=c++20 -Os {masks}", str(mapped / f"{MODULE}.v"), *map(str, cell_models(family)), str(_HARNESS),
        ]  # fmt: skip
        result = subprocess.run(command, env=build_env(), capture_output=True, text=True, check=False)
        if result.returncode:
            errors = [line for line in result.stderr.splitlines() if line.startswith("%Error")]
            raise ToolError("\n".join(errors[:5]) or result.stderr[-2000:])
        (folder / "obj" / _LIBRARY).rename(folder / _LIBRARY)

    sources = (mapped.name, models_key(), _HARNESS.read_bytes(), Path(__file__).read_bytes(), verilator_version())
    return build_once("gate-multiplier", content_key(*sources), build) / _LIBRARY
