"""Elementwise kernels on the simulator against `reference`: shapes, broadcasting, constants, folded forms."""

from __future__ import annotations

import numpy as np
import pytest

from tidemill.compiler.ir import Add, MinMax, Mul, Requantize, Table, Tensor
from tidemill.config import Config, preset
from tidemill.golden.requant import float_scale, quantize_multiplier
from tidemill.isa import RequantMode
from tidemill_verif.one_op import expect, int8, tensor

CONFIGS = [preset(name) for name in ("tiny", "small", "base")]
SIZES = [(1, 5, 7, 3), (2, 6, 6, 19), (300, 40), (7,), (1, 1), (), (3, 2, 4, 17)]
BROADCASTS = [
    ((2, 3, 5, 20), (20,)),
    ((2, 3, 5, 20), (2, 1, 1, 20)),
    ((2, 9, 9, 20), (2, 1, 1, 20)),
    ((2, 3, 5, 20), (2, 3, 5, 1)),
    ((20,), (2, 3, 5, 20)),
    ((2, 3, 1, 20), (1, 3, 5, 20)),
    ((2, 3, 1, 1), (2, 1, 5, 20)),
    ((4, 1), (1, 5)),
    ((2, 3, 5, 20), (1, 1, 1, 1)),
    ((2, 3, 5, 20), ()),
    ((40, 3, 5), (40, 1, 5)),
]


def random_requantize(rng: np.random.Generator, largest: float, channels: int | None = None) -> Requantize:
    """Parameters that bring sums up to `largest` into int8, in mode tflite or onnx."""
    size = channels or 1
    mode = RequantMode(int(rng.integers(2)))
    convert = quantize_multiplier if mode is RequantMode.TFLITE else float_scale
    pairs = np.array([convert(float(rng.uniform(50, 200)) / largest) for _ in range(size)], np.int64)
    multiplier, shift = pairs.astype(np.int32).T
    return Requantize(
        multiplier if channels else int(multiplier[0]), shift if channels else int(shift[0]),
        int(rng.integers(-20, 20)), -120, 110, mode, int(rng.integers(-9, 9)),
    )  # fmt: skip


def random_table(rng: np.random.Generator, kind: str) -> np.ndarray:
    """256 entries by `v & 255`: any, `line` (any factor), `power` (a factor that is a power of two)."""
    values = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)
    match kind:
        case "line":
            return (int(rng.integers(-900, 900)) * (values - 7)).astype(np.int32)
        case "power":
            return ((values + 5) << 13).astype(np.int32)
        case _:
            return rng.integers(-(1 << 20), 1 << 20, 256).astype(np.int32)


def pair(rng: np.random.Generator, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Two random operands and the result's tensor."""
    return int8(rng, a), int8(rng, b), Tensor("y", np.broadcast_shapes(a, b))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_table(config: Config) -> None:
    rng = np.random.default_rng(1)
    for shape in SIZES:
        x = int8(rng, shape)
        expect(config, Table("t", "LOGISTIC", [tensor("x", x)], [Tensor("y", shape)], int8(rng, (256,))), [x])


@pytest.mark.parametrize("kinds", [("any", "any"), ("power", "any"), ("line", "line"), ("power", "power")])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_add(config: Config, kinds: tuple[str, str]) -> None:
    rng = np.random.default_rng(2)
    for a_shape, b_shape in [*((shape, shape) for shape in SIZES[:3]), BROADCASTS[rng.integers(len(BROADCASTS))]]:
        a, b, y = pair(rng, a_shape, b_shape)
        tables = [random_table(rng, kind) for kind in kinds]
        op = Add(
            "s", "ADD", [tensor("a", a), tensor("b", b)], [y], tables[0], tables[1], random_requantize(rng, 1 << 20)
        )
        expect(config, op, [a, b])


def test_add_of_equal_scales_is_one_pass() -> None:
    rng = np.random.default_rng(3)
    a, b, y = pair(rng, (32, 32, 16), (32, 32, 16))
    line = ((np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64) + 4) << 19).astype(np.int32)
    bent = np.where(line > 0, line, line // 2).astype(np.int32)
    multiplier, shift = quantize_multiplier(2.0**-19 * 0.6)
    cycles = []
    for table_a, table_b in ((line, line), (line, bent), (bent, bent)):
        op = Add("s", "ADD", [tensor("a", a), tensor("b", b)], [y], table_a, table_b, Requantize(multiplier, shift))
        cycles.append(expect(preset("base"), op, [a, b]))
    # 4 cycles a row for the requantizer, 4 for a table, 1 for a shift
    assert cycles[0] < 1024 * 4 * 1.4
    assert cycles[1] < 1024 * 9 * 1.3
    assert cycles[2] < 1024 * 12 * 1.4


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_broadcasting(config: Config) -> None:
    rng = np.random.default_rng(4)
    for a_shape, b_shape in BROADCASTS:
        a, b, y = pair(rng, a_shape, b_shape)
        operands = [tensor("a", a), tensor("b", b)]
        add = Add("s", "ADD", operands, [y], random_table(rng, "any"), random_table(rng, "any"),
                  random_requantize(rng, 1 << 20))  # fmt: skip
        expect(config, add, [a, b])
        zeros = (int(rng.integers(-128, 128)), int(rng.integers(-1, 1)))
        expect(config, Mul("m", "MUL", operands, [y], *zeros, random_requantize(rng, 1 << 14)), [a, b])
        expect(config, MinMax("x", "MAXIMUM", operands, [y], bool(rng.integers(2))), [a, b])


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("shape", [(), (1,), (19,), (1, 1, 19), (4, 1, 19), (4, 5, 1), (4, 5, 19)])
def test_constant_operands(config: Config, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    for side in (0, 1):
        arrays = [int8(rng, (4, 5, 19)), int8(rng, shape)][:: 1 - 2 * side]
        operands = [tensor("a", arrays[0], side == 1), tensor("b", arrays[1], side == 0)]
        y, given = Tensor("y", (4, 5, 19)), [arrays[side]]
        tables = [random_table(rng, str(rng.choice(["any", "line", "power"]))) for _ in range(2)]
        channels = 19 if side else None
        expect(
            config,
            Add("s", "ADD", operands, [y], tables[0], tables[1], random_requantize(rng, 1 << 20, channels)),
            given,
        )
        expect(config, Mul("m", "MUL", operands, [y], 3, -7, random_requantize(rng, 1 << 14, channels)), given)
        expect(config, MinMax("x", "MINIMUM", operands, [y], False), given)


def test_on_hardware() -> None:
    rng = np.random.default_rng(6)
    for a_shape, b_shape in (BROADCASTS[5], BROADCASTS[3]):
        a, b, y = pair(rng, a_shape, b_shape)
        tables = [random_table(rng, "any"), random_table(rng, "power")]
        op = Add(
            "s", "ADD", [tensor("a", a), tensor("b", b)], [y], tables[0], tables[1], random_requantize(rng, 1 << 20)
        )
        expect(preset("tiny"), op, [a, b], "rtl")
