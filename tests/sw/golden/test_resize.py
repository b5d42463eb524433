"""Resizing equals TensorFlow Lite Micro and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper

from tidemill.golden import resize
from tidemill_verif.runtimes import onnx_models
from tidemill_verif.runtimes.tflite_models import Tensor, run, schema

MODES = [(False, False), (True, False), (False, True)]


@pytest.mark.parametrize(("corners", "halves"), MODES)
@pytest.mark.parametrize("operator", ["RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"])
def test_tflite(operator: str, corners: bool, halves: bool) -> None:
    rng = np.random.default_rng(1)
    nearest = operator == "RESIZE_NEAREST_NEIGHBOR"
    options = schema.ResizeNearestNeighborOptionsT() if nearest else schema.ResizeBilinearOptionsT()
    options.alignCorners, options.halfPixelCenters = corners, halves
    for _ in range(60):
        x = rng.integers(-128, 128, (1, *rng.integers(1, 12, 2), 3)).astype(np.int8)
        size = (int(rng.integers(1, 30)), int(rng.integers(1, 30)))
        constant = Tensor((2,), [], dtype=np.int32, data=np.array(size, dtype=np.int32))
        expected = run(operator, options, [Tensor(x.shape, [0.1]), constant], Tensor((1, *size, 3), [0.1]), x)
        names: Any = {"align_corners": corners, "half_pixel_centers": halves}
        if nearest:
            rows, columns = (resize.tflite_nearest(x.shape[1 + i], size[i], **names) for i in (0, 1))
            actual = x[:, rows][:, :, columns]
        else:
            actual = resize.tflite_resize_bilinear(x, size, **names)
        assert np.array_equal(actual, expected), (x.shape, size)


@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_onnx_nearest(coordinates: str, rounding: str) -> None:
    rng = np.random.default_rng(2)
    for case in range(40):
        before = [int(v) for v in rng.integers(1, 14, 2)]
        x = rng.integers(-128, 128, (1, 2, *before)).astype(np.int8)
        constants: dict[str, Any] = {}
        factors: list[float | None] = [None, None]
        if case % 2:
            factors = [float(np.float32(f)) for f in rng.choice([0.5, 0.7, 1.0, 1.5, 2.0, 3.3], 2)]
            after = [int(np.floor(np.float32(b) * np.float32(f))) for b, f in zip(before, factors, strict=True)]
            if min(after) < 1:
                continue
            constants["scales"] = np.array([1, 1, *factors], dtype=np.float32)
        else:
            after = [int(v) for v in rng.integers(1, 30, 2)]
            constants["sizes"] = np.array([1, 2, *after], dtype=np.int64)
        inputs = ["x", "", "scales"] if case % 2 else ["x", "", "", "sizes"]
        modes = {"coordinate_transformation_mode": coordinates, "nearest_mode": rounding, "mode": "nearest"}
        node = helper.make_node("Resize", inputs, ["y"], **modes)
        expected = onnx_models.run_nodes([node], constants, {"x": x})
        rows, columns = (
            resize.onnx_nearest(before[i], after[i], scale=factors[i], coordinates=coordinates, rounding=rounding)
            for i in (0, 1)
        )
        assert np.array_equal(x[:, :, rows][:, :, :, columns], expected), (before, after, factors)


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="coordinate_transformation_mode tf_crop_and_resize is not supported"):
        resize.onnx_nearest(2, 4, coordinates="tf_crop_and_resize")
    with pytest.raises(ValueError, match="nearest_mode must be one of"):
        resize.onnx_nearest(2, 4, rounding="up")
