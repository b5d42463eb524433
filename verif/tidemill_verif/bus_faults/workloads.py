"""The programs that run while the bus misbehaves, with what they must leave behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.builder import ProgramBuilder, acc, spad
from tidemill.config import Config
from tidemill.isa import INSTRUCTION_BYTES
from tidemill.ops.gemm import Epilogue, build_gemm, pack_activations, pack_columns, pack_weights
from tidemill.program import Program

MEM_SIZE = 1 << 18
PROGRAM = 0x1F50
"""Where programs are: not at a multiple of a fetch burst, and across 4 KiB."""
ARENA = 0x20000
"""First byte of the data; both windows are the data of the program, whole beats."""

ILLEGAL = 0xFF
"""No instruction."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Workload:
    """A program in its place.

    `before` and `after` are the whole DRAM, uint8 [MEM_SIZE], before a run and after a complete one, from numpy;
    `outputs` is True in the bytes that the program writes, bool [MEM_SIZE]. `transfers`: (first, last, direction) of
    what it loads, stores and fetches.
    """

    name: str
    words: tuple[int, ...]
    window: tuple[int, int]
    before: Bytes
    after: Bytes
    outputs: NDArray[np.bool_]
    transfers: tuple[tuple[int, int, str], ...]

    def with_word(self, index: int, word: int) -> Bytes:
        """`before` with another instruction at `index`."""
        memory = self.before.copy()
        at = PROGRAM + INSTRUCTION_BYTES * index
        memory[at : at + INSTRUCTION_BYTES] = np.frombuffer(word.to_bytes(INSTRUCTION_BYTES, "little"), np.uint8)
        return memory


def place(name: str, program: Program, contents: dict[str, Bytes], results: dict[str, Bytes]) -> Workload:
    """Lays `program` out with `contents` in its inputs and noise in its outputs; `results` are what they become."""
    addresses = program.layout(ARENA)
    end = max(addresses[buffer] + decl.nbytes for buffer, decl in program.buffers.items())
    before = np.random.default_rng(len(program.words)).integers(0, 256, MEM_SIZE, np.uint8)
    image = program.image(addresses)
    if PROGRAM + len(image) > ARENA or end > MEM_SIZE:
        raise ValueError(f"{name}: program or data too large")
    before[PROGRAM : PROGRAM + len(image)] = np.frombuffer(image, np.uint8)
    for buffer, content in contents.items():
        before[addresses[buffer] : addresses[buffer] + content.size] = content
    after, outputs = before.copy(), np.zeros(MEM_SIZE, np.bool_)
    for buffer, result in results.items():
        span = slice(addresses[buffer], addresses[buffer] + result.size)
        after[span], outputs[span] = result, True
    transfers = [(PROGRAM, PROGRAM + len(image) - 1, "read")]
    for buffer, decl in program.buffers.items():
        direction = "write" if buffer in results else "read"
        transfers.append((addresses[buffer], addresses[buffer] + decl.nbytes - 1, direction))
    return Workload(
        name, program.relocated(addresses), (ARENA, end // 64 * 64 + 63), before, after, outputs, tuple(transfers)
    )


def _bytes(values: NDArray[np.generic]) -> Bytes:
    return np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)


def gemm(config: Config) -> Workload:
    """A matrix product with bias over several tiles: all four engines at once."""
    rng = np.random.default_rng(config.dim)
    m, k, n = 2 * config.dim + 5, 2 * config.dim + 3, config.dim + 2
    a, w = (rng.integers(-128, 128, shape, np.int8) for shape in ((m, k), (k, n)))
    columns = np.zeros((3, n), np.int32)
    columns[0] = rng.integers(-(1 << 20), 1 << 20, n)
    product = a.astype(np.int32) @ w.astype(np.int32) + columns[0]
    return place(
        "gemm",
        build_gemm(config, m, k, n, Epilogue(True)),
        {
            "A": _bytes(pack_activations(a, config)),
            "B": _bytes(pack_weights(w, config)),
            "P": _bytes(pack_columns(columns, config)),
        },
        {"C": _bytes(pack_columns(product, config))},
    )


def copy(config: Config) -> Workload:
    """Loads from odd addresses, of several bursts each, lines with strides, accumulator rows; stores beside them."""
    rows, lines, turns = 64, 3, 4
    row, acc_row = config.spad_row_bytes, config.acc_row_bytes
    stride = 5 * row + 3
    block, lined, wide = rows * row, lines * 4 * row, 10 * acc_row
    size = turns * (block + 7) + lines * stride + 4 * row + wide + 64
    data = np.random.default_rng(config.dim + 1).integers(0, 256, size, np.uint8)
    b = ProgramBuilder(config)
    source = b.buffer("in", "uint8", (size,))
    target = b.buffer("out", "uint8", (turns * block + lined + wide,))
    loaded, stored = b.semaphore("loaded"), b.semaphore("stored")
    wanted = []
    b.ld_dst(d1=4)
    b.ld_stride(s1=stride)
    for turn in range(turns):
        at = turn * (block + 7) + 1
        wait = [stored] if turn >= 2 else []
        b.ld_run(dst=spad(turn % 2 * rows), dram=source + at, n0=rows, wait=wait, signal=[loaded])
        b.st_run(src=spad(turn % 2 * rows), dram=target + turn * block, n0=rows, wait=[loaded], signal=[stored])
        wanted.append(data[at : at + block])
    at = turns * (block + 7) + 5
    b.ld_run(dst=spad(2 * rows), dram=source + at, n0=4, n1=lines, signal=[loaded])
    b.st_run(src=spad(2 * rows), dram=target + turns * block, n0=4 * lines, wait=[loaded])
    wanted += [data[at + line * stride : at + line * stride + 4 * row] for line in range(lines)]
    at += lines * stride + 4 * row
    b.ld_run(dst=acc(3), dram=source + at, n0=10, signal=[loaded])
    b.st_run(src=acc(3), dram=target + turns * block + lined, n0=10, wait=[loaded])
    wanted.append(data[at : at + wide])
    b.halt()
    return place("copy", b.build(), {"in": data}, {"out": np.concatenate(wanted)})


def fetch(config: Config) -> Workload:
    """Straight code longer than the loop buffer and a loop that refills it, with a transfer now and then; code after
    the end that is fetched and never reached."""
    rows, turns = 8, 5
    row = config.spad_row_bytes
    block = rows * row
    data = np.random.default_rng(config.dim + 2).integers(0, 256, turns * block, np.uint8)
    b = ProgramBuilder(config)
    source, target = (b.buffer(name, "uint8", (turns * block,)) for name in ("in", "out"))
    moved = b.semaphore("moved")
    for turn in range(turns - 2):
        for i in range(config.ibuf_depth // 3):
            b.vx_dims(n0=i + 1)
        b.ld_run(dst=spad(turn * rows), dram=source + turn * block, n0=rows, signal=[moved])
        b.st_run(src=spad(turn * rows), dram=target + turn * block, n0=rows, wait=[moved])
    offset = b.register()
    b.li(offset, (turns - 2) * block)
    with b.loop(2):
        for i in range(config.ibuf_depth - 16):
            b.mx_act(n0=i + 1)
        b.ld_run(dst=spad(), dram=source + offset, n0=rows, signal=[moved])
        b.st_run(src=spad(), dram=target + offset, n0=rows, wait=[moved])
        b.fence()
        b.addi(offset, offset, block)
    b.halt()
    for _ in range(40):
        b.nop()
    return place("fetch", b.build(), {"in": data}, {"out": data})


def short(config: Config) -> Workload:
    """A program that is over while code that it never reaches, all of it illegal, is still being fetched."""
    row = config.spad_row_bytes
    data = np.random.default_rng(config.dim + 3).integers(0, 256, 4 * row, np.uint8)
    b = ProgramBuilder(config)
    source, target = (b.buffer(name, "uint8", (4 * row,)) for name in ("in", "out"))
    moved = b.semaphore("moved")
    b.ld_run(dst=spad(), dram=source, n0=4, signal=[moved])
    b.st_run(src=spad(), dram=target, n0=4, wait=[moved])
    b.halt()
    for _ in range(4 * config.ibuf_depth):
        b.raw(ILLEGAL)
    return place("short", b.build(), {"in": data}, {"out": data})


WORKLOADS = {"gemm": gemm, "copy": copy, "fetch": fetch, "short": short}
"""Makers of all workloads by name."""
