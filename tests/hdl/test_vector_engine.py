"""Vector engine, two shapes."""

from __future__ import annotations

from functools import partial

import pytest

from tidemill.config import preset
from tidemill.isa import OPS
from tidemill_hdl.vector.alu import OPERATIONS
from tidemill_hdl.vector.engine import VectorEngine
from tidemill_verif.runner import run_bench


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_vector_engine(name: str) -> None:
    """Random programs equal the golden model, faults are precise, throughput is as promised."""
    run_bench(
        partial(VectorEngine, preset(name)),
        bench="tidemill_verif.benches.vector_engine",
        name=f"vector-engine-{name}",
        params={"preset": name, "repeats": 2},
        seed=7,
    )


def test_every_vector_operation_has_an_entry() -> None:
    """The hardware's table names exactly the instruction table's vector operations."""
    assert set(OPERATIONS) == {op.mnemonic for op in OPS if op.combine is not None}
