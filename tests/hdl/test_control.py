"""Control and status registers."""

from __future__ import annotations

from functools import partial

import pytest

from tidemill.config import preset
from tidemill_hdl.csr import Control
from tidemill_verif.runner import run_bench


@pytest.mark.parametrize("name", ["tiny", "large"])
def test_control(name: str) -> None:
    run_bench(
        partial(Control, preset(name)),
        bench="tidemill_verif.benches.control",
        name=f"control-{name}",
        params={"preset": name},
        seed=5,
    )
