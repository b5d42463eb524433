"""Resizing of int8 images [N, H, W, C]: source indices of nearest neighbours, and TFLite's bilinear interpolation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tidemill.golden.affine import Int8, round_away

Int64 = NDArray[np.int64]

ONE = 1 << 10
"""One pixel in TFLite's fixed-point coordinates."""


def tflite_nearest(before: int, after: int, *, align_corners: bool = False, half_pixel_centers: bool = False) -> Int64:
    """The source pixel of each of `after` pixels along one axis of RESIZE_NEAREST_NEIGHBOR (GetNearestNeighbor)."""
    corners = align_corners and after > 1
    scale = np.float32(before - corners) / np.float32(after - corners)
    place = (np.arange(after, dtype=np.float32) + np.float32(0.5 * half_pixel_centers)) * scale
    pixel = round_away(place) if align_corners else np.floor(place)
    return np.clip(pixel, 0, before - 1).astype(np.int64)


def _interpolation(before: int, after: int, corners: bool, halves: bool) -> tuple[Int64, Int64, Int64]:
    """(lower pixel, upper pixel, fraction in 1 / ONE) of each of `after` pixels (ComputeInterpolationValuesInteger)."""
    if corners and after > 1:
        scale = (ONE * (before - 1) + (after - 1) // 2) // (after - 1)
    else:
        scale = (ONE * before + after // 2) // after
    place = np.arange(after, dtype=np.int64) * scale
    if halves:
        place = place + scale // 2 - ONE // 2
    # C divides towards zero; a negative place has pixel 0 on both sides
    lower = np.maximum(place // ONE, 0)
    upper = np.minimum(np.where(place > -ONE, (place + ONE - 1) // ONE, 0), before - 1)
    return lower, np.maximum(upper, 0), place - ONE * lower


def tflite_resize_bilinear(
    x: Int8, size: tuple[int, int], *, align_corners: bool = False, half_pixel_centers: bool = False
) -> Int8:
    """RESIZE_BILINEAR of int8 [N, H, W, C] to `size` = (H, W) (ResizeBilinearInteger); the quantization stays."""
    top, bottom, down = _interpolation(x.shape[1], size[0], align_corners, half_pixel_centers)
    left, right, along = _interpolation(x.shape[2], size[1], align_corners, half_pixel_centers)
    down, along = down[:, None, None], along[:, None]
    wide = x.astype(np.int64)
    above = wide[:, top][:, :, left] * (ONE - along) + wide[:, top][:, :, right] * along
    below = wide[:, bottom][:, :, left] * (ONE - along) + wide[:, bottom][:, :, right] * along
    total = above * (ONE - down) + below * down
    half = np.where(total > 0, ONE * ONE // 2, -(ONE * ONE // 2))
    rounded = np.sign(total + half) * (np.abs(total + half) // (ONE * ONE))
    return np.asarray(rounded, dtype=np.int8)


def onnx_nearest(
    before: int,
    after: int,
    *,
    scale: float | None = None,
    coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
) -> Int64:
    """The source pixel of each of `after` pixels along one axis of ONNX Resize, mode nearest.

    `scale` is the model's, else after / before; `coordinates` is coordinate_transformation_mode (half_pixel,
    pytorch_half_pixel, asymmetric, align_corners) and `rounding` nearest_mode. Coordinates are float32 numbers as in
    ONNX Runtime's upsample kernels. Raises ValueError for another name.
    """
    factor = np.float32(after) / np.float32(before) if scale is None else np.float32(scale)
    pixels = np.arange(after, dtype=np.float32)
    half = np.float32(0.5)
    if coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and after > 1):
        place = (pixels + half) / factor - half
    elif coordinates == "pytorch_half_pixel":
        place = np.zeros_like(pixels)
    elif coordinates == "asymmetric":
        place = pixels / factor
    elif coordinates == "align_corners":
        place = pixels * np.float32(before - 1) / np.float32(max(after - 1, 1))
    else:
        raise ValueError(f"coordinate_transformation_mode {coordinates} is not supported")
    if scale is None and after == before:
        place = pixels
    below = np.floor(place)
    nearest = {
        "round_prefer_floor": np.where(place == below + half, below, np.floor(place + half)),
        "round_prefer_ceil": np.floor(place + half),
        "floor": below,
        "ceil": np.ceil(place),
    }
    if rounding not in nearest:
        raise ValueError(f"nearest_mode must be one of {', '.join(nearest)}, not {rounding}")
    return np.asarray(np.clip(nearest[rounding], 0, before - 1), dtype=np.int64)
