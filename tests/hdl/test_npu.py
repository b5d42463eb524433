"""The whole NPU in cocotb, with independent AXI models that stall at random."""

from functools import partial

import pytest

from tidemill.config import preset
from tidemill_hdl.top import Npu
from tidemill_verif.runner import run_bench


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_npu_runs_programs_like_the_simulator(name: str) -> None:
    run_bench(
        partial(Npu, preset(name)),
        bench="tidemill_verif.benches.npu",
        name=f"npu-{name}",
        params={"preset": name},
        seed=1,
    )
