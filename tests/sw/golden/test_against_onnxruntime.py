"""The golden models equal ONNX Runtime, bit by bit; where float32 noise forbids that, the bound is stated."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.golden import operators
from tidemill.golden.affine import Affine
from tidemill.golden.elementwise import onnx_add
from tidemill.golden.requant import float_scale, requantize
from tidemill.isa import RequantMode
from tidemill_verif.runtimes.onnx_models import run

MILLION = 1_000_000
ONNX = RequantMode.ONNX


@pytest.mark.parametrize("operator", ["QLinearConv", "QLinearMatMul"])
@pytest.mark.parametrize("scales", ["random", "powers of two", "multipliers at their ends"])
@pytest.mark.parametrize("zero_point", [-128, 7, 127])
def test_requantization_equals_a_pointwise_product_on_a_million_values(
    operator: str, scales: str, zero_point: int
) -> None:
    rng = np.random.default_rng(zero_point + 2000)
    channels, pixels = 4096, 256
    w = rng.integers(-127, 128, channels).astype(np.int8)
    x = np.arange(-128, 128).astype(np.int8)
    exponent = rng.integers(-34, 12, channels)
    factor = {
        "random": rng.uniform(1, 2, channels),
        "powers of two": np.ones(channels),
        "multipliers at their ends": np.where(rng.random(channels) < 0.5, 1 - 2**-24, 1 + 2**-23),
    }[scales]
    weight_scales = (np.exp2(exponent) * factor).astype(np.float32)
    q = np.array([float_scale(s) for s in weight_scales])
    one, zero_in, zero_out = np.float32(1), np.int8(-7), np.int8(zero_point)
    constants = {"sx": one, "zx": zero_in, "sw": weight_scales, "zw": np.zeros(channels, np.int8)}
    constants |= {"sy": one, "zy": zero_out}
    names = ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy"]
    bias = np.zeros(channels, dtype=np.int32)
    if operator == "QLinearConv":
        bias = (rng.integers(-(2**31), 2**31, channels) >> rng.integers(0, 31, channels)).astype(np.int32)
        bias[:10] = [2**31 - 1, -(2**31), 2**30, -(2**30), 2**30 - 1, 0, 1, -1, 2**24 - 1, 2**24 + 1]
        constants |= {"w": w.reshape(channels, 1, 1, 1), "b": bias}
        expected = run(operator, [*names, "b"], constants, {"x": x.reshape(1, 1, 1, pixels)})
        expected = expected.reshape(channels, pixels).T
    else:
        expected = run(operator, names, constants | {"w": w.reshape(1, channels)}, {"x": x.reshape(pixels, 1)})
    assert expected.size >= MILLION
    actual = operators.fully_connected(
        x.reshape(-1, 1),
        w.reshape(-1, 1),
        bias,
        q[:, 0],
        q[:, 1],
        input_zero_point=int(zero_in),
        zero_point=zero_point,
        mode=ONNX,
    )
    assert np.count_nonzero(actual != expected) == 0


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    first, second = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    return first.reshape(-1).astype(np.int8), second.reshape(-1).astype(np.int8)


def _onnx_add(scales: np.ndarray, zero_points: tuple[int, ...]) -> np.ndarray:
    a, b = _pairs()
    constants: dict[str, object] = {f"s{i}": scales[i] for i in range(3)}
    constants |= {f"z{i}": np.int8(zero_points[i]) for i in range(3)}
    return run("QLinearAdd", ["a", "s0", "z0", "b", "s1", "z1", "s2", "z2"], constants, {"a": a, "b": b})


def test_add_of_all_pairs_is_exact() -> None:
    rng = np.random.default_rng(8)
    compared = 0
    for case in range(32):
        drawn = rng.integers(-2, 4, 3) if case % 2 else rng.uniform(-3, 3, 3)
        scales = (np.exp2(drawn) * (1 if case % 4 else 0.75)).astype(np.float32)
        zero_points = (-128, 127, 0) if case % 8 == 0 else tuple(int(z) for z in rng.integers(-128, 128, 3))
        expected = _onnx_add(scales, zero_points)
        a, b, y = (Affine(float(scale), zero) for scale, zero in zip(scales, zero_points, strict=True))
        actual = onnx_add(a, b, y)(*_pairs())
        assert np.count_nonzero(actual != expected) == 0, (scales, zero_points)
        compared += expected.size
    assert compared >= MILLION


def test_average_pooling_of_a_million_windows_is_exact_for_scales_that_are_powers_of_two() -> None:
    rng = np.random.default_rng(10)
    compared = 0
    for kernel in [(1, 1), (2, 2), (3, 3), (2, 3), (4, 4), (5, 3), (6, 4), (7, 7), (8, 8), (1, 12)]:
        spread = int(rng.integers(1, 129))
        x = rng.integers(-spread, spread, (1, 448, 16 + kernel[0] - 1, 16 + kernel[1] - 1)).astype(np.int8)
        zero_point = np.int8(rng.integers(-128, 128))
        constants = {"s": np.float32(0.5), "z": zero_point}
        expected = run("QLinearAveragePool", ["x", "s", "z", "s", "z"], constants, {"x": x}, kernel_shape=kernel)
        actual = operators.average_pool2d(x.transpose(0, 2, 3, 1), kernel, mode=ONNX).transpose(0, 3, 1, 2)
        assert np.count_nonzero(actual != expected) == 0, kernel
        compared += expected.size
    assert compared >= MILLION


def test_global_averages_of_a_million_images_are_requantized_sums() -> None:
    rng = np.random.default_rng(11)
    compared = 0
    for height, width in [(2, 2), (3, 3), (2, 3), (4, 4), (7, 7)]:
        n = height * width
        x = rng.integers(-128, 128, (256, 1024, height, width)).astype(np.int8)
        scale_in, scale_out = (np.float32(s) for s in rng.uniform(0.05, 0.1, 2))
        zero_in, zero_out = (int(z) for z in rng.integers(-128, 128, 2))
        constants = {"s0": scale_in, "z0": np.int8(zero_in), "s1": scale_out, "z1": np.int8(zero_out)}
        names = ["x", "s0", "z0", "s1", "z1"]
        expected = run("QLinearGlobalAveragePool", names, constants, {"x": x}, channels_last=0)
        sums = x.sum(axis=(2, 3), dtype=np.int32)
        scale = np.float32(scale_in / (scale_out * np.float32(n)))
        y = requantize(sums, -zero_in * n, *float_scale(scale), zero_point=zero_out, mode=ONNX)
        assert np.count_nonzero(np.clip(y, -128, 127) != expected.reshape(y.shape)) == 0, (height, width)
        compared += y.size
    assert compared >= MILLION
