"""Which rows and DRAM bytes one instruction touches, from its fields and its engine's configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tidemill.config import Config
from tidemill.isa import ACC_SPACE
from tidemill.operands import space_rows

Settings = dict[str, dict[str, int]]
"""Values of the latest configuration instruction by mnemonic."""


@dataclass(frozen=True)
class Nest:
    """Rows `start + sum of i_k * stride_k` (i_k < count_k) of a memory, or bytes of DRAM with `run` each."""

    start: int
    dims: tuple[tuple[int, int], ...]
    """(count, stride) pairs."""
    run: int = 1

    @property
    def extent(self) -> tuple[int, int]:
        """Lowest and highest element."""
        low = self.start + sum(min(0, (count - 1) * stride) for count, stride in self.dims)
        high = self.start + sum(max(0, (count - 1) * stride) for count, stride in self.dims) + self.run - 1
        return low, high

    def starts(self) -> np.ndarray:
        """Sorted first elements of the runs, without duplicates (int64)."""
        points = np.array([self.start], np.int64)
        for count, stride in self.dims:
            if count > 1 and stride != 0:
                points = np.unique(np.add.outer(points, np.arange(count, dtype=np.int64) * stride))
        return points

    def elements(self) -> np.ndarray:
        """All elements, sorted, without duplicates (int64)."""
        return Nest(self.start, (*self.dims, (self.run, 1))).starts()


@dataclass(frozen=True)
class Access:
    """A set of rows (or bytes) one instruction reads or writes. `space` is "spad", "acc" or "dram"."""

    space: str
    nest: Nest
    write: bool


def rows(bits: int, dims: Iterable[tuple[int, int]], write: bool) -> Access:
    """Rows from the local address `bits`."""
    space = "acc" if bits & ACC_SPACE else "spad"
    return Access(space, Nest(bits & (ACC_SPACE - 1), tuple(dims)), write)


def accesses(config: Config, mnemonic: str, values: dict[str, int], settings: Settings) -> list[Access]:
    """What the instruction touches; `values` with registers added. DRAM starts are `values["dram"]`."""
    if mnemonic in ("ld.run", "st.run"):
        return _transfer(config, mnemonic == "ld.run", values, settings)
    if mnemonic == "mx.wload":
        return [rows(values["src"], [(config.rows, values["stride"])], False)]
    if mnemonic == "mx.run":
        act, out = settings["mx.act"], settings["mx.acc"]
        counts = [act[f"n{k}"] for k in range(3)]
        return [
            rows(values["act"], [(counts[k], act[f"s{k}"]) for k in range(3)], False),
            rows(values["acc"], [(counts[k], out[f"t{k}"]) for k in range(3)], True),
        ]
    if mnemonic == "vx.param":
        return [rows(values["src"], [(3, 1)], False)]
    if mnemonic == "vx.lut":
        return [rows(values["src"], [(max(1, 256 // config.cols), 1)], False)]
    if mnemonic.startswith("vx.") and "post" in values:
        return _vector(values, settings)
    return []


def out_of_range(config: Config, access: Access) -> int | None:
    """The offending row where the access leaves its memory, else None."""
    low, high = access.nest.extent
    if low < 0:
        return low
    return high if high >= space_rows(config, access.space) else None


def _transfer(config: Config, load: bool, values: dict[str, int], settings: Settings) -> list[Access]:
    local = settings["ld.dst" if load else "st.src"]
    stride = settings["ld.stride" if load else "st.stride"]
    bits = values["dst" if load else "src"]
    line = values["n0"] + (local["pad_lo"] + local["pad_hi"] if load else 0)
    row_bytes = config.acc_row_bytes if bits & ACC_SPACE else config.spad_row_bytes
    lines = [(values["n1"], local["d1"]), (values["n2"], local["d2"])]
    found = []
    if line:
        found.append(rows(bits, [*lines, (line, 1)], load))
    if values["n0"]:
        dims = ((values["n1"], stride["s1"]), (values["n2"], stride["s2"]))
        found.append(Access("dram", Nest(values["dram"], dims, values["n0"] * row_bytes), not load))
    return found


def _vector(values: dict[str, int], settings: Settings) -> list[Access]:
    dims = settings["vx.dims"]
    names = ("n0", "n1", "k0", "k1")

    def operand(bits: int, strides: dict[str, int]) -> Access:
        return rows(bits, [(dims[name], strides[name]) for name in names], False)

    found = [operand(values["a"], settings["vx.astride"])]
    if not values["b_imm"]:
        found.append(operand(values["b"], settings["vx.bstride"]))
    found.append(rows(values["dst"], [(dims["n0"], dims["d0"]), (dims["n1"], dims["d1"])], True))
    return found
