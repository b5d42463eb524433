"""Convolutions and products on every configuration give the bytes of the reference, and are free of races."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tidemill as tm
from tidemill.checker import check
from tidemill.compiler import reference
from tidemill.compiler.compile import compile_graph
from tidemill.compiler.ir import Conv2D, Graph, MatMul, ModelError, Op, Padding, Pair, Port, Requantize, Tensor
from tidemill.compiler.kernels import conv_plan
from tidemill.compiler.kernels.conv import describe_conv
from tidemill.compiler.kernels.conv_plan import Order, Path
from tidemill.compiler.runtime import Session
from tidemill.config import PRESETS, Config
from tidemill.golden.requant import float_scale, quantize_multiplier
from tidemill.isa import RequantMode

CRAMPED = PRESETS["small"].replace(name="cramped", spad_rows=256, acc_rows=256)
"""Memories so small that reductions are cut and weights stream."""
CONFIGS = {**PRESETS, "cramped": CRAMPED}
NO_PADDING: Padding = ((0, 0), (0, 0))
CHECKED_INSTRUCTIONS = 1500
"""Longer programs are not checked: it takes too long."""


def requantization(rng: np.random.Generator, channels: int, depth: int, mode: RequantMode) -> Requantize:
    """Scales that spread the sums of `depth` products over int8."""
    maker = quantize_multiplier if mode is RequantMode.TFLITE else float_scale
    scales = [maker(float(value) / (60 * math.sqrt(depth))) for value in rng.uniform(0.3, 1.5, channels)]
    multiplier, shift = np.array(scales, np.int32).T
    return Requantize(multiplier, shift, int(rng.integers(-128, 128)), -120, 125, mode)


def conv_op(
    rng: np.random.Generator,
    x: Tensor,
    outputs: int,
    kernel: Pair = (1, 1),
    *,
    strides: Pair = (1, 1),
    dilation: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    groups: int = 1,
    bound: int = 127,
    raw: bool = False,
    table: bool = False,
    mode: RequantMode = RequantMode.TFLITE,
) -> Conv2D:
    """A convolution with random weights, whose result is a new tensor."""
    *images, channels = x.shape
    size = [
        (length + sum(pad) - (taps - 1) * step - 1) // stride + 1
        for length, taps, stride, step, pad in zip(images[1:], kernel, strides, dilation, padding, strict=True)
    ]
    y = Tensor("y", (images[0], *size, outputs), "int32" if raw else "int8")
    weights = rng.integers(-bound, bound + 1, (outputs, *kernel, channels // groups)).astype(np.int16)
    requantize = None if raw else requantization(rng, outputs, weights[0].size, mode)
    lookup = rng.integers(-128, 128, 256).astype(np.int8) if table else None
    bias = rng.integers(-3000, 3000, outputs).astype(np.int32)
    zero_point = int(rng.integers(-128, 128))
    return Conv2D(
        "conv", "CONV_2D", [x], [y], weights, bias, requantize, strides, dilation, padding, groups, zero_point, lookup
    )  # fmt: skip


def graph_of(*ops: Op) -> Graph:
    """The operations, with every tensor that none of them makes as an input and the last result as the output."""
    made = {id(tensor) for op in ops for tensor in op.outputs}
    inputs = {id(tensor): tensor for op in ops for tensor in op.inputs if id(tensor) not in made}
    ports = [Port(f"{t.name}{i}", t, t.shape, t.dtype) for i, t in enumerate(inputs.values())]
    y = ops[-1].y
    return Graph("test", list(ops), ports, [Port("y", y, y.shape, y.dtype)])


def compare(graph: Graph, config: Config, seed: int, device: str = "iss") -> None:
    """Run on random inputs: the device's bytes are the reference's, and the checker finds no error."""
    rng = np.random.default_rng(seed)
    inputs = {port.name: rng.integers(-128, 128, port.shape).astype(np.int8) for port in graph.inputs}
    model = compile_graph(graph, config)
    with tm.open(device, config=config) as npu, Session(npu, model) as session:
        outputs = session(inputs)
    expected = reference.evaluate(graph, inputs).outputs
    np.testing.assert_array_equal(outputs["y"], expected["y"])
    if len(model.program.words) <= CHECKED_INSTRUCTIONS:
        assert not [finding for finding in check(model.program) if finding.severity == "error"]


def random_conv(seed: int) -> Conv2D:
    """Any convolution: full, grouped, depthwise, with multiplier, fully connected, over the whole image."""
    rng = np.random.default_rng(seed)

    def pick(*values: int) -> int:
        return int(rng.choice(values))

    images, height, width = pick(1, 1, 2, 5), pick(1, 3, 5, 8, 13), pick(1, 4, 9, 16, 21)
    kernel = pick(1, 1, 2, 3, 5), pick(1, 1, 2, 3, 7)
    options: dict[str, Any] = {"strides": (pick(1, 1, 2, 3), pick(1, 1, 2, 3)), "dilation": (pick(1, 1, 2), pick(1, 3))}
    channels, outputs, groups = pick(1, 3, 8, 16, 20, 33), pick(1, 4, 10, 16, 33), 1
    match seed % 6:
        case 0:
            channels = outputs = groups = pick(3, 8, 16, 24, 40)
        case 1:
            channels = groups = pick(1, 3, 6, 10)
            outputs = channels * pick(2, 3, 8)
        case 2:
            groups = pick(2, 3, 4)
            channels, outputs = groups * pick(2, 5, 8), groups * pick(1, 4, 10)
        case 3:
            kernel, options = (height, width), {}
        case 4:
            kernel, options = (1, 1), {}
            height, width, channels, outputs = 1, pick(1, 40, 150), pick(10, 64, 200), pick(2, 12, 64)
    reach = [(taps - 1) * step for taps, step in zip(kernel, options.get("dilation", (1, 1)), strict=True)]
    if kernel != (height, width):
        top, left = (int(rng.integers(0, size + 1)) for size in reach)
        options["padding"] = (top, max(0, reach[0] + 1 - height - top)), (left, max(0, reach[1] + 1 - width - left))
    raw = rng.random() < 0.15
    options |= {"groups": groups, "raw": raw, "table": not raw and rng.random() < 0.2}
    options |= {"bound": pick(127, 127, 255), "mode": RequantMode(pick(0, 1))}
    return conv_op(rng, Tensor("x", (images, height, width, channels)), outputs, kernel, **options)


@pytest.mark.parametrize("config", ["tiny", "small", "base", "large", "cramped"])
def test_random_convolutions_are_exact(config: str) -> None:
    for seed in range(30):
        op = random_conv(seed + 1000 * list(CONFIGS).index(config))
        if op.macs < (60_000 if config == "tiny" else 400_000):
            compare(graph_of(op), CONFIGS[config], seed)


SHAPES: dict[str, tuple[tuple[int, ...], int, Pair, dict[str, Any]]] = {
    "3x3": ((1, 16, 16, 16), 16, (3, 3), {"padding": ((1, 1), (1, 1))}),
    "first layer, strided": ((1, 24, 24, 3), 8, (3, 3), {"strides": (2, 2), "padding": ((0, 1), (0, 1))}),
    "10x8 of a spectrogram": ((1, 49, 40, 1), 8, (10, 8), {"strides": (2, 2), "padding": ((4, 5), (3, 3))}),
    "15x1 depthwise": ((1, 30, 1, 24), 24, (15, 1), {"groups": 24, "padding": ((7, 7), (0, 0))}),
    "5x5 depthwise, strided": ((1, 12, 12, 16), 16, (5, 5), {"groups": 16, "strides": (2, 2)}),
    "1xN, dilated": ((1, 1, 60, 12), 20, (1, 7), {"dilation": (1, 4)}),
    "1x1, strided": ((2, 9, 9, 20), 12, (1, 1), {"strides": (2, 2)}),
    "wide padding": ((1, 2, 3, 5), 6, (2, 300), {"padding": ((0, 1), (298, 10))}),
    "row wider than the accumulators": ((1, 1, 2100, 4), 4, (1, 3), {}),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("config", ["tiny", "base"])
def test_typical_shapes_are_exact(name: str, config: str) -> None:
    shape, outputs, kernel, options = SHAPES[name]
    op = conv_op(np.random.default_rng(1), Tensor("x", shape), outputs, kernel, **options)
    compare(graph_of(op), CONFIGS[config], 2)


@pytest.mark.parametrize(
    ("config", "device", "shape", "kernel", "strides"),
    [
        ("base", "iss", (1, 25, 5, 64), (3, 3), (1, 1)),
        ("base", "iss", (1, 40, 40, 8), (3, 3), (1, 1)),
        ("base", "iss", (3, 6, 6, 40), (3, 3), (1, 1)),
        ("small", "iss", (1, 20, 20, 24), (5, 5), (2, 2)),
        ("tiny", "iss", (1, 12, 12, 16), (3, 3), (1, 2)),
        ("tiny", "rtl", (1, 12, 12, 16), (3, 3), (1, 1)),
    ],
)
def test_array_and_vector_engine_share_a_depthwise_convolution(
    config: str, device: str, shape: tuple[int, ...], kernel: Pair, strides: Pair
) -> None:
    rng = np.random.default_rng(7)
    options = {"groups": shape[3], "strides": strides, "padding": ((1, 1), (1, 0))}
    op = conv_op(rng, Tensor("x", shape), shape[3], kernel, **options)
    plan = describe_conv(op, CONFIGS[config])
    assert plan.path is Path.BOTH
    assert 0 < plan.array_share < 1
    compare(graph_of(op), CONFIGS[config], 3, device)


def test_every_path_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    depthwise = conv_op(rng, Tensor("x", (2, 4, 4, 64)), 64, (3, 3), groups=64)
    resident = conv_op(rng, Tensor("x", (1, 8, 8, 8)), 8, (1, 1))
    stream = conv_op(rng, Tensor("x", (1, 9, 9, 33)), 40, (9, 9))
    groups = conv_op(rng, Tensor("x", (1, 16, 16, 8)), 32, (2, 2))
    plans = [describe_conv(op, CRAMPED) for op in (depthwise, resident, stream)]
    assert [plan.path for plan in plans] == [Path.VECTOR, Path.MATRIX, Path.MATRIX]
    assert [plan.order for plan in plans] == [Order.STREAM, Order.RESIDENT, Order.STREAM]
    assert plans[2].taps_y < 9, "the window does not fit: the reduction is cut"
    for seed, op in enumerate((depthwise, resident, stream)):
        compare(graph_of(op), CRAMPED, seed)
    monkeypatch.setattr(conv_plan, "READ_WEIGHT", 1.0)
    assert describe_conv(groups, CRAMPED).order is Order.GROUPS
    compare(graph_of(groups), CRAMPED, 4)


@pytest.mark.parametrize(
    ("shape", "kernel", "strides"),
    [((1, 1, 5000, 1), (1, 5000), (1, 1)), ((1, 1, 9000, 4), (1, 1), (1, 40)), ((1, 70, 70, 3), (70, 70), (1, 1))],
)
def test_windows_wider_than_the_scratchpad_are_cut(shape: tuple[int, ...], kernel: Pair, strides: Pair) -> None:
    op = conv_op(np.random.default_rng(3), Tensor("x", shape), 4, kernel, strides=strides)
    compare(graph_of(op), CRAMPED, 1)


def test_an_output_channel_without_weights_is_its_bias() -> None:
    op = conv_op(np.random.default_rng(4), Tensor("x", (1, 5, 5, 16)), 48, (3, 3))
    op.weights[16:40] = 0
    compare(graph_of(op), PRESETS["base"], 5)


def test_extreme_weights_are_split() -> None:
    op = conv_op(np.random.default_rng(5), Tensor("x", (1, 5, 5, 16)), 16, (2, 2), bound=255)
    op.weights.reshape(-1)[:4] = 255, -255, 128, -129
    compare(graph_of(op), PRESETS["small"], 6)


@pytest.mark.parametrize("config", ["small", "base"])
def test_operations_follow_each_other(config: str) -> None:
    """Lanes beyond the last channel hold the zero point of the operation before; the next one must not see them."""
    rng = np.random.default_rng(7)
    first = conv_op(rng, Tensor("x", (1, 10, 10, 3)), 13, (3, 3), padding=((1, 1), (1, 1)))
    second = conv_op(rng, first.y, 13, (3, 3), groups=13, strides=(2, 1))
    third = conv_op(rng, second.y, 21)
    lead = third.y.shape[:2]
    w, y = Tensor("w", (*lead, 21, 5)), Tensor("y", (*lead, third.y.shape[2], 5))
    scale = Requantize(*quantize_multiplier(1 / 300))
    product = MatMul("matmul", "MATMUL", [third.y, w], [y], scale, 3, -4)
    compare(graph_of(first, second, third, product), CONFIGS[config], 8)


Product = tuple[tuple[int, ...], int, int, int, int, int, bool]
"""Leading axes, M, K, N, zero points of x and w, int32 result."""
PRODUCTS: tuple[Product, ...] = (
    ((), 7, 5, 4, 0, 0, False),
    ((2, 3), 40, 70, 33, 5, 0, False),
    ((3,), 2, 16, 16, -128, -128, True),
    ((), 300, 256, 20, 127, -3, False),
    ((2,), 1, 900, 100, 0, 127, True),
)


@pytest.mark.parametrize("config", ["small", "base", "cramped"])
@pytest.mark.parametrize("case", PRODUCTS)
def test_products_of_activations_are_exact(config: str, case: Product) -> None:
    lead, m, k, n, x_zero, w_zero, raw = case
    rng = np.random.default_rng(9)
    y = Tensor("y", (*lead, m, n), "int32" if raw else "int8")
    scale, zero_point = quantize_multiplier(1 / (60 * math.sqrt(k))), int(rng.integers(-128, 128))
    requantize = None if raw else Requantize(*scale, zero_point)
    inputs = [Tensor("x", (*lead, m, k)), Tensor("w", (*lead, k, n))]
    compare(graph_of(MatMul("matmul", "MATMUL", inputs, [y], requantize, x_zero, w_zero)), CONFIGS[config], 10)


def test_hardware_agrees() -> None:
    rng = np.random.default_rng(11)
    config = PRESETS["tiny"]
    full = conv_op(rng, Tensor("x", (1, 6, 6, 6)), 5, (3, 3), padding=((1, 1), (1, 1)), table=True)
    compare(graph_of(full), config, 1, "rtl")
    compare(graph_of(conv_op(rng, Tensor("x", (1, 6, 5, 7)), 7, (3, 3), groups=7)), config, 2, "rtl")
    inputs, y = [Tensor("x", (1, 5, 9)), Tensor("w", (1, 9, 6))], Tensor("y", (1, 5, 6), "int32")
    compare(graph_of(MatMul("matmul", "MATMUL", inputs, [y], None, -7, 9)), config, 3, "rtl")


def test_a_configuration_without_room_says_what_is_missing() -> None:
    config = PRESETS["base"].replace(name="nothing", acc_rows=64)
    op = conv_op(np.random.default_rng(0), Tensor("x", (1, 4, 4, 4)), 4)
    with pytest.raises(ModelError, match=r"node 'conv' \(CONV_2D\): configuration 'nothing' has 64 accumulator rows"):
        compile_graph(graph_of(op), config)


def test_weights_that_fill_their_zone_fit_after_another_layer() -> None:
    """Two dense layers on `tiny` whose weights each take the whole zone: nothing is lost between them."""
    config = tm.preset("tiny")
    rng = np.random.default_rng(11)
    x, a, y = (Tensor(name, (1, 3, 3, channels)) for name, channels in (("x", 20), ("a", 64), ("y", 64)))
    ops: list[Op] = []
    for source, result in ((x, a), (a, y)):
        weights = rng.integers(-128, 128, (64, 1, 1, source.channels)).astype(np.int16)
        requantize = Requantize(1 << 30, -10)
        ops.append(Conv2D(result.name, "CONV_2D", [source], [result], weights, np.zeros(64, np.int32), requantize))
    graph = Graph("two", ops, [Port("x", x, x.shape, "int8")], [Port("y", y, y.shape, "int8")])
    values = rng.integers(-128, 128, x.shape).astype(np.int8)
    with tm.open("iss", config=config) as npu, Session(npu, compile_graph(graph, config)) as session:
        assert np.array_equal(session(values)["y"], reference.evaluate(graph, {"x": values}).outputs["y"])
