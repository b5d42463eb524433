"""Random TFLite models of operators that are rare in int8 networks; `tflite_cases` has the common ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tidemill_verif.runtimes.tflite_cases import Case, Rng, options
from tidemill_verif.runtimes.tflite_models import Tensor


def _quantized(rng: Rng, shape: tuple[int, ...]) -> Tensor:
    scale = float(np.float32(np.exp(rng.uniform(np.log(0.005), np.log(0.2)))))
    return Tensor(shape, [scale], int(rng.integers(-128, 128)))


def _like(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return Tensor(shape, tensor.scales, tensor.zero_point)


def _plain(shape: tuple[int, ...], dtype: type) -> Tensor:
    return Tensor(shape, [], 0, dtype)


def _constant(values: Any) -> Tensor:
    data = np.asarray(values, dtype=np.int32)
    return Tensor(data.shape, [], 0, np.int32, data)


def _shape(rng: Rng, rank: int) -> tuple[int, ...]:
    return tuple(int(size) for size in rng.integers(1, 7, rank))


def div(rng: Rng) -> Case:
    """DIV by a constant without zeros: one number or a row."""
    shape = _shape(rng, 3)
    b = _quantized(rng, (int(rng.choice([1, shape[2]])),))
    values = rng.integers(-128, 128, b.shape)
    data = np.where(values == b.zero_point, (b.zero_point + 129) % 256 - 128, values).astype(np.int8)
    divisor = Tensor(b.shape, b.scales, b.zero_point, np.int8, data)
    table = options("DivOptions", fusedActivationFunction=int(rng.integers(4)))
    return Case("DIV", table, [_quantized(rng, shape), divisor], [_quantized(rng, shape)])


def add_n(rng: Rng) -> Case:
    """ADD_N of two to four tensors."""
    x = _quantized(rng, _shape(rng, 3))
    return Case("ADD_N", options("AddNOptions"), [x] * int(rng.integers(2, 5)), [_quantized(rng, x.shape)])


def log_softmax(rng: Rng) -> Case:
    """LOG_SOFTMAX."""
    x = _quantized(rng, (3, int(rng.integers(1, 40))))
    return Case("LOG_SOFTMAX", None, [x], [Tensor(x.shape, [1 / 16], 127)])


def l2_normalization(rng: Rng) -> Case:
    """L2_NORMALIZATION."""
    x = _quantized(rng, (3, int(rng.integers(1, 40))))
    return Case("L2_NORMALIZATION", options("L2NormOptions"), [x], [Tensor(x.shape, [1 / 128], 0)])


def cumsum(rng: Rng) -> Case:
    """CUMSUM."""
    x = _quantized(rng, _shape(rng, 3))
    exclusive, reverse = (bool(v) for v in rng.integers(0, 2, 2))
    table = options("CumsumOptions", exclusive=exclusive, reverse=reverse)
    return Case("CUMSUM", table, [x, _constant([int(rng.integers(-3, 3))])], [_quantized(rng, x.shape)])


def _compare(operator: str) -> Callable[[Rng], Case]:
    def draw(rng: Rng) -> Case:
        shape = _shape(rng, 4)
        if rng.integers(3) == 0:
            inputs = [_plain(shape, np.int32), _constant(rng.integers(-5, 5, shape))]
        else:
            a = _quantized(rng, shape)
            inputs = [a, _like(a, shape[3:]) if rng.integers(2) else _quantized(rng, shape)]
        return Case(operator, None, inputs, [_plain(shape, np.bool_)])

    return draw


def select(rng: Rng) -> Case:
    """SELECT_V2 by a constant."""
    shape = _shape(rng, 4)
    x, condition = _quantized(rng, shape), rng.integers(0, 2, shape).astype(np.bool_)
    return Case("SELECT_V2", None, [Tensor(shape, [], 0, np.bool_, condition), x, _like(x, shape)], [x])


def cast(rng: Rng) -> Case:
    """CAST between int8, int32 and float32."""
    shape, types = _shape(rng, 2), [np.int8, np.int32, np.float32]
    source, result = (types[int(v)] for v in rng.choice(3, 2, replace=False))
    ends = [_quantized(rng, shape) if dtype is np.int8 else _plain(shape, dtype) for dtype in (source, result)]
    return Case("CAST", options("CastOptions"), ends[:1], ends[1:])


def gather(rng: Rng) -> Case:
    """GATHER with common axes, by constants."""
    shape, batch = _shape(rng, 4), int(rng.integers(3))
    axis = int(rng.integers(batch, 4))
    index = rng.integers(0, shape[axis], (*shape[:batch], int(rng.integers(1, 5))))
    x = _quantized(rng, shape)
    result = _like(x, (*shape[:axis], *index.shape[batch:], *shape[axis + 1 :]))
    return Case("GATHER", options("GatherOptions", axis=axis, batchDims=batch), [x, _constant(index)], [result])


def gather_nd(rng: Rng) -> Case:
    """GATHER_ND by constants."""
    shape, depth = _shape(rng, 4), int(rng.integers(1, 5))
    index = np.stack([rng.integers(0, size, (2, 3)) for size in shape[:depth]], axis=-1)
    x = _quantized(rng, shape)
    return Case("GATHER_ND", None, [x, _constant(index)], [_like(x, (2, 3, *shape[depth:]))])


def dynamic_update_slice(rng: Rng) -> Case:
    """DYNAMIC_UPDATE_SLICE at constant places, inside or not."""
    shape = _shape(rng, 3)
    part = tuple(int(rng.integers(1, size + 1)) for size in shape)
    x = _quantized(rng, shape)
    return Case("DYNAMIC_UPDATE_SLICE", None, [x, _like(x, part), _constant(rng.integers(-2, 7, 3))], [x])


def svdf(rng: Rng) -> Case:
    """SVDF with a memory of int8 or int16."""
    rank, units, inputs, length = (int(v) for v in rng.integers(1, 7, 4))
    wide = bool(rng.integers(2))
    dtype, limit = (np.int16, 3000) if wide else (np.int8, 128)
    feature, time, state = (float(np.float32(s)) for s in (0.01, 0.0005 if wide else 0.02, 0.0003 if wide else 0.05))
    zero_point = 0 if wide or rng.integers(2) else int(rng.integers(-20, 20))
    filters = rank * units
    features = rng.integers(-128, 128, (filters, inputs)).astype(np.int8)
    times = rng.integers(-limit, limit, (filters, length)).astype(dtype)
    bias = rng.integers(-2000, 2000, units).astype(np.int32)
    tensors = [
        _quantized(rng, (2, inputs)),
        Tensor(features.shape, [feature], 0, np.int8, features),
        Tensor(times.shape, [time], 0, dtype, times),
        Tensor(bias.shape, [time * state], 0, np.int32, bias),
        Tensor((2, filters * length), [state], zero_point, dtype, variable=True),
    ]
    return Case("SVDF", options("SVDFOptions", rank=rank), tensors, [_quantized(rng, (2, units))])


CASES: dict[str, Callable[[Rng], Case]] = {
    "DIV": div,
    "ADD_N": add_n,
    "LOG_SOFTMAX": log_softmax,
    "L2_NORMALIZATION": l2_normalization,
    "CUMSUM": cumsum,
    **{name: _compare(name) for name in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL")},
    "SELECT_V2": select,
    "CAST": cast,
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "DYNAMIC_UPDATE_SLICE": dynamic_update_slice,
    "SVDF": svdf,
}
"""f(rng) draws a model, by operator."""
