"""`Requant`: how int32 results become int8, in the terms of the runtimes that made the numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.golden.requant import float_scale, quantize_multiplier
from tidemill.isa import RequantMode

MODES: dict[str, RequantMode] = {"tflite": RequantMode.TFLITE, "onnx": RequantMode.ONNX}


def _integers(name: str, value: ArrayLike, low: int, high: int) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise ValueError(f"requant {name} must be an int or one int per column, not {value!r}")
    if array.size and not (low <= array.min() and array.max() <= high):
        raise ValueError(f"requant {name} must be in {low}..{high}, not {value!r}")
    return array.astype(np.int64)


@dataclass(frozen=True)
class Requant:
    """Requantization of int32 to int8: `clamp(round(acc * multiplier * 2**(shift - 31)) + zero_point, qmin, qmax)`.

    Parameters
    ----------
    multiplier : int or [N] ints
        Q31 fixed-point multiplier, 0 to 2**31 - 1.
    shift : int or [N] ints
        TFLite's exponent: positive left, negative right; -31 to 31 (mode "onnx": -100 to 31).
    zero_point, qmin, qmax : int
        Of the int8 result.
    mode : "tflite" or "onnx"
        "tflite": TFLite Micro's double rounding. "onnx": ONNX Runtime's float32 product, rounded half to even; the
        scale is `float32(multiplier * 2**(shift - 31))`.

    Raises ValueError for anything outside these ranges.
    """

    multiplier: ArrayLike
    shift: ArrayLike
    zero_point: int = 0
    qmin: int = -128
    qmax: int = 127
    mode: str = "tflite"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"requant mode must be one of {', '.join(MODES)}, not {self.mode!r}")
        for name in ("zero_point", "qmin", "qmax"):
            object.__setattr__(self, name, int(_integers(name, getattr(self, name), -128, 127)))
        if self.qmin > self.qmax:
            raise ValueError(f"requant qmin must be at most qmax ({self.qmax}), not {self.qmin!r}")
        _integers("multiplier", self.multiplier, 0, 2**31 - 1)
        _integers("shift", self.shift, -31 if self.mode == "tflite" else -100, 31)

    @classmethod
    def from_scale(
        cls, scale: ArrayLike, zero_point: int = 0, qmin: int = -128, qmax: int = 127, mode: str = "tflite"
    ) -> Requant:
        """Build from real scales (`input_scale * weight_scale / output_scale`), a number or one per column."""
        scales = np.asarray(scale, dtype=np.float64)
        if scales.ndim > 1 or not np.all(np.isfinite(scales)) or np.any(scales < 0):
            raise ValueError(f"requant scale must be finite and not negative, one or one per column, not {scale!r}")
        convert = float_scale if mode == "onnx" else quantize_multiplier
        pairs = np.array([convert(float(value)) for value in scales.reshape(-1)], dtype=np.int64).reshape(-1, 2)
        multiplier, shift = (pairs[:, i].reshape(scales.shape) for i in (0, 1))
        return cls(multiplier, shift, zero_point, qmin, qmax, mode)

    @property
    def isa_mode(self) -> RequantMode:
        """The mode as `vx.quant` names it."""
        return MODES[self.mode]

    def columns(self, n: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Multiplier and shift of each of `n` columns, int32 [n], in the form the hardware takes.

        Raises ValueError where there are neither one nor n of them.
        """
        result = []
        for name in ("multiplier", "shift"):
            array = np.asarray(getattr(self, name), dtype=np.int64)
            if array.size not in (1, n):
                raise ValueError(f"requant {name} has {array.size} values; the result has {n} columns")
            result.append(np.broadcast_to(array.reshape(-1), (n,)))
        multiplier, shift = result
        if self.isa_mode is RequantMode.ONNX:
            scales = np.ldexp(multiplier.astype(np.float64), shift - 31).astype(np.float32)
            pairs = np.array([float_scale(value) for value in scales], dtype=np.int64).reshape(-1, 2)
            multiplier, shift = pairs[:, 0], pairs[:, 1]
        return multiplier.astype(np.int32), shift.astype(np.int32)
