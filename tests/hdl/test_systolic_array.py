"""SystolicArray at several shapes and multiplier latencies."""

from __future__ import annotations

from functools import partial

import pytest

from tidemill_hdl.matrix.array import SystolicArray
from tidemill_verif.runner import run_bench


@pytest.mark.parametrize(("rows", "cols", "multiplier_latency"), [(4, 4, 3), (8, 3, 1), (3, 5, 2), (16, 16, 3)])
def test_systolic_array_matches_the_golden_model(rows: int, cols: int, multiplier_latency: int) -> None:
    psum_bits = 16 + (rows - 1).bit_length()
    array = SystolicArray(rows, cols, psum_bits, multiplier_latency)
    run_bench(
        partial(SystolicArray, rows, cols, psum_bits, multiplier_latency),
        bench="tidemill_verif.benches.systolic_array",
        name=f"systolic_array-{rows}x{cols}-{multiplier_latency}",
        params={"rows": rows, "cols": cols, "psum_bits": psum_bits, "latency": array.latency},
    )


def test_an_array_of_two_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 rows"):
        SystolicArray(2, 4, 17)
