"""Data movement in ONNX models: nodes whose result is their first input's elements in another arrangement.

Each is a numpy function on the array of places of the logical elements, whatever the physical order is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.frontends.onnx_convert import Converter, broadcast, handles
from tidemill.compiler.frontends.onnx_model import Array, Node, check_size
from tidemill.compiler.frontends.onnx_values import (
    BYTES,
    Activation,
    Constant,
    Order,
    Pending,
    Quantization,
    Real,
    Value,
    identity,
    inverse,
    require,
)

Index = NDArray[np.int64]


def moved(c: Converter, node: Node, value: Value, arrange: Callable[[Index], Index], fill: Any = 0) -> Value:
    """`value` with its logical elements arranged: `arrange` maps the array of their places (-1: `fill`)."""
    return moved_all(c, node, value, [arrange], fill)[0]


def moved_all(
    c: Converter, node: Node, value: Value, arrangements: list[Callable[[Index], Index]], fill: Any = 0
) -> list[Value]:
    """As `moved`, one result each."""
    if isinstance(value, Constant):
        return [constant_moved(value, arrange, fill) for arrange in arrangements]
    if isinstance(value, Real):
        results = moved_all(c, node, value.activation, arrangements, real_fill(node, value, fill))
        return [Real(r, value.table, value.quantization) for r in results if isinstance(r, Activation)]
    x = c.activation(node, value)
    order = x.order
    source = c.build.tensor(x, order)
    places = c.build.logical_index(x, order)
    results = []
    held_fill = fill - x.offset if x.held == "int8" and not isinstance(value, Real) else fill
    for i, arrange in enumerate(arrangements):
        index = arrange(places)
        check_size(index.shape, f"node {node.name!r} ({node.op}): its result")
        to: Order = order if index.ndim == len(order) else identity(index.ndim)
        y, tensor = c.build.new(node, index.shape, x.dtype, to, x.quantization, i)
        c.build.move(node.name, node.op, [source], index.transpose(to), tensor, held_fill)
        results.append(y)
    return list(results)


def real_fill(node: Node, value: Real, fill: Any) -> int:
    """The model's integer whose float value is `fill`."""
    where = np.flatnonzero(value.table == np.float32(fill))
    if not where.size:
        if fill == 0:
            return 0
        raise node.error(f"the value {fill} cannot be held with its input's scale")
    return int(np.int8(np.uint8(where[0]))) + value.activation.offset


def constant_moved(value: Constant, arrange: Callable[[Index], Index], fill: Any) -> Constant:
    """A constant arranged."""
    index = arrange(np.arange(value.array.size, dtype=np.int64).reshape(value.shape))
    check_size(index.shape, "a constant")

    def take(array: Array, filler: Any) -> Array:
        flat = np.append(array.reshape(-1), np.array([filler], dtype=array.dtype))
        return np.asarray(flat[index])

    q = value.quantization
    if value.quantized is None or q is None or q.axis is not None or (index < 0).any():
        return Constant(take(value.array, fill))
    return Constant(take(value.array, fill), take(value.quantized, 0), q)


@handles("Identity")
def same(c: Converter, node: Node) -> Value:
    """Identity."""
    return c.value(node, 0)


@handles("Dropout")
def dropout(c: Converter, node: Node) -> list[Value]:
    """Dropout when it only passes values on."""
    training = c.optional_constant(node, 2, "training_mode")
    require(training is None or not training.any(), node, "training mode is not supported")
    x = c.value(node, 0)
    results: list[Value] = [x]
    if len(node.outputs) > 1:
        results.append(Constant(np.ones(x.shape, dtype=np.bool_)))
    return results


@handles("Transpose")
def transpose(c: Converter, node: Node) -> Value:
    """Transpose: only the names of the axes change."""
    x = c.value(node, 0)
    rank = len(x.shape)
    perm = tuple(node.ints("perm", list(range(rank))[::-1]) or [])
    require(sorted(perm) == list(range(rank)), node, f"perm {list(perm)} does not permute {rank} axes")
    return transposed(c, node, x, perm)


def transposed(c: Converter, node: Node, x: Value, perm: Order) -> Value:
    """`x` with logical axis i being its axis perm[i]."""
    if isinstance(x, Constant):
        quantized = None if x.quantized is None else x.quantized.transpose(perm)
        q = x.quantization
        if q is not None and q.axis is not None:
            q = Quantization(q.scale, q.zero_point, q.dtype, perm.index(q.axis % len(perm)))
        return Constant(x.array.transpose(perm), quantized, q)
    if isinstance(x, Real):
        inner = transposed(c, node, x.activation, perm)
        assert isinstance(inner, Activation)
        return Real(inner, x.table, x.quantization)
    activation = c.activation(node, x)
    c.build.tensor(activation, activation.order)
    back = inverse(perm)
    tensors = {tuple(back[axis] for axis in order): tensor for order, tensor in activation.tensors.items()}
    shape = tuple(activation.shape[axis] for axis in perm)
    return Activation(node.outputs[0], shape, activation.dtype, tensors, quantization=activation.quantization)


def reshape_value(c: Converter, node: Node, x: Value, shape: tuple[int, ...]) -> Value:
    """`x` with another shape of as many elements."""
    require(math.prod(shape) == math.prod(x.shape), node, f"{list(x.shape)} cannot have the shape {list(shape)}")
    if isinstance(x, Constant):
        q = x.quantization
        if x.quantized is None or q is None or q.axis is not None:
            return Constant(x.array.reshape(shape))
        return Constant(x.array.reshape(shape), x.quantized.reshape(shape), q)
    if isinstance(x, Real):
        inner = reshape_value(c, node, x.activation, shape)
        assert isinstance(inner, Activation)
        return Real(inner, x.table, x.quantization)
    activation = c.activation(node, x)
    if shape == activation.shape:
        return activation
    return c.reshaped(activation, shape, node)


@handles("Reshape")
def reshape(c: Converter, node: Node) -> Value:
    """Reshape."""
    x = c.value(node, 0)
    sizes = c.ints(node, "shape", 1)
    require(sizes is not None, node, "its shape is missing")
    assert sizes is not None
    if not node.integer("allowzero", 0):
        require(all(s or i < len(x.shape) for i, s in enumerate(sizes)), node, "a size of 0 names an axis not there")
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    require(sizes.count(-1) <= 1 and min(sizes, default=0) >= -1, node, f"shape {sizes} is not valid")
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes:
        require(known > 0, node, f"shape {sizes} is not valid")
        sizes[sizes.index(-1)] = math.prod(x.shape) // known
    return reshape_value(c, node, x, tuple(sizes))


@handles("Flatten")
def flatten(c: Converter, node: Node) -> Value:
    """Flatten."""
    x = c.value(node, 0)
    axis = node.integer("axis", 1)
    require(-len(x.shape) <= axis <= len(x.shape), node, f"axis {axis} is not one of {len(x.shape)}")
    axis = axis + len(x.shape) if axis < 0 else axis
    return reshape_value(c, node, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def normalized(node: Node, axes: list[int], rank: int) -> list[int]:
    """Axes counted from the front. Raises ModelError for one that does not exist or is named twice."""
    result = [axis + rank if axis < 0 else axis for axis in axes]
    valid = all(0 <= axis < rank for axis in result) and len(set(result)) == len(result)
    require(valid, node, f"axes {axes} are not valid for {rank} axes")
    return result


@handles("Squeeze")
def squeeze(c: Converter, node: Node) -> Value:
    """Squeeze."""
    x = c.value(node, 0)
    axes = c.ints(node, "axes", 1)
    rank = len(x.shape)
    drop = [i for i in range(rank) if x.shape[i] == 1] if axes is None else normalized(node, axes, rank)
    require(all(x.shape[axis] == 1 for axis in drop), node, f"axes {drop} of {list(x.shape)} are not all 1")
    return reshape_value(c, node, x, tuple(size for i, size in enumerate(x.shape) if i not in drop))


@handles("Unsqueeze")
def unsqueeze(c: Converter, node: Node) -> Value:
    """Unsqueeze."""
    x = c.value(node, 0)
    axes = c.ints(node, "axes", 1) or []
    rank = len(x.shape) + len(axes)
    new = normalized(node, axes, rank)
    sizes = iter(x.shape)
    return reshape_value(c, node, x, tuple(1 if i in new else next(sizes) for i in range(rank)))


@handles("Expand")
def expand(c: Converter, node: Node) -> Value:
    """Expand."""
    x = c.value(node, 0)
    target = tuple(c.ints(node, "shape", 1) or [])
    require(all(size >= 0 for size in target), node, f"shape {list(target)} is not valid")
    shape = broadcast(node, x.shape, target)
    check_size(shape, f"node {node.name!r} ({node.op}): its result")
    return moved(c, node, x, lambda places: np.broadcast_to(places, shape))


@handles("Tile")
def tile(c: Converter, node: Node) -> Value:
    """Tile."""
    x = c.value(node, 0)
    repeats = c.ints(node, "repeats", 1) or []
    valid = len(repeats) == len(x.shape) and all(count >= 0 for count in repeats)
    require(valid, node, f"repeats {repeats} do not fit {list(x.shape)}")
    check_size(tuple(a * b for a, b in zip(x.shape, repeats, strict=True)), f"node {node.name!r} ({node.op})")
    return moved(c, node, x, lambda places: np.tile(places, repeats))


@handles("Slice")
def slice_(c: Converter, node: Node) -> Value:
    """Slice."""
    x = c.value(node, 0)
    starts, ends = c.ints(node, "starts", 1) or [], c.ints(node, "ends", 2) or []
    axes = c.ints(node, "axes", 3)
    steps = c.ints(node, "steps", 4) or [1] * len(starts)
    axes = normalized(node, list(range(len(starts))) if axes is None else axes, len(x.shape))
    require(len(starts) == len(ends) == len(axes) == len(steps), node, "starts, ends, axes and steps differ in length")
    require(0 not in steps, node, "a step of 0")
    selection = [slice(None)] * len(x.shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = x.shape[axis]
        first, last = (s + size if s < 0 else s for s in (start, end))
        if step > 0:
            selection[axis] = slice(min(max(first, 0), size), min(max(last, 0), size), step)
        else:
            stop = min(max(last, -1), size - 1)
            selection[axis] = slice(min(max(first, 0), size - 1), None if stop < 0 else stop, step)
    return moved(c, node, x, lambda places: places[tuple(selection)])


@handles("Split")
def split(c: Converter, node: Node) -> list[Value]:
    """Split."""
    x = c.value(node, 0)
    (axis,) = normalized(node, [node.integer("axis", 0)], len(x.shape))
    sizes = c.ints(node, "split", 1)
    count = len(node.outputs)
    if sizes is None:
        chunk = -(-x.shape[axis] // count)
        sizes = [min(chunk, max(x.shape[axis] - i * chunk, 0)) for i in range(count)]
    valid = len(sizes) == count and min(sizes) >= 0 and sum(sizes) == x.shape[axis]
    require(valid, node, f"sizes {sizes} do not split {x.shape[axis]}")
    ends = [int(end) for end in np.cumsum(sizes)]

    def part(start: int, end: int) -> Callable[[Index], Index]:
        return lambda places: places.take(np.arange(start, end), axis=axis)

    return moved_all(c, node, x, [part(end - size, end) for end, size in zip(ends, sizes, strict=True)])


@handles("Gather")
def gather(c: Converter, node: Node) -> Value:
    """Gather with constant indices."""
    x = c.value(node, 0)
    indices = c.constant(node, 1, "the indices")
    require(indices.dtype.kind in "iu", node, "the indices must be integers")
    (axis,) = normalized(node, [node.integer("axis", 0)], len(x.shape))
    size = x.shape[axis]
    valid = not indices.size or (-size <= int(indices.min()) and int(indices.max()) < size)
    require(valid, node, f"indices must be {-size} to {size - 1}")
    check_size((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), f"node {node.name!r} ({node.op}): its result")
    return moved(c, node, x, lambda places: places.take(indices, axis=axis))


@handles("Pad")
def pad(c: Converter, node: Node) -> Value:
    """Pad, every mode; a constant of a float tensor must be one that its int8 values can hold."""
    x = c.value(node, 0)
    rank = len(x.shape)
    pads = c.ints(node, "pads", 1) or []
    axes = c.ints(node, "axes", 3) if node.opset >= 18 else None
    axes = normalized(node, list(range(rank)) if axes is None else axes, rank)
    require(len(pads) == 2 * len(axes), node, f"{len(pads)} pads do not fit {len(axes)} axes")
    amounts = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        amounts[axis] = (pads[i], pads[i + len(axes)])
    mode = {"constant": "constant", "edge": "edge", "reflect": "reflect", "wrap": "wrap"}.get(
        node.text("mode", "constant")
    )
    require(mode is not None, node, f"mode {node.text('mode', '')!r} is not supported")
    crops = tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(amounts, x.shape, strict=True))
    grown = [(max(a, 0), max(b, 0)) for a, b in amounts]
    check_size(tuple(s + a + b for s, (a, b) in zip(x.shape, grown, strict=True)), f"node {node.name!r} ({node.op})")
    value: Any = node.number("value", 0.0) if node.opset < 11 else 0
    if mode == "constant":
        if node.opset >= 11 and c.optional(node, 2) is not None:
            value = c.scalar(node, 2, "the constant")
        if c.dtype(x) in (*BYTES, "int32", "int64"):
            value = int(value)
        return moved(c, node, x, lambda places: np.pad(places[crops], grown, constant_values=-1), value)
    smallest = min((size for size, (a, b) in zip(x.shape, grown, strict=True) if a or b), default=1)
    require(smallest > 0, node, "an empty axis cannot be padded")
    return moved(c, node, x, lambda places: np.pad(places[crops], grown, mode=mode))  # type: ignore[call-overload]


@handles("DepthToSpace")
def depth_to_space(c: Converter, node: Node) -> Value:
    """DepthToSpace, modes DCR and CRD."""
    x = c.value(node, 0)
    b = node.integer("blocksize", 0)
    require(len(x.shape) == 4 and b > 0 and x.shape[1] % (b * b) == 0, node, f"blocks of {b} do not fit {x.shape}")
    n, channels, h, w = x.shape
    depth = channels // (b * b)
    if node.text("mode", "DCR") == "DCR":
        split_shape, perm = (n, b, b, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split_shape, perm = (n, depth, b, b, h, w), (0, 1, 4, 2, 5, 3)
    shape = (n, depth, h * b, w * b)
    return moved(c, node, x, lambda places: places.reshape(split_shape).transpose(perm).reshape(shape))


@handles("SpaceToDepth")
def space_to_depth(c: Converter, node: Node) -> Value:
    """SpaceToDepth."""
    x = c.value(node, 0)
    b = node.integer("blocksize", 0)
    valid = len(x.shape) == 4 and b > 0 and x.shape[2] % b == 0 and x.shape[3] % b == 0
    require(valid, node, f"blocks of {b} do not fit {x.shape}")
    n, channels, h, w = x.shape
    shape = (n, channels * b * b, h // b, w // b)

    def arrange(places: Index) -> Index:
        blocks = places.reshape(n, channels, h // b, b, w // b, b)
        return blocks.transpose(0, 3, 5, 1, 2, 4).reshape(shape)

    return moved(c, node, x, arrange)


def concatenated(c: Converter, node: Node, parts: list[Activation], axis: int, dtype: str) -> Activation:
    """int8 or other tensors joined along a logical axis."""
    rank = len(parts[0].shape)
    order = c.shared_order(parts, rank)
    tensors = [c.build.tensor(part, order) for part in parts]
    starts = np.cumsum([0, *(part.size for part in parts)])
    places = [c.build.logical_index(p, order) + start for p, start in zip(parts, starts[:-1], strict=True)]
    index = np.concatenate(places, axis=axis)
    q = parts[0].quantization
    y, tensor = c.build.new(node, index.shape, dtype, order, q)
    c.build.move(node.name, node.op, tensors, index.transpose(order), tensor)
    return y


def concat_axis(node: Node, shapes: list[tuple[int, ...]]) -> int:
    """The axis to join along, checked against the shapes."""
    require(bool(shapes), node, "it has no inputs")
    (axis,) = normalized(node, [node.integer("axis", 0)], len(shapes[0]))
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    require(len(rest) == 1 and len({len(s) for s in shapes}) == 1, node, f"shapes {shapes} do not join along {axis}")
    check_size((*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :]), f"node {node.name!r}")
    return axis


@handles("Concat")
def concat(c: Converter, node: Node) -> Value:
    """Concat of integers, or of float functions of int8 (QLinearConcat in ONNX Runtime), or on the host."""
    values = [c.value(node, i) for i in range(len(node.inputs))]
    axis = concat_axis(node, [value.shape for value in values])
    reals = [c.real(value) for value in values]
    if all(real is not None for real in reals):
        known = [real for real in reals if real is not None]
        first = known[0]
        if all(np.array_equal(r.table, first.table) and r.activation.dtype == first.activation.dtype for r in known):
            joined = concatenated(c, node, [r.activation for r in known], axis, first.activation.dtype)
            return Real(joined, first.table, first.quantization)
        return pending_concat(c, node, known, axis)
    dtypes = {c.dtype(value) for value in values}
    require(len(dtypes) == 1, node, f"its inputs differ in type: {sorted(dtypes)}")
    return concatenated(c, node, [c.activation(node, value) for value in values], axis, dtypes.pop())


def pending_concat(c: Converter, node: Node, parts: list[Real], axis: int) -> Pending:
    """Parts of different scales: each by a table to the scale of the result."""

    def finish(target: Quantization, low: float, high: float) -> Activation:
        tables = [
            target.quantize(np.clip(part.table, np.float32(low), np.float32(high))).astype(np.int16) - target.offset
            for part in parts
        ]
        pieces = [
            c.table(node, part.activation, table, target.dtype, target)
            for part, table in zip(parts, tables, strict=True)
        ]
        return concatenated(c, node, pieces, axis, target.dtype)

    def as_float() -> Activation:
        return concatenated(c, node, [c.lookup(node, part) for part in parts], axis, "float32")

    total = sum(part.shape[axis] for part in parts)
    shape = (*parts[0].shape[:axis], total, *parts[0].shape[axis + 1 :])
    return Pending(node, shape, finish, as_float)


@handles("com.microsoft.QLinearConcat")
def qlinear_concat(c: Converter, node: Node) -> Value:
    """QLinearConcat."""
    count = (len(node.inputs) - 2) // 3
    require(len(node.inputs) == 2 + 3 * count and count > 0, node, "its inputs are not 2 and 3 an operand")
    target = c.quantization(node, 0, 1, None, "uint8")
    parts = []
    for i in range(count):
        activation = c.byte(node, 2 + 3 * i)
        q = c.quantization(node, 3 + 3 * i, 4 + 3 * i, None, activation.dtype)
        parts.append(Real(activation, c.dequantized(q), q))
    axis = concat_axis(node, [part.shape for part in parts])
    return pending_concat(c, node, parts, axis).quantized(target)
