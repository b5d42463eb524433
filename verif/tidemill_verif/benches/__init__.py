"""cocotb test modules, one a block; `tidemill_verif.runner.run_bench` runs them."""

from __future__ import annotations

import gc
import json
import os
from typing import Any

PARAMS_VARIABLE = "TIDEMILL_BENCH_PARAMS"
"""Environment variable that carries `params()` from the runner to the simulation."""


def params() -> dict[str, Any]:
    """The parameters given to `run_bench`, and `seed`."""
    return json.loads(os.environ[PARAMS_VARIABLE])  # type: ignore[no-any-return]


# A simulation makes short-lived objects that hold nothing circular: collections would find nothing in them.
gc.freeze()
gc.set_threshold(100_000)
