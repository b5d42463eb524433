"""Pooling on arrays."""

from __future__ import annotations

import numpy as np

from tidemill.compiler import ir
from tidemill.driver.npu import Npu
from tidemill.golden.requant import DIVISOR_MAX, float_scale, reciprocal
from tidemill.isa import RequantMode
from tidemill.ops import single
from tidemill.ops.conv import MAX_STRIDE
from tidemill.ops.single import Int8
from tidemill.ops.window import PaddingLike, window

MAX_KERNEL = 1 << 12


def pool2d(
    dev: Npu,
    x: Int8,
    kernel: int | ir.Pair,
    *,
    kind: str = "max",
    strides: int | ir.Pair | None = None,
    padding: PaddingLike = "VALID",
    qmin: int = -128,
    qmax: int = 127,
    mode: str = "tflite",
) -> Int8:
    """Pooling on the device: x int8 [N, H, W, C] -> int8 [N, Ho, Wo, C].

    Parameters
    ----------
    kernel, strides : int, or (vertical, horizontal); strides default to the kernel
    kind : "max" or "average"; padding never wins and is not counted
    padding : as for `conv2d`
    qmin, qmax : int, clamp of the result
    mode : "tflite" or "onnx", of the average: ties away from zero, or float32 times 1 / n with ties to even

    Results equal `golden.operators.max_pool2d` and `average_pool2d`. Raises ValueError, DeviceError.
    """
    x = single.int8("pool2d: x", x, 4)
    size = single.pair("pool2d: kernel", kernel, 1, MAX_KERNEL)
    steps = size if strides is None else single.pair("pool2d: strides", strides, 1, MAX_STRIDE)
    low, high = single.limits("pool2d", qmin, qmax)
    sides, shape = window("pool2d", (x.shape[1], x.shape[2]), size, steps, (1, 1), padding)
    tensors = single.inputs(x), single.output((x.shape[0], *shape, x.shape[3]))
    if kind == "max":
        op: ir.Op = ir.MaxPool2D("pool2d", "pool2d", *tensors, size, steps, sides, (1, 1), low, high)
    elif kind == "average":
        op = ir.SumPool2D("pool2d", "pool2d", *tensors, size, steps, sides, {})
        counts = _counts((x.shape[1], x.shape[2]), size, steps, sides, shape)
        op.requantize.update({n: _mean(n, low, high, mode) for n in counts})
    else:
        raise ValueError(f"pool2d: kind must be 'max' or 'average', not {kind!r}")
    return single.run_op(dev, op, x)


def max_pool2d(dev: Npu, x: Int8, kernel: int | ir.Pair, **options: object) -> Int8:
    """`pool2d` with kind "max"."""
    return pool2d(dev, x, kernel, kind="max", **options)  # type: ignore[arg-type]


def average_pool2d(dev: Npu, x: Int8, kernel: int | ir.Pair, **options: object) -> Int8:
    """`pool2d` with kind "average"."""
    return pool2d(dev, x, kernel, kind="average", **options)  # type: ignore[arg-type]


def _counts(size: ir.Pair, kernel: ir.Pair, strides: ir.Pair, padding: ir.Padding, outputs: ir.Pair) -> list[int]:
    """The numbers of pixels inside the image that windows have."""
    axes = []
    for n, k, s, (before, _), count in zip(size, kernel, strides, padding, outputs, strict=True):
        start = np.arange(count) * s - before
        axes.append(np.minimum(start + k, n) - np.maximum(start, 0))
    found = np.unique(np.outer(np.unique(axes[0]), np.unique(axes[1])))
    if found[0] < 1 or found[-1] > DIVISOR_MAX:
        wrong = int(found[0] if found[0] < 1 else found[-1])
        raise ValueError(f"pool2d: every window must have 1..{DIVISOR_MAX} pixels inside the image, not {wrong}")
    return [int(n) for n in found]


def _mean(n: int, qmin: int, qmax: int, mode: str) -> ir.Requantize:
    if mode == "tflite":
        bias, multiplier, shift = reciprocal(n)
        return ir.Requantize(multiplier, shift, 0, qmin, qmax, RequantMode.DIV, bias)
    if mode == "onnx":
        return ir.Requantize(*float_scale(np.float32(1) / np.float32(n)), 0, qmin, qmax, RequantMode.ONNX)
    raise ValueError(f"pool2d: mode must be 'tflite' or 'onnx', not {mode!r}")
