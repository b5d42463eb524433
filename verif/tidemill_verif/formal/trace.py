"""Counterexamples to read: the harness's own signals, cycle by cycle."""

from __future__ import annotations

import shutil
from bisect import bisect_right
from pathlib import Path

from pywellen import Waveform

_CYCLE = 10
"""Time units of a step in the waveforms of smtbmc."""
_SKIPPED = ("clk", "rst", "running", "first_step", "smt_step", "smt_clock")


def write_trace(waveform: Path, place: Path) -> Path:
    """Copies `waveform` to `place` with suffix `.vcd` and writes beside it, with suffix `.txt`, a line for each signal
    of the harness with its value in every cycle, in hexadecimal (`.` where it has not changed); returns that file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(waveform, place.with_suffix(".vcd"))
    values: dict[str, list[tuple[int, str]]] = {}
    for var in Waveform(str(waveform)).all_vars():
        name = var.full_name.removeprefix("top.")
        if "." not in name and "$" not in name and name not in _SKIPPED:
            values[name] = [(int(time), str(value)) for time, value in var.tv]
    steps = 1 + max((time for changes in values.values() for time, _ in changes), default=0) // _CYCLE
    rows = [["step", *map(str, range(steps))]]
    for name, changes in sorted(values.items()):
        times = [time for time, _ in changes]
        cells: list[str] = []
        for step in range(steps):
            seen = bisect_right(times, step * _CYCLE)
            cells.append(_hexadecimal(changes[seen - 1][1]) if seen else "?")
        rows.append([name, *(("." if i and cells[i - 1] == cell else cell) for i, cell in enumerate(cells))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    text = place.with_suffix(".txt")
    text.write_text("\n".join(lines) + "\n")
    return text


def _hexadecimal(bits: str) -> str:
    return f"{int(bits, 2):x}" if bits and set(bits) <= {"0", "1"} else bits
