"""The kernel library on arrays: every function equals the golden models, on the simulator and on the hardware."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import tidemill as tm
from tidemill.golden import elementwise, operators, softmax, tables
from tidemill.golden.affine import Affine
from tidemill.isa import RequantMode

PRESETS = ("tiny", "small", "base")
MODES = {"tflite": RequantMode.TFLITE, "onnx": RequantMode.ONNX}


@pytest.fixture(scope="module", params=PRESETS)
def dev(request: pytest.FixtureRequest) -> Iterator[tm.Npu]:
    with tm.open("iss", preset=request.param) as npu:
        yield npu


def int8(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-128, 128, shape, dtype=np.int8)


def scaling(rng: np.random.Generator, channels: int, depth: int, mode: str) -> tm.Requant:
    scales = rng.uniform(0.3, 1.5, channels) / (70 * depth**0.5)
    return tm.Requant.from_scale(scales, int(rng.integers(-50, 50)), -120, 110, mode)


def golden(requant: tm.Requant, channels: int) -> dict[str, object]:
    multiplier, shift = requant.columns(channels)
    return {
        "multiplier": multiplier, "shift": shift, "zero_point": requant.zero_point, "qmin": requant.qmin,
        "qmax": requant.qmax, "mode": MODES[requant.mode],
    }  # fmt: skip


def accumulators(x: np.ndarray, w: np.ndarray, strides: tuple[int, int], groups: int) -> np.ndarray:
    """int64 sums of a convolution without padding, tap by tap."""
    (_, height, width, channels), (outputs, kh, kw, depth) = x.shape, w.shape
    size = ((height - kh) // strides[0] + 1, (width - kw) // strides[1] + 1)
    y = np.zeros((x.shape[0], *size, outputs), np.int64)
    for o in range(outputs):
        first = o // (outputs // groups) * depth
        for i, j in np.ndindex(kh, kw):
            rows = slice(i, i + (size[0] - 1) * strides[0] + 1, strides[0])
            columns = slice(j, j + (size[1] - 1) * strides[1] + 1, strides[1])
            y[..., o] += x[:, rows, columns, first : first + depth].astype(np.int64) @ w[o, i, j].astype(np.int64)
    assert channels == groups * depth
    return y


def check_conv2d(dev: tm.Npu, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = int8(rng, 1, 8, 7, 21), int8(rng, 18, 3, 3, 21)
    bias = rng.integers(-(1 << 14), 1 << 14, 18).astype(np.int32)
    mode = ("tflite", "onnx")[seed % 2]
    requant = scaling(rng, 18, 189, mode)
    got = tm.conv2d(dev, x, w, bias, requant, strides=(2, 1), padding="SAME", input_zero_point=-7)
    padding = ((0, 1), (1, 1))  # 4 rows of outputs need 3 * 2 + 3 = 9, one more than there are: behind
    expected = operators.conv2d(
        x, w, bias, strides=(2, 1), padding=padding, input_zero_point=-7, **golden(requant, 18)
    )  # fmt: skip
    np.testing.assert_array_equal(got, expected)


def check_depthwise(dev: tm.Npu, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = int8(rng, 1, 8, 6, 10), int8(rng, 1, 3, 2, 20)
    bias = rng.integers(-(1 << 10), 1 << 10, 20).astype(np.int32)
    requant = scaling(rng, 20, 6, "tflite")
    options = {"strides": (1, 2), "dilation": (2, 1), "padding": ((2, 1), (0, 1)), "input_zero_point": 5}
    got = tm.depthwise_conv2d(dev, x, w, bias, requant, **options)
    np.testing.assert_array_equal(got, operators.depthwise_conv2d(x, w, bias, **options, **golden(requant, 20)))


def check_pool(dev: tm.Npu, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = int8(rng, 1, 7, 8, 19)
    padding = ((0, 2), (1, 1))
    got = tm.max_pool2d(dev, x, (3, 2), strides=2, padding=padding, qmin=-100)
    np.testing.assert_array_equal(got, operators.max_pool2d(x, (3, 2), strides=(2, 2), padding=padding, qmin=-100))
    for mode, kind in MODES.items():
        got = tm.pool2d(dev, x, (3, 2), kind="average", strides=2, padding=padding, mode=mode)
        expected = operators.average_pool2d(x, (3, 2), strides=(2, 2), padding=padding, mode=kind)
        np.testing.assert_array_equal(got, expected)


def check_elementwise(dev: tm.Npu, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = int8(rng, 2, 5, 3, 18), int8(rng, 1, 1, 1, 18)
    scales, zeros = (0.05, 0.031, 0.06), (3, -9, 11)
    affines = [Affine(*entry) for entry in zip(scales, zeros, strict=True)]
    for name in ("add", "sub", "mul"):
        expected = getattr(elementwise, f"tflite_{name}")(*affines, qmin=-60)(a, b)
        np.testing.assert_array_equal(getattr(tm, name)(dev, a, b, scales, zeros, qmin=-60), expected)
    np.testing.assert_array_equal(
        tm.add(dev, a, b, (0.5, 0.25, 1.0), zeros, mode="onnx"),
        elementwise.onnx_add(*(Affine(*q) for q in zip((0.5, 0.25, 1.0), zeros, strict=True)))(a, b),
    )
    np.testing.assert_array_equal(tm.maximum(dev, a, b), np.maximum(a, b))


CHECKS: dict[str, Callable[[tm.Npu, int], None]] = {
    "conv2d": check_conv2d,
    "depthwise_conv2d": check_depthwise,
    "pool2d": check_pool,
    "elementwise": check_elementwise,
}


@pytest.mark.parametrize("name", CHECKS)
def test_an_operator_equals_its_golden_model(dev: tm.Npu, name: str) -> None:
    for seed in range(2):
        CHECKS[name](dev, seed)


@pytest.mark.parametrize("name", CHECKS)
def test_the_hardware_gives_the_same(name: str) -> None:
    with tm.open("rtl", preset="tiny") as dev:
        CHECKS[name](dev, 1)


def test_grouped_convolutions_and_accumulators(dev: tm.Npu) -> None:
    rng = np.random.default_rng(4)
    x, w = int8(rng, 2, 6, 5, 12), int8(rng, 8, 3, 2, 6)
    got = tm.conv2d(dev, x, w, strides=(1, 2), groups=2, input_zero_point=100, weight_zero_point=-30)
    expected = accumulators(x.astype(np.int64) - 100, w.astype(np.int64) + 30, (1, 2), 2)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("mode", MODES)
def test_products(dev: tm.Npu, mode: str) -> None:
    rng = np.random.default_rng(5)
    x, w = int8(rng, 2, 3, 40), int8(rng, 21, 40)
    bias = rng.integers(-1000, 1000, 21).astype(np.int32)
    requant = scaling(rng, 21, 40, mode)
    expected = operators.fully_connected(
        x.reshape(6, 40), w, bias, input_zero_point=9, **golden(requant, 21)
    )  # fmt: skip
    got = tm.fully_connected(dev, x, w, bias, requant, input_zero_point=9)
    np.testing.assert_array_equal(got, expected.reshape(2, 3, 21))
    b = int8(rng, 2, 40, 21)
    got = tm.matmul(dev, x, b, a_zero_point=3, b_zero_point=-5)
    np.testing.assert_array_equal(got, (x.astype(np.int64) - 3) @ (b.astype(np.int64) + 5))


def test_tables_and_activations(dev: tm.Npu) -> None:
    rng = np.random.default_rng(6)
    x, values = int8(rng, 3, 11, 9), int8(rng, 256)
    np.testing.assert_array_equal(tm.table(dev, x, values), values[x.view(np.uint8)])
    np.testing.assert_array_equal(tm.relu(dev, x, 12), np.maximum(x, 12))
    source, target = Affine(0.04, 3), Affine(0.02, -8)
    out = {"out_scale": target.scale, "out_zero_point": target.zero_point}
    for kind, expected in (
        ("hard_swish", tables.tflite_hard_swish(source, target)),
        ("leaky_relu", tables.tflite_leaky_relu(source, target, 0.1)),
    ):
        options = {"alpha": 0.1} if kind == "leaky_relu" else {}
        got = tm.activation(dev, x, kind, *source, **out, **options)
        np.testing.assert_array_equal(got, expected[x.view(np.uint8)])
    got = tm.activation(dev, x, "sigmoid", *source)
    np.testing.assert_array_equal(got, tables.tflite_logistic(source)[x.view(np.uint8)])


def test_softmax(dev: tm.Npu) -> None:
    x = int8(np.random.default_rng(7), 5, 23)
    np.testing.assert_array_equal(tm.softmax(dev, x, 0.07), softmax.tflite_softmax(x, 0.07))


def test_moves(dev: tm.Npu) -> None:
    rng = np.random.default_rng(8)
    x, y = int8(rng, 3, 5, 18), int8(rng, 3, 2, 18)
    np.testing.assert_array_equal(tm.transpose(dev, x, (2, 0, 1)), x.transpose(2, 0, 1))
    np.testing.assert_array_equal(tm.concat(dev, [x, y], axis=1), np.concatenate([x, y], axis=1))
    widths = ((0, 0), (1, 2), (3, 0))
    np.testing.assert_array_equal(tm.pad(dev, x, widths, -4), np.pad(x, widths, constant_values=-4))
    index = np.arange(x.size).reshape(x.shape)[::-1, 1::2]
    np.testing.assert_array_equal(tm.move(dev, [x], index), x[::-1, 1::2])


X, W = np.zeros((1, 4, 4, 6), np.int8), np.zeros((8, 3, 3, 6), np.int8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: tm.conv2d(d, X.astype(float), W), "conv2d: x must have dtype int8, not float64"),
        (lambda d: tm.conv2d(d, X[0], W), r"conv2d: x must have 4 axes, each of at least 1, not shape \[4, 4, 6\]"),
        (lambda d: tm.conv2d(d, X, W[..., :5]), r"w must have 6 input channels \(6 in 1 groups\), not 5"),
        (lambda d: tm.conv2d(d, X, W, groups=4), "groups must divide 6 inputs and 8 outputs, not 4"),
        (lambda d: tm.conv2d(d, X, W, strides=0), "conv2d: strides must be in 1..4096, not 0"),
        (lambda d: tm.conv2d(d, X, W, strides=(1, 1.5)), "conv2d: strides must be an int, not 1.5"),
        (lambda d: tm.conv2d(d, X, W, dilation=(1, 2)), "the kernel covers 5 pixels; the image with its padding has 4"),
        (lambda d: tm.conv2d(d, X, W, padding="same"), "padding must be 'SAME', 'VALID' or pairs, not 'same'"),
        (lambda d: tm.conv2d(d, X, W, input_zero_point=200), "input_zero_point must be in -128..127, not 200"),
        (lambda d: tm.conv2d(d, X, W, np.zeros(7, np.int32)), r"bias must be int32 \[8\], not int32 \[7\]"),
        (lambda d: tm.conv2d(d, X, W, requant=tm.Requant([1, 2], 0)), "requant multiplier has 2 values"),
        (lambda d: tm.depthwise_conv2d(d, X, W), r"w must be \[1, kh, kw, m \* 6\] for x of 6 channels"),
        (lambda d: tm.pool2d(d, X, 2, kind="min"), "kind must be 'max' or 'average', not 'min'"),
        (lambda d: tm.pool2d(d, X, 2, qmin=5, qmax=4), r"qmin must be at most qmax \(4\), not 5"),
        (lambda d: tm.average_pool2d(d, X, 2, padding=((2, 0), (0, 0))), "pixels inside the image, not 0"),
        (lambda d: tm.add(d, X, W, (1, 1, 1)), r"\[1, 4, 4, 6\] and \[8, 3, 3, 6\] do not broadcast"),
        (lambda d: tm.add(d, X, X, (1, -1, 1)), "add: scale must be finite and above 0, not -1"),
        (lambda d: tm.mul(d, X, X, (1, 1, 1), mode="x"), "mul: mode must be 'tflite' or 'onnx', not 'x'"),
        (lambda d: tm.table(d, X, W), "table: values must have 1 axes"),
        (lambda d: tm.activation(d, X, "gelu", 0.1), "kind must be one of requantize, relu,"),
        (lambda d: tm.activation(d, X, "tanh", 0.1, out_scale=0.5), "tanh gives scale 0.0078125 and zero point 0"),
        (lambda d: tm.softmax(d, X, 0.0), "softmax: scale must be finite and above 0, not 0.0"),
        (lambda d: tm.matmul(d, X[0], X[0]), r"must agree, not \[4, 4, 6\] and \[4, 4, 6\]"),
        (lambda d: tm.move(d, [X], np.array([96])), "index must be in -1..95, not 96"),
        (lambda d: tm.move(d, [X], np.array([0]), 300), "fill must be in -128..127, not 300"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[tm.Npu], object], message: str) -> None:
    with tm.open("iss", preset="tiny") as dev, pytest.raises(ValueError, match=message):
        call(dev)
