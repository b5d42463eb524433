"""What every graph must fulfil before it is compiled, whichever front end made it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler import host, ir
from tidemill.compiler.reference import pool_counts
from tidemill.golden import softmax
from tidemill.isa import RequantMode

MAX_PADDED = 1 << 26
"""Largest image with its padding, elements."""

Check = Callable[[Any], None]


def validate(graph: ir.Graph) -> None:
    """Check the graph: order of operations, shapes, types and the ranges of all parameters.

    Raises ModelError naming the operation and what is wrong with it.
    """
    known = {id(port.tensor) for port in graph.inputs} | {id(state.read) for state in graph.states}
    for port in [*graph.inputs, *graph.outputs, *graph.exposed]:
        _port(graph, port)
    for ports in (graph.inputs, graph.outputs, graph.exposed):
        _require(len({port.name for port in ports}) == len(ports), graph.name, "two ports have the same name")
    if not graph.outputs:
        raise ir.ModelError(f"{graph.name}: the model has no output")
    for op in graph.ops:
        where = f"{graph.name}: {op.source} {op.name!r}"
        for tensor in op.inputs:
            _require(tensor.data is not None or id(tensor) in known, where, f"reads {tensor!r} before it is written")
        for tensor in op.outputs:
            _require(tensor.data is None and id(tensor) not in known, where, f"writes {tensor!r} again")
            _require(tensor.size > 0, where, f"writes {tensor!r}, which is empty")
            known.add(id(tensor))
        try:
            CHECKS[type(op)](op)
        except ir.ModelError as error:
            raise ir.ModelError(f"{where}: {error}") from None
    for what, tensor in [("output", port.tensor) for port in graph.outputs] + [
        ("variable", state.write) for state in graph.states
    ]:
        _require(tensor.data is not None or id(tensor) in known, graph.name, f"nothing writes the {what} {tensor!r}")
    for state in graph.states:
        same = state.read.shape == state.write.shape == state.initial.shape
        _require(same, graph.name, f"variable {state.name!r} changes its shape")
        int8 = state.read.dtype == state.write.dtype == state.initial.dtype == "int8"
        _require(int8, graph.name, f"variable {state.name!r} is not int8")


def _require(condition: bool, where: str, what: str) -> None:
    if not condition:
        raise ir.ModelError(f"{where}: {what}")


def _check(condition: object, what: str) -> None:
    if not condition:
        raise ir.ModelError(what)


def _port(graph: ir.Graph, port: ir.Port) -> None:
    where = f"{graph.name}: {port.name!r}"
    _require(all(size > 0 for size in port.shape), where, f"has shape {list(port.shape)}")
    if port.index is None:
        _require(math.prod(port.shape) == port.tensor.size, where, f"{list(port.shape)} is not {port.tensor!r}")
    else:
        _require(port.index.size in (math.prod(port.shape), port.tensor.size), where, "has an index of another size")


def _types(op: ir.Op, inputs: str = "int8", outputs: str = "int8") -> None:
    for tensor in op.inputs:
        _check(tensor.dtype == inputs, f"takes {inputs}, not {tensor!r}")
    for tensor in op.outputs:
        _check(tensor.dtype == outputs, f"makes {outputs}, not {tensor!r}")


def _count(op: ir.Op, inputs: int) -> None:
    _check(len(op.inputs) == inputs and len(op.outputs) == 1, f"takes {inputs} inputs, not {len(op.inputs)}")


def _within(name: str, values: NDArray[Any] | int, low: int, high: int) -> None:
    array = np.asarray(values)
    _check(array.dtype.kind in "iu", f"{name} is {array.dtype}, not an integer")
    if array.size and not (low <= array.min() and array.max() <= high):
        raise ir.ModelError(f"{name} is {array.min()}..{array.max()}, outside {low}..{high}")


def _lanes(name: str, values: NDArray[Any] | int, channels: int) -> None:
    _check(np.ndim(values) == 0 or np.shape(values) in ((channels,), (1,)), f"{name} is not one number or {channels}")


def _requantize(rq: ir.Requantize, channels: int) -> None:
    for name, values, low, high in (
        ("multiplier", rq.multiplier, 0, (1 << 31) - 1),
        ("shift", rq.shift, -128, 127),
        ("bias", rq.bias, -(1 << 31), (1 << 31) - 1),
    ):
        _lanes(name, values, channels)
        _within(name, values, low, high)
    _within("zero point", rq.zero_point, -(1 << 15), (1 << 15) - 1)
    _within("qmin and qmax", np.array([rq.qmin, rq.qmax]), -128, 127)
    _check(rq.qmin <= rq.qmax, f"qmin {rq.qmin} is above qmax {rq.qmax}")
    _within("preshift", rq.preshift, 0, 31)
    _check(isinstance(rq.mode, RequantMode), f"mode {rq.mode!r} is not a rounding mode")


def _accumulates(op: ir.Op, rq: ir.Requantize | None) -> None:
    """Types of an operation that gives int32 where it has no requantization."""
    _types(op, outputs="int8" if rq else "int32")
    if rq:
        _requantize(rq, op.y.channels)


def _window(op: ir.Op, kernel: ir.Pair, strides: ir.Pair, dilation: ir.Pair, padding: ir.Padding) -> None:
    """The output of windows over [N, H, W, C] has the size that they give."""
    _check(len(op.x.shape) == len(op.y.shape) == 4, f"takes images, not {op.x!r}")
    numbers = [*kernel, *strides, *dilation]
    _check(min(numbers) >= 1, f"window {kernel}, strides {strides} or dilation {dilation} below 1")
    _check(min(*padding[0], *padding[1]) >= 0, f"padding {padding} is negative")
    sizes = [size + sum(pair) for size, pair in zip(op.x.shape[1:3], padding, strict=True)]
    elements = op.x.shape[0] * sizes[0] * sizes[1] * op.x.channels
    _check(elements <= MAX_PADDED, f"its image with padding {padding} has {elements} elements; at most {MAX_PADDED}")
    for axis, (size, taps, stride, step) in enumerate(zip(sizes, kernel, strides, dilation, strict=True)):
        expected = (size - (taps - 1) * step - 1) // stride + 1
        _check(op.y.shape[1 + axis] == expected >= 1, f"{op.y!r} has not {expected} rows or columns on axis {1 + axis}")
    _check(op.x.shape[0] == op.y.shape[0], f"{op.y!r} has not {op.x.shape[0]} images")


def _conv2d(op: ir.Conv2D) -> None:
    _count(op, 1)
    _accumulates(op, op.requantize)
    _check(op.weights.ndim == 4 and op.weights.dtype == np.int16, f"weights are {op.weights.dtype}{op.weights.shape}")
    channels, kh, kw, depth = op.weights.shape
    _within("weights", op.weights, -255, 255)
    _check(op.bias.dtype == np.int32 and op.bias.shape == (channels,), f"bias is {op.bias.dtype}{op.bias.shape}")
    _within("input zero point", op.input_zero_point, -128, 127)
    _check(op.groups >= 1 and op.x.channels == depth * op.groups, f"{op.groups} groups of {depth} are not {op.x!r}")
    _check(channels % op.groups == 0 and op.y.channels == channels, f"{channels} channels do not fit {op.y!r}")
    if op.table is not None:
        _lookup_table(op.table)
        _check(op.requantize is not None, "a table follows int32")
    if (kh, kw) == op.strides == (1, 1) and not any(map(any, op.padding)):
        _check(op.x.shape[:-1] == op.y.shape[:-1], f"{op.y!r} has not the pixels of {op.x!r}")
    else:
        _window(op, (kh, kw), op.strides, op.dilation, op.padding)


def _matmul(op: ir.MatMul) -> None:
    _count(op, 2)
    _accumulates(op, op.requantize)
    x, w = (tensor.shape for tensor in op.inputs)
    fits = len(x) == len(w) >= 2 and x[:-2] == w[:-2] and x[-1] == w[-2] and op.y.shape == (*x[:-1], w[-1])
    _check(fits, f"{list(x)} @ {list(w)} is not {op.y!r}")
    _within("zero points", np.array([op.x_zero_point, op.w_zero_point]), -128, 127)


def _lookup_table(table: NDArray[np.int8]) -> None:
    _check(table.dtype == np.int8 and table.shape == (256,), f"its table is {table.dtype}{table.shape}")


def _table(op: ir.Table) -> None:
    _count(op, 1)
    _types(op)
    _lookup_table(op.table)
    _check(op.x.shape == op.y.shape, f"{op.y!r} has another shape than {op.x!r}")


def _broadcasts(op: ir.Op) -> None:
    _count(op, 2)
    _types(op)
    shapes = [tensor.shape for tensor in op.inputs]
    try:
        fits = np.broadcast_shapes(*shapes) == op.y.shape
    except ValueError:
        fits = False
    _check(fits, f"{' and '.join(str(list(shape)) for shape in shapes)} do not broadcast to {op.y!r}")


def _add(op: ir.Add) -> None:
    _broadcasts(op)
    for table in (op.table_a, op.table_b):
        _check(table.dtype == np.int32 and table.shape == (256,), f"a table is {table.dtype}{table.shape}")
    _requantize(op.requantize, op.y.channels)


def _mul(op: ir.Mul) -> None:
    _broadcasts(op)
    _within("zero points", np.array([op.a_zero_point, op.b_zero_point]), -128, 127)
    _requantize(op.requantize, op.y.channels)


def _max_pool(op: ir.MaxPool2D) -> None:
    _count(op, 1)
    _types(op)
    _window(op, op.kernel, op.strides, op.dilation, op.padding)
    _check(op.x.channels == op.y.channels, f"{op.y!r} has not the channels of {op.x!r}")
    _check(-128 <= op.qmin <= op.qmax <= 127, f"qmin {op.qmin} and qmax {op.qmax}")


def _sum_pool(op: ir.SumPool2D) -> None:
    _count(op, 1)
    _types(op)
    _window(op, op.kernel, op.strides, (1, 1), op.padding)
    _check(op.x.channels == op.y.channels, f"{op.y!r} has not the channels of {op.x!r}")
    for count in np.unique(pool_counts(op)):
        _check(int(count) in op.requantize, f"has no parameters for windows of {count} pixels")
    for rq in op.requantize.values():
        _requantize(rq, op.y.channels)
    common = {(rq.zero_point, rq.qmin, rq.qmax, rq.mode) for rq in op.requantize.values()}
    _check(len(common) == 1, "its windows differ in zero point, limits or mode")


def _softmax(op: ir.Softmax) -> None:
    _count(op, 1)
    _types(op)
    _check(op.x.shape == op.y.shape and op.x.shape, f"{op.y!r} has another shape than {op.x!r}")
    for name, value in (("input scale", op.input_scale), ("beta", op.beta)):
        _check(math.isfinite(value) and value > 0, f"{name} is {value}")
    _check(op.x.channels <= softmax.LENGTH_MAX, f"has rows of {op.x.channels}; at most {softmax.LENGTH_MAX}")
    try:
        softmax.exponentials(op.input_scale, op.beta)
    except ValueError as error:
        raise ir.ModelError(str(error)) from None


def _move(op: ir.Move) -> None:
    _check(op.inputs and len(op.outputs) == 1, f"has {len(op.inputs)} inputs and {len(op.outputs)} outputs")
    _check(op.y.dtype in ("int8", "int32"), f"moves int8 or int32, not {op.y!r}")
    _types(op, op.y.dtype, op.y.dtype)
    _check(op.index.shape == op.y.shape and op.index.dtype == np.int64, f"index is {op.index.dtype}{op.index.shape}")
    _within("index", op.index, -1, sum(tensor.size for tensor in op.inputs) - 1)
    _within("fill", op.fill, *_limits(op.y.dtype))


def _limits(dtype: str) -> Iterable[int]:
    limits = np.iinfo(dtype)
    return limits.min, limits.max


def _host(op: ir.Host) -> None:
    _check(op.function in host.FUNCTIONS, f"there is no host function {op.function!r}")


CHECKS: dict[type[ir.Op], Check] = cast(
    dict[type[ir.Op], Check],
    {
        ir.Conv2D: _conv2d,
        ir.MatMul: _matmul,
        ir.Table: _table,
        ir.Add: _add,
        ir.Mul: _mul,
        ir.MinMax: _broadcasts,
        ir.MaxPool2D: _max_pool,
        ir.SumPool2D: _sum_pool,
        ir.Softmax: _softmax,
        ir.Move: _move,
        ir.Host: _host,
    },
)
"""f(op) raises ModelError, by the operation's class."""
