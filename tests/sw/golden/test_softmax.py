"""Softmax equals TensorFlow Lite Micro, and its sequence of machine operations equals both."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.golden import softmax
from tidemill_verif.runtimes.tflite_models import Tensor, run, schema


def _rows(rng: np.random.Generator, rows: int, length: int) -> NDArray[np.int8]:
    """Random rows of different spreads, the first ones extreme: all equal at the ends, one element above the rest."""
    spread = rng.integers(1, 129, (rows, 1))
    x = np.clip(rng.integers(-128, 128, (rows, length)) * spread // 128, -128, 127).astype(np.int8)
    x[0], x[1], x[2] = -128, 127, -128
    x[2, rng.integers(length)] = 127
    return x


def _compare(x: NDArray[np.int8], scale: float, beta: float) -> None:
    options = schema.SoftmaxOptionsT()
    options.beta = beta
    expected = run("SOFTMAX", options, [Tensor(x.shape, [scale], 5)], Tensor(x.shape, [1 / 256], -128), x)
    assert np.array_equal(softmax.tflite_softmax(x, scale, beta), expected), (x.shape, scale, beta)
    tables = softmax.SoftmaxTables.build(scale, beta)
    assert np.array_equal(softmax.machine_softmax(x, tables), expected), (x.shape, scale, beta)


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_all_lengths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for length in [1, 2, 3, 255, 256, 300, *rng.integers(1, 301, 20)]:
        scale = float(np.float32(np.exp2(rng.uniform(-12, 3))))
        _compare(_rows(rng, 16, int(length)), scale, 1.0)


def test_beta_and_extreme_scales() -> None:
    rng = np.random.default_rng(9)
    for scale in [2.0**-25, 2.0**-16, 2.0**-4, 1.0, 31.0, 33.0, 1000.0]:
        for beta in [1.0, 0.7, 3.0]:
            _compare(_rows(rng, 8, 40), scale, float(np.float32(beta)))


def test_sums_of_equal_elements() -> None:
    for length in [127, 128, 129, 254, 257, 510, 511]:
        _compare(np.full((1, length), 3, dtype=np.int8), 0.1, 1.0)


def test_sums_that_tflite_refuses_stay_defined() -> None:
    tables = softmax.SoftmaxTables.build(0.1)
    for length in [512, 1023, 1024, 2048, 4095]:
        x = np.full((1, length), 3, dtype=np.int8)
        expected = softmax.tflite_softmax(x, 0.1)
        assert np.array_equal(softmax.machine_softmax(x, tables), expected)
        assert expected.max() <= -127


def test_what_overflows_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 4095 elements, not 4096"):
        softmax.tflite_softmax(np.zeros((1, 4096), np.int8), 0.1)
    with pytest.raises(ValueError, match=r"must be above 2\*\*-26"):
        softmax.exponentials(2.0**-27)
