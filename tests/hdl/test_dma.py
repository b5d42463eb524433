"""DMA: gateway, load engine and store engine."""

from __future__ import annotations

import pytest

from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["dma_load"](), ids=str)
def test_load_engine_writes_the_rows_of_the_golden_walk(run: BenchRun) -> None:
    run.start()


@pytest.mark.parametrize("run", FAMILIES["dma_store"](), ids=str)
def test_store_engine_sends_the_rows_of_the_golden_walk(run: BenchRun) -> None:
    run.start()


@pytest.mark.parametrize("run", FAMILIES["dma_gateway"](), ids=str)
def test_gateway_serves_three_clients_and_drains(run: BenchRun) -> None:
    run.start()
