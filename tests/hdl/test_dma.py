"""DMA: gateway, load engine and store engine."""

from __future__ import annotations

from functools import partial

import pytest

from tidemill.config import preset
from tidemill_hdl.dma import Gateway, LoadEngine, StoreEngine
from tidemill_verif.runner import run_bench

PRESETS = ("tiny", "base")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", PRESETS)
def test_load_engine_writes_the_rows_of_the_golden_walk(name: str, seed: int) -> None:
    run_bench(
        partial(LoadEngine, preset(name)),
        bench="tidemill_verif.benches.dma_load",
        name=f"dma_load-{name}",
        params={"preset": name},
        seed=seed,
    )


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", PRESETS)
def test_store_engine_sends_the_rows_of_the_golden_walk(name: str, seed: int) -> None:
    run_bench(
        partial(StoreEngine, preset(name)),
        bench="tidemill_verif.benches.dma_store",
        name=f"dma_store-{name}",
        params={"preset": name},
        seed=seed,
    )


@pytest.mark.parametrize("name", PRESETS)
def test_gateway_serves_three_clients_and_drains(name: str) -> None:
    run_bench(
        partial(Gateway, preset(name)),
        bench="tidemill_verif.benches.dma_gateway",
        name=f"dma_gateway-{name}",
        params={"preset": name},
    )
