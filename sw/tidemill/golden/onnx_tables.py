"""Unary float32 operators of ONNX between DequantizeLinear and QuantizeLinear, as 256-entry int8 tables.

`FUNCTIONS` computes each operator on float32 values as ONNX Runtime's CPU kernels do. Sigmoid and Tanh are MLAS's
rational functions with fused multiply-adds; the other transcendental functions are the float32 nearest to the exact
value, which the kernels miss by at most a few units of the last place. A table's entry could differ only where the
result lies that close to a half between two integers. A uint8 tensor is handled with its values and zero points lowered
by 128: the quantized differences, and so the entries, are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.golden.affine import INT8, Affine, Float32, Int8, dequantize, quantize

Function = Callable[..., Float32]

LOGISTIC_LIMIT, TANH_LIMIT = np.float32(18), np.float32(9)
LOGISTIC_P = (4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03)
LOGISTIC_P1 = 2.48287947061529e-01
LOGISTIC_Q = (6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06, 1.70198817374094e-03)
LOGISTIC_Q1 = (1.16817656904453e-01, 9.93151921023180e-01)
TANH_P = (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08)
TANH_P1 = (1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03)
TANH_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
"""Coefficients of MlasLogisticConstants and MlasTanhConstants, those of the highest powers first."""


def _polynomial(coefficients: Sequence[float], x: Float32) -> Float32:
    """Horner's rule in float32 with one rounding a step (fused multiply-add)."""
    result = np.full(x.shape, coefficients[0], dtype=np.float32)
    for coefficient in coefficients[1:]:
        result = (result.astype(np.float64) * x + np.float64(np.float32(coefficient))).astype(np.float32)
    return result


def _sigmoid(x: Float32) -> Float32:
    x = np.clip(x, -LOGISTIC_LIMIT, LOGISTIC_LIMIT)
    square = x * x
    ratio = _polynomial((*LOGISTIC_P, LOGISTIC_P1), square) * x / _polynomial((*LOGISTIC_Q, *LOGISTIC_Q1), square)
    return _clip(ratio + np.float32(0.5), 0.0, 1.0)


def _tanh(x: Float32) -> Float32:
    x = np.clip(x, -TANH_LIMIT, TANH_LIMIT)
    square = x * x
    return np.asarray(_polynomial((*TANH_P, *TANH_P1), square) * x / _polynomial(TANH_Q, square), dtype=np.float32)


def _exact(function: Callable[[NDArray[np.float64]], Any]) -> Function:
    """`function` of float64, rounded to float32."""
    return lambda x: np.asarray(function(x.astype(np.float64)), dtype=np.float32)


def _erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([math.erf(v) for v in x.reshape(-1)]).reshape(x.shape)


def _gelu(x: Float32, approximate: str = "none") -> Float32:
    real = x.astype(np.float64)
    if approximate == "tanh":
        return np.asarray(
            0.5 * real * (1 + np.tanh(math.sqrt(2 / math.pi) * (real + 0.044715 * real**3))), dtype=np.float32
        )
    return np.asarray(0.5 * real * (1 + _erf(real / math.sqrt(2))), dtype=np.float32)


def _exponential_minus_one(x: Float32) -> Float32:
    return np.asarray(np.exp(np.minimum(x, 0).astype(np.float64)), dtype=np.float32) - np.float32(1)


def _elu(x: Float32, alpha: float = 1.0) -> Float32:
    return np.where(x > 0, x, np.float32(alpha) * _exponential_minus_one(x))


def _selu(x: Float32, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Float32:
    return np.asarray(np.float32(gamma) * _elu(x, alpha), dtype=np.float32)


def _celu(x: Float32, alpha: float = 1.0) -> Float32:
    return np.where(x > 0, x, np.float32(alpha) * _exponential_minus_one(x / np.float32(alpha)))


def _hard_sigmoid(x: Float32, alpha: float = 0.2, beta: float = 0.5) -> Float32:
    return _clip(np.float32(alpha) * x + np.float32(beta), 0.0, 1.0)


def _hard_swish(x: Float32) -> Float32:
    return np.asarray(x * _hard_sigmoid(x, 1 / 6, 0.5), dtype=np.float32)


def _leaky_relu(x: Float32, alpha: float = 0.01) -> Float32:
    return np.where(x >= 0, x, np.float32(alpha) * x)


def _clip(x: Float32, low: float = -math.inf, high: float = math.inf) -> Float32:
    return np.asarray(np.clip(x, np.float32(low), np.float32(high)), dtype=np.float32)


def _softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), dtype=np.float64)


def _thresholded_relu(x: Float32, alpha: float = 1.0) -> Float32:
    return np.where(x > np.float32(alpha), x, np.float32(0))


FUNCTIONS: dict[str, Function] = {
    "Identity": lambda x: x,
    "Relu": lambda x: np.maximum(x, np.float32(0)),
    "LeakyRelu": _leaky_relu,
    "ThresholdedRelu": _thresholded_relu,
    "Clip": _clip,
    "Sigmoid": _sigmoid,
    "Tanh": _tanh,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Elu": _elu,
    "Selu": _selu,
    "Celu": _celu,
    "Gelu": _gelu,
    "Mish": _exact(lambda x: x * np.tanh(_softplus(x))),
    "Softplus": _exact(_softplus),
    "Softsign": lambda x: np.asarray(x / (np.float32(1) + np.abs(x)), dtype=np.float32),
    "Exp": _exact(np.exp),
    "Log": _exact(np.log),
    "Erf": _exact(_erf),
    "Sin": _exact(np.sin),
    "Cos": _exact(np.cos),
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Neg": np.negative,
    "Abs": np.abs,
    "Sign": np.sign,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
}
"""f(x, **attributes) of float32 arrays by operator; attributes are ONNX's, Clip has `low` and `high`."""


def onnx_table(operator: str, x: Affine, y: Affine, **attributes: Any) -> Int8:
    """table[x & 255] of DequantizeLinear, `operator`, QuantizeLinear; so also QLinearSigmoid and QLinearLeakyRelu.

    Entries whose real result is not a number are the zero point's. Raises ValueError for an operator that
    `FUNCTIONS` does not have.
    """
    if operator not in FUNCTIONS:
        raise ValueError(f"{operator} has no table; operators with one are {', '.join(FUNCTIONS)}")
    with np.errstate(all="ignore"):
        real = FUNCTIONS[operator](dequantize(INT8, x), **attributes)
    return quantize(np.where(np.isnan(real), np.float32(0), real), y).astype(np.int8)
