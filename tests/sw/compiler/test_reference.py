"""`reference.evaluate` agrees with the golden models, and borders and variables are what the graph says."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.compiler import ir, ports, reference
from tidemill.golden import operators
from tidemill.golden.requant import quantize_multiplier, reciprocal
from tidemill.isa import RequantMode

PADDING = ((1, 1), (0, 2))
MULTIPLIER = quantize_multiplier(0.002)


def conv(x: np.ndarray, w: np.ndarray, bias: np.ndarray, y: tuple[int, ...], **fields: object) -> np.ndarray:
    tensors = ir.Tensor("x", x.shape), ir.Tensor("y", y)
    rq = ir.Requantize(*MULTIPLIER, -3)
    op = ir.Conv2D("c", "C", [tensors[0]], [tensors[1]], w.astype(np.int16), bias, rq, input_zero_point=5, **fields)
    return reference.run(op, [x])[0]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-128, 128, (2, 9, 8, 6)).astype(np.int8)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_convolution(rng: np.random.Generator, x: np.ndarray, groups: int) -> None:
    w = rng.integers(-127, 128, (12, 3, 2, 6 // groups)).astype(np.int8)
    bias = rng.integers(-1000, 1000, 12).astype(np.int32)
    fields = {"strides": (2, 1), "dilation": (1, 2), "padding": PADDING}
    parts = zip(np.split(x, groups, 3), np.split(w, groups), np.split(bias, groups), strict=True)
    common = {"input_zero_point": 5, "zero_point": -3, **fields}
    expected = np.concatenate([operators.conv2d(*part, *MULTIPLIER, **common) for part in parts], axis=3)
    np.testing.assert_array_equal(conv(x, w, bias, expected.shape, groups=groups, **fields), expected)


def test_depthwise_convolution(rng: np.random.Generator, x: np.ndarray) -> None:
    w = rng.integers(-127, 128, (1, 3, 3, 12)).astype(np.int8)
    bias = rng.integers(-1000, 1000, 12).astype(np.int32)
    expected = operators.depthwise_conv2d(x, w, bias, *MULTIPLIER, padding=PADDING, input_zero_point=5, zero_point=-3)
    actual = conv(x, np.moveaxis(w[0], 2, 0)[..., None], bias, expected.shape, groups=6, padding=PADDING)
    np.testing.assert_array_equal(actual, expected)


def test_long_sums_are_exact() -> None:
    x, w = np.full((1, 5000), -128, dtype=np.int8), np.full((1, 1, 1, 5000), 255, dtype=np.int16)
    w[..., 0] = 254
    op = ir.Conv2D(
        "c", "C", [ir.Tensor("x", x.shape)], [ir.Tensor("y", (1, 1), "int32")], w, np.array([7], np.int32), None
    )  # fmt: skip
    assert int(reference.run(op, [x])[0][0, 0]) == -128 * (255 * 5000 - 1) + 7


def test_pooling(x: np.ndarray) -> None:
    window = {"strides": (2, 2), "padding": ((1, 0), (0, 1))}
    expected = operators.max_pool2d(x, (3, 2), **window)
    tensors = [ir.Tensor("x", x.shape)], [ir.Tensor("y", expected.shape)]
    np.testing.assert_array_equal(
        reference.run(ir.MaxPool2D("p", "P", *tensors, (3, 2), **window), [x])[0], expected
    )  # fmt: skip
    means = {}
    for n in (2, 3, 4, 6):
        bias, multiplier, shift = reciprocal(n)
        means[n] = ir.Requantize(multiplier, shift, mode=RequantMode.DIV, bias=bias)
    pool = ir.SumPool2D("p", "P", *tensors, (3, 2), requantize=means, **window)
    np.testing.assert_array_equal(reference.run(pool, [x])[0], operators.average_pool2d(x, (3, 2), **window))


def test_variables_and_borders() -> None:
    """A counter that adds its input, seen by the user as uint8 with the axes swapped."""
    x, old, new = (ir.Tensor(name, (3, 2)) for name in ("x", "old", "new"))
    numbers = np.arange(256).astype(np.uint8).view(np.int8).astype(np.int32)
    add = ir.Add("add", "ADD", [x, old], [new], numbers, numbers, ir.Requantize(*quantize_multiplier(1.0)))
    swap = np.arange(6).reshape(2, 3).T
    graph = ir.Graph(
        "g",
        [add],
        [ir.Port("x", x, (2, 3), "uint8", offset=128, index=swap)],
        [ir.Port("y", new, (2, 3), "uint8", offset=128, index=np.arange(6).reshape(3, 2).T)],
        [ir.State("total", old, new, np.zeros((3, 2), dtype=np.int8))],
    )
    value = np.array([[128, 129, 130], [131, 132, 133]], dtype=np.uint8)
    first = reference.evaluate(graph, {"x": value})
    np.testing.assert_array_equal(first.outputs["y"], value)
    second = reference.evaluate(graph, {"x": value}, first.states)
    np.testing.assert_array_equal(second.outputs["y"], 2 * (value - 128) + 128)
    for wrong, message in (({"z": value}, "takes the inputs"), ({"x": value.T}, "shape"), ({"x": value / 2}, "uint8")):
        with pytest.raises(ports.InputError, match=message):
            reference.evaluate(graph, wrong)
