"""Does this NPU work? Small tests of memory, registers, every engine and a whole network, on any device.

Everything is held against golden models or plain numpy. `tidemill selftest` is the command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tidemill.builder import ProgramBuilder, spad
from tidemill.config import ISA_VERSION
from tidemill.csr import BY_NAME, MAGIC, Cause, offset
from tidemill.demo.digits.network import load_network, load_split, quantize_images
from tidemill.demo.digits.run import run_program
from tidemill.driver.buffers import ARENA_BASE
from tidemill.driver.errors import DeviceError, HardwareError
from tidemill.driver.npu import Npu
from tidemill.driver.uart.errors import LinkError
from tidemill.golden.matrix import product
from tidemill.golden.requant import requantize
from tidemill.isa import RequantMode
from tidemill.ops.elementwise import maximum, table
from tidemill.ops.gemm import gemm
from tidemill.ops.requant import Requant

DEFAULT_MEMORY = 16 << 10
DEFAULT_IMAGES = 3
_BLOCK = 1020
"""Bytes of the memory test that are written or read at once."""


class Mismatch(Exception):
    """A test read something else than it should; the message says what and where."""


@dataclass(frozen=True)
class Outcome:
    """One test: its name, whether it passed, and what it did or what was wrong."""

    name: str
    passed: bool
    text: str


def _same(what: str, got: np.ndarray, expected: np.ndarray) -> None:
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        raise Mismatch(f"{what}: shape {list(got.shape)}, not {list(expected.shape)}")
    wrong = np.argwhere(got != expected)
    if len(wrong):
        place = tuple(int(index) for index in wrong[0])
        raise Mismatch(f"{what}: {len(wrong)} of {got.size} values differ, the first at {list(place)}: "
                       f"{got[place]}, not {expected[place]}")  # fmt: skip


def _equal(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise Mismatch(f"{what} reads {got:#x}, not {expected:#x}")


def check_identity(npu: Npu) -> str:
    """Registers that name the machine."""
    config = npu.config
    shape = config.rows | config.cols << 8 | config.requant_lanes << 16 | config.axi_bytes << 24
    for name, value in (
        ("MAGIC", MAGIC), ("ISA_VERSION", ISA_VERSION), ("CONFIG_HASH", config.hash), ("CONFIG_SHAPE", shape),
    ):  # fmt: skip
        _equal(f"register {name}", npu.device.csr_read(offset(name)), value)
    return f"{config.name}, {config.rows} x {config.cols}, {npu.device.mem_size} bytes of memory"


def check_registers(npu: Npu) -> str:
    """Every bit of the host's registers can be written and read, and none writes another."""
    bits = {"PROG_ADDR": 0xFFFF_FFF0, "PROG_LEN": 0x00FF_FFFF}
    names = ["PROG_ADDR", "PROG_LEN", "WATCHDOG", "READ_BASE", "READ_LIMIT", "WRITE_BASE", "WRITE_LIMIT"]
    for pattern in (0xFFFF_FFFF, 0, 0x5555_5555, 0xAAAA_AAAA, 0x0123_4567):
        values = {
            name: (pattern + 0x1111_1110 * index) & bits.get(name, 0xFFFF_FFFF) for index, name in enumerate(names)
        }
        for name, value in values.items():
            npu.device.csr_write(offset(name), value)
        for name, value in values.items():
            _equal(f"register {name}", npu.device.csr_read(offset(name)), value)
    for name in names:
        npu.device.csr_write(offset(name), BY_NAME[name].reset)
    return f"{len(names)} registers, 5 patterns"


def check_memory(npu: Npu, size: int, seed: int = 1) -> str:
    """A march over `size` bytes: random data up, read and inverted up, read and inverted down, read; then one word at
    every power of two of the whole memory, for address lines."""
    device = npu.device
    size = min(size, device.mem_size - ARENA_BASE) // 4 * 4
    data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    blocks = [slice(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]

    def read(block: slice, expected: np.ndarray) -> None:
        got = np.frombuffer(device.mem_read(ARENA_BASE + block.start, block.stop - block.start), np.uint8)
        _same(f"memory from {ARENA_BASE + block.start:#x}", got, expected)

    for block in blocks:
        device.mem_write(ARENA_BASE + block.start, data[block].tobytes())
    for block in blocks:
        read(block, data[block])
        device.mem_write(ARENA_BASE + block.start, (~data[block]).tobytes())
    for block in reversed(blocks):
        read(block, ~data[block])
        device.mem_write(ARENA_BASE + block.start, data[block].tobytes())
    for block in blocks:
        read(block, data[block])
    places = sorted({0, device.mem_size - 4, *(1 << bit for bit in range(2, (device.mem_size - 1).bit_length()))})
    words = {place: 0x5A00_00A5 + 0x10101 * number for number, place in enumerate(places)}
    for place, word in words.items():
        device.mem_write(place, word.to_bytes(4, "little"))
    for place, word in words.items():
        _equal(f"memory at {place:#x}", int.from_bytes(device.mem_read(place, 4), "little"), word)
    return f"{size} bytes, 4 passes; {len(places)} words for the address lines"


def check_dma(npu: Npu, seed: int = 2) -> str:
    """Loads gather every other row, stores write them in one piece."""
    rows, config = 24, npu.config
    b = ProgramBuilder(config)
    source = b.buffer("A", "int8", (2 * rows, config.rows))
    target = b.buffer("C", "int8", (rows, config.rows))
    loaded = b.semaphore("loaded")
    b.ld_stride(s1=2 * config.spad_row_bytes)
    b.ld_dst(d1=1)
    b.ld_run(dst=spad(0), dram=source, n0=1, n1=rows, signal=[loaded])
    b.st_run(src=spad(0), dram=target, n0=rows, wait=[loaded])
    b.halt()
    program = npu.load(b.build())
    try:
        values = np.random.default_rng(seed).integers(-128, 128, (2 * rows, config.rows), dtype=np.int8)
        _same("gathered rows", npu.run(program, {"A": values}).outputs["C"], values[::2])
    finally:
        program.free()
    return f"{rows} rows gathered and stored"


def check_matrix(npu: Npu, seed: int = 3) -> str:
    """A product larger than the array in every dimension."""
    dim, rng = npu.config.dim, np.random.default_rng(seed)
    a = rng.integers(-128, 128, (dim + 3, 2 * dim + 1), dtype=np.int8)
    w = rng.integers(-128, 128, (2 * dim + 1, dim + 2), dtype=np.int8)
    # The golden model takes an array's worth of rows at a time.
    expected = sum(
        (product(a[:, k : k + dim], w[k : k + dim]).astype(np.int64) for k in range(0, a.shape[1], dim)),
        np.zeros((a.shape[0], w.shape[1]), np.int64),
    )
    _same("product", gemm(npu, a, w), expected)
    return f"{a.shape[0]} x {a.shape[1]} x {w.shape[1]} product"


def check_vector(npu: Npu, seed: int = 4) -> str:
    """Requantization in both roundings, maximum, look-up table."""
    dim, rng = npu.config.dim, np.random.default_rng(seed)
    a = rng.integers(-128, 128, (7, dim), dtype=np.int8)
    w = rng.integers(-128, 128, (dim, dim), dtype=np.int8)
    bias = rng.integers(-5000, 5000, dim, dtype=np.int32)
    sums = product(a, w)
    for mode, isa_mode in (("tflite", RequantMode.TFLITE), ("onnx", RequantMode.ONNX)):
        scaling = Requant.from_scale(rng.uniform(0.0005, 0.01, dim), 3, mode=mode)
        expected = requantize(sums, bias, *scaling.columns(dim), zero_point=3, preshift=0, mode=isa_mode)
        got = gemm(npu, a, w, bias=bias, requant=scaling)
        _same(f"requantization ({mode})", got, np.clip(expected, -128, 127))
    x, y = rng.integers(-128, 128, (2, 5, 2 * dim), dtype=np.int8)
    _same("maximum", maximum(npu, x, y), np.maximum(x, y))
    entries = rng.permutation(np.arange(-128, 128)).astype(np.int8)
    _same("table", table(npu, x, entries), entries[x.astype(np.int64) & 255])
    return "requantization, maximum, table"


def check_errors(npu: Npu) -> str:
    """A store outside its window stops the machine with the right cause; it works again afterwards."""
    b = ProgramBuilder(npu.config)
    target = b.buffer("C", "int8", (4, npu.config.rows))
    b.st_run(src=spad(0), dram=target, n0=4096 // npu.config.rows)
    b.halt()
    program = npu.load(b.build())
    try:
        npu.run(program)
    except HardwareError as error:
        if error.cause is not Cause.WINDOW:
            raise Mismatch(f"a store outside its window reports {error.cause.name}, not WINDOW") from None
    else:
        raise Mismatch("a store outside its window reports nothing")
    finally:
        program.free()
    check_dma(npu)
    return "a bad store is caught; the machine recovers"


def check_digits(npu: Npu, images: int) -> str:
    """Handwritten digits, every byte of the result as in numpy."""
    split, network = load_split(), load_network()
    pixels = quantize_images(split.test_images[:images])
    logits, result = run_program(npu, network, pixels)
    _same("logits", logits, network.forward(pixels))
    right = int((logits.argmax(axis=1) == split.test_labels[:images]).sum())
    return f"{images} images, {right} right, {result.cycles / images:,.0f} cycles each"


def run_selftest(npu: Npu, *, memory: int = DEFAULT_MEMORY, images: int = DEFAULT_IMAGES) -> Iterator[Outcome]:
    """Run the tests one after another on an open NPU; without `images` the network is left out.

    A failing device ends a test, a broken link all of them (`LinkError` passes through).
    """
    tests: list[tuple[str, Callable[[], str]]] = [
        ("identity", lambda: check_identity(npu)),
        ("registers", lambda: check_registers(npu)),
        ("memory", lambda: check_memory(npu, memory)),
        ("dma", lambda: check_dma(npu)),
        ("matrix", lambda: check_matrix(npu)),
        ("vector", lambda: check_vector(npu)),
        ("errors", lambda: check_errors(npu)),
    ]
    if images:
        tests.append(("digits", lambda: check_digits(npu, images)))
    for name, test in tests:
        try:
            yield Outcome(name, True, test())
        except LinkError:
            raise
        except (Mismatch, DeviceError) as error:
            yield Outcome(name, False, str(error))
