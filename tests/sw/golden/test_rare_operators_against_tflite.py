"""Logarithms, norms, running sums, quotients and SVDF equal TensorFlow Lite Micro."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.golden import elementwise, fixedpoint, reduce, softmax, svdf
from tidemill.golden.affine import INT8, Affine
from tidemill_verif.runtimes.tflite_cases import options
from tidemill_verif.runtimes.tflite_models import Tensor, build, run
from tidemill_verif.runtimes.whole_models import TfliteModel

CASES = 40
Rng = np.random.Generator


def quantization(rng: Rng, low: float = 0.005, high: float = 0.2) -> Affine:
    scale = float(np.float32(np.exp(rng.uniform(np.log(low), np.log(high)))))
    return Affine(scale, int(rng.integers(-128, 128)))


def tensor(shape: tuple[int, ...], q: Affine, data: NDArray[np.int8] | None = None) -> Tensor:
    return Tensor(shape, [q.scale], q.zero_point, data=data)


def values(rng: Rng, shape: tuple[int, ...]) -> NDArray[np.int8]:
    return rng.integers(-128, 128, shape).astype(np.int8)


def test_logarithm_against_the_real_one() -> None:
    x = np.unique(np.exp2(np.random.default_rng(0).uniform(19, 31, 10_000)).astype(np.int64))
    wanted = np.log(x / 2**19) * 2**26
    assert np.max(np.abs(fixedpoint.log_above_one(x, 12, 5) - wanted)) < 2**26 * 1e-7


def test_log_softmax() -> None:
    rng = np.random.default_rng(1)
    for case in range(CASES):
        shape, q = (3, int(rng.integers(1, 60))), quantization(rng, 0.002, 3)
        x = values(rng, shape) // np.int8(1 if case % 2 else rng.integers(1, 30))
        expected = run("LOG_SOFTMAX", None, [tensor(shape, q)], Tensor(shape, [1 / 16], 127), x)  # type: ignore[arg-type]
        np.testing.assert_array_equal(softmax.tflite_log_softmax(x, q.scale), expected)


def test_l2_normalization() -> None:
    rng = np.random.default_rng(2)
    for _ in range(CASES):
        shape, q = (3, int(rng.integers(1, 60))), quantization(rng)
        x = values(rng, shape)
        x[0] = q.zero_point
        expected = run("L2_NORMALIZATION", options("L2NormOptions"), [tensor(shape, q)], Tensor(shape, [1 / 128], 0), x)
        np.testing.assert_array_equal(reduce.tflite_l2_normalization(x, q.zero_point), expected)


def test_cumsum() -> None:
    rng = np.random.default_rng(3)
    for _ in range(CASES):
        shape, axis, (exclusive, reverse) = (3, 4, 5), int(rng.integers(3)), (bool(v) for v in rng.integers(0, 2, 2))
        before, after, x = quantization(rng), quantization(rng), values(rng, shape)
        axes = Tensor((1,), [], 0, np.int32, np.array([axis], dtype=np.int32))
        table = options("CumsumOptions", exclusive=exclusive, reverse=reverse)
        expected = run("CUMSUM", table, [tensor(shape, before), axes], tensor(shape, after), x)
        actual = reduce.tflite_cumsum(x, axis, before, after, exclusive=exclusive, reverse=reverse)
        np.testing.assert_array_equal(actual, expected)


def test_add_n() -> None:
    rng = np.random.default_rng(4)
    for _ in range(CASES):
        before, after = quantization(rng), quantization(rng)
        inputs = [values(rng, (50,)) for _ in range(int(rng.integers(2, 6)))]
        expected = run(
            "ADD_N", options("AddNOptions"), [tensor((50,), before)] * len(inputs), tensor((50,), after), *inputs
        )
        np.testing.assert_array_equal(elementwise.tflite_add_n(inputs, before, after), expected)


def test_div_of_all_pairs() -> None:
    rng = np.random.default_rng(5)
    x = np.repeat(INT8[:, None], 255, axis=1)
    for _ in range(CASES):
        a, b, y = quantization(rng), quantization(rng), quantization(rng)
        divisors = INT8[b.zero_point != INT8][None]
        inputs = [tensor(x.shape, a), tensor(divisors.shape, b, divisors)]
        expected = run("DIV", options("DivOptions"), inputs, tensor(x.shape, y), x)
        np.testing.assert_array_equal(elementwise.tflite_div(x, divisors, a, b, y), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
def test_svdf_over_time(dtype: type) -> None:
    rng = np.random.default_rng(6)
    for _ in range(CASES // 4):
        rank, units, inputs, length = (int(v) for v in rng.integers(1, 7, 4))
        wide = dtype is np.int16
        limit = 3000 if wide else 128
        scales = [float(np.float32(s)) for s in (0.01, 0.0005 if wide else 0.02, 0.0003 if wide else 0.05)]
        state = Affine(scales[2], 0 if wide else int(rng.integers(-20, 20)))
        x, y = quantization(rng), quantization(rng)
        features = values(rng, (rank * units, inputs))
        times = rng.integers(-limit, limit, (rank * units, length)).astype(dtype)
        bias = rng.integers(-2000, 2000, units).astype(np.int32)
        op = svdf.Svdf(features, times, bias, rank, x, scales[0], scales[1], state, y)
        memory = np.full((2, rank * units, length), state.zero_point, dtype)
        tensors = [
            tensor((2, inputs), x),
            Tensor(features.shape, [scales[0]], 0, data=features),
            Tensor(times.shape, [scales[1]], 0, dtype, times),
            Tensor((units,), [scales[1] * scales[2]], 0, np.int32, bias),
            Tensor((2, rank * units * length), [state.scale], state.zero_point, dtype, variable=True),
        ]
        model = TfliteModel(build("SVDF", options("SVDFOptions", rank=rank), tensors, [tensor((2, units), y)]))
        for _ in range(10):
            now = values(rng, (2, inputs))
            actual, memory = op(now, memory)
            np.testing.assert_array_equal(actual, model(now)[5])
