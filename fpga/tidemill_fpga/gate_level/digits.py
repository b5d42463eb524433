"""The digits network layer by layer, for arrays of every size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tidemill.demo.digits.network import Layer, Network
from tidemill.driver.npu import Npu
from tidemill.ops.conv import conv2d, fully_connected
from tidemill.ops.pool import max_pool2d
from tidemill.ops.requant import Requant

Int8 = NDArray[np.int8]


def logits(dev: Npu, network: Network, images: Int8) -> Int8:
    """int8 [N, 10] of int8 images [N, 8, 8], every layer a program of its own on `dev`.

    The demonstration's program keeps all weights on chip, which needs an array of 16 x 16.
    """
    x = _convolve(dev, network.conv1, images[..., None], "VALID")
    x = _convolve(dev, network.conv2, x, "SAME")
    x = max_pool2d(dev, x, 2, strides=2)
    layer = network.fc
    weights = layer.weights.reshape(-1, layer.weights.shape[-1])
    y = fully_connected(
        dev, x.reshape(len(x), -1), weights.T, _bias(layer), _requant(layer), input_zero_point=layer.zero_point_in
    )
    return y.astype(np.int8)


def _convolve(dev: Npu, layer: Layer, x: Int8, padding: str) -> Int8:
    weights = np.ascontiguousarray(layer.weights.transpose(3, 0, 1, 2))
    y = conv2d(
        dev, x, weights, _bias(layer), _requant(layer), padding=padding, input_zero_point=layer.zero_point_in
    )  # fmt: skip
    return y.astype(np.int8)


def _bias(layer: Layer) -> NDArray[np.int32]:
    """Without the input's zero point, which the library's functions subtract themselves."""
    sums = layer.weights.astype(np.int32).sum(axis=(0, 1, 2), dtype=np.int32)
    bias: NDArray[np.int32] = layer.bias + np.int32(layer.zero_point_in) * sums
    return bias


def _requant(layer: Layer) -> Requant:
    return Requant(layer.multiplier, layer.shift, layer.zero_point_out)
