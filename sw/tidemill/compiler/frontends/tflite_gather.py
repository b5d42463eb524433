"""TFLite operators that pick elements by index: Moves for constant indices, else on the host; and constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from tidemill.compiler import host_tflite, ir
from tidemill.compiler.frontends.tflite_file import Node
from tidemill.compiler.frontends.tflite_graph import Array, GraphBuilder, indices
from tidemill.compiler.frontends.tflite_moves import TYPES, check_size, rearrange, same_quantization

INDEX_TYPES = ("int32", "int64")


def _pick(b: GraphBuilder, node: Node, x: ir.Tensor, wanted: ir.Tensor, function: str, attributes: Any) -> None:
    """Emit `x` at the indices `wanted` by a host function, or its Move where they are constants."""
    compute = host_tflite.FUNCTIONS[function]
    known = np.zeros(wanted.shape, dtype=np.int64) if wanted.data is None else wanted.data
    check_size(b, node, wanted.shape)
    try:
        index = compute(attributes, indices(x), known)[0]
    except ValueError as error:
        raise b.error(node, str(error)) from None
    check_size(b, node, index.shape)
    if wanted.data is not None:
        rearrange(b, node, x, index)
        return
    y = b.output(node, index.shape, types=TYPES)
    if b.subgraph.tensors[node.outputs[0]].dtype != x.dtype:
        raise b.error(node, f"its output is {y.dtype}, its input {x!r}")
    b.emit(ir.Host(node.name, node.operator, [x, wanted], [y], function, attributes))


def gather(b: GraphBuilder, node: Node) -> None:
    """GATHER."""
    kind = "GatherOptions"
    x, wanted = b.value(node, 0, TYPES), b.value(node, 1, INDEX_TYPES)
    axis = b.axis(node, b.option(node, kind, "Axis", 0), len(x.shape))
    batch = b.option(node, kind, "BatchDims", 0)
    batch += len(wanted.shape) if batch < 0 else 0
    if not 0 <= batch <= min(axis, len(wanted.shape)) or x.shape[:batch] != wanted.shape[:batch]:
        raise b.error(node, f"gathers {list(wanted.shape)} from {list(x.shape)} with {batch} common axes")
    _pick(b, node, x, wanted, "tflite.gather", {"axis": axis, "batch": batch})


def gather_nd(b: GraphBuilder, node: Node) -> None:
    """GATHER_ND."""
    x, wanted = b.value(node, 0, TYPES), b.value(node, 1, INDEX_TYPES)
    if not wanted.shape or not 1 <= wanted.shape[-1] <= len(x.shape):
        raise b.error(node, f"gathers by {list(wanted.shape)} from {list(x.shape)}")
    _pick(b, node, x, wanted, "tflite.gather_nd", {})


def embedding_lookup(b: GraphBuilder, node: Node) -> None:
    """EMBEDDING_LOOKUP: rows of an int8 table."""
    wanted, x = b.value(node, 0, INDEX_TYPES), b.value(node, 1)
    if len(wanted.shape) != 1 or len(x.shape) < 2:
        raise b.error(node, f"looks up {list(wanted.shape)} in {list(x.shape)}")
    _pick(b, node, x, wanted, "tflite.gather", {"axis": 0, "batch": 0})


def dynamic_update_slice(b: GraphBuilder, node: Node) -> None:
    """DYNAMIC_UPDATE_SLICE: a part of the first input replaced by the second."""
    x, update, starts = b.value(node, 0), b.value(node, 1), b.value(node, 2, INDEX_TYPES)
    fits = len(update.shape) == len(x.shape) and all(u <= n for u, n in zip(update.shape, x.shape, strict=True))
    if not fits or starts.shape != (len(x.shape),):
        raise b.error(node, f"puts {list(update.shape)} into {list(x.shape)} at {list(starts.shape)} indices")
    y = b.output(node, x.shape)
    for position in (0, 1):
        same_quantization(b, node, position)
    function = "tflite.dynamic_update_slice"
    if starts.data is None:
        b.emit(ir.Host(node.name, node.operator, [x, update, starts], [y], function, {}))
        return
    index = host_tflite.dynamic_update_slice({}, indices(x), indices(update) + x.size, starts.data)[0]
    b.move(node, [x, update], y, index)


def _define(b: GraphBuilder, node: Node, y: ir.Tensor, values: Array) -> None:
    y.data = np.ascontiguousarray(values, dtype=y.dtype)


def fill(b: GraphBuilder, node: Node) -> None:
    """FILL a constant shape with a constant."""
    shape, value = b.integers(node, 0), b.constant(node, 1, TYPES)
    check_size(b, node, shape)
    if value.size != 1:
        raise b.error(node, f"fills with {value.size} values")
    y = b.output(node, shape, types=TYPES)
    if y.dtype != value.dtype.name:
        raise b.error(node, f"fills {y.dtype} with {value.dtype}")
    if y.dtype == "int8":
        same_quantization(b, node, 1)
    _define(b, node, y, np.full(shape, value.reshape(())))


def zeros_like(b: GraphBuilder, node: Node) -> None:
    """ZEROS_LIKE: the integer 0, whatever the zero point (resetZeros)."""
    x = b.value(node, 0, ("int8", "int32", "int64", "float32"))
    y = b.output(node, x.shape, types=(b.file_tensor(node, 0).dtype,))
    _define(b, node, y, np.zeros(x.shape))


def broadcast_args(b: GraphBuilder, node: Node) -> None:
    """BROADCAST_ARGS of constant shapes."""
    shapes = [b.integers(node, position) for position in (0, 1)]
    try:
        shape = np.broadcast_shapes(*(tuple(s) for s in shapes))
    except ValueError:
        raise b.error(node, f"{shapes[0]} and {shapes[1]} do not broadcast") from None
    y = b.output(node, (len(shape),), types=INDEX_TYPES)
    _define(b, node, y, np.array(shape))


HANDLERS = {
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "EMBEDDING_LOOKUP": embedding_lookup,
    "DYNAMIC_UPDATE_SLICE": dynamic_update_slice,
    "FILL": fill,
    "ZEROS_LIKE": zeros_like,
    "BROADCAST_ARGS": broadcast_args,
}
"""By operator name."""
