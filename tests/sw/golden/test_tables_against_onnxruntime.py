"""The unary tables equal ONNX Runtime for all 256 inputs."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.golden.affine import INT8, Affine, dequantize
from tidemill.golden.onnx_tables import FUNCTIONS, onnx_table
from tidemill_verif.runtimes import onnx_models

CASES = int(os.environ.get("TIDEMILL_TABLE_CASES", "40"))
ATTRIBUTES: dict[str, list[dict[str, Any]]] = {
    "LeakyRelu": [{"alpha": 0.1}, {}],
    "ThresholdedRelu": [{"alpha": 0.3}],
    "HardSigmoid": [{}, {"alpha": 0.3, "beta": 0.4}],
    "Elu": [{}, {"alpha": 0.7}],
    "Celu": [{}, {"alpha": 0.7}],
    "Gelu": [{}, {"approximate": "tanh"}],
}
POSITIVE = {"Log", "Sqrt", "Reciprocal"}


def _case(operator: str, case: int, rng: np.random.Generator) -> tuple[Affine, Affine, dict[str, Any], NDArray[Any]]:
    """Quantizations (every other time with powers of two) whose result fills the int8 range, attributes, inputs."""
    exponent = rng.uniform(-9, -2) if case % 2 else rng.integers(-9, -2)
    zero = -128 if operator in POSITIVE else int(rng.choice([-128, 0, 127, *rng.integers(-128, 128, 5)]))
    x = Affine(float(np.float32(2.0**exponent)), zero)
    inputs = np.maximum(INT8, -127).astype(np.int8) if operator in POSITIVE else INT8
    choices = ATTRIBUTES.get(operator, [{}])
    attributes = choices[case // 2 % len(choices)]
    real = FUNCTIONS[operator](dequantize(inputs, x), **attributes)
    span = max(float(np.abs(real).max()), 1e-3) / 127
    scale = span * 2 ** rng.uniform(-1, 1) if case % 2 else 2.0 ** np.round(np.log2(span))
    return x, Affine(float(np.float32(scale)), int(rng.integers(-128, 128))), attributes, inputs


@pytest.mark.parametrize("operator", sorted(FUNCTIONS.keys() - {"Clip", "Mish"}))
def test_float_operators(operator: str) -> None:
    rng = np.random.default_rng(len(operator))
    for case in range(CASES):
        x, y, attributes, inputs = _case(operator, case, rng)
        constants = {"x_scale": np.float32(x.scale), "x_zero": np.int8(x.zero_point)}
        constants |= {"y_scale": np.float32(y.scale), "y_zero": np.int8(y.zero_point)}
        expected = onnx_models.run_float(operator, constants, {"x": inputs}, **attributes)
        actual = onnx_table(operator, x, y, **attributes)[inputs.view(np.uint8)]
        assert np.array_equal(actual, expected), (x, y, attributes)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("operator", ["Sigmoid", "LeakyRelu"])
def test_quantized_operators(operator: str, dtype: type[Any]) -> None:
    rng = np.random.default_rng(77)
    offset = 128 if dtype is np.uint8 else 0
    for case in range(CASES):
        x, y, attributes, inputs = _case(operator, case, rng)
        constants = {"sx": np.float32(x.scale), "zx": dtype(x.zero_point + offset)}
        constants |= {"sy": np.float32(y.scale), "zy": dtype(y.zero_point + offset)}
        feeds = {"x": (inputs.astype(np.int16) + offset).astype(dtype)}
        expected = onnx_models.run(f"QLinear{operator}", ["x", "sx", "zx", "sy", "zy"], constants, feeds, **attributes)
        actual = onnx_table(operator, x, y, **attributes)[inputs.view(np.uint8)]
        assert np.array_equal(actual.astype(np.int64) + offset, expected), (x, y, attributes)


def test_clip() -> None:
    rng = np.random.default_rng(3)
    for case in range(CASES):
        x, y, _, _ = _case("Relu", case, rng)
        low, high = sorted(float(v) for v in rng.uniform(-3, 3, 2).astype(np.float32))
        constants = {"x_scale": np.float32(x.scale), "x_zero": np.int8(x.zero_point)}
        constants |= {"y_scale": np.float32(y.scale), "y_zero": np.int8(y.zero_point)}
        constants |= {"low": np.float32(low), "high": np.float32(high)}
        expected = onnx_models.run_float("Clip", constants, {"x": INT8}, others=["low", "high"])
        assert np.array_equal(onnx_table("Clip", x, y, low=low, high=high), expected), (x, y, low, high)


def test_mish_differs_by_one_in_few_entries() -> None:
    """ONNX Runtime's Mish loses precision in float32: at most one entry in 1000 differs, by one."""
    rng = np.random.default_rng(4)
    misses = 0
    for case in range(CASES):
        x, y, _, _ = _case("Mish", case, rng)
        constants = {"x_scale": np.float32(x.scale), "x_zero": np.int8(x.zero_point)}
        constants |= {"y_scale": np.float32(y.scale), "y_zero": np.int8(y.zero_point)}
        expected = onnx_models.run_float("Mish", constants, {"x": INT8})
        difference = np.abs(onnx_table("Mish", x, y).astype(int) - expected)
        assert difference.max() <= 1
        misses += np.count_nonzero(difference)
    assert misses <= CASES * 256 / 1000


def test_an_operator_without_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="Softmax has no table"):
        onnx_table("Softmax", Affine(1.0), Affine(1.0))
