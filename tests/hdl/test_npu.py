"""The whole NPU in cocotb, with independent AXI models that stall at random."""

from __future__ import annotations

import pytest

from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["npu"](), ids=str)
def test_npu_runs_programs_like_the_simulator(run: BenchRun) -> None:
    run.start()
