"""Random quantized ONNX models of one pattern each, and the comparison of the front end with onnxruntime.

python -m tidemill_verif.onnx_random --seeds 40 runs every pattern with many seeds.
"""

from __future__ import annotations

import collections
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
from numpy.typing import DTypeLike, NDArray
from onnx import helper, numpy_helper

from tidemill.compiler import reference
from tidemill.compiler.frontends.onnx import load_onnx
from tidemill.compiler.ir import Host

Array = NDArray[Any]
MICROSOFT = "com.microsoft"


class ModelWriter:
    """Collects nodes, constants and inputs with random values of one activation type."""

    def __init__(self, seed: int, dtype: DTypeLike) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.dtype = np.dtype(dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.feeds: dict[str, Array] = {}

    def name(self) -> str:
        """A new name."""
        return f"v{len(self.nodes) + len(self.constants)}"

    def constant(self, value: Any) -> str:
        """A constant."""
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], count: int = 1, **attributes: Any) -> str:
        """A node; com.microsoft's when its operator is none of the standard's. Returns its (first) output."""
        name = self.name()
        outputs = [name, *(f"{name}_{i}" for i in range(1, count))]
        domain = "" if onnx.defs.has(operator) else MICROSOFT
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, name=name, domain=domain, **attributes))
        return name

    def integers(self, *shape: int, dtype: DTypeLike | None = None) -> Array:
        """Uniform integers of a type, by default the activations'."""
        limits = np.iinfo(self.dtype if dtype is None else np.dtype(dtype))
        return self.rng.integers(limits.min, limits.max + 1, shape).astype(limits.dtype)

    def input(self, *shape: int, values: Array | None = None) -> str:
        """An input of the model with its values, by default random activations."""
        name = f"x{len(self.inputs)}"
        self.feeds[name] = self.integers(*shape) if values is None else values
        kind = helper.np_dtype_to_tensor_dtype(self.feeds[name].dtype)
        self.inputs.append(helper.make_tensor_value_info(name, kind, self.feeds[name].shape))
        return name

    def scale(self, low: float = -5, high: float = -1) -> np.float32:
        """A random scale between powers of two."""
        return np.float32(np.exp2(self.rng.uniform(low, high)))

    def zero(self, dtype: DTypeLike | None = None) -> Array:
        """A random zero point."""
        return self.integers(dtype=dtype)

    def parameters(self, low: float = -5, high: float = -1) -> list[str]:
        """Constants of a random scale and zero point."""
        return [self.constant(self.scale(low, high)), self.constant(self.zero())]

    def dequantize(self, x: str, parameters: Sequence[str] | None = None) -> str:
        """DequantizeLinear."""
        return self.node("DequantizeLinear", [x, *(parameters or self.parameters())])

    def quantize(self, x: str, parameters: Sequence[str] | None = None) -> str:
        """QuantizeLinear."""
        return self.node("QuantizeLinear", [x, *(parameters or self.parameters())])

    def pick(self, *values: Any) -> Any:
        """One of the values."""
        return values[int(self.rng.integers(len(values)))]

    def turn(self, *values: Any) -> Any:
        """One of the values, each in its turn of seeds."""
        return values[self.seed % len(values)]

    def every_byte(self, *shape: int) -> str:
        """An input that has each of the 256 values once."""
        return self.input(values=np.arange(256).astype(np.uint8).view(self.dtype).reshape(shape))

    def model(self, output: str, dtype: DTypeLike | None = None, opset: int = 20) -> bytes:
        """The file of the model with one output."""
        kind = helper.np_dtype_to_tensor_dtype(self.dtype if dtype is None else np.dtype(dtype))
        outputs = [helper.make_tensor_value_info(output, kind, None)]
        graph = helper.make_graph(self.nodes, "random", self.inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


PATTERNS: dict[str, Callable[[ModelWriter], bytes]] = {}
"""Each writes a random model, by name."""


def pattern(function: Callable[[ModelWriter], bytes]) -> Callable[[ModelWriter], bytes]:
    """Register a pattern under its function's name."""
    PATTERNS[function.__name__] = function
    return function


def run_onnxruntime(data: bytes, feeds: dict[str, Array]) -> list[Array]:
    """ONNX Runtime's results with default optimizations and int8 activations allowed."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, feeds)]


@dataclass(frozen=True)
class Comparison:
    """`wrong` elements of `size` differ; `hosts` are the host functions the graph uses."""

    wrong: int
    size: int
    hosts: tuple[str, ...]


def compare(data: bytes, feeds: dict[str, Array]) -> Comparison:
    """The front end's graph, evaluated, against ONNX Runtime."""
    expected = run_onnxruntime(data, feeds)
    graph = load_onnx(data, "random.onnx")
    actual = list(reference.evaluate(graph, feeds).outputs.values())
    wrong = 0
    for a, e in zip(actual, expected, strict=True):
        same = a.dtype == e.dtype and a.shape == e.shape
        wrong += int(np.count_nonzero(a != e)) if same else e.size
    hosts = tuple(sorted({op.function for op in graph.ops if isinstance(op, Host)}))
    return Comparison(wrong, sum(e.size for e in expected), hosts)


def _conv_attributes(w: ModelWriter) -> dict[str, Any]:
    attributes: dict[str, Any] = {"strides": [w.pick(1, 2), w.pick(1, 2)]}
    if w.pick(True, False):
        return {**attributes, "dilations": [w.pick(1, 2), 1], "pads": [w.pick(0, 1, 2) for _ in range(4)]}
    return {**attributes, "auto_pad": w.turn("SAME_UPPER", "SAME_LOWER", "VALID")}


@pattern
def qlinear_conv(w: ModelWriter) -> bytes:
    """QLinearConv: grouped and depthwise too, weights of both types, per tensor and per channel."""
    weight = np.int8 if w.dtype == np.int8 else w.pick(np.int8, np.uint8)
    groups, depth, kernel = w.pick(1, 2, 3), w.pick(1, 2, 4), [w.pick(1, 2, 3), w.pick(1, 2, 3)]
    channels = groups * w.pick(1, 2, 3)
    many = w.pick(True, False)
    scale = np.array([w.scale() for _ in range(channels)], dtype=np.float32) if many else w.scale()
    zero = np.zeros(channels, dtype=weight) if many else w.zero(weight)
    inputs = [w.input(1, groups * depth, 7, 9), *w.parameters()]
    inputs += [w.constant(w.integers(channels, depth, *kernel, dtype=weight)), w.constant(scale), w.constant(zero)]
    inputs += [*w.parameters(0, 4), w.constant(w.rng.integers(-5000, 5000, channels).astype(np.int32))]
    return w.model(w.node("QLinearConv", inputs, group=groups, **_conv_attributes(w)))


@pattern
def qlinear_conv_1d(w: ModelWriter) -> bytes:
    """QLinearConv over one axis."""
    inputs = [w.input(1, 3, 17), *w.parameters(), w.constant(w.integers(4, 3, 5, dtype=np.int8))]
    inputs += [w.constant(w.scale()), w.constant(np.int8(0)), *w.parameters(0, 4)]
    return w.model(w.node("QLinearConv", inputs, pads=[1, 2], strides=[2]))


@pattern
def rounding(w: ModelWriter) -> bytes:
    """QLinearConv and QGemm whose sums lie beside halves: the last bit of the scale decides."""
    channels, x_scale, w_scale, y_scale = 1000, w.scale(-12, -8), w.scale(-12, -8), w.scale(-3, 0)
    scale = np.float64(x_scale) * np.float64(w_scale) / np.float64(y_scale)
    sums = np.rint((w.rng.integers(-120, 120, channels) + 0.5) / scale).astype(np.int32)
    x = w.input(values=np.zeros((1, 1), dtype=w.dtype) if w.seed % 2 else np.zeros((1, 1, 1, 1), dtype=w.dtype))
    zero, shape = w.constant(np.zeros((), dtype=w.dtype)), (1, channels) if w.seed % 2 else (channels, 1, 1, 1)
    weights = [w.constant(np.ones(shape, dtype=np.int8)), w.constant(w_scale), w.constant(np.int8(0))]
    middle = np.array(128 if w.dtype == np.uint8 else 0, dtype=w.dtype)
    after, biases = [w.constant(y_scale), w.constant(middle)], w.constant(sums)
    first = [x, w.constant(x_scale), zero, *weights]
    if w.seed % 2:
        return w.model(w.node("QGemm", [*first, biases, *after]))
    return w.model(w.node("QLinearConv", [*first, *after, biases]))


@pattern
def conv_integer(w: ModelWriter) -> bytes:
    """ConvInteger with zero points."""
    zero = w.zero() if w.dtype == np.uint8 else np.int8(0)
    inputs = [w.input(1, 2, 7, 7), w.constant(w.integers(3, 2, 3, 3)), w.constant(w.zero()), w.constant(zero)]
    return w.model(w.node("ConvInteger", inputs, pads=[1, 1, 0, 1]), np.int32)


@pattern
def qlinear_matmul(w: ModelWriter) -> bytes:
    """QLinearMatMul of constants and of activations, batches broadcast."""
    a = w.pick((5, 7), (2, 5, 7), (2, 1, 5, 7))
    if w.pick(True, False):
        scale = np.array([w.scale() for _ in range(6)], dtype=np.float32)
        b = [w.constant(w.integers(7, 6)), w.constant(scale), w.constant(np.zeros(6, dtype=w.dtype))]
    else:
        b = [w.input(7, 6) if len(a) == 2 else w.input(*a[:-3], w.pick(1, a[-3]), 7, 6), *w.parameters()]
    return w.model(w.node("QLinearMatMul", [w.input(*a), *w.parameters(), *b, *w.parameters(0, 4)]))


@pattern
def matmul_integer(w: ModelWriter) -> bytes:
    """MatMulInteger with zero points."""
    b = w.pick(w.input, lambda *shape: w.constant(w.integers(*shape)))(7, 6)
    return w.model(w.node("MatMulInteger", [w.input(3, 5, 7), b, *map(w.constant, (w.zero(), w.zero()))]), np.int32)


@pattern
def qgemm(w: ModelWriter) -> bytes:
    """QGemm, to 8 bits and to float32."""
    transposed, floating = w.pick(0, 1), w.pick(True, False)
    inputs = [w.input(3, 9), *w.parameters()]
    inputs += [w.constant(w.integers(*((6, 9) if transposed else (9, 6)), dtype=np.int8))]
    inputs += [w.constant(w.scale()), w.constant(np.int8(0))]
    inputs += [w.constant(w.rng.integers(-5000, 5000, 6).astype(np.int32)), *([] if floating else w.parameters(0, 4))]
    output = w.node("QGemm", inputs, transB=transposed, alpha=w.pick(1.0, 0.37))
    return w.model(output, np.float32 if floating else w.dtype)


def every_pair(w: ModelWriter) -> tuple[str, str]:
    """Two inputs that meet in every pair of values: rows against columns either way, or both of full size."""
    shapes = w.pick(((256, 1), (256,)), ((256,), (256, 1)), ())
    if shapes:
        return w.every_byte(*shapes[0]), w.every_byte(*shapes[1])
    values = np.arange(256).astype(np.uint8).view(w.dtype)
    return w.input(values=np.repeat(values, 256)), w.input(values=np.tile(values, 256))


@pattern
def qlinear_binary(w: ModelWriter) -> bytes:
    """QLinearAdd and QLinearMul of every pair of values."""
    a, b = every_pair(w)
    inputs = [a, *w.parameters(), b, *w.parameters(), *w.parameters()]
    return w.model(w.node(w.turn("QLinearAdd", "QLinearMul"), inputs))


@pattern
def qdq_binary(w: ModelWriter) -> bytes:
    """Arithmetic of every pair of values between DequantizeLinear and QuantizeLinear, with and without Relu."""
    first, second, after = w.parameters(), w.parameters(), w.parameters()
    second, after = w.pick((second, after), (first, first))
    a, b = every_pair(w)
    operands = [w.dequantize(a, first), w.dequantize(b, second)]
    real = w.node(w.turn("Add", "Sub", "Mul", "Div", "Max", "Min"), operands)
    if w.pick(True, False):
        real = w.node("Relu", [real])
        after = [w.constant(w.scale()), w.constant(w.pick(w.zero(), np.array(np.iinfo(w.dtype).min, w.dtype)))]
    return w.model(w.quantize(real, after))


@pattern
def halves(w: ModelWriter) -> bytes:
    """Arithmetic whose results lie on halves: scales that are powers of two apart."""
    scale = w.scale()
    parameters = [[w.constant(scale * np.float32(factor)), w.constant(w.zero())] for factor in (1, 2, 4)]
    a, b = every_pair(w)
    operands = [w.dequantize(a, parameters[0]), w.dequantize(b, parameters[1])]
    return w.model(w.quantize(w.node(w.turn("Add", "Sub", "Mul"), operands), parameters[2]))


@pattern
def qdq_unary(w: ModelWriter) -> bytes:
    """Functions between DequantizeLinear and QuantizeLinear."""
    operator = w.turn(
        *(
            "Relu",
            "LeakyRelu",
            "Sigmoid",
            "Tanh",
            "HardSigmoid",
            "HardSwish",
            "Clip",
            "Elu",
            "Abs",
            "Neg",
            "Gelu",
            "Erf",
        )
    )
    limits = [w.constant(np.float32(0)), w.constant(np.float32(6))] if operator == "Clip" else []
    real = w.node(operator, [w.dequantize(w.every_byte(256), w.parameters(-7, -2)), *limits])
    return w.model(w.quantize(real, w.parameters(-7, -2)))


@pattern
def qlinear_unary(w: ModelWriter) -> bytes:
    """QLinearSigmoid and QLinearLeakyRelu."""
    inputs = [w.every_byte(256), *w.parameters(), *w.parameters(-8, -4)]
    return w.model(w.node(w.turn("QLinearSigmoid", "QLinearLeakyRelu"), inputs))


@pattern
def pooling(w: ModelWriter) -> bytes:
    """MaxPool, AveragePool and the global ones, between DequantizeLinear and QuantizeLinear."""
    operator = w.turn("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool")
    attributes: dict[str, Any] = {}
    if not operator.startswith("Global"):
        kernel = [w.pick(1, 2, 3), w.pick(2, 3)]
        pads = [int(w.rng.integers(0, kernel[i % 2])) for i in range(4)]
        attributes = {"kernel_shape": kernel, "strides": [w.pick(1, 2), w.pick(1, 2)], "pads": pads}
        attributes["ceil_mode"] = w.pick(0, 1)
    if operator == "AveragePool":
        attributes["count_include_pad"] = w.pick(0, 1)
    before = w.parameters()
    after = before if "Max" in operator or w.pick(True, False) else w.parameters()
    return w.model(w.quantize(w.node(operator, [w.dequantize(w.input(1, 3, 9, 8), before)], **attributes), after))


@pattern
def qlinear_pooling(w: ModelWriter) -> bytes:
    """QLinearAveragePool and QLinearGlobalAveragePool."""
    inputs = [w.input(1, 3, 9, 8), *w.parameters(), *w.parameters()]
    if w.pick(True, False):
        return w.model(w.node("QLinearGlobalAveragePool", inputs))
    return w.model(w.node("QLinearAveragePool", inputs, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]))


@pattern
def softmax(w: ModelWriter) -> bytes:
    """Softmax between DequantizeLinear and QuantizeLinear."""
    smallest = np.array(np.iinfo(w.dtype).min, w.dtype)
    after = [w.constant(np.float32(1 / 256)), w.constant(smallest)] if w.pick(True, False) else w.parameters(-8, -4)
    return w.model(w.quantize(w.node("Softmax", [w.dequantize(w.input(3, 10, 4))], axis=w.pick(0, 1, -1)), after))


@pattern
def concat(w: ModelWriter) -> bytes:
    """Concat of different scales, in both forms."""
    shapes = [(1, 3, 4, 4), (1, 2, 4, 4)]
    if w.pick(True, False):
        parts = [w.dequantize(w.input(*shape)) for shape in shapes]
        return w.model(w.quantize(w.node("Concat", parts, axis=1)))
    parts = [name for shape in shapes for name in (w.input(*shape), *w.parameters())]
    return w.model(w.node("QLinearConcat", [*w.parameters(), *parts], axis=1))


@pattern
def movement(w: ModelWriter) -> bytes:
    """Data movement of integers or between DequantizeLinear and QuantizeLinear."""
    lists: dict[str, tuple[list[list[int]], dict[str, Any]]] = {
        "Reshape": ([[0, -1, 4]], {}),
        "Flatten": ([], {"axis": 2}),
        "Transpose": ([], {"perm": w.pick([0, 2, 3, 1], [0, 3, 1, 2], [2, 0, 3, 1])}),
        "Unsqueeze": ([[0, -1]], {}),
        "Slice": ([[5, 0], [-100, 3], [2, 1], [-2, 1]], {}),
        "Gather": ([[2, -1, 0]], {"axis": 1}),
        "Pad": ([[0, 0, 1, 1, 0, 0, 2, 1]], {"mode": w.pick("constant", "reflect", "edge")}),
        "DepthToSpace": ([], {"blocksize": 2, "mode": w.pick("DCR", "CRD")}),
        "SpaceToDepth": ([], {"blocksize": 2}),
        "Tile": ([[1, 2, 1, 2]], {}),
        "Expand": ([[2, 1, 1, 1]], {}),
        "Split": ([[1, 3]], {"axis": 1}),
    }
    operator = w.turn(*lists)
    values, attributes = lists[operator]
    others = [w.constant(np.array(value, dtype=np.int64)) for value in values]
    count = 2 if operator == "Split" else 1
    x = w.input(1, 4, 6, 4)
    if w.pick(True, False):
        return w.model(w.node(operator, [x, *others], count, **attributes))
    parameters = w.parameters()
    return w.model(
        w.quantize(w.node(operator, [w.dequantize(x, parameters), *others], count, **attributes), parameters)
    )


@pattern
def resize_nearest(w: ModelWriter) -> bytes:
    """Resize by nearest neighbours."""
    parameters = w.parameters()
    scales = w.constant(np.array([1, 1, w.pick(2, 0.5, 1.7), w.pick(3, 2, 0.6)], dtype=np.float32))
    real = w.node(
        "Resize",
        [w.dequantize(w.input(1, 2, 5, 6), parameters), "", scales],
        coordinate_transformation_mode=w.pick("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"),
        nearest_mode=w.pick("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    )
    return w.model(w.quantize(real, parameters))


@pattern
def resize_linear(w: ModelWriter) -> bytes:
    """Resize by bilinear interpolation of integers, and of float32 between quantizations."""
    scales = np.array([1, 1, w.pick(2, 0.5, 1.7), w.pick(3, 2, 0.6)], dtype=np.float32)
    coordinates = w.pick("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    attributes = {"mode": "linear", "coordinate_transformation_mode": coordinates}
    x = w.input(1, 2, 5, 6)
    if w.pick(True, False):
        return w.model(w.node("Resize", [x, "", w.constant(scales)], **attributes))
    parameters = w.parameters()
    real = w.node("Resize", [w.dequantize(x, parameters), "", w.constant(scales)], **attributes)
    return w.model(w.quantize(real, parameters))


@pattern
def qdq_layer(w: ModelWriter) -> bytes:
    """Conv, Gemm and MatMul with biases of both kinds and what may stand before the QuantizeLinear."""
    kind = w.turn("Conv", "Gemm", "MatMul")
    scale, weight_scale = w.scale(), w.scale(-9, -7)
    x = w.input(1, 3, 8, 8) if kind == "Conv" else w.input(4, 12)
    real = w.dequantize(x, [w.constant(scale), w.constant(w.zero())])
    shape = {"Conv": (4, 3, 3, 3), "Gemm": (4, 12), "MatMul": (12, 4)}[kind]
    weights = w.constant(w.integers(*shape, dtype=np.int8))
    inputs = [real, w.dequantize(weights, [w.constant(weight_scale), w.constant(np.int8(0))])]
    if kind != "MatMul":
        biases = w.rng.standard_normal(4).astype(np.float32)
        units = np.float32(scale * weight_scale)
        whole = w.constant(np.rint(biases / units).astype(np.int32))
        inputs.append(w.pick(w.constant(biases), w.dequantize(whole, [w.constant(units)])))
    known: dict[str, dict[str, Any]] = {"Conv": {"pads": [1, 1, 1, 1]}, "Gemm": {"transB": 1}, "MatMul": {}}
    attributes = known[kind]
    real = w.node(kind, inputs, **attributes)
    after = w.parameters(-3, 1)
    if w.pick(True, False):
        real = w.node("Relu", [real])
        after = [after[0], w.constant(np.array(np.iinfo(w.dtype).min, w.dtype))]
    if kind == "Conv" and w.pick(True, False):
        real = w.node("MaxPool", [real], kernel_shape=[2, 2], strides=[2, 2])
    return w.model(w.quantize(real, after))


@pattern
def dynamic(w: ModelWriter) -> bytes:
    """DynamicQuantizeLinear, an integer layer, float32 behind."""
    convolution = w.pick(True, False)
    shape = (1, 3, 8, 8) if convolution else (2, 12)
    x = w.node("DynamicQuantizeLinear", [w.input(values=w.rng.standard_normal(shape).astype(np.float32))], 3)
    weights = w.constant(w.integers(*((4, 3, 3, 3) if convolution else (12, 5)), dtype=np.uint8))
    operator = "ConvInteger" if convolution else "MatMulInteger"
    attributes: dict[str, Any] = {"pads": [1] * 4} if convolution else {}
    acc = w.node(operator, [x, weights, f"{x}_2", w.constant(w.zero(np.uint8))], **attributes)
    scale = w.node("Mul", [f"{x}_1", w.constant(w.scale())])
    return w.model(w.node("Mul", [w.node("Cast", [acc], to=1), scale]), np.float32)


@pattern
def integers(w: ModelWriter) -> bytes:
    """Arithmetic of int8 and uint8 themselves, which wraps."""
    operator = w.turn("Max", "Min", "Add", "Sub", "Mul")
    return w.model(w.node(operator, [w.input(2, 3, 4), w.input(3, 1)]))


@click.command()
@click.option("--seeds", default=40, help="Models of each pattern and activation type.")
def main(seeds: int) -> None:
    """Compare many random models of every pattern with onnxruntime; exit code 1 when an element differs."""
    failures = 0
    for name, write in PATTERNS.items():
        hosts: collections.Counter[str] = collections.Counter()
        wrong = []
        for seed in range(seeds):
            for dtype in (np.int8, np.uint8):
                writer = ModelWriter(seed, dtype)
                result = compare(write(writer), writer.feeds)
                hosts.update(result.hosts)
                if result.wrong:
                    wrong.append((seed, np.dtype(dtype).name))
        failures += len(wrong)
        click.echo(f"{name:18} {2 * seeds} models, {len(wrong)} differ {wrong[:5] or ''} {dict(hosts) or ''}".rstrip())
        click.echo(f"{'':18} {inspect.getdoc(write)}")
    if failures:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
