"""`tidemill.gemm` equals numpy on both devices, and the simulator foretells the hardware's cycles."""

from __future__ import annotations

import numpy as np
import pytest

import tidemill as tm
from tidemill.builder import ProgramBuilder
from tidemill.config import preset
from tidemill.golden.requant import requantize
from tidemill.ops.gemm import run_gemm

SHAPES = 200
CHUNKS = 4
LARGEST = 300
DEGENERATE = [
    (1, 300, 1),
    (300, 1, 300),
    (1, 1, 1),
    (1, 1, 300),
    (300, 300, 1),
    (1, 300, 300),
    (17, 1, 1),
    (300, 7, 33),
]
KINDS = ("plain", "bias", "tflite", "onnx")


def shapes(seed: int) -> list[tuple[int, int, int]]:
    """Degenerate shapes first, then random ones: a third uniform up to LARGEST, the rest log-uniform."""
    rng = np.random.default_rng(seed)
    uniform = rng.integers(1, LARGEST + 1, (SHAPES, 3))
    logarithmic = np.exp(rng.uniform(0, np.log(LARGEST + 1), (SHAPES, 3))).astype(int)
    chosen = np.where(np.arange(SHAPES)[:, None] % 3 == 0, uniform, logarithmic)
    return (DEGENERATE + [tuple(int(size) for size in shape) for shape in chosen])[:SHAPES]


def reference(a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, scaling: tm.Requant | None) -> np.ndarray:
    """The product in numpy's own integers; requantization by the golden model, itself held against the runtimes."""
    product = a.astype(np.int64) @ b.astype(np.int64)
    if bias is not None:
        product = product + bias
    if scaling is None:
        return product
    multiplier, shift = scaling.columns(b.shape[1])
    y = requantize(
        product.astype(np.int32), 0, multiplier, shift,
        zero_point=scaling.zero_point, preshift=0, mode=scaling.isa_mode,
    )  # fmt: skip
    return np.clip(y, scaling.qmin, scaling.qmax)


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("name", ["tiny", "small", "base"])
@pytest.mark.parametrize("device", ["iss", "rtl"])
def test_gemm_equals_numpy(device: str, name: str, chunk: int) -> None:
    with tm.open(device, preset=name) as dev:
        for number, (m, k, n) in enumerate(shapes(seed=5)[chunk::CHUNKS]):
            rng = np.random.default_rng((chunk, number))
            a = rng.integers(-128, 128, (m, k), dtype=np.int8)
            b = rng.integers(-128, 128, (k, n), dtype=np.int8)
            kind = KINDS[number % len(KINDS)]
            bias = None if kind == "plain" else rng.integers(-(1 << 20), 1 << 20, n).astype(np.int32)
            scaling = None
            if kind in ("tflite", "onnx"):
                scales = rng.uniform(0.2, 2, n) / (60 * k**0.5)
                scaling = tm.Requant.from_scale(scales, zero_point=int(rng.integers(-128, 128)), mode=kind)
            got = tm.gemm(dev, a, b, bias=bias, requant=scaling)
            assert got.dtype == (np.int8 if scaling else np.int32)
            assert np.array_equal(got, reference(a, b, bias, scaling)), f"{device} {name}: {(m, k, n)} {kind}"


@pytest.mark.parametrize("stalls", [0.1, 0.5])
def test_gemm_equals_numpy_on_a_stalling_bus(stalls: float) -> None:
    rng = np.random.default_rng(3)
    for seed, latency in ((1, 1), (2, 20), (3, 300)):
        with tm.open("rtl", preset="tiny", stall_probability=stalls, seed=seed, read_latency=latency) as dev:
            a = rng.integers(-128, 128, (33, 50), dtype=np.int8)
            b = rng.integers(-128, 128, (50, 21), dtype=np.int8)
            assert np.array_equal(tm.gemm(dev, a, b), a.astype(np.int64) @ b.astype(np.int64))


@pytest.mark.parametrize("mode", ["tflite", "onnx"])
def test_one_multiplier_serves_all_columns(mode: str) -> None:
    rng = np.random.default_rng(4)
    a, b = (rng.integers(-128, 128, shape, dtype=np.int8) for shape in ((9, 30), (30, 21)))
    scaling = tm.Requant(1_500_000_001, -9, zero_point=4, qmin=-100, qmax=90, mode=mode)
    with tm.open("iss", preset="small") as dev:
        got = tm.gemm(dev, a, b, requant=scaling)
    product = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    if mode == "onnx":
        scale = np.float32(1_500_000_001 * 2.0**-40)
        expected = np.clip(np.rint(product.astype(np.float32) * scale).astype(np.int64) + 4, -100, 90)
        assert np.array_equal(got, expected)
    else:
        assert np.array_equal(got, reference(a, b, None, scaling))


@pytest.mark.parametrize("name", ["tiny", "small", "base"])
def test_simulator_foretells_the_cycles_of_a_product(name: str) -> None:
    size = {"tiny": 64, "small": 128, "base": 256}[name]
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (size, size), dtype=np.int8) for _ in range(2))
    cycles = {}
    for device in ("iss", "rtl"):
        with tm.open(device, preset=name) as dev:
            run = run_gemm(dev, a, b)
            cycles[device] = run.cycles
    assert abs(cycles["iss"] / cycles["rtl"] - 1) < 0.05, cycles
    if name == "base":
        assert run.utilization >= 0.85


@pytest.mark.parametrize("requant", [None, tm.Requant.from_scale(0.001)], ids=["int32", "int8"])
@pytest.mark.parametrize("name", ["small", "base"])
def test_simulator_foretells_the_cycles_of_a_small_product(name: str, requant: tm.Requant | None) -> None:
    rng = np.random.default_rng(1)
    for m, k, n in ((1, 1, 1), (9, 30, 21), (16, 16, 16), (32, 32, 32), (1, 64, 64)):
        a, b = (rng.integers(-128, 128, shape, dtype=np.int8) for shape in ((m, k), (k, n)))
        cycles = {}
        for device in ("iss", "rtl"):
            with tm.open(device, preset=name) as dev:
                cycles[device] = run_gemm(dev, a, b, requant=requant).cycles
        assert abs(cycles["iss"] / cycles["rtl"] - 1) < 0.08, (m, k, n, cycles)


def test_simulator_foretells_an_empty_program() -> None:
    cycles = {}
    for device in ("iss", "rtl"):
        b = ProgramBuilder(preset("small"))
        b.halt()
        with tm.open(device, preset="small") as dev:
            cycles[device] = dev.run(dev.load(b.build())).cycles
    assert cycles["iss"] == cycles["rtl"]
