"""Shared by all tests: environment of tools that must not pick up what the machine happens to have."""

from __future__ import annotations

import os

os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
