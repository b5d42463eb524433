"""MatrixEngine alone and with its memories."""

from __future__ import annotations

from functools import partial

import pytest

from tidemill.config import preset
from tidemill_hdl.matrix.engine import MatrixEngine
from tidemill_verif.matrix_system import MatrixSystem
from tidemill_verif.runner import run_bench

LENGTHS = {"tiny": 200, "base": 80}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ["tiny", "base"])
def test_matrix_engine_matches_the_golden_model(name: str, seed: int) -> None:
    run_bench(
        partial(MatrixEngine, preset(name)),
        bench="tidemill_verif.benches.matrix_engine",
        name=f"matrix_engine-{name}",
        params={"preset": name, "length": LENGTHS[name]},
        seed=seed,
    )


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_matrix_engine_with_its_memories_matches_the_golden_model(name: str) -> None:
    run_bench(
        partial(MatrixSystem, preset(name)),
        bench="tidemill_verif.benches.matrix_system",
        name=f"matrix_system-{name}",
        params={"preset": name, "length": LENGTHS[name]},
    )
