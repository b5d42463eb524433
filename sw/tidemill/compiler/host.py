"""What runs on the host: the functions that `ir.Host` operations name.

A function takes the operation's attributes and its inputs, and returns one array an output, of the outputs' types and
shapes. It must be a function of those alone: a compiled file stores its name and attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler import host_onnx, host_tflite
from tidemill.golden.softmax import tflite_softmax

Array = NDArray[Any]
Function = Callable[..., list[Array]]


def softmax(attributes: Mapping[str, Any], x: Array) -> list[Array]:
    """TFLite's int8 softmax over the last axis with `scale` and `beta`: what the kernel computes."""
    return [tflite_softmax(x, attributes["scale"], attributes["beta"])]


def move(attributes: Mapping[str, Any], *inputs: Array) -> list[Array]:
    """Elements of the concatenated inputs at `index`, `fill` where it is -1, as `ir.Move`."""
    flat = [x.reshape(-1) for x in inputs]
    return [np.concatenate([*flat, np.array([attributes["fill"]], flat[0].dtype)])[attributes["index"]]]


FUNCTIONS: dict[str, Function] = {"softmax": softmax, "move": move, **host_tflite.FUNCTIONS, **host_onnx.FUNCTIONS}
"""f(attributes, *inputs) -> outputs, by name."""


def call(function: str, attributes: Mapping[str, Any], *inputs: Array) -> list[Array]:
    """Run one function. Raises KeyError for a name that is not in `FUNCTIONS`."""
    return FUNCTIONS[function](attributes, *inputs)
