"""Accumulators."""

from __future__ import annotations

from functools import partial

import pytest

from tidemill.config import preset
from tidemill_hdl.memory.accumulators import Accumulators
from tidemill_verif.runner import run_bench


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_accumulators_match_the_golden_model(name: str) -> None:
    accumulators = Accumulators(preset(name))
    run_bench(
        partial(Accumulators, preset(name)),
        bench="tidemill_verif.benches.accumulators",
        name=f"accumulators-{name}",
        params={
            "preset": name,
            "hazard_distance": accumulators.hazard_distance,
            "commit_latency": accumulators.commit_latency,
        },
    )
