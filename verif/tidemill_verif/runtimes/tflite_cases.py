"""Random TFLite models of one operator, for every operator that TensorFlow Lite Micro and the compiler share.

`CASES` maps an operator to a function that draws one model: operator, options, tensors. All are small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

from tidemill_verif.runtimes.tflite_models import Tensor, build

Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One model; `file` is its content."""

    operator: str
    options: object | None
    inputs: list[Tensor]
    outputs: list[Tensor]

    @property
    def file(self) -> bytes:
        """The model file."""
        return build(self.operator, self.options, self.inputs, self.outputs)


def options(kind: str, **fields: Any) -> object:
    """An options table with fields by their names in the schema's object API."""
    table = getattr(schema, kind + "T")()
    for name, value in fields.items():
        if not hasattr(table, name):
            raise ValueError(f"{kind} has no field {name}")
        setattr(table, name, value)
    return table


def _quantized(rng: Rng, shape: tuple[int, ...], scale: float | None = None) -> Tensor:
    drawn = float(np.float32(np.exp(rng.uniform(np.log(0.005), np.log(0.2))))) if scale is None else scale
    return Tensor(shape, [drawn], int(rng.integers(-128, 128)))


def _like(tensor: Tensor, shape: tuple[int, ...], dtype: type = np.int8) -> Tensor:
    return Tensor(shape, tensor.scales, tensor.zero_point, dtype)


def _shape(rng: Rng, rank: int, low: int = 1, high: int = 7) -> tuple[int, ...]:
    return tuple(int(size) for size in rng.integers(low, high, rank))


def _constant(values: Any) -> Tensor:
    data = np.asarray(values, dtype=np.int32)
    return Tensor(data.shape, [], 0, np.int32, data)


def _weights(rng: Rng, shape: tuple[int, ...], axis: int, per_channel: bool) -> Tensor:
    scales = np.exp(rng.uniform(np.log(0.001), np.log(0.02), shape[axis] if per_channel else 1)).astype(np.float32)
    return Tensor(shape, scales.tolist(), 0, np.int8, rng.integers(-127, 128, shape).astype(np.int8), axis)


def _bias(rng: Rng, x: Tensor, w: Tensor, channels: int) -> Tensor:
    data = rng.integers(-2000, 2000, channels).astype(np.int32)
    return Tensor((channels,), [x.scales[0] * w.scales[0]], 0, np.int32, data)


def _activation(rng: Rng) -> int:
    return int(rng.choice([0, 0, 1, 2, 3]))


def _windows(rng: Rng, size: tuple[int, int], kernel: tuple[int, int], dilated: bool) -> tuple[Any, tuple[int, int]]:
    """Options fields of windows, and the output size."""
    same = bool(rng.integers(2))
    strides = [int(s) for s in rng.integers(1, 4, 2)]
    dilation = [int(d) for d in rng.integers(1, 3, 2)] if dilated else [1, 1]
    if not same:
        dilation = [d if (k - 1) * d < n else 1 for d, k, n in zip(dilation, kernel, size, strict=True)]
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    out = [-(-(n if same else n - e + 1) // s) for n, e, s in zip(size, extents, strides, strict=True)]
    fields: dict[str, Any] = {"strideH": strides[0], "strideW": strides[1], "padding": 0 if same else 1}
    if dilated:
        fields |= {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
    return fields, (out[0], out[1])


def _image(rng: Rng) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """An image's shape and a kernel that fits into it."""
    n, height, width, channels = int(rng.integers(1, 3)), *_shape(rng, 2, 5, 12), int(rng.integers(1, 9))
    return (n, height, width, channels), (int(rng.integers(1, 5)), int(rng.integers(1, 5)))


def conv_2d(rng: Rng) -> Case:
    """CONV_2D, grouped in one of three."""
    shape, kernel = _image(rng)
    groups = int(rng.choice([1, 1, 2]))
    shape, channels = (*shape[:3], shape[3] * groups), int(rng.integers(1, 9)) * groups
    fields, size = _windows(rng, (shape[1], shape[2]), kernel, True)
    x = _quantized(rng, shape)
    w = _weights(rng, (channels, *kernel, shape[3] // groups), 0, bool(rng.integers(2)))
    inputs = [x, w, _bias(rng, x, w, channels)]
    table = options("Conv2DOptions", fusedActivationFunction=_activation(rng), **fields)
    return Case("CONV_2D", table, inputs, [_quantized(rng, (shape[0], *size, channels))])


def depthwise_conv_2d(rng: Rng) -> Case:
    """DEPTHWISE_CONV_2D with multipliers 1 to 3."""
    shape, kernel = _image(rng)
    multiplier = int(rng.integers(1, 4))
    channels = shape[3] * multiplier
    fields, size = _windows(rng, (shape[1], shape[2]), kernel, True)
    x = _quantized(rng, shape)
    w = _weights(rng, (1, *kernel, channels), 3, True)
    kind = "DepthwiseConv2DOptions"
    table = options(kind, depthMultiplier=multiplier, fusedActivationFunction=_activation(rng), **fields)
    inputs = [x, w, _bias(rng, x, w, channels)]
    return Case("DEPTHWISE_CONV_2D", table, inputs, [_quantized(rng, (shape[0], *size, channels))])


def fully_connected(rng: Rng) -> Case:
    """FULLY_CONNECTED, per tensor or per channel, with and without bias and kept axes."""
    rows, depth, channels = (int(v) for v in rng.integers(1, 20, 3))
    keep = bool(rng.integers(2))
    x = _quantized(rng, (2, rows, depth))
    w = _weights(rng, (channels, depth), 0, bool(rng.integers(2)))
    inputs = [x, w] + ([_bias(rng, x, w, channels)] if rng.integers(2) else [])
    table = options("FullyConnectedOptions", keepNumDims=keep, fusedActivationFunction=_activation(rng))
    y = _quantized(rng, (2, rows, channels) if keep else (2 * rows, channels))
    return Case("FULLY_CONNECTED", table, inputs, [y])


def transpose_conv(rng: Rng) -> Case:
    """TRANSPOSE_CONV; output sizes that several input sizes share included."""
    (n, height, width, depth), kernel = _image(rng)
    strides, channels, same = [int(s) for s in rng.integers(1, 4, 2)], int(rng.integers(1, 7)), bool(rng.integers(2))
    size = [
        (count - 1) * stride + (1 if same else taps) + int(rng.integers(stride))
        for count, stride, taps in zip((height, width), strides, kernel, strict=True)
    ]
    x, w = _quantized(rng, (n, height, width, depth)), _weights(rng, (channels, *kernel, depth), 0, True)
    table = options("TransposeConvOptions", strideH=strides[0], strideW=strides[1], padding=0 if same else 1)
    inputs = [_constant([n, *size, channels]), w, x] + ([_bias(rng, x, w, channels)] if rng.integers(2) else [])
    return Case("TRANSPOSE_CONV", table, inputs, [_quantized(rng, (n, *size, channels))])


def batch_matmul(rng: Rng) -> Case:
    """BATCH_MATMUL of activations, or with a constant matrix; transposed or not."""
    batch, rows, depth, columns = _shape(rng, 4, 2, 9)
    adj = [bool(v) for v in rng.integers(0, 2, 2)]
    x = _quantized(rng, (batch, depth, rows) if adj[0] else (batch, rows, depth))
    w = _quantized(rng, (batch, columns, depth) if adj[1] else (batch, depth, columns))
    table = options("BatchMatMulOptions", adjX=adj[0], adjY=adj[1])
    return Case("BATCH_MATMUL", table, [x, w], [_quantized(rng, (batch, rows, columns))])


def _binary(operator: str, kind: str | None, same: bool = False) -> Callable[[Rng], Case]:
    def draw(rng: Rng) -> Case:
        shape = _shape(rng, 4)
        other = tuple(int(size) if rng.integers(3) else 1 for size in shape) if rng.integers(2) else shape
        a = _quantized(rng, shape)
        b, y = (_like(a, other), _like(a, shape)) if same else (_quantized(rng, other), _quantized(rng, shape))
        table = options(kind, fusedActivationFunction=_activation(rng)) if kind and not same else None
        inputs = [a, b] if rng.integers(2) else [b, a]
        return Case(operator, table, inputs, [y])

    return draw


def _unary(operator: str, out: tuple[float, int] | None = None, table: Callable[[Rng], object] | None = None) -> Any:
    def draw(rng: Rng) -> Case:
        x = _quantized(rng, _shape(rng, 3))
        y = _quantized(rng, x.shape) if out is None else Tensor(x.shape, [out[0]], out[1])
        return Case(operator, table(rng) if table else None, [x], [y])

    return draw


def relu6(rng: Rng) -> Case:
    """RELU6: the quantization stays."""
    x = Tensor(_shape(rng, 3), [float(rng.uniform(0.02, 0.05))], -128 + int(rng.integers(0, 6)))
    return Case("RELU6", None, [x], [_like(x, x.shape)])


def prelu(rng: Rng) -> Case:
    """PRELU with one alpha for each channel."""
    shape = _shape(rng, 4, 2)
    alpha = _quantized(rng, (1, 1, shape[3]))
    data = rng.integers(-128, 128, alpha.shape).astype(np.int8)
    return Case(
        "PRELU",
        None,
        [_quantized(rng, shape), Tensor(alpha.shape, alpha.scales, alpha.zero_point, np.int8, data)],
        [_quantized(rng, shape)],
    )


def _pool(operator: str) -> Callable[[Rng], Case]:
    def draw(rng: Rng) -> Case:
        shape, kernel = _image(rng)
        fields, size = _windows(rng, (shape[1], shape[2]), kernel, False)
        fields |= {"filterHeight": kernel[0], "filterWidth": kernel[1], "fusedActivationFunction": _activation(rng)}
        x = _quantized(rng, shape)
        return Case(operator, options("Pool2DOptions", **fields), [x], [_like(x, (shape[0], *size, shape[3]))])

    return draw


def _reduce(operator: str, same: bool) -> Callable[[Rng], Case]:
    def draw(rng: Rng) -> Case:
        shape = _shape(rng, 4, 2)
        axes = sorted(int(a) for a in rng.choice(4, int(rng.integers(1, 4)), replace=False))
        keep = bool(rng.integers(2))
        reduced = tuple(1 if a in axes else n for a, n in enumerate(shape) if keep or a not in axes)
        x = _quantized(rng, shape)
        y = _like(x, reduced) if same else _quantized(rng, reduced)
        return Case(operator, options("ReducerOptions", keepDims=keep), [x, _constant(axes)], [y])

    return draw


def _arg(operator: str) -> Callable[[Rng], Case]:
    def draw(rng: Rng) -> Case:
        shape, axis = _shape(rng, 3, 2), int(rng.integers(3))
        y = Tensor((*shape[:axis], *shape[axis + 1 :]), [], 0, np.int32)
        kind = "ArgMaxOptions" if operator == "ARG_MAX" else "ArgMinOptions"
        table = options(kind, outputType=schema.TensorType.INT32)
        return Case(operator, table, [_quantized(rng, shape), _constant([axis])], [y])

    return draw


def softmax(rng: Rng) -> Case:
    """SOFTMAX of rows."""
    x = _quantized(rng, (int(rng.integers(1, 5)), int(rng.integers(1, 30))))
    table = options("SoftmaxOptions", beta=float(rng.choice([1.0, 0.5, 2.0])))
    return Case("SOFTMAX", table, [x], [Tensor(x.shape, [1 / 256], -128)])


def _moved(operator: str, table: object | None, x: Tensor, extra: list[Any], shape: tuple[int, ...]) -> Case:
    return Case(operator, table, [x, *map(_constant, extra)], [_like(x, shape)])


def reshape(rng: Rng) -> Case:
    """RESHAPE."""
    a, b, c = _shape(rng, 3)
    return _moved("RESHAPE", None, _quantized(rng, (a, b, c)), [[c, a * b]], (c, a * b))


def squeeze(rng: Rng) -> Case:
    """SQUEEZE."""
    a, b = _shape(rng, 2)
    return _moved("SQUEEZE", options("SqueezeOptions", squeezeDims=[1]), _quantized(rng, (a, 1, b)), [], (a, b))


def expand_dims(rng: Rng) -> Case:
    """EXPAND_DIMS."""
    a, b = _shape(rng, 2)
    return _moved("EXPAND_DIMS", None, _quantized(rng, (a, b)), [[1]], (a, 1, b))


def transpose(rng: Rng) -> Case:
    """TRANSPOSE."""
    shape, order = _shape(rng, 4), [int(a) for a in rng.permutation(4)]
    return _moved("TRANSPOSE", None, _quantized(rng, shape), [order], tuple(shape[a] for a in order))


def concatenation(rng: Rng) -> Case:
    """CONCATENATION."""
    shape, axis = _shape(rng, 4), int(rng.integers(-4, 4))
    sizes = [int(v) for v in rng.integers(1, 5, int(rng.integers(1, 4)))]
    first = _quantized(rng, shape)

    def resized(size: int) -> tuple[int, ...]:
        return tuple(size if a == axis % 4 else n for a, n in enumerate(shape))

    inputs = [_like(first, resized(size)) for size in sizes]
    return Case(
        "CONCATENATION", options("ConcatenationOptions", axis=axis), inputs, [_like(first, resized(sum(sizes)))]
    )


def pack(rng: Rng) -> Case:
    """PACK."""
    shape, axis, count = _shape(rng, 3), int(rng.integers(-4, 4)), int(rng.integers(1, 4))
    x = _quantized(rng, shape)
    place = axis % 4
    y = _like(x, (*shape[:place], count, *shape[place:]))
    return Case("PACK", options("PackOptions", axis=axis, valuesCount=count), [x] * count, [y])


def unpack(rng: Rng) -> Case:
    """UNPACK."""
    shape, axis = _shape(rng, 3), int(rng.integers(-3, 3))
    x = _quantized(rng, shape)
    place = axis % 3
    outputs = [_like(x, (*shape[:place], *shape[place + 1 :]))] * shape[place]
    return Case("UNPACK", options("UnpackOptions", axis=axis, num=shape[place]), [x], outputs)


def split(rng: Rng) -> Case:
    """SPLIT."""
    parts, axis = int(rng.integers(1, 4)), int(rng.integers(3))
    shape = _shape(rng, 3)
    x = _quantized(rng, tuple(n * parts if a == axis else n for a, n in enumerate(shape)))
    return Case("SPLIT", options("SplitOptions", numSplits=parts), [_constant([axis]), x], [_like(x, shape)] * parts)


def split_v(rng: Rng) -> Case:
    """SPLIT_V, the last size left open in one of two."""
    sizes, axis = [int(v) for v in rng.integers(1, 5, 3)], int(rng.integers(3))
    shape = _shape(rng, 3)
    shapes = [tuple(size if a == axis else n for a, n in enumerate(shape)) for size in sizes]
    x = _quantized(rng, tuple(sum(sizes) if a == axis else n for a, n in enumerate(shape)))
    given = [*sizes[:2], -1] if rng.integers(2) else sizes
    table = options("SplitVOptions", numSplits=3)
    return Case("SPLIT_V", table, [x, _constant(given), _constant([axis])], [_like(x, s) for s in shapes])


def slice_(rng: Rng) -> Case:
    """SLICE."""
    shape = _shape(rng, 4, 2)
    begins = [int(rng.integers(n)) for n in shape]
    sizes = [int(rng.integers(1, n - b + 1)) for n, b in zip(shape, begins, strict=True)]
    given = [-1 if rng.integers(4) == 0 else s for s in sizes]
    actual = tuple(n - b if g == -1 else g for n, b, g in zip(shape, begins, given, strict=True))
    return _moved("SLICE", None, _quantized(rng, shape), [begins, given], actual)


def strided_slice(rng: Rng) -> Case:
    """STRIDED_SLICE with begin, end and shrink masks and negative strides."""
    shape = _shape(rng, 4, 2)
    begins: list[int] = []
    ends: list[int] = []
    strides: list[int] = []
    key: list[slice | int] = []
    masks = [0, 0, 0]
    for axis, size in enumerate(shape):
        a, b = sorted(int(v) for v in rng.choice(size + 1, 2, replace=False))
        stride, negative = int(rng.integers(1, 3)), bool(rng.integers(3) == 0)
        if rng.integers(5) == 0:
            masks[2] |= 1 << axis
            begins.append(a)
            ends.append(a + 1)
            strides.append(1)
            key.append(a)
            continue
        first: int | None = a - size if rng.integers(2) else a
        last: int | None = b
        if negative:
            first, last, stride = b - 1, a - 1 if a else -size - 1, -stride
        if rng.integers(4) == 0:
            masks[0] |= 1 << axis
            first = None
        if rng.integers(4) == 0:
            masks[1] |= 1 << axis
            last = None
        begins.append(first or 0)
        ends.append(last or 0)
        strides.append(stride)
        key.append(slice(first, last, stride))
    out = np.empty(shape)[tuple(key)].shape
    table = options("StridedSliceOptions", beginMask=masks[0], endMask=masks[1], shrinkAxisMask=masks[2])
    return _moved("STRIDED_SLICE", table, _quantized(rng, shape), [begins, ends, strides], out)


def gather(rng: Rng) -> Case:
    """GATHER."""
    shape, axis = _shape(rng, 3), int(rng.integers(3))
    wanted = rng.integers(0, shape[axis], int(rng.integers(1, 6)))
    out = (*shape[:axis], wanted.size, *shape[axis + 1 :])
    return _moved("GATHER", options("GatherOptions", axis=axis), _quantized(rng, shape), [wanted], out)


def _padded(operator: str) -> Callable[[Rng], Case]:
    def draw(rng: Rng) -> Case:
        shape = _shape(rng, 4, 3)
        pads = rng.integers(0, 3, (4, 2))
        out = tuple(n + int(p.sum()) for n, p in zip(shape, pads, strict=True))
        x = _quantized(rng, shape)
        if operator == "MIRROR_PAD":
            return _moved(operator, options("MirrorPadOptions", mode=int(rng.integers(2))), x, [pads], out)
        case = _moved(operator, None, x, [pads], out)
        if operator == "PADV2":
            value = np.array([int(rng.integers(-128, 128))], dtype=np.int8)
            case.inputs.append(Tensor((1,), x.scales, x.zero_point, np.int8, value))
        return case

    return draw


def broadcast_to(rng: Rng) -> Case:
    """BROADCAST_TO."""
    shape = _shape(rng, 4)
    source = tuple(n if rng.integers(2) else 1 for n in shape)
    return _moved("BROADCAST_TO", None, _quantized(rng, source), [shape], shape)


def reverse(rng: Rng) -> Case:
    """REVERSE_V2."""
    shape = _shape(rng, 3)
    return _moved("REVERSE_V2", None, _quantized(rng, shape), [[int(rng.integers(3))]], shape)


def space_to_depth(rng: Rng) -> Case:
    """SPACE_TO_DEPTH."""
    n, h, w, c = _shape(rng, 4, 1, 5)
    table = options("SpaceToDepthOptions", blockSize=2)
    return _moved("SPACE_TO_DEPTH", table, _quantized(rng, (n, 2 * h, 2 * w, c)), [], (n, h, w, 4 * c))


def depth_to_space(rng: Rng) -> Case:
    """DEPTH_TO_SPACE."""
    n, h, w, c = _shape(rng, 4, 1, 5)
    table = options("DepthToSpaceOptions", blockSize=2)
    return _moved("DEPTH_TO_SPACE", table, _quantized(rng, (n, h, w, 4 * c)), [], (n, 2 * h, 2 * w, c))


def space_to_batch(rng: Rng) -> Case:
    """SPACE_TO_BATCH_ND without padding: TFLite Micro pads with a byte that it never sets."""
    n, h, w, c = _shape(rng, 4, 1, 5)
    blocks = [int(v) for v in rng.integers(1, 4, 2)]
    x = _quantized(rng, (n, h * blocks[0], w * blocks[1], c))
    return _moved("SPACE_TO_BATCH_ND", None, x, [blocks, [[0, 0], [0, 0]]], (n * blocks[0] * blocks[1], h, w, c))


def batch_to_space(rng: Rng) -> Case:
    """BATCH_TO_SPACE_ND."""
    n, h, w, c = _shape(rng, 4, 2, 5)
    blocks, crops = [int(v) for v in rng.integers(1, 4, 2)], [[1, 0], [0, int(rng.integers(2))]]
    size = [count * block - sum(pair) for count, block, pair in zip((h, w), blocks, crops, strict=True)]
    x = _quantized(rng, (n * blocks[0] * blocks[1], h, w, c))
    return _moved("BATCH_TO_SPACE_ND", None, x, [blocks, crops], (n, *size, c))


def _resize(operator: str, kind: str) -> Callable[[Rng], Case]:
    def draw(rng: Rng) -> Case:
        n, h, w, c = _shape(rng, 4)
        size = [int(v) for v in rng.integers(1, 15, 2)]
        corners, halves = [(False, False), (True, False), (False, True)][int(rng.integers(3))]
        table = options(kind, alignCorners=corners, halfPixelCenters=halves)
        return _moved(operator, table, _quantized(rng, (n, h, w, c)), [size], (n, *size, c))

    return draw


def quantize(rng: Rng) -> Case:
    """QUANTIZE between int8, uint8 and from float32."""
    shape = _shape(rng, 3)
    x, y = _quantized(rng, shape), _quantized(rng, shape)
    kind = int(rng.integers(4))
    if kind == 0:
        x = Tensor(shape, x.scales, x.zero_point + 128, np.uint8)
    elif kind == 1:
        y = Tensor(shape, y.scales, y.zero_point + 128, np.uint8)
    elif kind == 2:
        x = Tensor(shape, [], 0, np.float32)
    return Case("QUANTIZE", None, [x], [y])


def dequantize(rng: Rng) -> Case:
    """DEQUANTIZE."""
    x = _quantized(rng, _shape(rng, 3))
    return Case("DEQUANTIZE", None, [x], [Tensor(x.shape, [], 0, np.float32)])


CASES: dict[str, Callable[[Rng], Case]] = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "TRANSPOSE_CONV": transpose_conv,
    "BATCH_MATMUL": batch_matmul,
    "ADD": _binary("ADD", "AddOptions"),
    "SUB": _binary("SUB", "SubOptions"),
    "MUL": _binary("MUL", "MulOptions"),
    "SQUARED_DIFFERENCE": _binary("SQUARED_DIFFERENCE", None),
    "MINIMUM": _binary("MINIMUM", None, same=True),
    "MAXIMUM": _binary("MAXIMUM", None, same=True),
    "AVERAGE_POOL_2D": _pool("AVERAGE_POOL_2D"),
    "MAX_POOL_2D": _pool("MAX_POOL_2D"),
    "MEAN": _reduce("MEAN", False),
    "SUM": _reduce("SUM", False),
    "REDUCE_MAX": _reduce("REDUCE_MAX", True),
    "REDUCE_MIN": _reduce("REDUCE_MIN", True),
    "ARG_MAX": _arg("ARG_MAX"),
    "ARG_MIN": _arg("ARG_MIN"),
    "SOFTMAX": softmax,
    "RESHAPE": reshape,
    "SQUEEZE": squeeze,
    "EXPAND_DIMS": expand_dims,
    "TRANSPOSE": transpose,
    "CONCATENATION": concatenation,
    "PACK": pack,
    "UNPACK": unpack,
    "SPLIT": split,
    "SPLIT_V": split_v,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "GATHER": gather,
    "PAD": _padded("PAD"),
    "PADV2": _padded("PADV2"),
    "MIRROR_PAD": _padded("MIRROR_PAD"),
    "BROADCAST_TO": broadcast_to,
    "REVERSE_V2": reverse,
    "SPACE_TO_DEPTH": space_to_depth,
    "DEPTH_TO_SPACE": depth_to_space,
    "SPACE_TO_BATCH_ND": space_to_batch,
    "BATCH_TO_SPACE_ND": batch_to_space,
    "RESIZE_NEAREST_NEIGHBOR": _resize("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
    "RESIZE_BILINEAR": _resize("RESIZE_BILINEAR", "ResizeBilinearOptions"),
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
    "RELU": _unary("RELU"),
    "RELU6": relu6,
    "PRELU": prelu,
    "LEAKY_RELU": _unary(
        "LEAKY_RELU", table=lambda rng: options("LeakyReluOptions", alpha=float(np.float32(rng.uniform(-0.3, 0.9))))
    ),
    "ABS": _unary("ABS"),
    "ELU": _unary("ELU"),
    "HARD_SWISH": _unary("HARD_SWISH"),
    "LOGISTIC": _unary("LOGISTIC", (1 / 256, -128)),
    "TANH": _unary("TANH", (1 / 128, 0)),
}
"""f(rng) draws a model, by operator."""


def draw_inputs(case: Case, rng: Rng) -> list[NDArray[Any]]:
    """Random values of the model's inputs."""
    found: list[NDArray[Any]] = []
    for tensor in case.inputs:
        if tensor.data is not None:
            continue
        if tensor.dtype is np.float32:
            found.append(rng.normal(0, 5, tensor.shape).astype(np.float32))
        else:
            limits = np.iinfo(tensor.dtype)
            found.append(rng.integers(limits.min, limits.max + 1, tensor.shape).astype(tensor.dtype))
    return found
