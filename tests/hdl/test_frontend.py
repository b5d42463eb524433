"""Frontend and decoder."""

from __future__ import annotations

from functools import partial

import pytest

from tidemill.config import preset
from tidemill_hdl.frontend import Frontend
from tidemill_verif.runner import run_bench

BUILDS = {
    "tiny": ("tiny", {}),
    "shallow": ("tiny", {"ibuf_depth": 32, "loop_depth": 1, "max_burst": 2, "name": "shallow"}),
    "base": ("base", {}),
    "wide": ("base", {"axi_data_width": 128, "loop_depth": 8, "name": "wide"}),
}


@pytest.mark.parametrize("build", BUILDS)
def test_frontend(build: str) -> None:
    name, changes = BUILDS[build]
    run_bench(
        partial(Frontend, preset(name).replace(**changes)),
        bench="tidemill_verif.benches.frontend",
        name=f"frontend-{build}",
        params={"preset": name, "changes": changes},
        seed=1,
    )
