"""Random networks through all stages: passes, memory plan, kernels and schedule keep what the graph means."""

import os

import numpy as np
import pytest

import tidemill as tm
from tidemill.checker import check
from tidemill.compiler.compile import compile_graph
from tidemill.compiler.ir import (
    Add,
    Conv2D,
    Graph,
    Host,
    MatMul,
    MaxPool2D,
    MinMax,
    Move,
    Mul,
    Op,
    Port,
    Requantize,
    Softmax,
    State,
    SumPool2D,
    Table,
    Tensor,
)
from tidemill.compiler.passes.batch import batched
from tidemill.compiler.reference import evaluate
from tidemill.compiler.runtime import Session
from tidemill.golden.requant import reciprocal
from tidemill.isa import RequantMode

SEEDS = int(os.environ.get("NETWORK_SEEDS", "8"))
"""Networks of each configuration; `NETWORK_SEEDS=n` runs more."""


def index_of(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int64).reshape(shape)


class RandomNetwork:
    """Builds a graph of `count` operations on small activations; every operation of the IR may come."""

    def __init__(self, seed: int, count: int, states: bool = True, host: bool = True) -> None:
        self.rng = np.random.default_rng(seed)
        self.ops: list[Op] = []
        self.states: list[State] = []
        shape = (1, *(int(n) for n in self.rng.integers(3, 10, 2)), int(self.rng.integers(1, 40)))
        self.tensors = [Tensor("x", shape)]
        if states and self.rng.random() < 0.5:
            self._state(shape)
        makers = [
            self._conv, self._conv, self._depthwise, self._table, self._add, self._mul, self._min_max,
            self._max_pool, self._average, self._transpose, self._slice, self._pad, self._concat, self._reshape,
            self._softmax, self._dense, self._matmul,
        ]  # fmt: skip
        if host:
            makers.append(self._host)
        while len(self.ops) < count:
            makers[int(self.rng.integers(len(makers)))]()
        used = {id(t) for op in self.ops for t in op.inputs}
        made = [op.y for op in self.ops]
        outputs = [t for t in made if id(t) not in used] or made[-1:]
        extra = made[int(self.rng.integers(len(made)))]
        if extra not in outputs and self.rng.random() < 0.3:
            outputs.append(extra)
        for number, state in enumerate(self.states):
            same = [t for t in self.tensors if t.shape == state.read.shape]
            self.states[number] = State(state.name, state.read, same[-1], state.initial)
        x = self.tensors[0]
        ports = [Port(t.name, t, t.shape, "int8") for t in outputs]
        if self.rng.random() < 0.3:
            order = self.rng.permutation(outputs[0].size)
            ports[0] = Port(outputs[0].name, outputs[0], (order.size,), "uint8", offset=128, index=order)
        exposed = [Port(t.name, t, t.shape, "int8") for t in made]
        self.graph = Graph(f"random {seed}", self.ops, [Port("x", x, x.shape, "int8")], ports, self.states, exposed)

    def _pick(self, rank: int | None = None) -> Tensor | None:
        fitting = [t for t in self.tensors if rank in (None, len(t.shape)) and t.size <= 6000]
        return fitting[int(self.rng.integers(len(fitting)))] if fitting else None

    def _new(self, shape: tuple[int, ...]) -> Tensor:
        return Tensor(f"t{len(self.ops)}", shape)

    def _append(self, kind: type[Op], inputs: list[Tensor], shape: tuple[int, ...], *fields: object) -> None:
        y = self._new(shape)
        self.ops.append(kind(y.name, kind.__name__, inputs, [y], *fields))  # type: ignore[call-arg]
        self.tensors.append(y)

    def _state(self, shape: tuple[int, ...]) -> None:
        read = Tensor("state", shape)
        initial = self.rng.integers(-128, 128, shape).astype(np.int8)
        self.states.append(State("state", read, read, initial))
        self.tensors.append(read)

    def _requantize(self, channels: int, depth: int) -> Requantize:
        rng = self.rng
        shift = -int(np.log2(depth * 60 + 1)) + rng.integers(-1, 2, channels)
        low, high = sorted(int(v) for v in rng.integers(-128, 128, 2))
        if rng.random() < 0.6:
            low, high = -128, 127
        mode = RequantMode.TFLITE if rng.random() < 0.6 else RequantMode.ONNX
        multiplier = rng.integers(1 << 30, (1 << 31) - 1, channels).astype(np.int32)
        return Requantize(multiplier, shift.astype(np.int32), int(rng.integers(-20, 20)), low, high, mode)

    def _conv(self) -> None:
        x = self._pick(4)
        if x is None:
            return
        rng = self.rng
        kernel = tuple(int(rng.integers(1, 4)) for _ in range(2))
        strides = tuple(int(rng.integers(1, 3)) for _ in range(2))
        padding = tuple((int(rng.integers(kernel[i])), int(rng.integers(kernel[i]))) for i in range(2))
        size = [(x.shape[i + 1] + sum(padding[i]) - kernel[i]) // strides[i] + 1 for i in range(2)]
        if min(size) < 1:
            return
        groups = next(g for g in (int(rng.integers(1, 4)), 1) if x.channels % g == 0)
        channels = groups * int(rng.integers(1, 40 // groups))
        weights = rng.integers(-128, 128, (channels, *kernel, x.channels // groups)).astype(np.int16)
        bias = rng.integers(-3000, 3000, channels).astype(np.int32)
        requantize = self._requantize(channels, weights[0].size)
        self._append(Conv2D, [x], (x.shape[0], *size, channels), weights, bias, requantize, strides, (1, 1), padding,
                     groups, int(rng.integers(-128, 128)))  # fmt: skip

    def _depthwise(self) -> None:
        x = self._pick(4)
        if x is None or x.shape[1] < 3 or x.shape[2] < 3:
            return
        weights = self.rng.integers(-128, 128, (x.channels, 3, 3, 1)).astype(np.int16)
        bias = self.rng.integers(-300, 300, x.channels).astype(np.int32)
        self._append(Conv2D, [x], x.shape, weights, bias, self._requantize(x.channels, 9), (1, 1), (1, 1),
                     ((1, 1), (1, 1)), x.channels, int(self.rng.integers(-9, 9)))  # fmt: skip

    def _dense(self) -> None:
        x = self._pick()
        if x is None or len(x.shape) < 2 or x.size > 2000:
            return
        flat = Tensor(f"flat{len(self.ops)}", (1, x.size))
        index = self.rng.permutation(x.size) if self.rng.random() < 0.3 else np.arange(x.size)
        self.ops.append(Move(flat.name, "RESHAPE", [x], [flat], index.reshape(flat.shape)))
        channels = int(self.rng.integers(1, 30))
        weights = self.rng.integers(-128, 128, (channels, 1, 1, x.size)).astype(np.int16)
        self._append(Conv2D, [flat], (1, channels), weights, np.zeros(channels, np.int32),
                     self._requantize(channels, x.size), (1, 1), (1, 1), ((0, 0), (0, 0)), 1, 5)  # fmt: skip

    def _matmul(self) -> None:
        x = self._pick(4)
        if x is None or x.size > 1500:
            return
        _, height, width, channels = x.shape
        swapped = index_of(x.shape).transpose(0, 1, 3, 2)
        other = Tensor(f"swapped{len(self.ops)}", swapped.shape)
        self.ops.append(Move(other.name, "TRANSPOSE", [x], [other], swapped))
        self._append(MatMul, [x, other], (1, height, width, width), self._requantize(width, channels), 3, -4)

    def _table(self) -> None:
        x = self._pick()
        if x is not None:
            self._append(Table, [x], x.shape, self.rng.integers(-128, 128, 256).astype(np.int8))

    def _pair(self) -> list[Tensor] | None:
        x = self._pick()
        if x is None:
            return None
        same = [t for t in self.tensors if t.shape == x.shape]
        other = same[int(self.rng.integers(len(same)))]
        if self.rng.random() < 0.4:
            shape = (1,) * (len(x.shape) - 1) + (x.channels,)
            other = Tensor("constant", shape, data=self.rng.integers(-128, 128, shape).astype(np.int8))
        return [x, other]

    def _add(self) -> None:
        pair = self._pair()
        if pair is not None:
            tables = (self.rng.integers(-(1 << 24), 1 << 24, 256).astype(np.int32) for _ in range(2))
            self._append(Add, pair, pair[0].shape, *tables, Requantize(1 << 30, -16, 2))

    def _mul(self) -> None:
        pair = self._pair()
        if pair is not None:
            self._append(Mul, pair, pair[0].shape, 3, -7, Requantize(1 << 30, -6, -1))

    def _min_max(self) -> None:
        pair = self._pair()
        if pair is not None:
            self._append(MinMax, pair, pair[0].shape, bool(self.rng.integers(2)))

    def _max_pool(self) -> None:
        x = self._pick(4)
        if x is None or min(x.shape[1:3]) < 2:
            return
        self._append(
            MaxPool2D, [x], (1, x.shape[1] // 2, x.shape[2] // 2, x.channels), (2, 2), (2, 2), ((0, 0), (0, 0))
        )

    def _average(self) -> None:
        x = self._pick(4)
        if x is None:
            return
        n = x.shape[1] * x.shape[2]
        bias, multiplier, shift = reciprocal(n)
        requantize = Requantize(multiplier, shift, 0, -128, 127, RequantMode.DIV, bias)
        self._append(SumPool2D, [x], (1, 1, 1, x.channels), x.shape[1:3], (1, 1), ((0, 0), (0, 0)), {n: requantize})

    def _softmax(self) -> None:
        x = self._pick()
        if x is not None and x.pixels <= 60:
            self._append(Softmax, [x], x.shape, float(self.rng.uniform(0.01, 0.3)))

    def _host(self) -> None:
        x = self._pick()
        if x is not None and x.pixels <= 60:
            self._append(Host, [x], x.shape, "softmax", {"scale": 0.1, "beta": 1.0})

    def _move(self, inputs: list[Tensor], index: np.ndarray, fill: int = 0) -> None:
        if 0 < index.size <= 6000:
            self._append(Move, inputs, index.shape, np.ascontiguousarray(index), fill)

    def _transpose(self) -> None:
        x = self._pick(4)
        if x is not None:
            self._move([x], index_of(x.shape).transpose(0, *(1 + self.rng.permutation(3))))

    def _slice(self) -> None:
        x = self._pick(4)
        if x is not None:
            axis, start = int(self.rng.integers(1, 4)), int(self.rng.integers(2))
            index = index_of(x.shape)
            self._move([x], np.take(index, range(start, x.shape[axis], int(self.rng.integers(1, 3))), axis=axis))

    def _pad(self) -> None:
        x = self._pick(4)
        if x is not None:
            pads = [(0, 0), *((int(a), int(b)) for a, b in self.rng.integers(0, 2, (3, 2)))]
            self._move([x], np.pad(index_of(x.shape), pads, constant_values=-1), int(self.rng.integers(-9, 9)))

    def _concat(self) -> None:
        x = self._pick(4)
        if x is None:
            return
        axis = int(self.rng.integers(1, 4))
        fitting = [t for t in self.tensors if len(t.shape) == 4
                   and all(t.shape[i] == x.shape[i] for i in range(4) if i != axis)]  # fmt: skip
        other = fitting[int(self.rng.integers(len(fitting)))]
        self._move([x, other], np.concatenate([index_of(x.shape), x.size + index_of(other.shape)], axis=axis))

    def _reshape(self) -> None:
        x = self._pick(4)
        if x is not None:
            _, height, width, channels = x.shape
            shape = [(1, width, height, channels), (1, 1, height * width, channels), (1, height, channels, width)]
            self._move([x], index_of(x.shape).reshape(shape[int(self.rng.integers(3))]))


@pytest.mark.parametrize(("preset", "device"), [("tiny", "iss"), ("small", "iss"), ("base", "iss"), ("tiny", "rtl")])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_networks_are_exact(preset: str, device: str, seed: int) -> None:
    config = tm.preset(preset)
    network = RandomNetwork(1000 * len(preset) + seed, 3 + seed % 9).graph
    rng = np.random.default_rng(seed)
    keep = seed % 3 == 0
    model = compile_graph(network, config, keep_all=keep)
    if len(model.program.words) < 2500:
        assert all(finding.severity != "error" for finding in check(model.program))
    states = None
    with tm.open(device, config=config) as npu, Session(npu, model) as session:
        for _ in range(2):
            x = rng.integers(-128, 128, network.inputs[0].shape).astype(np.int8)
            expected = evaluate(network, {"x": x}, states, keep=keep)
            states = expected.states
            outputs = session(x)
            for name, value in expected.outputs.items():
                assert np.array_equal(outputs[name], value), f"{name} of {[op.source for op in network.ops]}"
            for name, value in session.exposed().items() if keep else ():
                assert np.array_equal(value, expected.exposed[name]), f"{name} of {[op.source for op in network.ops]}"


@pytest.mark.parametrize("seed", range(max(4, SEEDS // 4)))
def test_random_networks_in_batches_are_exact(seed: int) -> None:
    config = tm.preset("base")
    network = RandomNetwork(7000 + seed, 6, states=False, host=False)
    graph = network.graph
    if any(isinstance(op, MatMul) for op in graph.ops):
        pytest.skip("a product of two activations")
    group = batched(graph, 3)
    x = np.random.default_rng(seed).integers(-128, 128, (3, *graph.inputs[0].shape[1:])).astype(np.int8)
    with tm.open("iss", config=config) as npu, Session(npu, compile_graph(group, config)) as session:
        outputs = session(x)
    for number in range(3):
        for name, value in evaluate(graph, {"x": x[number : number + 1]}).outputs.items():
            part = np.split(outputs[name], 3)[number].reshape(value.shape)
            assert np.array_equal(part, value), f"{name} of {[op.source for op in graph.ops]}"
