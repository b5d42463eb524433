"""Convolutions and products on arrays: what the compiler makes of a layer, on its own.

Results equal `golden.operators` byte for byte. Without `requant` they are the int32 accumulators.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.compiler import ir
from tidemill.driver.npu import Npu
from tidemill.ops import single
from tidemill.ops.requant import Requant
from tidemill.ops.single import Int8
from tidemill.ops.window import PaddingLike, window

MAX_STRIDE = 1 << 12
NO_PADDING: ir.Padding = ((0, 0), (0, 0))


def conv2d(
    dev: Npu,
    x: Int8,
    w: Int8,
    bias: ArrayLike | None = None,
    requant: Requant | None = None,
    *,
    strides: int | ir.Pair = 1,
    dilation: int | ir.Pair = 1,
    padding: PaddingLike = "VALID",
    groups: int = 1,
    input_zero_point: int = 0,
    weight_zero_point: int = 0,
) -> NDArray[np.generic]:
    """Convolution on the device.

    Parameters
    ----------
    dev : Npu
        From `tidemill.open`.
    x : int8 [N, H, W, Ci]
    w : int8 [Co, kh, kw, Ci / groups]
    bias : int32 [Co], optional
    requant : Requant, optional
        One scale, or one per output channel.
    strides, dilation : int, or (vertical, horizontal)
    padding : "SAME" (TFLite's), "VALID" or ((top, bottom), (left, right)); padding holds `input_zero_point`
    groups : int
        Divides Ci and Co; output channel o reads group o // (Co / groups).
    input_zero_point, weight_zero_point : int, -128 to 127
        Subtracted from x and w.

    Returns int8 [N, Ho, Wo, Co], or int32 without `requant`. Raises ValueError for arguments out of range, DeviceError.
    """
    x, w = single.int8("conv2d: x", x, 4), single.int8("conv2d: w", w, 4)
    channels, outputs = x.shape[3], w.shape[0]
    groups = single.integer("conv2d: groups", groups, 1, channels)
    if channels % groups or outputs % groups:
        raise ValueError(f"conv2d: groups must divide {channels} inputs and {outputs} outputs, not {groups}")
    if w.shape[3] != channels // groups:
        raise ValueError(
            f"conv2d: w must have {channels // groups} input channels ({channels} in {groups} groups), not {w.shape[3]}"
        )
    weights = w.astype(np.int16) - single.zero_point("conv2d: weight_zero_point", weight_zero_point)
    return _run(dev, "conv2d", x, weights, bias, requant, strides, dilation, padding, groups, input_zero_point)


def depthwise_conv2d(
    dev: Npu,
    x: Int8,
    w: Int8,
    bias: ArrayLike | None = None,
    requant: Requant | None = None,
    *,
    strides: int | ir.Pair = 1,
    dilation: int | ir.Pair = 1,
    padding: PaddingLike = "VALID",
    input_zero_point: int = 0,
) -> NDArray[np.generic]:
    """Depthwise convolution: x int8 [N, H, W, C], w int8 [1, kh, kw, C * m] -> [N, Ho, Wo, C * m]; output channel
    c * m + i reads input channel c. The rest as for `conv2d`."""
    x, w = single.int8("depthwise_conv2d: x", x, 4), single.int8("depthwise_conv2d: w", w, 4)
    if w.shape[0] != 1 or w.shape[3] % x.shape[3]:
        raise ValueError(
            f"depthwise_conv2d: w must be [1, kh, kw, m * {x.shape[3]}] for x of {x.shape[3]} channels, "
            f"not {list(w.shape)}"
        )
    weights = np.ascontiguousarray(w.astype(np.int16).transpose(3, 1, 2, 0))
    return _run(
        dev, "depthwise_conv2d", x, weights, bias, requant, strides, dilation, padding, x.shape[3], input_zero_point
    )  # fmt: skip


def fully_connected(
    dev: Npu,
    x: Int8,
    w: Int8,
    bias: ArrayLike | None = None,
    requant: Requant | None = None,
    *,
    input_zero_point: int = 0,
) -> NDArray[np.generic]:
    """Fully connected layer: x int8 [..., K], w int8 [N, K] -> [..., N]. The rest as for `conv2d`."""
    x, w = single.int8("fully_connected: x", x), single.int8("fully_connected: w", w, 2)
    outputs, depth = w.shape
    if x.shape[-1] != depth:
        raise ValueError(f"fully_connected: w must have {x.shape[-1]} columns, the last axis of x, not {depth}")
    flat = x.reshape(1, 1, -1, depth)
    weights = w.astype(np.int16).reshape(outputs, 1, 1, depth)
    y = _run(dev, "fully_connected", flat, weights, bias, requant, 1, 1, NO_PADDING, 1, input_zero_point)
    return y.reshape(*x.shape[:-1], outputs)


def matmul(
    dev: Npu, a: Int8, b: Int8, requant: Requant | None = None, *, a_zero_point: int = 0, b_zero_point: int = 0
) -> NDArray[np.generic]:
    """Product of two activations: a int8 [..., M, K] @ b int8 [..., K, N] -> [..., M, N] with equal leading axes.

    Zero points are subtracted first. int8 with `requant`, else int32. Raises ValueError, DeviceError. Where b is
    constant `gemm` and `fully_connected` are faster.
    """
    a, b = single.int8("matmul: a", a), single.int8("matmul: b", b)
    if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2] or a.shape[-1] != b.shape[-2]:
        raise ValueError(f"matmul: a [..., M, K] and b [..., K, N] must agree, not {list(a.shape)} and {list(b.shape)}")
    shape = (*a.shape[:-1], b.shape[-1])
    op = ir.MatMul(
        "matmul", "matmul", single.inputs(a, b), single.output(shape, "int8" if requant else "int32"),
        single.requantize(requant, shape[-1]), single.zero_point("matmul: a_zero_point", a_zero_point),
        single.zero_point("matmul: b_zero_point", b_zero_point),
    )  # fmt: skip
    return single.run_op(dev, op, a, b)


def _run(
    dev: Npu,
    name: str,
    x: Int8,
    weights: NDArray[np.int16],
    bias: ArrayLike | None,
    requant: Requant | None,
    strides: int | ir.Pair,
    dilation: int | ir.Pair,
    padding: PaddingLike,
    groups: int,
    input_zero_point: int,
) -> NDArray[np.generic]:
    """Weights are those of `ir.Conv2D`."""
    outputs, kh, kw, _ = weights.shape
    steps = single.pair(f"{name}: strides", strides, 1, MAX_STRIDE)
    spread = single.pair(f"{name}: dilation", dilation, 1, MAX_STRIDE)
    sides, size = window(name, (x.shape[1], x.shape[2]), (kh, kw), steps, spread, padding)
    offsets = np.zeros(outputs, np.int32) if bias is None else np.asarray(bias)
    if offsets.dtype != np.int32 or offsets.shape != (outputs,):
        raise ValueError(f"{name}: bias must be int32 [{outputs}], not {offsets.dtype} {list(offsets.shape)}")
    op = ir.Conv2D(
        name, name, single.inputs(x), single.output((x.shape[0], *size, outputs), "int8" if requant else "int32"),
        weights, offsets, single.requantize(requant, outputs), steps, spread, sides, groups,
        single.zero_point(f"{name}: input_zero_point", input_zero_point),
    )  # fmt: skip
    return single.run_op(dev, op, x)
