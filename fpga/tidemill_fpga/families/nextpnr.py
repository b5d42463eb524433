"""What nextpnr reports of a routed design, whatever the family."""

from __future__ import annotations

import json
from pathlib import Path

from tidemill_fpga.families.family import Routed


def read_report(file: Path) -> Routed:
    """What the JSON report in `file` says of the fastest-constrained clock and the cells."""
    report: dict[str, object] = json.loads(file.read_text())
    clocks: dict[str, dict[str, float]] = report["fmax"]  # type: ignore[assignment]
    name = max(clocks, key=lambda clock: clocks[clock]["constraint"])
    cells: dict[str, dict[str, int]] = report["utilization"]  # type: ignore[assignment]
    paths: list[dict[str, object]] = report["critical_paths"]  # type: ignore[assignment]
    critical: list[str] = []
    for path in paths:
        if name in str(path["from"]) and name in str(path["to"]):
            steps: list[dict[str, dict[str, str]]] = path["path"]  # type: ignore[assignment]
            critical = [step["from"]["cell"] for step in steps[:1]] + [step["to"]["cell"] for step in steps]
    return Routed(
        clocks[name]["achieved"],
        {kind: cell["used"] for kind, cell in cells.items() if cell["used"]},
        {kind: cell["available"] for kind, cell in cells.items() if cell["used"]},
        tuple(critical),
    )
