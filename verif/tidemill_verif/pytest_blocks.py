"""pytest plugin: ends a run with a table of the RTL blocks, their tests and their time."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePath

import pytest
from rich.console import Console
from rich.table import Table

_FOLDERS = ("hdl", "rtl")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table where a test of `tests/hdl` or `tests/rtl` ran."""
    passed: dict[str, int] = defaultdict(int)
    failed: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for outcome, counts in (("passed", passed), ("failed", failed), ("error", failed)):
        for report in terminalreporter.stats.get(outcome, ()):
            path = PurePath(report.nodeid.split("::")[0])
            if path.parent.name in _FOLDERS:
                block = path.stem.removeprefix("test_")
                counts[block] += 1
                seconds[block] += report.duration
    if not seconds:
        return
    table = Table("block", title="RTL regression")
    for column in ("passed", "failed", "seconds"):
        table.add_column(column, justify="right")
    for block in sorted(seconds):
        table.add_row(block, str(passed[block]), str(failed[block]), f"{seconds[block]:.1f}")
    table.add_section()
    table.add_row("all", str(sum(passed.values())), str(sum(failed.values())), f"{sum(seconds.values()):.1f}")
    terminalreporter.ensure_newline()
    Console(file=terminalreporter._tw._file).print(table)
