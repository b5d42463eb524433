"""SystolicArray at several shapes and multiplier latencies."""

from __future__ import annotations

import pytest

from tidemill_hdl.matrix.array import SystolicArray
from tidemill_verif.bench_runs import FAMILIES, BenchRun


@pytest.mark.parametrize("run", FAMILIES["systolic_array"](), ids=str)
def test_systolic_array_matches_the_golden_model(run: BenchRun) -> None:
    run.start()


def test_an_array_of_two_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 rows"):
        SystolicArray(2, 4, 17)
