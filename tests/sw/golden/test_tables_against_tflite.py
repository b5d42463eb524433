"""The unary tables equal TensorFlow Lite Micro for all 256 inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.golden import tables
from tidemill.golden.affine import INT8, Affine
from tidemill_verif.runtimes.tflite_models import Tensor, run, schema

CASES = 200


def _pairs(seed: int, *, same: bool = False) -> list[tuple[Affine, Affine]]:
    """Random input and output quantizations: scales of all sizes, ratios near one, zero points with the ends."""
    rng = np.random.default_rng(seed)
    pairs = []
    for case in range(CASES):
        scale = np.float32(np.exp2(rng.uniform(-11, 0)))
        ratio = np.float32(np.exp2(rng.integers(-3, 4) if case % 5 == 0 else rng.uniform(-3, 3)))
        zeros = [int(z) for z in rng.integers(-128, 128, 2)]
        if case % 8 == 0:
            zeros = [int(z) for z in rng.choice([-128, 127, 0], 2)]
        x = Affine(float(scale), zeros[0])
        pairs.append((x, x if same else Affine(float(scale * ratio), zeros[1])))
    return pairs


def _run(operator: str, options: object, x: Affine, y: Affine, *constants: Tensor) -> NDArray[np.int8]:
    inputs = [Tensor((256,), [x.scale], x.zero_point), *constants]
    return run(operator, options, inputs, Tensor((256,), [y.scale], y.zero_point), INT8)


SIMPLE: dict[str, Callable[[Affine, Affine], NDArray[np.int8]]] = {
    "QUANTIZE": tables.tflite_quantize,
    "RELU": tables.tflite_relu,
    "ABS": tables.tflite_abs,
    "ELU": tables.tflite_elu,
}


@pytest.mark.parametrize("operator", SIMPLE)
def test_operators_of_any_quantization(operator: str) -> None:
    for x, y in _pairs(len(operator)):
        assert np.array_equal(SIMPLE[operator](x, y), _run(operator, None, x, y)), (x, y)


def _ties(seed: int) -> Iterator[tuple[Affine, Affine]]:
    """Quantizations whose ratio takes one int8 just beside a half in double, and onto the other side in float32."""
    rng = np.random.default_rng(seed)
    x = np.exp2(rng.uniform(-9, 0, 100_000)).astype(np.float32)
    value, half = rng.integers(1, 128, x.size), rng.integers(0, 100, x.size) + 0.5
    y = (x * (value / half)).astype(np.float32)
    exact = value * (x.astype(np.float64) / y.astype(np.float64))
    single = value * (x / y).astype(np.float64)
    for case in np.flatnonzero((exact < half) != (single < half))[:100]:
        yield Affine(float(x[case]), 0), Affine(float(y[case]), 0)


@pytest.mark.parametrize("operator", ["RELU", "ABS", "LEAKY_RELU"])
def test_scales_are_divided_in_double(operator: str) -> None:
    options = schema.LeakyReluOptionsT()
    options.alpha = 0.1
    kernels = SIMPLE | {"LEAKY_RELU": lambda x, y: tables.tflite_leaky_relu(x, y, 0.1)}
    cases = list(_ties(8))
    assert len(cases) == 100
    for x, y in cases:
        expected = _run(operator, options if operator == "LEAKY_RELU" else None, x, y)
        assert np.array_equal(kernels[operator](x, y), expected), (x, y)


def test_relu6() -> None:
    for x, y in _pairs(2, same=True):
        assert np.array_equal(tables.tflite_relu6(x), _run("RELU6", None, x, y)), x


def _pairs_near_a_half(seed: int) -> Iterator[tuple[Affine, Affine]]:
    """Quantizations whose 16-bit output multiplier depends on whether the scales are divided in float32 or double."""
    rng = np.random.default_rng(seed)
    x = np.exp2(rng.uniform(-10, 0, 1_000_000)).astype(np.float32)
    y = (x * np.exp2(rng.uniform(-6, 6, x.size))).astype(np.float32)
    single, double = (np.frexp(q.astype(np.float64))[0] for q in (x / y, x.astype(np.float64) / y))
    for case in np.flatnonzero(np.floor(single * 2**15 + 0.5) != np.floor(double * 2**15 + 0.5)):
        zeros = rng.integers(-128, 128, 2)
        yield Affine(float(x[case]), int(zeros[0])), Affine(float(y[case]), int(zeros[1]))


def test_hard_swish() -> None:
    known = Affine(0.11871220916509628, -16), Affine(0.06549308449029922, -77)
    near = list(_pairs_near_a_half(1))
    assert len(near) > 500
    for x, y in (known, *_pairs(3), *near):
        assert np.array_equal(tables.tflite_hard_swish(x, y), _run("HARD_SWISH", None, x, y)), (x, y)


def test_hard_swish_refuses_what_tflite_refuses() -> None:
    with pytest.raises(ValueError, match="output scale of at least input scale / 128, not 0"):
        tables.tflite_hard_swish(Affine(1.0), Affine(0.001))


@pytest.mark.parametrize("operator", ["LOGISTIC", "TANH"])
def test_sigmoids(operator: str) -> None:
    for x, _ in _pairs(4):
        if operator == "LOGISTIC":
            actual, y = tables.tflite_logistic(x), Affine(1 / 256, -128)
        else:
            actual, y = tables.tflite_tanh(x), Affine(1 / 128, 0)
        assert np.array_equal(actual, _run(operator, None, x, y)), x


def test_leaky_relu() -> None:
    options = schema.LeakyReluOptionsT()
    for case, (x, y) in enumerate(_pairs(5)):
        options.alpha = float(np.float32([0.01, 0.3, 0.1, 1.5, 0.0][case % 5]))
        expected = _run("LEAKY_RELU", options, x, y)
        assert np.array_equal(tables.tflite_leaky_relu(x, y, options.alpha), expected), (x, y, options.alpha)


def test_prelu() -> None:
    rng = np.random.default_rng(6)
    for x, y in _pairs(6):
        alpha = Affine(float(np.float32(np.exp2(rng.uniform(-9, -6)))), int(rng.integers(-128, 128)))
        quantized = rng.integers(-128, 128, 1).astype(np.int8)
        constant = Tensor((1,), [alpha.scale], alpha.zero_point, data=quantized)
        expected = _run("PRELU", None, x, y, constant)
        assert np.array_equal(tables.tflite_prelu(x, y, alpha, int(quantized[0])), expected), (x, y, alpha)


def test_rsqrt() -> None:
    rng = np.random.default_rng(7)
    for x, _ in _pairs(7):
        y = Affine(float(np.float32(np.exp2(rng.uniform(-8, 2)))), int(rng.integers(-128, 128)))
        allowed = x.zero_point <= INT8
        inputs = np.where(allowed, INT8, x.zero_point).astype(np.int8)
        expected = run(
            "RSQRT", None, [Tensor((256,), [x.scale], x.zero_point)], Tensor((256,), [y.scale], y.zero_point), inputs
        )
        assert np.array_equal(tables.tflite_rsqrt(x, y)[allowed], expected[allowed]), (x, y)
