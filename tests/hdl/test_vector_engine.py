"""Vector engine, two shapes."""

from __future__ import annotations

import pytest

from tidemill.isa import OPS
from tidemill_hdl.vector.alu import OPERATIONS
from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["vector_engine"](), ids=str)
def test_vector_engine(run: BenchRun) -> None:
    """Random programs equal the golden model, faults are precise, throughput is as promised."""
    run.start()


def test_every_vector_operation_has_an_entry() -> None:
    """The hardware's table names exactly the instruction table's vector operations."""
    assert set(OPERATIONS) == {op.mnemonic for op in OPS if op.combine is not None}
