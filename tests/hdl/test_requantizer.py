"""Requantizer lane."""

from __future__ import annotations

from tidemill_hdl.vector.requantizer import Requantizer
from tidemill_verif.runner import run_bench


def test_requantizer() -> None:
    """Every mode, preshift and parameter range equals the golden model bit by bit."""
    run_bench(
        Requantizer(),
        bench="tidemill_verif.benches.requantizer",
        name="requantizer",
        params={"latency": Requantizer.latency, "vectors": 24_000},
        seed=1,
    )
