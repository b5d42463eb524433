"""The digits network as a graph for the compiler: for arrays that the hand-written program does not fit."""

from __future__ import annotations

import numpy as np

from tidemill.compiler.ir import Conv2D, Graph, MaxPool2D, Op, Padding, Port, Requantize, Tensor
from tidemill.demo.digits.network import CLASSES, Layer, Network

_NONE: Padding = ((0, 0), (0, 0))
_ONE: Padding = ((1, 1), (1, 1))


def _convolution(name: str, layer: Layer, x: Tensor, shape: tuple[int, ...], padding: Padding) -> Conv2D:
    weights = layer.weights.transpose(3, 0, 1, 2).astype(np.int16)
    # The layer's bias has the input's zero point in it; a graph's has not.
    bias = layer.bias + layer.zero_point_in * weights.sum(axis=(1, 2, 3), dtype=np.int32)
    scaling = Requantize(layer.multiplier, layer.shift, layer.zero_point_out)
    return Conv2D(
        name, "digits", [x], [Tensor(name, shape)], weights, bias.astype(np.int32), scaling,
        padding=padding, input_zero_point=layer.zero_point_in,
    )  # fmt: skip


def digits_graph(network: Network) -> Graph:
    """`network` for one image: input `image` int8 [1, 8, 8, 1], output `logits` int8 [1, 10]."""
    image = Tensor("image", (1, 8, 8, 1))
    conv1 = _convolution("conv1", network.conv1, image, (1, 6, 6, 16), _NONE)
    conv2 = _convolution("conv2", network.conv2, conv1.y, (1, 6, 6, 32), _ONE)
    pool = MaxPool2D("pool", "digits", [conv2.y], [Tensor("pool", (1, 3, 3, 32))], (2, 2), (2, 2), _NONE)
    dense = _convolution("dense", network.fc, pool.y, (1, 1, 1, CLASSES), _NONE)
    ops: list[Op] = [conv1, conv2, pool, dense]
    ports = [Port("image", image, image.shape, "int8")], [Port("logits", dense.y, (1, CLASSES), "int8")]
    return Graph("digits", ops, *ports)
