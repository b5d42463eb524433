"""Waveforms read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pywellen import Waveform


class Waves(Mapping[str, list[tuple[int, str]]]):
    """Signals of a .vcd or .fst file by full name: `waves["top.irq"]` is [(time, bits), ...], one entry a change.

    Times are in the file's unit: a clock cycle is 10. Names are those of the Verilog below the instance `top.top`.
    Raises FileNotFoundError where there is no file; pywellen reads both formats, several times faster than pure Python.
    """

    def __init__(self, path: str | Path) -> None:
        if not Path(path).exists():
            raise FileNotFoundError(f"no waveform at {path}")
        self._vars = {var.full_name: var for var in Waveform(str(path)).all_vars()}

    def __getitem__(self, name: str) -> list[tuple[int, str]]:
        return [(int(time), str(value)) for time, value in self._vars[name].tv]

    def __iter__(self) -> Iterator[str]:
        return iter(self._vars)

    def __len__(self) -> int:
        return len(self._vars)
