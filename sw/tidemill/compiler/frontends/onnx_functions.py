"""Elementwise functions of ONNX in numpy, of float32 as ONNX Runtime computes them: what tables are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tidemill.compiler.frontends.onnx_convert import Converter
from tidemill.compiler.frontends.onnx_model import Node
from tidemill.compiler.frontends.onnx_values import require
from tidemill.compiler.host_onnx import BINARY, PARAMETERS, UNARY, Array

__all__ = ["BINARY", "UNARY", "unary_function"]


def unary_function(c: Converter, node: Node, dtype: str) -> tuple[Callable[[Array], Array], dict[str, Any]]:
    """The function of `UNARY` that the node names, with its attributes: those a host operation keeps."""
    attributes: dict[str, Any] = {}
    if node.op == "Clip":
        low, high = clip_limits(c, node)
        attributes = {"low": low, "high": high}
    elif node.op == "Relu":
        attributes = {"low": 0.0, "high": math.inf}
    else:
        for name in PARAMETERS:
            if name in node.attributes:
                value = node.attributes[name]
                attributes[name] = node.text(name, "") if isinstance(value, bytes) else float(node.number(name, 0.0))
    function = UNARY[node.op]

    def run(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(attributes, x))

    return run, attributes


def clip_limits(c: Converter, node: Node) -> tuple[float, float]:
    """min and max of Clip, attributes before operator set 11, later inputs."""
    if node.opset < 11:
        return float(node.number("min", -math.inf)), float(node.number("max", math.inf))
    limits = []
    for index, default in ((1, -math.inf), (2, math.inf)):
        given = c.optional(node, index)
        limits.append(default if given is None else float(c.scalar(node, index, "a limit")))
    require(not any(math.isnan(limit) for limit in limits), node, "its limits are not numbers")
    return limits[0], limits[1]
