"""Random ONNX models of one pattern each: the graph's meaning equals onnxruntime's results, element for element.

More models: python -m tidemill_verif.onnx_random --seeds 100.
"""

from __future__ import annotations

import numpy as np
import pytest

from tidemill_verif.onnx_random import PATTERNS, ModelWriter, compare

SEEDS = 12


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", PATTERNS)
def test_random_models_equal_onnxruntime(name: str, dtype: str) -> None:
    for seed in range(96, 96 + SEEDS):
        writer = ModelWriter(seed, np.dtype(dtype))
        result = compare(PATTERNS[name](writer), writer.feeds)
        assert result.wrong == 0, f"seed {seed}: {result.wrong} of {result.size} elements differ ({result.hosts})"


@pytest.mark.parametrize("name", ["qlinear_conv", "qlinear_matmul", "qdq_unary", "qlinear_unary", "concat", "movement"])
def test_patterns_that_need_no_host_run_without_it(name: str) -> None:
    for seed in range(4):
        writer = ModelWriter(seed, np.int8)
        assert compare(PATTERNS[name](writer), writer.feeds).hosts == ()


@pytest.mark.parametrize(("seed", "dtype"), [(14, "int8"), (148, "int8"), (148, "uint8")])
def test_broadcast_addition_has_the_operand_order_of_onnxruntime(seed: int, dtype: str) -> None:
    # one of the 65,536 pairs of these models tells the order
    writer = ModelWriter(seed, np.dtype(dtype))
    assert compare(PATTERNS["qlinear_binary"](writer), writer.feeds).wrong == 0
