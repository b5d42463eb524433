"""Rewrites of an ONNX model before it is converted, and constant folding."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import onnx
import onnx.helper
from onnx.reference import ReferenceEvaluator

from tidemill.compiler.frontends.onnx_model import DTYPES, Array, Model, Node, check_size

COMMUTING = {"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Flatten", "Identity", "GlobalMaxPool"}
"""Operators that give the same result before and after a QuantizeLinear (QDQPropagation moves it too)."""
MAKERS = {"Conv", "Gemm", "MatMul", "Add", "Mul", "Sub", "Relu", "Clip", "Concat", "AveragePool", "GlobalAveragePool"}
"""Operators that need a QuantizeLinear right behind them."""
FOLDABLE = {
    *("Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten", "Floor"),
    *("Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg"),
    *("Not", "Or", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Size"),
    *("Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
}
"""Operators that are computed at once when all their inputs are constants."""
FOLD_LIMIT = 1 << 20
"""Most elements that folding reads or makes."""


def live_nodes(model: Model) -> set[int]:
    """Indices of the nodes that an output of the model depends on."""
    producers = {name: node for node in model.nodes for name in node.outputs if name}
    pending = [border.name for border in model.outputs]
    live: set[int] = set()
    while pending:
        node = producers.get(pending.pop())
        if node is not None and node.index not in live:
            live.add(node.index)
            pending += [name for name in node.inputs if name]
    return live


def hoist_quantization(model: Model) -> None:
    """Move QuantizeLinear nodes before movements and maximum pools, to the layer that makes their float32 values."""
    borders = {border.name for border in model.outputs}
    moved = True
    while moved:
        moved = False
        producers = {name: node for node in model.nodes for name in node.outputs if name}
        for node in model.nodes:
            if node.op == "QuantizeLinear" and _hoist(model, node, producers, borders):
                model.index_consumers()
                moved = True
                break


def _hoist(model: Model, quantize: Node, producers: dict[str, Node], borders: set[str]) -> bool:
    """Exchange `quantize` and the movement before it, if a layer that waits for it is behind."""
    scale = model.constants.get(quantize.inputs[1]) if len(quantize.inputs) > 1 else None
    if scale is None or scale.size != 1 or any(name and name not in model.constants for name in quantize.inputs[1:]):
        return False
    mover = producers.get(quantize.inputs[0])
    if mover is None or mover.domain or mover.op not in COMMUTING or len(mover.outputs) != 1:
        return False
    maker = producers.get(mover.inputs[0])
    while maker is not None and maker.op in COMMUTING:
        maker = producers.get(maker.inputs[0])
    if maker is None or maker.op not in MAKERS:
        return False
    source = mover.inputs[0]
    alone = len(model.consumers.get(mover.outputs[0], [])) == 1 and len(model.consumers.get(source, [])) == 1
    if not alone or mover.outputs[0] in borders or source in borders:
        return False
    between = f"{source}/{quantize.outputs[0]}"
    first = dataclasses.replace(quantize, inputs=(source, *quantize.inputs[1:]), outputs=(between,))
    second = dataclasses.replace(mover, inputs=(between, *mover.inputs[1:]), outputs=quantize.outputs)
    places = model.nodes.index(mover), model.nodes.index(quantize)
    model.nodes[places[0]], model.nodes[places[1]] = first, second
    return True


def fold(node: Node, inputs: list[Array | None]) -> list[Array]:
    """The outputs of a node of constants, by ONNX's reference evaluator. Raises ModelError where it fails."""
    arrays = [array for array in inputs if array is not None]
    if sum(array.size for array in arrays) > FOLD_LIMIT or _result_size(node, arrays) > FOLD_LIMIT:
        raise node.error("it makes a constant that is too large")
    names = [name for name in node.inputs if name]
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in dict(zip(names, arrays, strict=True)).items()
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.outputs if name]
    graph = onnx.helper.make_graph([node.proto], "fold", infos, outputs)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", node.opset)])
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(proto).run(None, dict(zip(names, arrays, strict=True)))
    except Exception as error:  # the evaluator raises whatever numpy and its own code raise for invalid constants
        raise node.error(f"its constant inputs are not valid: {error}") from None
    values = [np.asarray(result) for result in results]
    for value in values:
        check_size(value.shape, f"node {node.name!r} ({node.op}): its result")
        if str(value.dtype) not in DTYPES.values():
            raise node.error(f"{value.dtype} data is not supported")
    return values


def _result_size(node: Node, inputs: list[Array]) -> int:
    """A bound of the elements a folded node makes."""
    try:
        if node.op == "ConstantOfShape":
            return math.prod(max(int(size), 0) for size in inputs[0].reshape(-1))
        if node.op == "Expand":
            return math.prod(np.broadcast_shapes(inputs[0].shape, tuple(abs(int(s)) for s in inputs[1].reshape(-1))))
        if node.op == "Range":
            start, limit, delta = (float(array.reshape(-1)[0]) for array in inputs[:3])
            return max(math.ceil((limit - start) / delta), 0)
        if node.op == "Gather":
            return math.prod((*inputs[0].shape, *inputs[1].shape))
        if node.op in ("Concat", "Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Flatten"):
            return sum(array.size for array in inputs)
        return math.prod(np.broadcast_shapes(*(array.shape for array in inputs)))
    except (ValueError, IndexError, ZeroDivisionError, OverflowError):
        return 0


def is_float(model: Model) -> bool:
    """A model with layers and without anything quantized."""
    ops = {node.op for node in model.nodes}
    quantized = any(mark in op for op in ops for mark in ("uantizeLinear", "QLinear", "Integer", "QGemm"))
    layers = ops & {"Conv", "Gemm", "MatMul", "ConvTranspose", "LSTM", "GRU", "Attention"}
    return bool(layers) and not quantized
