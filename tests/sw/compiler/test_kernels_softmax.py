"""The softmax kernel on the simulator against `golden.softmax.tflite_softmax`."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.compiler.ir import ModelError, Softmax, Tensor
from tidemill.config import Config, preset
from tidemill.golden.softmax import tflite_softmax
from tidemill_verif.one_op import int8, run_op, tensor

CONFIGS = [preset(name) for name in ("tiny", "small", "base")]
SHAPES = [(1, 2), (1, 10), (1, 16), (3, 4, 12), (37, 33), (1, 1000), (2, 1), (5, 300)]


def compare(config: Config, x: np.ndarray, scale: float, beta: float = 1.0, device: str = "iss") -> int:
    """Assert equality; returns the cycles."""
    op = Softmax("s", "SOFTMAX", [tensor("x", x)], [Tensor("y", x.shape)], scale, beta)
    got, result = run_op(config, op, [x], device)
    np.testing.assert_array_equal(got, tflite_softmax(x, scale, beta), err_msg=f"{config.name} {x.shape} {scale}")
    return result.cycles


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(config: Config, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    scale = float(10 ** rng.uniform(-3, 0))
    compare(config, int8(rng, shape), scale, float(rng.uniform(0.5, 2)))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("value", [-128, 0, 127])
def test_equal_elements(config: Config, value: int) -> None:
    for channels in (3, 17, 255, 256, 700):
        compare(config, np.full((2, channels), value, np.int8), 0.05)


def test_small_scales() -> None:
    rng = np.random.default_rng(2)
    for scale in (1e-5, 1 / 4096, 0.003, 3.0):
        compare(preset("small"), rng.integers(-20, 20, (9, 21), dtype=np.int8), scale)


def test_every_difference() -> None:
    """Results near one half and one: here the reciprocal's last step shows."""
    x = np.stack([np.full(256, 127), 127 - np.arange(256)], axis=-1).astype(np.int8)
    for scale in (0.005, 0.01, 0.02):
        compare(preset("base"), x, scale)


def test_too_long() -> None:
    x = np.zeros((1, 2000), np.int8)
    with pytest.raises(ModelError, match=r"at most .* elements, not 2000"):
        compare(preset("tiny"), x, 0.1)


def test_on_hardware() -> None:
    compare(preset("tiny"), int8(np.random.default_rng(3), (6, 10)), 0.1, device="rtl")
