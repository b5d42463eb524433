"""Random single-layer models, through the front ends and the compiler, against TFLite Micro and ONNX Runtime.

`python -m tidemill_verif.layer_sweep --layers N --seed S --preset P --device D [--mode tflite|onnx|both]` makes N
convolutions, depthwise convolutions and fully connected layers in each mode, with random shapes, strides, paddings,
dilations, scales and zero points, and compares every byte. Layer `i` has the seed S + i: `--layers 1 --seed THAT`
repeats it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

import tidemill as tm
from tidemill.compiler.compile import compile_graph
from tidemill.compiler.frontends.onnx import load_onnx
from tidemill.compiler.frontends.tflite import load_tflite
from tidemill.compiler.ir import Graph, ModelError
from tidemill.compiler.ports import InputError
from tidemill.compiler.runtime import Session
from tidemill.config import PRESETS
from tidemill.driver.errors import DeviceError
from tidemill.driver.npu import Npu
from tidemill_verif.runtimes import onnx_models, tflite_models

Array = NDArray[Any]
Pair = tuple[int, int]

MAX_MACS = 1_000_000
"""Larger layers are drawn again."""
PADDINGS = {"SAME": schema.Padding.SAME, "VALID": schema.Padding.VALID}
ACTIVATIONS = (
    schema.ActivationFunctionType.NONE,
    schema.ActivationFunctionType.RELU,
    schema.ActivationFunctionType.RELU6,
)


@dataclass(frozen=True)
class Layer:
    """Shapes of a layer; a fully connected one has only images, channels and outputs."""

    kind: str
    images: int
    size: Pair
    channels: int
    outputs: int
    kernel: Pair = (1, 1)
    strides: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def reach(self) -> Pair:
        """Pixels that the kernel spans, less one."""
        return (self.kernel[0] - 1) * self.dilation[0], (self.kernel[1] - 1) * self.dilation[1]

    @property
    def depth(self) -> int:
        """Products in a sum."""
        return math.prod(self.kernel) * self.channels // self.groups


@dataclass(frozen=True)
class Case:
    """A model with an input and what the reference makes of it."""

    layer: Layer
    graph: Graph
    value: Array
    expected: Array


def random_layer(rng: np.random.Generator, grouped: bool) -> Layer:
    """Shapes of a random layer of at most MAX_MACS; `grouped` allows groups other than depthwise."""

    def pick(*values: int) -> int:
        return int(rng.choice(values))

    kind = str(rng.choice(["conv", "conv", "depthwise", "depthwise", "dense"]))
    while True:
        images, size = pick(1, 1, 1, 2, 3), (int(rng.integers(1, 24)), int(rng.integers(1, 24)))
        if kind == "dense":
            return Layer(kind, images, (1, 1), int(rng.integers(1, 300)), int(rng.integers(1, 130)))
        channels, outputs, groups = int(rng.integers(1, 50)), int(rng.integers(1, 50)), 1
        if kind == "depthwise":
            groups = channels
            outputs = channels * pick(1, 1, 1, 2, 3, 8)
        elif grouped and rng.random() < 0.3:
            groups = pick(2, 3, 4)
            channels, outputs = groups * int(rng.integers(1, 14)), groups * int(rng.integers(1, 14))
        kernel = pick(1, 2, 3, 3, 4, 5, 10), pick(1, 1, 2, 3, 3, 5, 8)
        dilation = (pick(2, 3), pick(1, 2)) if rng.random() < 0.2 else (1, 1)
        layer = Layer(
            kind, images, size, channels, outputs, kernel, (pick(1, 1, 2, 3), pick(1, 1, 2, 3)), dilation, groups
        )
        macs = images * math.prod(-(-a // b) for a, b in zip(size, layer.strides, strict=True)) * outputs * layer.depth
        if macs <= MAX_MACS:
            return layer


def spread(rng: np.random.Generator, layer: Layer, x_scale: float, w_scales: Array, bound: float) -> float:
    """An output scale that makes the results fill int8: some saturate, most do not."""
    deviation = x_scale * float(np.mean(w_scales)) * 74 * (bound / 1.7) * math.sqrt(layer.depth)
    return deviation / 50 * float(rng.uniform(0.5, 2))


def tflite_case(seed: int) -> Case:
    """CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED, as TFLite Micro computes it."""
    rng = np.random.default_rng(seed)
    layer = random_layer(rng, grouped=False)
    padding = str(rng.choice(["SAME", "VALID"]))
    if any(size <= reach for size, reach in zip(layer.size, layer.reach, strict=True)):
        padding = "SAME"
    count = layer.outputs if layer.kind != "dense" and rng.random() < 0.7 else 1
    w_scales = rng.uniform(0.001, 0.05, count)
    x_scale = float(rng.uniform(0.002, 0.5))
    y_scale = spread(rng, layer, x_scale, w_scales, 127)
    weights = rng.integers(-127, 128, (layer.outputs, *layer.kernel, layer.channels // layer.groups)).astype(np.int8)
    bias = rng.integers(-8000, 8000, layer.outputs).astype(np.int32)
    axis, shape = 0, weights.shape
    activation = ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]
    options: Any
    if layer.kind == "dense":
        operator, shape = "FULLY_CONNECTED", (layer.outputs, layer.channels)
        x_shape: tuple[int, ...] = (layer.images, layer.channels)
        y_shape: tuple[int, ...] = (layer.images, layer.outputs)
        options = schema.FullyConnectedOptionsT()
    else:
        operator, options = "CONV_2D", schema.Conv2DOptionsT()
        if layer.kind == "depthwise":
            operator, options = "DEPTHWISE_CONV_2D", schema.DepthwiseConv2DOptionsT()
            options.depthMultiplier = layer.outputs // layer.channels
            weights, axis = weights[..., 0].transpose(1, 2, 0)[None], 3
            shape = weights.shape
        options.padding = PADDINGS[padding]
        options.strideH, options.strideW = layer.strides
        options.dilationHFactor, options.dilationWFactor = layer.dilation
        x_shape = (layer.images, *layer.size, layer.channels)
        inner = layer.size if padding == "SAME" else [a - b for a, b in zip(layer.size, layer.reach, strict=True)]
        y_shape = (layer.images, *(-(-a // b) for a, b in zip(inner, layer.strides, strict=True)), layer.outputs)
    options.fusedActivationFunction = activation
    zero_points = [int(value) for value in rng.integers(-128, 128, 2)]
    value = rng.integers(-128, 128, x_shape).astype(np.int8)
    weights = np.ascontiguousarray(weights.reshape(shape))
    inputs = [
        tflite_models.Tensor(x_shape, [x_scale], zero_points[0]),
        tflite_models.Tensor(shape, w_scales.tolist(), 0, np.int8, weights, axis),
        tflite_models.Tensor(bias.shape, (x_scale * w_scales).tolist(), 0, np.int32, bias),
    ]
    output = tflite_models.Tensor(y_shape, [y_scale], zero_points[1])
    expected = tflite_models.run(operator, options, inputs, output, value)
    graph = load_tflite(tflite_models.build(operator, options, inputs, [output]), f"seed {seed}")
    return Case(layer, graph, value, expected)


def onnx_case(seed: int) -> Case:
    """QLinearConv or QGemm on int8 or uint8, as ONNX Runtime computes it."""
    rng = np.random.default_rng(seed)
    layer = random_layer(rng, grouped=True)
    x_type: type = (np.int8, np.uint8)[int(rng.integers(2))]
    w_type = np.int8 if x_type == np.int8 or rng.random() < 0.5 else np.uint8
    low = int(np.iinfo(x_type).min)
    # Products of uint8 and int8 are summed in pairs with 16 bits on processors without VNNI: keep them small.
    bound = 63 if (x_type, w_type) == (np.uint8, np.int8) else 127
    w_zero = int(rng.integers(100, 156)) if w_type == np.uint8 else 0
    if w_type == np.uint8 and rng.random() < 0.2:
        w_zero = int(rng.choice([0, 255]))
    per_channel = rng.random() < 0.5
    w_scales = rng.uniform(0.001, 0.05, layer.outputs if per_channel else 1).astype(np.float32)
    x_scale = float(rng.uniform(0.002, 0.5))
    y_scale = spread(rng, layer, x_scale, w_scales, bound)
    weights = rng.integers(-bound, bound + 1, (layer.outputs, layer.channels // layer.groups, *layer.kernel))
    weights = np.clip(
        weights + (128 if w_type == np.uint8 else 0), *np.array([np.iinfo(w_type).min, np.iinfo(w_type).max])
    )
    zeros = [int(value) for value in rng.integers(low, low + 256, 2)]
    w_zeros = np.full(w_scales.shape, w_zero, w_type) if per_channel else np.array(w_zero, w_type)
    constants = {
        "x_scale": np.float32(x_scale), "x_zero": np.array(zeros[0], x_type),
        "w": weights.astype(w_type), "w_scale": w_scales if per_channel else w_scales[0], "w_zero": w_zeros,
        "y_scale": np.float32(y_scale), "y_zero": np.array(zeros[1], x_type),
        "bias": rng.integers(-8000, 8000, layer.outputs).astype(np.int32),
    }  # fmt: skip
    if layer.kind == "dense":
        shape: tuple[int, ...] = (layer.images, layer.channels)
        constants["w"] = constants["w"].reshape(layer.outputs, layer.channels)
        names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "bias", "y_scale", "y_zero"]
        node = helper.make_node("QGemm", names, ["y"], domain=onnx_models.MICROSOFT, transB=1)
    else:
        shape = (layer.images, layer.channels, *layer.size)
        begin = [int(rng.integers(0, reach + 1)) for reach in layer.reach]
        end = [max(0, reach + 1 - size - first, int(rng.integers(0, reach + 1)))
               for reach, size, first in zip(layer.reach, layer.size, begin, strict=True)]  # fmt: skip
        names = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "bias"]
        node = helper.make_node(
            "QLinearConv", names, ["y"], group=layer.groups, strides=list(layer.strides),
            dilations=list(layer.dilation), pads=[*begin, *end], kernel_shape=list(layer.kernel),
        )  # fmt: skip
    value: Array = rng.integers(low, low + 256, shape).astype(x_type)
    expected = onnx_models.run_nodes([node], constants, {"x": value})
    return Case(layer, load_onnx(_onnx_file(node, constants, value, expected), f"seed {seed}"), value, expected)


def _onnx_file(node: onnx.NodeProto, constants: dict[str, Any], value: Array, expected: Array) -> bytes:
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in (("x", value), ("y", expected))
    ]
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph([node], "layer", infos[:1], infos[1:], initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(onnx_models.MICROSOFT, 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


MODES: dict[str, Callable[[int], Case]] = {"tflite": tflite_case, "onnx": onnx_case}


@dataclass(frozen=True)
class Outcome:
    """What became of one layer; `problem` is empty where all bytes agree."""

    mode: str
    seed: int
    kind: str
    problem: str = ""


def run_layer(npu: Npu, mode: str, seed: int) -> Outcome:
    """Make the layer of `seed`, run it on the device and compare."""
    kind = "unknown"
    try:
        case = MODES[mode](seed)
        kind = case.layer.kind
        with Session(npu, compile_graph(case.graph, npu.config)) as session:
            (result,) = session(case.value).values()
    except (ModelError, InputError, DeviceError) as error:
        return Outcome(mode, seed, kind, f"{type(error).__name__}: {error}")
    if result.dtype != case.expected.dtype or result.shape != case.expected.shape:
        return Outcome(
            mode, seed, kind, f"{result.dtype} {result.shape}, not {case.expected.dtype} {case.expected.shape}"
        )
    wrong = np.count_nonzero(result != case.expected)
    return Outcome(mode, seed, kind, f"{wrong} of {result.size} bytes differ: {case.layer}" if wrong else "")


def sweep(
    modes: Sequence[str], layers: int, seed: int, preset: str, device: str, progress: bool = False
) -> list[Outcome]:
    """Run `layers` layers in each mode on one device."""
    jobs = [(mode, seed + number) for mode in modes for number in range(layers)]
    with tm.open(device, preset=preset) as npu:
        console = Console(stderr=True)
        return [
            run_layer(npu, mode, number)
            for mode, number in track(jobs, f"{device} {preset}", console=console, disable=not progress)
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 1 where a layer failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tidemill_verif.layer_sweep", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--layers", type=int, default=2000, help="layers in each mode")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first layer")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="base")
    parser.add_argument("--device", default="iss")
    parser.add_argument("--mode", choices=[*MODES, "both"], default="both")
    options = parser.parse_args(arguments)
    modes = list(MODES) if options.mode == "both" else [options.mode]
    outcomes = sweep(modes, options.layers, options.seed, options.preset, options.device, progress=True)
    table = Table("mode", "layer", "equal", "failed")
    counts = Counter((outcome.mode, outcome.kind, not outcome.problem) for outcome in outcomes)
    for mode, kind in sorted({key[:2] for key in counts}):
        table.add_row(mode, kind, str(counts[mode, kind, True]), str(counts[mode, kind, False]))
    console = Console()
    console.print(table)
    failed = [outcome for outcome in outcomes if outcome.problem]
    for outcome in failed:
        console.print(f"{outcome.mode} seed {outcome.seed} ({outcome.kind}): {outcome.problem}", markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
