"""Means, sums and average pools equal TensorFlow Lite Micro and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper

from tidemill.golden import reduce
from tidemill.golden.affine import Affine
from tidemill_verif.runtimes import onnx_models
from tidemill_verif.runtimes.tflite_models import Tensor, run, schema

SHAPE = (2, 5, 6, 7)


def _affine(rng: np.random.Generator, low: float = -7, high: float = -1) -> Affine:
    return Affine(float(np.float32(2 ** rng.uniform(low, high))), int(rng.integers(-128, 128)))


@pytest.mark.parametrize("axes", [(1, 2), (1,), (2,), (3,), (1, 2, 3), (0,), (0, 1, 2, 3)])
@pytest.mark.parametrize("operator", ["MEAN", "SUM"])
def test_tflite_mean_and_sum(operator: str, axes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(axes))
    options = schema.ReducerOptionsT()
    options.keepDims = True
    for case in range(30):
        x = rng.integers(-128, 128, SHAPE).astype(np.int8)
        count = int(np.prod([SHAPE[axis] for axis in axes]))
        qx = _affine(rng)
        factor = 2 ** rng.uniform(-3, 3) * (count**0.5 if operator == "SUM" else count**-0.5)
        qy = qx if case % 5 == 0 else Affine(float(np.float32(qx.scale * factor)), int(rng.integers(-128, 128)))
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(SHAPE))
        constant = Tensor((len(axes),), [], dtype=np.int32, data=np.array(axes, dtype=np.int32))
        expected = run(
            operator,
            options,
            [Tensor(SHAPE, [qx.scale], qx.zero_point), constant],
            Tensor(shape, [qy.scale], qy.zero_point),
            x,
        )
        build = reduce.tflite_mean if operator == "MEAN" else reduce.tflite_sum
        assert np.array_equal(reduce.reduce(x, axes, build(qx, qy, count)), expected), (qx, qy)


def _constants(qx: Affine, qy: Affine, dtype: type[Any]) -> dict[str, Any]:
    offset = 128 if dtype is np.uint8 else 0
    constants = {"x_scale": np.float32(qx.scale), "x_zero": dtype(qx.zero_point + offset)}
    return constants | {"y_scale": np.float32(qy.scale), "y_zero": dtype(qy.zero_point + offset)}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("kind", ["QLinearGlobalAveragePool", "GlobalAveragePool"])
def test_onnx_global_average_pool(kind: str, dtype: type[Any]) -> None:
    rng = np.random.default_rng(5)
    offset = 128 if dtype is np.uint8 else 0
    for case in range(40):
        size = (1, 2000, int(rng.integers(1, 12)), int(rng.integers(1, 12)))
        x = (rng.integers(-128, 128, size) // rng.integers(1, 6)).astype(np.int8)
        qx = _affine(rng)
        factor = 2 ** rng.uniform(-4, 0) if case % 2 else 2.0 ** rng.integers(-4, 1)
        qy = Affine(float(np.float32(qx.scale * factor)), int(rng.integers(-128, 128)))
        feeds = {"x": (x.astype(np.int16) + offset).astype(dtype)}
        constants = _constants(qx, qy, dtype)
        if kind == "GlobalAveragePool":
            expected = onnx_models.run_float(kind, constants, feeds)
        else:
            names = ["x", "x_scale", "x_zero", "y_scale", "y_zero"]
            expected = onnx_models.run(kind, names, constants, feeds, channels_last=0)
        final = reduce.onnx_global_average_pool(qx, qy, size[2] * size[3])
        assert np.array_equal(reduce.reduce(x, (2, 3), final).astype(np.int64) + offset, expected), (qx, qy)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("powers_of_two", [True, False])
def test_onnx_average_pool(powers_of_two: bool, dtype: type[Any]) -> None:
    """With scales that are powers of two only windows of 15 pixels may differ; else one of 100,000 results may."""
    rng = np.random.default_rng(6)
    offset = 128 if dtype is np.uint8 else 0
    misses, compared = 0, 0
    for _ in range(30):
        kernel = tuple(int(k) for k in rng.integers(1, 6, 2))
        x = rng.integers(-128, 128, (1, 20, 24, 24)).astype(np.int8)
        exponents = rng.integers(-6, 0, 2) if powers_of_two else rng.uniform(-6, 0, 2)
        qx, qy = (Affine(float(np.float32(2.0**e)), int(rng.integers(-128, 128))) for e in exponents)
        feeds = {"x": (x.astype(np.int16) + offset).astype(dtype)}
        node = helper.make_node(
            "QLinearAveragePool",
            ["x", "x_scale", "x_zero", "y_scale", "y_zero"],
            ["y"],
            domain=onnx_models.MICROSOFT,
            kernel_shape=kernel,
        )
        expected = onnx_models.run_nodes([node], _constants(qx, qy, dtype), feeds).astype(np.int64) - offset
        windows = sliding_window_view(x, kernel, axis=(2, 3))
        final = reduce.onnx_average_pool(qx, qy, kernel[0] * kernel[1], unsigned=dtype is np.uint8)
        actual = reduce.reduce(windows, (4, 5), final)[..., 0, 0]
        compared += actual.size
        if not (powers_of_two and kernel[0] * kernel[1] == 15):
            misses += np.count_nonzero(actual != expected)
    assert misses <= (0 if powers_of_two else compared / 100_000), (misses, compared)
