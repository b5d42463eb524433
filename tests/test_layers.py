"""The layers: who may import whom. Only devices are found by name at run time (`driver/device.py`)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = {"tidemill": "sw", "tidemill_hdl": "hdl", "tidemill_verif": "verif", "tidemill_fpga": "fpga"}
"""Folder of each package."""

GROUND = ["tidemill.config", "tidemill.isa", "tidemill.csr"]
"""The contract between hardware and software: data that depends on nothing."""

ALLOWED = {
    "tidemill.config": [],
    "tidemill.isa": [],
    "tidemill.csr": [],
    "tidemill.program": ["tidemill.config", "tidemill.isa", "numpy"],
    "tidemill.golden": ["tidemill.golden", *GROUND, "numpy"],
    "tidemill.checker": ["tidemill.checker", "tidemill.operands", "tidemill.program", *GROUND, "numpy"],
    "tidemill.compiler.frontends": [
        "tidemill.compiler", "tidemill.golden", *GROUND, "numpy", "tflite", "onnx", "google"
    ],
    "tidemill.driver.uart": ["tidemill", "numpy", "rich", "serial"],
    "tidemill.demo": ["tidemill", "numpy", "sklearn", "matplotlib", "torch"],
    "tidemill.models": ["tidemill", "numpy", "PIL", "platformdirs"],
    "tidemill.onnx_backend": ["tidemill", "numpy", "onnx"],
    "tidemill": ["tidemill", "numpy", "click", "rich", "msgpack", "ortools"],
    "tidemill_hdl": ["tidemill_hdl", *GROUND, "amaranth"],
    "tidemill_verif.benches": ["tidemill_verif", "tidemill_hdl", "tidemill", "numpy", "cocotb", "cocotbext"],
    "tidemill_verif.runtimes": [
        "tidemill_verif.runtimes", "numpy", "onnx", "onnxruntime", "flatbuffers", "tflite_micro"
    ],
    "tidemill_verif.pytest_blocks": ["pytest", "rich"],
    "tidemill_verif": [
        "tidemill_verif", "tidemill_hdl", "tidemill", "numpy", "amaranth", "cocotb", "cocotb_tools", "pywellen",
        "rich", "click", "onnx", "onnxruntime", "tflite_micro", "matplotlib"
    ],
    "tidemill_fpga": ["tidemill_fpga", "tidemill_verif", "tidemill_hdl", "tidemill", "amaranth",
        "amaranth_boards", "numpy", "rich", "click", "apycula", "litex"
    ],
}  # fmt: skip
"""What each part may import besides the standard library; the longest name that fits a module counts."""


def is_below(module: str, part: str) -> bool:
    """Whether `module` is `part` or inside of it."""
    return module == part or module.startswith(part + ".")


def imports(package: str, source: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every import in a module of `package`; a name taken from one of the top packages counts as
    a module of it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}" if origin in PACKAGES else origin


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """`line: what` for every import of `module` that `ALLOWED` does not list."""
    package = module if is_package else module.rpartition(".")[0]
    part = max((part for part in ALLOWED if is_below(module, part)), key=len)
    return [
        f"{line}: {name} ({part} may import {', '.join(ALLOWED[part]) or 'nothing'})"
        for line, name in imports(package, source)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(is_below(name, allowed) for allowed in ALLOWED[part])
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_keep_to_the_layers(package: str) -> None:
    folder = ROOT / PACKAGES[package]
    files = sorted((folder / package).rglob("*.py"))
    assert files
    found = []
    for file in files:
        is_package = file.stem == "__init__"
        name = file.parent if is_package else file.with_suffix("")
        wrong = violations(".".join(name.relative_to(folder).parts), file.read_text(), is_package=is_package)
        found += [f"{file.relative_to(ROOT)}:{violation}" for violation in wrong]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tidemill.iss.machine", "import tidemill_hdl.top"),
        ("tidemill.cli.run", "def f():\n    from amaranth.hdl import Module"),
        ("tidemill.golden.matrix", "from tidemill.iss import machine"),
        ("tidemill.config", "from tidemill import isa"),
        ("tidemill_hdl.top", "from tidemill import golden"),
        ("tidemill_hdl.top", "import numpy as np"),
        ("tidemill.golden.matrix", "from ..iss import machine"),
        ("tidemill_verif.runner", "from tidemill_fpga.synth import main"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1
