"""Data movement on the simulator against `reference`: the moves of networks, and any index."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from tidemill.compiler.ir import ModelError, Move, Tensor
from tidemill.config import Config, preset
from tidemill_verif.one_op import expect, int8, run_op, tensor

CONFIGS = [preset(name) for name in ("tiny", "small", "base")]


def numbered(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """The numbers of all elements of tensors of these shapes, in order."""
    starts = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    return [np.arange(a, b).reshape(s) for a, b, s in zip(starts, starts[1:], shapes, strict=False)]


def move(arrays: Sequence[np.ndarray], index: np.ndarray, fill: int = 0) -> Move:
    """The operation that takes `index` from the arrays."""
    inputs = [tensor(f"x{i}", array) for i, array in enumerate(arrays)]
    y = Tensor("y", index.shape, arrays[0].dtype.name)
    return Move("m", "MOVE", inputs, [y], np.ascontiguousarray(index, np.int64), fill)


def cases() -> dict[str, tuple[list[tuple[int, ...]], np.ndarray, int]]:
    """Name: shapes of the inputs, index, fill."""
    found: dict[str, tuple[list[tuple[int, ...]], np.ndarray, int]] = {}

    def add(name: str, shapes: list[tuple[int, ...]], index: np.ndarray, fill: int = 0) -> None:
        found[name] = (shapes, index, fill)

    [x] = numbered((2, 6, 7, 20))
    shape = [x.shape]
    add("copy", shape, x)
    add("slice", shape, x[1:, 2:5, 1:6])
    add("strided slice", shape, x[:, ::2, 5::-3, 3:18:4])
    add("channel slice", shape, x[..., 5:19])
    add("transpose hw", shape, x.transpose(0, 2, 1, 3))
    add("transpose channels", shape, x.transpose(0, 3, 1, 2))
    add("flatten", shape, x.reshape(2, -1))
    add("reshape", shape, x.reshape(7, 30, 8))
    add("one channel", shape, x.reshape(-1, 1))
    add("reverse channels", shape, x[..., ::-1])
    add("repeat channels", shape, np.repeat(x, 3, axis=-1))
    add("nearest", shape, np.repeat(np.repeat(x, 2, axis=1), 3, axis=2))
    add("pad", shape, np.pad(x, ((0, 0), (1, 2), (300, 1), (0, 0)), constant_values=-1), -7)
    add("pad channels", shape, np.pad(x, ((0, 0), (0, 0), (1, 0), (3, 9)), constant_values=-1), 5)
    add("pad channels with zero", shape, np.pad(x, ((0, 0), (0, 0), (1, 0), (3, 9)), constant_values=-1))
    a, b, c = numbered((1, 5, 5, 24), (1, 5, 5, 7), (1, 5, 5, 16))
    add("concat channels", [a.shape, b.shape, c.shape], np.concatenate([a, b, c], axis=-1))
    a, b = numbered((2, 5, 9), (3, 5, 9))
    add("concat pixels", [a.shape, b.shape], np.concatenate([a, b]))
    [x] = numbered((1, 16))
    add("lanes to pixels", [x.shape], x.reshape(16, 1))
    [x] = numbered((90, 1))
    add("pixels to lanes", [x.shape], x.reshape(1, 90))
    add("scalar", [x.shape], x[7, 0].reshape(()))
    add("only fill", [x.shape], np.full((3, 4), -1), 9)
    rng = np.random.default_rng(1)
    add("random", [(3, 50), (7, 9)], rng.integers(-1, 213, (20, 21)), -3)
    add("permuted rows", [(60, 5)], numbered((60, 5))[0][rng.permutation(60)])
    return found


CASES = cases()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("name", CASES)
def test_int8(config: Config, name: str) -> None:
    rng = np.random.default_rng(2)
    shapes, index, fill = CASES[name]
    arrays = [int8(rng, shape) for shape in shapes]
    expect(config, move(arrays, index, fill), arrays)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize(
    "name", ["copy", "channel slice", "concat channels", "transpose channels", "pad channels with zero"]
)
def test_int32(config: Config, name: str) -> None:
    rng = np.random.default_rng(3)
    shapes, index, fill = CASES[name]
    arrays = [rng.integers(-(1 << 31), 1 << 31, shape).astype(np.int32) for shape in shapes]
    expect(config, move(arrays, index, fill), arrays)


def test_int32_fill_is_refused() -> None:
    array = np.zeros((2, 3), np.int32)
    with pytest.raises(ModelError, match="four equal bytes"):
        run_op(preset("base"), move([array], np.array([[0, -1]]), 77), [array])


def test_larger_than_local_memory() -> None:
    rng = np.random.default_rng(4)
    x = int8(rng, (90, 90, 20))
    [numbers] = numbered(x.shape)
    expect(preset("base"), move([x], numbers.transpose(1, 0, 2)[::2]), [x])
    expect(preset("tiny"), move([x], numbers[:40, ..., 3:]), [x])


def test_compile_time() -> None:
    rng = np.random.default_rng(5)
    x = int8(rng, (64, 64, 32))
    [numbers] = numbered(x.shape)
    before = time.process_time()
    expect(preset("base"), move([x], numbers.transpose(2, 0, 1)), [x])
    assert time.process_time() - before < 4


@pytest.mark.parametrize("name", ["channel slice", "pad"])
def test_on_hardware(name: str) -> None:
    rng = np.random.default_rng(6)
    shapes, index, fill = CASES[name]
    arrays = [int8(rng, shape) for shape in shapes]
    expect(preset("tiny"), move(arrays, index, fill), arrays, "rtl")
