"""The hand-written pages name tests, files and pages that exist."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BENCHES = ROOT / "verif" / "tidemill_verif"
UNITS = ["frontend", "sync", "control", "gateway", "load", "store", "matrix", "vector", "scratchpad", "accumulators"]


@cache
def functions(file: str) -> frozenset[str]:
    """Names of the functions in `tests/...` or `benches/...`."""
    path = (BENCHES if file.startswith("benches/") else ROOT) / file
    return frozenset(re.findall(r"^(?:async )?def (\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    named = re.findall(r"((?:tests|benches)/[\w/]+\.py)::(\w+)", page.read_text(encoding="utf-8"))
    assert [(file, name) for file, name in named if name not in functions(file)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    files = [ROOT / file for file in re.findall(r"`((?:hdl|sw|verif|tests|docs)/[\w./-]+)", text)]
    assert [str(path) for path in links + files if not path.exists()] == []


@pytest.mark.parametrize("unit", UNITS)
def test_every_bench_of_a_unit_is_in_its_test_plan(unit: str) -> None:
    page = (ROOT / "docs" / "blocks" / f"{unit}.md").read_text(encoding="utf-8")
    benches = {"gateway": ["dma_gateway"], "load": ["dma_load"], "store": ["dma_store"]}.get(unit, [unit])
    if unit == "matrix":
        benches = ["matrix_engine", "matrix_system", "systolic_array"]
    if unit == "vector":
        benches = ["vector_engine", "requantizer"]
    tests = {f"benches/{bench}.py::{name}" for bench in benches for name in functions(f"benches/{bench}.py")
             if name.startswith("test_")}  # fmt: skip
    assert tests - set(re.findall(r"benches/\w+\.py::\w+", page)) == set()
