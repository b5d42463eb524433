"""What a graph computes, in numpy: the meaning of every operation of `ir`, exact.

Sums of int8 products run as floating-point products in BLAS, in float32 where every partial sum stays below 2**24 and
in float64 elsewhere: both are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from tidemill.compiler import host, ir, ports
from tidemill.golden import requant, softmax, vector

Array = NDArray[Any]


@dataclass
class Evaluation:
    """Results of one call: outputs by port name, variables by name, and with `keep` every tensor by `id(tensor)` and
    the exposed tensors as the model's runtime shows them, by port name."""

    outputs: dict[str, Array]
    states: dict[str, Array]
    tensors: dict[int, Array] = field(default_factory=dict)
    exposed: dict[str, Array] = field(default_factory=dict)


def evaluate(
    graph: ir.Graph,
    inputs: Mapping[str, ArrayLike],
    states: Mapping[str, Array] | None = None,
    keep: bool = False,
) -> Evaluation:
    """Run `graph` once on user arrays by port name; `states` are those of the previous call (None: the initial ones).

    Raises InputError for an input that is missing, unknown, or of the wrong shape or type.
    """
    names = {port.name for port in graph.inputs}
    if names != set(inputs):
        raise ports.InputError(f"the model takes the inputs {sorted(names)}, not {sorted(inputs)}")
    values: dict[int, Array] = {}
    for port in graph.inputs:
        values[id(port.tensor)] = ports.to_tensor(port, inputs[port.name])
    for state in graph.states:
        values[id(state.read)] = state.initial if states is None else states[state.name]
    for op in graph.ops:
        for tensor, value in zip(op.outputs, run(op, [_value(values, t) for t in op.inputs]), strict=True):
            values[id(tensor)] = value
    evaluation = Evaluation(
        outputs={port.name: ports.from_tensor(port, _value(values, port.tensor)) for port in graph.outputs},
        states={state.name: _value(values, state.write) for state in graph.states},
    )
    if keep:
        evaluation.tensors = values
        evaluation.exposed = {port.name: ports.from_tensor(port, _value(values, port.tensor)) for port in graph.exposed}
    return evaluation


def _value(values: Mapping[int, Array], tensor: ir.Tensor) -> Array:
    return values[id(tensor)] if tensor.data is None else tensor.data


def run(op: ir.Op, inputs: list[Array]) -> list[Array]:
    """The outputs of one operation: arrays of its output tensors' shapes and types."""
    outputs = MEANINGS[type(op)](op, *inputs)
    return [value.astype(t.dtype, copy=False).reshape(t.shape) for t, value in zip(op.outputs, outputs, strict=True)]


def scale(values: Array, parameters: ir.Requantize | None) -> Array:
    """`values` requantized to int8, or as int32 (modulo 2**32) where there are no parameters."""
    if parameters is None:
        return values.astype(np.int32)
    scaled = requant.requantize(
        values,
        parameters.bias,
        parameters.multiplier,
        parameters.shift,
        zero_point=parameters.zero_point,
        preshift=parameters.preshift,
        mode=parameters.mode,
    )
    return vector.clamp(scaled, parameters.qmin, parameters.qmax).astype(np.int8)


def product(x: Array, w: Array) -> Array:
    """x [..., M, K] @ w [..., K, N] of integers within -511..511, as int64."""
    bound = int(np.abs(w).sum(axis=-2, dtype=np.int64).max(initial=0)) * int(np.abs(x).max(initial=0))
    dtype = np.float32 if bound < 1 << 24 else np.float64
    return np.asarray(x.astype(dtype) @ w.astype(dtype)).astype(np.int64)


def windows(x: Array, kernel: ir.Pair, strides: ir.Pair, dilation: ir.Pair, padding: ir.Padding, fill: int) -> Array:
    """View of all windows of [N, H, W, C]: [N, Ho, Wo, C, kh, kw]; padding holds `fill`."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill)
    extent = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    view = sliding_window_view(padded, extent, axis=(1, 2))
    return view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]


def _table(values: Array, table: Array) -> Array:
    return table[values.view(np.uint8)]


def _conv2d(op: ir.Conv2D, x: Array) -> list[Array]:
    outputs, kh, kw, depth = op.weights.shape
    x = x.astype(np.int16) - np.int16(op.input_zero_point)
    if kh == kw == 1 and op.strides == (1, 1) and not any(map(any, op.padding)) and op.groups == 1:
        acc = product(x.reshape(-1, depth), op.weights.reshape(outputs, depth).T)
    else:
        view = windows(x, (kh, kw), op.strides, op.dilation, op.padding, 0)
        if depth == 1 and op.groups > 1:
            acc = _depthwise(view, op.weights[..., 0], outputs // op.groups)
        else:
            # [groups, pixels, taps and channels of a group]
            columns = view.reshape(*view.shape[:3], op.groups, depth, kh, kw).transpose(3, 0, 1, 2, 5, 6, 4)
            filters = op.weights.reshape(op.groups, outputs // op.groups, kh * kw * depth)
            acc = product(columns.reshape(op.groups, -1, kh * kw * depth), filters.transpose(0, 2, 1))
            acc = acc.transpose(1, 0, 2)
    y = scale((acc.reshape(-1, outputs) + op.bias).astype(np.int32), op.requantize)
    return [y if op.table is None else _table(y, op.table)]


def _depthwise(view: Array, weights: Array, multiplier: int) -> Array:
    """view [N, Ho, Wo, C, kh, kw] and weights [C * multiplier, kh, kw] to [N, Ho, Wo, C * multiplier]."""
    acc = np.zeros((*view.shape[:3], weights.shape[0]), dtype=np.int32)
    for i, j in np.ndindex(*weights.shape[1:]):
        tap = view[..., i, j].astype(np.int32)
        acc += (np.repeat(tap, multiplier, axis=-1) if multiplier > 1 else tap) * weights[:, i, j].astype(np.int32)
    return acc.astype(np.int64)


def _matmul(op: ir.MatMul, x: Array, w: Array) -> list[Array]:
    x = x.astype(np.int16) - np.int16(op.x_zero_point)
    w = w.astype(np.int16) - np.int16(op.w_zero_point)
    return [scale(product(x, w).astype(np.int32), op.requantize)]


def _lookup(op: ir.Table, x: Array) -> list[Array]:
    return [_table(x, op.table)]


def _add(op: ir.Add, a: Array, b: Array) -> list[Array]:
    total = _table(a, op.table_a).astype(np.int64) + _table(b, op.table_b)
    return [scale(total.astype(np.int32), op.requantize)]


def _mul(op: ir.Mul, a: Array, b: Array) -> list[Array]:
    return [scale((a.astype(np.int32) - op.a_zero_point) * (b.astype(np.int32) - op.b_zero_point), op.requantize)]


def _min_max(op: ir.MinMax, a: Array, b: Array) -> list[Array]:
    return [np.maximum(a, b) if op.maximum else np.minimum(a, b)]


def _max_pool(op: ir.MaxPool2D, x: Array) -> list[Array]:
    largest = windows(x, op.kernel, op.strides, op.dilation, op.padding, -128).max(axis=(-2, -1))
    return [vector.clamp(largest, op.qmin, op.qmax).astype(np.int8)]


def _sum_pool(op: ir.SumPool2D, x: Array) -> list[Array]:
    sums = windows(x, op.kernel, op.strides, (1, 1), op.padding, 0).sum(axis=(-2, -1), dtype=np.int32)
    counts = pool_counts(op)
    y = np.empty(sums.shape, dtype=np.int8)
    for n in np.unique(counts):
        where = counts == n
        y[:, where] = scale(sums[:, where], op.requantize[int(n)])
    return [y]


def pool_counts(op: ir.SumPool2D) -> NDArray[np.int64]:
    """Pixels of each window that are not padding: [Ho, Wo]."""
    sizes = []
    for axis in (0, 1):
        inside = np.pad(np.ones(op.x.shape[1 + axis], dtype=np.int64), op.padding[axis])
        sizes.append(sliding_window_view(inside, op.kernel[axis])[:: op.strides[axis]].sum(axis=-1))
    return np.asarray(sizes[0][:, None] * sizes[1])


def _softmax(op: ir.Softmax, x: Array) -> list[Array]:
    return [softmax.tflite_softmax(x, op.input_scale, op.beta)]


def _move(op: ir.Move, *inputs: Array) -> list[Array]:
    dtype = np.dtype(op.y.dtype)
    # index -1 is the last element
    flat = np.concatenate([*(value.reshape(-1) for value in inputs), np.array([op.fill], dtype=dtype)])
    return [flat[op.index]]


def _host(op: ir.Host, *inputs: Array) -> list[Array]:
    return host.call(op.function, op.attributes, *inputs)


Meaning = Callable[..., list[Array]]

MEANINGS: dict[type[ir.Op], Meaning] = cast(
    dict[type[ir.Op], Meaning],
    {
        ir.Conv2D: _conv2d,
        ir.MatMul: _matmul,
        ir.Table: _lookup,
        ir.Add: _add,
        ir.Mul: _mul,
        ir.MinMax: _min_max,
        ir.MaxPool2D: _max_pool,
        ir.SumPool2D: _sum_pool,
        ir.Softmax: _softmax,
        ir.Move: _move,
        ir.Host: _host,
    },
)
"""f(op, *inputs) -> outputs, by the operation's class."""
