"""Addition, subtraction and multiplication equal TensorFlow Lite Micro and ONNX Runtime for all 65,536 pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tidemill.golden import elementwise
from tidemill.golden.affine import INT8, Affine, activation_range
from tidemill_verif.runtimes import onnx_models
from tidemill_verif.runtimes.tflite_models import Tensor, run, schema

CASES = 20
A, B = (grid.reshape(-1) for grid in np.meshgrid(INT8, INT8, indexing="ij"))


def _parameters(seed: int, product: bool = False) -> list[tuple[Affine, Affine, Affine]]:
    """Random scales, every other time powers of two (times 3/4), and zero points, of two inputs and a result."""
    rng = np.random.default_rng(seed)
    cases = []
    for case in range(CASES):
        scales = (
            np.exp2(rng.uniform(-5, 1, 3)) if case % 2 else np.exp2(rng.integers(-5, 1, 3)) * (0.75, 1)[case % 4 > 0]
        )
        if product:
            scales[2] = scales[0] * scales[1] * (np.exp2(rng.uniform(0, 8)) if case % 2 else 2.0 ** rng.integers(0, 8))
        zeros = rng.choice([-128, 0, 127], 3) if case % 5 == 0 else rng.integers(-128, 128, 3)
        a, b, y = (Affine(float(np.float32(s)), int(z)) for s, z in zip(scales, zeros, strict=True))
        cases.append((a, b, y))
    return cases


def _tflite(operator: str, options: object, a: Affine, b: Affine, y: Affine) -> NDArray[np.int8]:
    tensors = [Tensor(A.shape, [q.scale], q.zero_point) for q in (a, b, y)]
    return run(operator, options, tensors[:2], tensors[2], A, B)


@pytest.mark.parametrize("activation", ["none", "relu", "relu_n1_to_1", "relu6"])
@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL"])
def test_tflite_arithmetic(operator: str, activation: str) -> None:
    options = getattr(schema, f"{operator.title()}OptionsT")()
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, activation.upper())
    build: Any = getattr(elementwise, f"tflite_{operator.lower()}")
    for a, b, y in _parameters(1, operator == "MUL")[:: 1 if activation == "none" else 4]:
        qmin, qmax = activation_range(activation, y)
        actual = build(a, b, y, qmin=qmin, qmax=qmax)(A, B)
        assert np.array_equal(actual, _tflite(operator, options, a, b, y)), (a, b, y)


def test_tflite_squared_difference() -> None:
    for a, b, y in _parameters(2):
        expected = _tflite("SQUARED_DIFFERENCE", schema.SquaredDifferenceOptionsT(), a, b, y)
        assert np.array_equal(elementwise.tflite_squared_difference(A, B, a, b, y), expected), (a, b, y)


def _typed(values: NDArray[np.int8], unsigned: bool) -> NDArray[Any]:
    return (values.astype(np.int16) + 128).astype(np.uint8) if unsigned else values


def _onnx(kind: str, a: Affine, b: Affine, y: Affine, unsigned: bool, x: Any = A, z: Any = B) -> NDArray[np.int64]:
    """The result of QLinearAdd or QLinearMul, or of a QDQ model with Add, Sub or Mul, in terms of int8."""
    dtype, offset = (np.uint8, 128) if unsigned else (np.int8, 0)
    constants: dict[str, Any] = {}
    for name, q in (("a", a), ("b", b), ("y", y)):
        constants |= {f"{name}_scale": np.float32(q.scale), f"{name}_zero": dtype(q.zero_point + offset)}
    feeds = {"a": _typed(x, unsigned), "b": _typed(z, unsigned)}
    if kind.startswith("QLinear"):
        names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
        return onnx_models.run(kind, names, constants, feeds).astype(np.int64) - offset
    operator, _, how = kind.partition(" ")
    return onnx_models.run_float(operator, constants, feeds, optimize=not how).astype(np.int64) - offset


@pytest.mark.parametrize("unsigned", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize("kind", ["QLinearAdd", "Add", "Add unfused", "Sub"])
def test_onnx_addition(kind: str, unsigned: bool) -> None:
    for a, b, y in _parameters(3 + unsigned):
        added = elementwise.onnx_add(a, b, y, subtract=kind == "Sub", fused=kind != "Add unfused", unsigned=unsigned)
        assert added.misses == 0, (a, b, y)
        assert np.array_equal(added(A, B), _onnx(kind, a, b, y, unsigned)), (a, b, y)


@pytest.mark.parametrize("unsigned", [False, True], ids=["int8", "uint8"])
@pytest.mark.parametrize("kind", ["QLinearMul", "Mul"])
def test_onnx_multiplication(kind: str, unsigned: bool) -> None:
    for a, b, y in _parameters(5 + unsigned, True):
        product = elementwise.onnx_mul(a, b, y, unsigned=unsigned)
        assert product.misses == 0, (a, b, y)
        assert np.array_equal(product(A, B), _onnx(kind, a, b, y, unsigned)), (a, b, y)


@pytest.mark.parametrize("kind", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("single", ["a", "b"])
def test_onnx_with_an_operand_of_one_element(kind: str, single: str) -> None:
    build = elementwise.onnx_add if kind == "QLinearAdd" else elementwise.onnx_mul
    for case, (a, b, y) in enumerate(_parameters(8, kind == "QLinearMul")):
        one = INT8[case * 13 :][:1]
        x, z = (one, INT8) if single == "a" else (INT8, one)
        assert np.array_equal(build(a, b, y)(x, z), _onnx(kind, a, b, y, False, x, z)), (a, b, y, one)


def test_misses_of_a_multiplication_are_counted_and_rare() -> None:
    """About one parameter set in 50 with uint8 has a few pairs that no requantization can reproduce."""
    a, b = Affine(0.0123, 3), Affine(0.0456, -60)
    counted, found = 0, 0
    for step in range(100):
        y = Affine(float(np.float32(0.002 * 1.05**step)), 100)
        product = elementwise.onnx_mul(a, b, y, unsigned=True)
        differ = np.count_nonzero(product(A, B) != _onnx("QLinearMul", a, b, y, True))
        assert differ == product.misses
        counted, found = counted + differ, found + (differ > 0)
    assert counted <= 100
    assert found <= 5


def test_scales_without_common_measure_are_refused() -> None:
    with pytest.raises(ValueError, match="too large for the output's"):
        elementwise.onnx_add(Affine(1e9), Affine(1.0), Affine(1e-3))


def test_a_fused_activation_has_a_known_name() -> None:
    with pytest.raises(ValueError, match="must be one of none, relu, relu_n1_to_1, relu6, not gelu"):
        activation_range("gelu", Affine(1.0))
