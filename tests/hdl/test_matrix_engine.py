"""MatrixEngine alone and with its memories."""

from __future__ import annotations

import pytest

from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["matrix_engine"](), ids=str)
def test_matrix_engine_matches_the_golden_model(run: BenchRun) -> None:
    run.start()


@pytest.mark.parametrize("run", FAMILIES["matrix_system"](), ids=str)
def test_matrix_engine_with_its_memories_matches_the_golden_model(run: BenchRun) -> None:
    run.start()
