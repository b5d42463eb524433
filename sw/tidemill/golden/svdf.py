"""TFLite's SVDF: a dense layer factored into features of the input and weights over time, with a memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.golden.affine import Affine, Int8
from tidemill.golden.requant import quantize_multiplier, requantize
from tidemill.golden.vector import saturate_int8

Memory = NDArray[Any]


@dataclass(frozen=True)
class Svdf:
    """int8 SVDF with `rank` filters for each unit.

    `features` int8 [filters, inputs], `times` int8 or int16 [filters, memory], `bias` int32 [units]. The memory has
    the type of `times`.
    """

    features: Int8
    times: NDArray[Any]
    bias: NDArray[np.int32]
    rank: int
    x: Affine
    feature_scale: float
    time_scale: float
    state: Affine
    y: Affine

    def __call__(self, x: Int8, memory: Memory) -> tuple[Int8, Memory]:
        """Output [batch, units] and new memory of x [batch, inputs] and memory [batch, filters, length].

        EvalIntegerSvdfReference: the memory moves on by one and takes the features of x; sums wrap at 32 bits.
        """
        sx, sf, st, ss, sy = (
            float(np.float32(s))
            for s in (self.x.scale, self.feature_scale, self.time_scale, self.state.scale, self.y.scale)
        )
        limits = np.iinfo(self.times.dtype)
        dots = (x.astype(np.int64) - self.x.zero_point) @ self.features.T.astype(np.int64)
        found = np.clip(requantize(dots, 0, *quantize_multiplier(sx * sf / ss)), limits.min, limits.max)
        newest = (found + self.state.zero_point).astype(self.times.dtype)
        new = np.concatenate([memory[:, :, 1:], newest[:, :, None]], axis=2)
        sums = ((new.astype(np.int64) - self.state.zero_point) * self.times).sum(axis=2)
        total = sums.reshape(x.shape[0], -1, self.rank).sum(axis=2) + self.bias
        final = quantize_multiplier(ss * st / sy)
        return saturate_int8(requantize(total, 0, *final, zero_point=self.y.zero_point)), new
