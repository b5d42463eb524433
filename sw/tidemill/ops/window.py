"""Geometry of windows over images: padding and output sizes."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.compiler.ir import Padding, Pair
from tidemill.ops.single import integer

PaddingLike = str | Sequence[Sequence[int]]
""""SAME", "VALID" or ((top, bottom), (left, right))."""
LARGEST = 1 << 15
"""Most pixels of padding at one side."""


def window(
    function: str, size: Pair, kernel: Pair, strides: Pair, dilation: Pair, padding: PaddingLike
) -> tuple[Padding, Pair]:
    """(padding, output size) for an image of `size`. "SAME" pads as TFLite does: ceil(size / stride) outputs, the odd
    pixel behind. Raises ValueError where the padding is none of the three kinds, or the kernel does not fit."""
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"{function}: padding must be 'SAME', 'VALID' or pairs, not {padding!r}")
        totals = [
            max((-(-n // s) - 1) * s + e - n, 0) if padding == "SAME" else 0
            for n, s, e in zip(size, strides, extent, strict=True)
        ]
        sides = [(total // 2, total - total // 2) for total in totals]
    else:
        if len(padding) != 2 or any(len(side) != 2 for side in padding):
            raise ValueError(f"{function}: padding must be ((top, bottom), (left, right)), not {padding!r}")
        low, high = 0, LARGEST
        sides = [
            (integer(f"{function}: padding", a, low, high), integer(f"{function}: padding", b, low, high))
            for a, b in padding
        ]
    result = []
    for n, s, e, (a, b) in zip(size, strides, extent, sides, strict=True):
        if n + a + b < e:
            raise ValueError(f"{function}: the kernel covers {e} pixels; the image with its padding has {n + a + b}")
        result.append((n + a + b - e) // s + 1)
    return (sides[0], sides[1]), (result[0], result[1])
