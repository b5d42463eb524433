"""Passes keep what a graph computes, and do what they are for."""

import numpy as np
import pytest

import tidemill as tm
from tidemill.compiler.ir import (
    Add,
    Conv2D,
    Graph,
    Host,
    ModelError,
    Move,
    Op,
    Port,
    Requantize,
    Softmax,
    State,
    Table,
    Tensor,
)
from tidemill.compiler.passes import run_passes
from tidemill.compiler.passes.batch import batched
from tidemill.compiler.passes.fallback import softmax_on_host
from tidemill.compiler.reference import evaluate

BASE = tm.preset("base")


def index_of(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int64).reshape(shape)


def conv(rng: np.random.Generator, x: Tensor, y: Tensor, kernel: tuple[int, int] = (1, 1), **options: object) -> Conv2D:
    weights = rng.integers(-128, 128, (y.channels, *kernel, x.channels)).astype(np.int16)
    requantize = Requantize(1 << 30, -9, zero_point=3)
    bias = rng.integers(-999, 999, y.channels).astype(np.int32)
    return Conv2D("conv", "CONV", [x], [y], weights, bias, requantize, **options)  # type: ignore[arg-type]


def table(rng: np.random.Generator, x: Tensor, y: Tensor) -> Table:
    return Table("table", "TABLE", [x], [y], rng.integers(-128, 128, 256).astype(np.int8))


def graph(ops: list[Op], x: Tensor, y: Tensor, states: list[State] | None = None) -> Graph:
    ports = [Port("x", x, x.shape, "int8")], [Port("y", y, y.shape, "int8")]
    return Graph("test", ops, *ports, states or [])


def same(before: Graph, keep: bool = False) -> Graph:
    """The graph after all passes, which computes the same."""
    after = run_passes(before, BASE, keep_exposed=keep)
    rng = np.random.default_rng(9)
    states_before = states_after = None
    for _ in range(3):
        x = rng.integers(-128, 128, before.inputs[0].shape).astype(np.int8)
        first, second = evaluate(before, {"x": x}, states_before), evaluate(after, {"x": x}, states_after)
        assert np.array_equal(first.outputs["y"], second.outputs["y"])
        states_before, states_after = first.states, second.states
        assert all(np.array_equal(states_before[name], states_after[name]) for name in states_before)
    return after


def kinds(result: Graph) -> list[str]:
    return [type(op).__name__ for op in result.ops]


@pytest.mark.parametrize("seed", range(20))
def test_random_chains_of_moves_become_one_at_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = current = Tensor("x", (2, 4, 5, 3))
    ops: list[Op] = []
    for number in range(int(rng.integers(1, 6))):
        index = index_of(current.shape)
        match rng.integers(5):
            case 0:
                index = index.transpose(rng.permutation(index.ndim))
            case 1:
                index = np.pad(index, [(0, int(rng.integers(2))) for _ in index.shape], constant_values=-1)
            case 2:
                index = index[1:] if index.shape[0] > 1 else index
            case 3:
                index = np.concatenate([index, index], axis=-1)
            case _:
                index = index.reshape(-1, index.shape[-1])
        y = Tensor(f"t{number}", index.shape)
        fill = int(rng.integers(2))
        ops.append(Move(f"m{number}", "MOVE", [current], [y], index, fill))
        current = y
    fills = {op.fill for op in ops if isinstance(op, Move) and (op.index < 0).any()}
    after = same(graph(ops, x, current))
    assert len(after.ops) <= max(1, len(fills))


def test_two_sources_with_one_in_common_are_composed() -> None:
    rng = np.random.default_rng(1)
    x, half, both, twice = Tensor("x", (4, 6)), Tensor("half", (2, 6)), Tensor("both", (6, 6)), Tensor("twice", (6, 6))
    ops = [
        Move("half", "SLICE", [x], [half], index_of((4, 6))[:2]),
        Move("both", "CONCAT", [half, x], [both], index_of((6, 6))),
        table(rng, both, twice),
    ]
    after = same(graph(ops, x, twice))
    moves = [op for op in after.ops if isinstance(op, Move)]
    assert all(op.inputs == [x] for op in moves)


def test_explicit_padding_becomes_the_convolutions_own() -> None:
    rng = np.random.default_rng(2)
    x, padded, y = Tensor("x", (1, 6, 7, 32)), Tensor("padded", (1, 9, 8, 32)), Tensor("y", (1, 8, 6, 5))
    pad = np.pad(index_of(x.shape), ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=-1)
    step = Tensor("step", x.shape)
    op = conv(rng, padded, y, (2, 3), input_zero_point=-7)
    ops = [table(rng, x, step), Move("pad", "PAD", [step], [padded], pad, -7), op]
    after = same(graph(ops, x, y))
    assert kinds(after) == ["Table", "Conv2D"]
    wrong = Move("pad", "PAD", [step], [padded], pad, -8)
    assert "Move" in kinds(same(graph([ops[0], wrong, op], x, y)))


def test_dense_layers_absorb_flattening_and_permutation() -> None:
    rng = np.random.default_rng(3)
    x, step, flat, y = (
        Tensor("x", (2, 3, 4, 20)),
        Tensor("s", (2, 3, 4, 20)),
        Tensor("flat", (2, 240)),
        Tensor("y", (2, 7)),
    )
    order = index_of(step.shape).transpose(0, 3, 1, 2).reshape(2, 240)
    ops = [table(rng, x, step), Move("flatten", "FLATTEN", [step], [flat], order), conv(rng, flat, y)]
    after = same(graph(ops, x, y))
    assert kinds(after)[:2] == ["Table", "Conv2D"]
    op = after.ops[1]
    assert isinstance(op, Conv2D)
    assert op.weights.shape == (7, 3, 4, 20)


@pytest.mark.parametrize("channels", [1, 3, 8, 9])
def test_first_layers_with_few_channels_are_packed(channels: int) -> None:
    rng = np.random.default_rng(4)
    x, y = Tensor("x", (1, 9, 8, channels)), Tensor("y", (1, 5, 4, 6))
    op = conv(rng, x, y, (3, 3), strides=(2, 2), padding=((1, 1), (0, 1)), input_zero_point=5)
    after = same(graph([op], x, y))
    packed = after.ops[0]
    assert isinstance(packed, Conv2D)
    assert (packed.weights.shape[1:] == (1, 1, 9 * channels)) == (channels <= 8)


def test_tables_join_each_other_and_the_convolution() -> None:
    rng = np.random.default_rng(5)
    x, a, b, y = (Tensor(name, (1, 4, 4, 16)) for name in "xaby")
    after = same(graph([conv(rng, x, a), table(rng, a, b), table(rng, b, y)], x, y))
    assert kinds(after) == ["Conv2D"]


def test_a_result_with_another_reader_is_not_fused_away() -> None:
    rng = np.random.default_rng(6)
    x, a, b, y = (Tensor(name, (1, 4, 4, 16)) for name in "xaby")
    before = graph([conv(rng, x, a), table(rng, a, y), conv(rng, a, b)], x, y)
    before.outputs.append(Port("b", b, b.shape, "int8"))
    assert kinds(same(before)) == ["Conv2D", "Table", "Conv2D"]


def test_variables_survive() -> None:
    rng = np.random.default_rng(7)
    x, old, joined, new, y = (
        Tensor(name, shape)
        for name, shape in zip("xojny", [(1, 2, 8), (1, 3, 8), (1, 5, 8), (1, 3, 8), (1, 5, 8)], strict=True)
    )
    ops = [
        Move("join", "CONCAT", [old, x], [joined], index_of((1, 5, 8))),
        Move("keep", "SLICE", [joined], [new], index_of((1, 5, 8))[:, 2:]),
        table(rng, joined, y),
    ]
    same(graph(ops, x, y, [State("v", old, new, np.full((1, 3, 8), -5, np.int8))]))


def test_exposed_tensors_stay() -> None:
    rng = np.random.default_rng(8)
    x, a, y = (Tensor(name, (1, 4, 4, 16)) for name in "xay")
    before = graph([conv(rng, x, a), table(rng, a, y)], x, y)
    before.exposed.append(Port("a", a, a.shape, "int8"))
    assert kinds(same(before, keep=True)) == ["Conv2D", "Table"]


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_computes_every_inference(seed: int) -> None:
    """Two sources, a constant operand, moves that mix axes, ports in another order: all copies equal single runs."""
    rng = np.random.default_rng(seed)
    x, z = Tensor("x", (1, 5, 6, 3)), Tensor("z", (1, 30))
    a, b, c, y = (
        Tensor("a", (1, 6, 5, 3)),
        Tensor("b", (1, 6, 5, 1)),
        Tensor("c", (1, 6, 5, 4)),
        Tensor("y", (1, 6, 5, 4)),
    )
    constant = Tensor("k", (4,), data=rng.integers(-128, 128, 4).astype(np.int8))
    tables = rng.integers(-(2**20), 2**20, (2, 256)).astype(np.int32)
    ops: list[Op] = [
        Move("transpose", "T", [x], [a], index_of(x.shape).transpose(0, 2, 1, 3)),
        Move("view", "R", [z], [b], rng.permutation(index_of(z.shape).reshape(-1)).reshape(b.shape)),
        Move("join", "C", [a, b], [c], np.concatenate([index_of(a.shape), 90 + index_of(b.shape)], axis=3)),
        Add("add", "ADD", [c, constant], [y], *tables, Requantize(1 << 30, -10)),
    ]
    order = rng.permutation(x.size)
    single = Graph(
        "test",
        ops,
        [Port("x", x, (1, 90), "int8", index=order.reshape(x.shape)), Port("z", z, z.shape, "int8")],
        [Port("y", y, (1, 120), "uint8", offset=128, index=rng.permutation(120))],
    )
    group = run_passes(batched(single, 3), BASE, keep_exposed=False)
    xs = rng.integers(-128, 128, (3, 90)).astype(np.int8)
    zs = rng.integers(-128, 128, (3, 30)).astype(np.int8)
    together = evaluate(group, {"x": xs, "z": zs}).outputs["y"]
    alone = [evaluate(single, {"x": xs[i : i + 1], "z": zs[i : i + 1]}).outputs["y"] for i in range(3)]
    assert np.array_equal(together, np.concatenate(alone))


def test_what_has_no_batch_axis_is_refused() -> None:
    rng = np.random.default_rng(1)
    x, y = Tensor("x", (1, 3, 8)), Tensor("y", (1, 3, 8))
    state = State("v", Tensor("old", (1, 3, 8)), y, np.zeros((1, 3, 8), np.int8))
    with pytest.raises(ModelError, match="variables"):
        batched(graph([table(rng, x, y)], x, y, [state]), 2)


def test_softmax_moves_to_the_host_with_the_same_bytes() -> None:
    x, y = Tensor("x", (4, 12)), Tensor("y", (4, 12))
    before = graph([Softmax("softmax", "SOFTMAX", [x], [y], 0.1, 1.0)], x, y)
    after = softmax_on_host(before)
    assert kinds(after) == ["Host"]
    values = np.random.default_rng(2).integers(-128, 128, x.shape).astype(np.int8)
    assert np.array_equal(evaluate(before, {"x": values}).outputs["y"], evaluate(after, {"x": values}).outputs["y"])


@pytest.mark.parametrize("permuted", [False, True])
def test_the_host_packs_what_it_has_made(permuted: bool) -> None:
    """A first layer behind a host operation: patches, and a permutation before it, are the host's."""
    rng = np.random.default_rng(3)
    x, a, b, y = (
        Tensor("x", (1, 3, 8, 9)),
        Tensor("a", (1, 3, 8, 9)),
        Tensor("b", (1, 8, 9, 3)),
        Tensor("y", (1, 8, 9, 6)),
    )
    ops: list[Op] = [Host("softmax", "SOFTMAX", [x], [a], "softmax", {"scale": 0.1, "beta": 1.0})]
    ops.append(Move("transpose", "T", [a], [b], index_of(a.shape).transpose(0, 2, 3, 1)))
    padding = ((1, 1), (1, 1)) if permuted else ((0, 2), (0, 2))
    ops.append(conv(rng, b, y, (3, 3), padding=padding, input_zero_point=-4))
    after = same(graph(ops, x, y))
    assert kinds(after) == ["Host", "Host", "Host", "Conv2D"]
