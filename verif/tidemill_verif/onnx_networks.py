"""Small float networks with random weights and onnxruntime's static quantization of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

IMAGE = (1, 3, 16, 16)


def residual_network(seed: int, pooling: str = "GlobalAveragePool") -> onnx.ModelProto:
    """Conv, depthwise and grouped Conv, residual addition, MaxPool, Concat, pooling, Gemm: x [N, 3, 16, 16] -> y."""
    rng = np.random.default_rng(seed)
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weights(name: str, *shape: int) -> str:
        constants.append(numpy_helper.from_array((rng.standard_normal(shape) * 0.3).astype(np.float32), name))
        return name

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=f"{output}_node", **attributes))
        return output

    x = node("Conv", ["x", weights("w1", 8, 3, 3, 3), weights("b1", 8)], "c1", pads=[1] * 4, strides=[2, 2])
    x = node("Relu", [x], "r1")
    y = node("Conv", [x, weights("w2", 8, 1, 3, 3), weights("b2", 8)], "c2", pads=[1] * 4, group=8)
    y = node("Relu", [y], "r2")
    y = node("Conv", [y, weights("w3", 8, 4, 1, 1), weights("b3", 8)], "c3", group=2)
    x = node("Add", [x, y], "sum")
    z = node("MaxPool", [x], "largest", kernel_shape=[3, 3], pads=[1] * 4)
    x = node("Concat", [x, z], "joined", axis=1)
    window = {} if pooling.startswith("Global") else {"kernel_shape": [2, 2], "strides": [2, 2]}
    x = node("Flatten", [node(pooling, [x], "pooled", **window)], "flat")
    features = 16 if pooling.startswith("Global") else 16 * 4 * 4
    node("Gemm", [x, weights("wg", 10, features), weights("bg", 10)], "y", transB=1)
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", *IMAGE[1:]])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class RandomImages(CalibrationDataReader):  # type: ignore[misc]
    """Eight normal images."""

    def __init__(self, seed: int) -> None:
        self.images = images(seed, 8)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next calibration input."""
        image = next(self.images, None)
        return None if image is None else {"x": image}


def images(seed: int, count: int) -> Iterator[NDArray[np.float32]]:
    """Normal images."""
    rng = np.random.default_rng(seed)
    return iter([rng.standard_normal(IMAGE).astype(np.float32) for _ in range(count)])


def quantized(model: onnx.ModelProto, folder: Path, form: str, activations: str, per_channel: bool, seed: int) -> bytes:
    """The file of the quantized model; `form` is QDQ or QOperator, `activations` QInt8 or QUInt8."""
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(model, source)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_static(
            source,
            target,
            RandomImages(seed),
            quant_format=QuantFormat[form],
            activation_type=QuantType[activations],
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
        )
    logging.disable(logging.NOTSET)
    return target.read_bytes()
