"""Vector instructions straight after each other: every pair of post steps, few rows, nothing in between."""

import itertools

import numpy as np
import pytest

import tidemill as tm
from tidemill.builder import ProgramBuilder, acc, spad
from tidemill.isa import Post
from tidemill.program import Program

ROWS = 3
PAIRS = list(itertools.product(Post, Post))


def sequence(config: tm.Config) -> Program:
    """All pairs of post steps, each instruction with a destination of its own."""
    b = ProgramBuilder(config)
    table_rows = max(1, 256 // config.cols)
    table = b.buffer("table", "int32", (table_rows, config.cols))
    parameters = b.buffer("parameters", "int32", (3, config.cols))
    image = b.buffer("image", "int8", (ROWS, config.rows))
    result = b.buffer("result", "int32", (2 * ROWS * len(PAIRS), config.cols))
    first = table_rows + 3
    b.ld_run(dst=acc(0), dram=table, n0=table_rows)
    b.ld_run(dst=acc(table_rows), dram=parameters, n0=3)
    b.ld_run(dst=spad(0), dram=image, n0=ROWS)
    b.fence()
    b.vx_lut(src=acc(0))
    b.vx_param(src=acc(table_rows))
    b.vx_dims(n0=ROWS, d0=1)
    b.vx_astride(n0=1)
    row = first
    for pair in PAIRS:
        for post in pair:
            b.vx_add(dst=acc(row), a=spad(0), b=1, post=post)
            row += ROWS
    b.fence()
    b.st_run(src=acc(first), dram=result, n0=row - first)
    b.halt()
    return b.build()


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_every_pair_of_post_steps(preset: str) -> None:
    config = tm.preset(preset)
    rng = np.random.default_rng(5)
    program = sequence(config)
    inputs = {
        "table": rng.integers(-(2**31), 2**31, (max(1, 256 // config.cols), config.cols)).astype(np.int32),
        "parameters": np.stack(
            [rng.integers(-99, 99, config.cols), rng.integers(2**28, 2**31, config.cols), np.full(config.cols, -2)]
        ).astype(np.int32),
        "image": rng.integers(-128, 128, (ROWS, config.rows)).astype(np.int8),
    }
    results = []
    for device in ("iss", "rtl"):
        with tm.open(device, config=config) as npu:
            results.append(npu.run(npu.load(program), inputs, ["result"]).outputs["result"])
    wrong = np.argwhere((results[0] != results[1]).any(axis=1)).reshape(-1) // (2 * ROWS)
    assert not wrong.size, f"wrong after each other: {[tuple(p.name for p in PAIRS[i]) for i in np.unique(wrong)]}"
