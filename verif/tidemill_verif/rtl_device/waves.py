"""Waveforms read back."""

from __future__ import annotations

from pathlib import Path

from pywellen import Waveform


def read_waves(path: str | Path) -> Waveform:
    """The waveform in a .vcd or .fst file (pywellen reads both, several times faster than pure Python readers).

    Use: `read_waves(path).get_signal_from_path("top.irq").all_changes()`. Raises FileNotFoundError.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no waveform at {path}")
    return Waveform(str(path))
