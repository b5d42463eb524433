"""General matrix product on the NPU: any M, K, N, tiled to the memories of the configuration.

`plan_gemm` cuts the product into *steps*: one block of `cols` output columns, for one chunk of output rows, over one
chunk of the reduction. `build_gemm` turns the steps into a program in which the four engines run at once:

- LOAD fetches panels of A (two, one scratchpad bank each) and column chunks of B (two halves of the third bank) ahead;
- MATRIX loads each weight tile while the tile before it computes, and accumulates in one accumulator bank while the
  other one is drained;
- VECTOR requantizes (or adds the bias) where asked, into the fourth scratchpad bank;
- STORE writes finished blocks back.

They meet at ten semaphores: for each of the five kinds of buffer one that says `ready` and one that says `free`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tidemill.builder import ProgramBuilder, acc, spad
from tidemill.config import Config
from tidemill.driver.npu import LoadedProgram, Npu, Result
from tidemill.isa import Post, RequantMode
from tidemill.operands import BufferRef
from tidemill.ops.requant import Requant
from tidemill.program import Program

PREFERRED_CHUNK = 128
"""Output rows of one step where M allows: long enough to hide a weight load, short enough that the first panel
and the last store are soon over."""
PARAM_ROWS = 8
"""Accumulator rows kept at the end of each bank for the parameters of one column block."""
MAX_TILES = 30
"""Weight tiles of one step at most: two panels' worth of `ready` signals fit a 6-bit semaphore."""
LEAD_TILES = 6
"""How many weight tiles ahead of its use a block of A is asked for."""
MIN_LOAD_ROWS = 32
"""Blocks of A are loaded together until a transfer has at least this many rows."""


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _chunks(total: int, largest: int) -> list[tuple[int, int]]:
    """Cut `total` into the fewest pieces of at most `largest`, as even as can be: (start, length) each."""
    count = _ceil_div(total, largest)
    edges = [total * i // count for i in range(count + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(edges)]


@dataclass(frozen=True)
class Step:
    """One column block of the output for rows `m0 .. m0 + rows` over reduction blocks `k0 .. k0 + tiles`."""

    m0: int
    rows: int
    k0: int
    tiles: int
    n: int
    group: int
    """Accumulator bank = group % 2; the steps of one group share it."""
    slot: int
    """Place of the block in its bank: row slot * rows."""
    panel: int
    """Running number of the panel of A that it reads."""
    first: bool
    """Starts its accumulator rows."""
    last: bool
    """Completes its accumulator rows."""
    ends_group: bool
    """No later step uses the bank in this group."""


@dataclass(frozen=True)
class GemmPlan:
    """The steps of a product in order, and how much of each memory they take."""

    k_blocks: int
    n_blocks: int
    steps: tuple[Step, ...]


def plan_gemm(config: Config, m: int, k: int, n: int) -> GemmPlan:
    """Cut an [m, k] by [k, n] product into steps for `config`."""
    k_blocks, n_blocks = _ceil_div(k, config.rows), _ceil_div(n, config.cols)
    spad_bank = config.spad_rows // config.spad_banks
    acc_bank = config.acc_rows // config.acc_banks - PARAM_ROWS
    m_chunks = _chunks(m, min(PREFERRED_CHUNK, acc_bank, spad_bank // 2))
    most_rows = max(rows for _, rows in m_chunks)
    k_chunks = _chunks(k_blocks, max(1, min(spad_bank // most_rows, spad_bank // 2 // config.rows, MAX_TILES)))
    group_size = 1 if len(k_chunks) == 1 else max(1, min(n_blocks, acc_bank // most_rows))

    steps: list[Step] = []
    group = panel = -1
    for m0, rows in m_chunks:
        if len(k_chunks) == 1:
            panel += 1
        for first_n in range(0, n_blocks, group_size):
            group += 1
            columns = range(first_n, min(first_n + group_size, n_blocks))
            for k0, tiles in k_chunks:
                if len(k_chunks) > 1:
                    panel += 1
                for column in columns:
                    last = k0 + tiles == k_blocks
                    steps.append(
                        Step(
                            m0, rows, k0, tiles, column, group, column - first_n, panel,
                            first=k0 == 0, last=last, ends_group=last and column == columns[-1],
                        )
                    )  # fmt: skip
    return GemmPlan(k_blocks, n_blocks, tuple(steps))


@dataclass(frozen=True)
class Epilogue:
    """What happens to a finished accumulator block before it is stored: nothing, a bias, or requantization."""

    bias: bool = False
    mode: RequantMode | None = None
    zero_point: int = 0
    qmin: int = -128
    qmax: int = 127

    @property
    def uses_vector(self) -> bool:
        """The vector engine has work to do."""
        return self.bias or self.mode is not None


class _GemmBuilder:
    """Emits one product; methods in the order of the data's way through the machine."""

    def __init__(self, config: Config, m: int, k: int, n: int, epilogue: Epilogue) -> None:
        self.config = config
        self.plan = plan_gemm(config, m, k, n)
        self.m = m
        self.epilogue = epilogue
        self.spad_bank = config.spad_rows // config.spad_banks
        self.acc_bank = config.acc_rows // config.acc_banks
        b = self.b = ProgramBuilder(config)
        kb, nb = self.plan.k_blocks, self.plan.n_blocks
        self.a = b.buffer("A", "int8", (kb, m, config.rows))
        self.weights = b.buffer("B", "int8", (nb, kb, config.rows, config.cols))
        self.params = b.buffer("P", "int32", (nb, 3, config.cols)) if epilogue.uses_vector else None
        out_dtype = "int32" if epilogue.mode is None else "int8"
        self.out = b.buffer("C", out_dtype, (nb, m, config.cols))
        self.a_ready, self.a_free = b.semaphore("a_ready"), b.semaphore("a_free")
        self.b_ready, self.b_free = b.semaphore("b_ready"), b.semaphore("b_free")
        self.acc_ready, self.acc_free = b.semaphore("acc_ready"), b.semaphore("acc_free")
        if epilogue.uses_vector:
            self.p_ready, self.p_free = b.semaphore("p_ready"), b.semaphore("p_free")
            self.out_ready, self.out_free = b.semaphore("out_ready"), b.semaphore("out_free")
        self.run_rows = 0
        finished = (step for step in self.plan.steps if step.last)
        self.blocks = {(step.m0, step.n): number for number, step in enumerate(finished)}
        """Running number of each finished block; its parity chooses parameter rows and output staging."""

    def build(self) -> Program:
        """The whole program: matrix work in order, each load placed a little before its use."""
        b = self.b
        for _ in range(2):
            b.mx_sync(signal=[self.a_free])
            b.mx_sync(signal=[self.b_free])
            if self.epilogue.uses_vector:
                b.vx_sync(signal=[self.p_free])
                b.st_sync(signal=[self.out_free])
            (b.st_sync if self.epilogue.mode is None else b.vx_sync)(signal=[self.acc_free])
        b.ld_stride(s1=self.m * self.config.rows, s2=0)
        b.mx_acc(t0=1, t1=0, t2=0)
        if self.epilogue.uses_vector:
            b.vx_astride(n0=1)
            if self.epilogue.mode is not None:
                e = self.epilogue
                b.vx_quant(zero_point=e.zero_point, qmin=e.qmin, qmax=e.qmax, mode=e.mode)

        loads = sorted(self._loads(), key=lambda load: load[0])
        next_load = tile = 0
        for index, step in enumerate(self.plan.steps):
            for k in range(step.tiles):
                while next_load < len(loads) and loads[next_load][0] <= tile:
                    loads[next_load][1]()
                    next_load += 1
                self._tile(index, step, k)
                tile += 1
            if step.last:
                self._drain(step)
        b.halt()
        return b.build()

    def _loads(self) -> list[tuple[int, Callable[[], None]]]:
        """(tile before which it is emitted, emit) of every load, in the order in which their data is needed.

        A load is never emitted before the tile after which its buffer can be free, so the in-order load queue cannot
        block on a buffer that a load behind it would free.
        """
        steps = self.plan.steps
        starts = np.concatenate(([0], np.cumsum([step.tiles for step in steps]))).tolist()
        panel_start: dict[int, int] = {}
        for index, step in enumerate(steps):
            panel_start.setdefault(step.panel, starts[index])
        loads: list[tuple[int, Callable[[], None]]] = []
        last_panel_key = last_weight_key = -LEAD_TILES
        for index, step in enumerate(steps):
            start = starts[index]
            earliest = starts[index - 1] if index else 0
            pieces = self._pieces(index, step)
            new_panel = panel_start[step.panel] == start
            size = self._block_group(step)
            a_pieces = [(k, min(size, step.tiles - k)) for k in range(0, step.tiles, size)] if new_panel else []
            before = panel_start.get(step.panel - 1, 0)
            # Spread the panel's loads over the time of the panel before it.
            window = start - before
            for k, count in pieces:
                last_weight_key = max(earliest, last_weight_key) if index else k - LEAD_TILES
                loads.append((last_weight_key, self._weight_load(step, index, k, count)))
            for number, (k, count) in enumerate(a_pieces):
                if step.panel == 0:
                    key = k - LEAD_TILES
                else:  # never before a block of the panel before: signals are taken in the order of loads
                    key = max(before + 1 + (window - 1) * number // len(a_pieces), last_panel_key)
                last_panel_key = key
                loads.append((key, self._panel_load(step, k, count, number == 0)))
            if step.last and self.params is not None:
                loads.append((earliest, self._param_load(step, self.params)))
        return loads

    def _block_group(self, step: Step) -> int:
        """Reduction blocks of A that one transfer loads."""
        return max(1, min(step.tiles, MIN_LOAD_ROWS // step.rows))

    def _pieces(self, index: int, step: Step) -> list[tuple[int, int]]:
        """(first tile, tiles) of each transfer of weights: one tile each at the very start, whole chunks later."""
        if index == 0:
            return [(k, 1) for k in range(step.tiles)]
        return [(0, step.tiles)]

    def _panel_load(self, step: Step, k: int, count: int, opens: bool) -> Callable[[], None]:
        def emit() -> None:
            row_bytes = self.config.spad_row_bytes
            if self.run_rows != step.rows:
                self.b.ld_dst(d1=step.rows)
                self.run_rows = step.rows
            self.b.ld_run(
                dst=spad(step.panel % 2 * self.spad_bank + k * step.rows),
                dram=self.a + ((step.k0 + k) * self.m + step.m0) * row_bytes,
                n0=step.rows,
                n1=count,
                wait=[self.a_free] if opens else [],
                signal=[self.a_ready],
            )

        return emit

    def _weight_row(self, index: int) -> int:
        return 2 * self.spad_bank + index % 2 * (self.spad_bank // 2)

    def _weight_load(self, step: Step, index: int, k: int, count: int) -> Callable[[], None]:
        def emit() -> None:
            rows = self.config.rows
            tile = step.n * self.plan.k_blocks + step.k0 + k
            self.b.ld_run(
                dst=spad(self._weight_row(index) + k * rows),
                dram=self.weights + tile * rows * self.config.cols,
                n0=count * rows,
                wait=[self.b_free] if k == 0 else [],
                signal=[self.b_ready],
            )

        return emit

    def _param_row(self, block: int) -> int:
        return (block % 2 + 1) * self.acc_bank - PARAM_ROWS

    def _param_load(self, step: Step, params: BufferRef) -> Callable[[], None]:
        def emit() -> None:
            self.b.ld_run(
                dst=acc(self._param_row(self.blocks[step.m0, step.n])),
                dram=params + step.n * 3 * self.config.acc_row_bytes,
                n0=3,
                wait=[self.p_free],
                signal=[self.p_ready],
            )

        return emit

    def _tile(self, index: int, step: Step, k: int) -> None:
        """Weights and activations of one tile."""
        b, steps = self.b, self.plan.steps
        previous = steps[index - 1] if index else None
        following = steps[index + 1] if index + 1 < len(steps) else None
        if k == 0 and (previous is None or previous.rows != step.rows):
            b.mx_act(n0=step.rows, s0=1)
        piece_starts = {first for first, _ in self._pieces(index, step)}
        b.mx_wload(
            src=spad(self._weight_row(index) + k * self.config.rows),
            wait=[self.b_ready] if k in piece_starts else [],
            signal=[self.b_free] if k == step.tiles - 1 else [],
        )
        final = k == step.tiles - 1
        new_panel = previous is None or previous.panel != step.panel
        opens_group = k == 0 and step.first and (previous is None or previous.group != step.group)
        wait = [self.a_ready] if new_panel and k % self._block_group(step) == 0 else []
        signal = [self.a_free] if final and (following is None or following.panel != step.panel) else []
        b.mx_run(
            act=spad(step.panel % 2 * self.spad_bank + k * step.rows),
            acc=acc(self._acc_row(step)),
            accumulate=int(not (step.first and k == 0)),
            wait=wait + ([self.acc_free] if opens_group else []),
            signal=signal + ([self.acc_ready] if final and step.last else []),
        )

    def _acc_row(self, step: Step) -> int:
        return step.group % 2 * self.acc_bank + step.slot * step.rows

    def _drain(self, step: Step) -> None:
        """Requantize where asked, and store one finished block."""
        b, row = self.b, self._acc_row(step)
        free = [self.acc_free] if step.ends_group else []
        offset = step.n * self.m + step.m0
        if not self.epilogue.uses_vector:
            destination = self.out + offset * self.config.acc_row_bytes
            b.st_run(src=acc(row), dram=destination, n0=step.rows, wait=[self.acc_ready], signal=free)
            return
        block = self.blocks[step.m0, step.n]
        params = acc(self._param_row(block))
        b.vx_dims(n0=step.rows, d0=1)
        if self.epilogue.mode is None:
            b.vx_add(dst=acc(row), a=acc(row), b=params, wait=[self.acc_ready, self.p_ready], signal=[self.p_free])
            destination = self.out + offset * self.config.acc_row_bytes
            b.vx_sync(signal=[self.out_ready], wait=[self.out_free])
            b.st_run(src=acc(row), dram=destination, n0=step.rows, wait=[self.out_ready], signal=[self.out_free, *free])
            return
        b.vx_param(src=params, wait=[self.acc_ready, self.p_ready], signal=[self.p_free])
        staging = spad(3 * self.spad_bank + block % 2 * (self.spad_bank // 2))
        b.vx_add(dst=staging, a=acc(row), b=0, post=Post.RQ, wait=[self.out_free], signal=[self.out_ready, *free])
        destination = self.out + offset * self.config.spad_row_bytes
        b.st_run(src=staging, dram=destination, n0=step.rows, wait=[self.out_ready], signal=[self.out_free])


@lru_cache(maxsize=64)
def build_gemm(config: Config, m: int, k: int, n: int, epilogue: Epilogue) -> Program:
    """The program for an [m, k] by [k, n] product; buffers A, B, C (and P) in the layouts of `pack_*`."""
    return _GemmBuilder(config, m, k, n, epilogue).build()


def pack_activations(matrix: NDArray[np.int8], config: Config) -> NDArray[np.int8]:
    """[M, K] to [K / rows, M, rows], zero-padded: each row of a block is one scratchpad row."""
    m, k = matrix.shape
    padded = np.zeros((m, _ceil_div(k, config.rows) * config.rows), np.int8)
    padded[:, :k] = matrix
    return np.ascontiguousarray(padded.reshape(m, -1, config.rows).transpose(1, 0, 2))


def pack_weights(matrix: NDArray[np.int8], config: Config) -> NDArray[np.int8]:
    """[K, N] to [N / cols, K / rows, rows, cols], zero-padded: the tiles of a column block one after another."""
    k, n = matrix.shape
    r, c = config.rows, config.cols
    padded = np.zeros((_ceil_div(k, r) * r, _ceil_div(n, c) * c), np.int8)
    padded[:k, :n] = matrix
    return np.ascontiguousarray(padded.reshape(-1, r, padded.shape[1] // c, c).transpose(2, 0, 1, 3))


def pack_columns(values: NDArray[np.int32], config: Config) -> NDArray[np.int32]:
    """[P, N] per-column parameters to [N / cols, P, cols], zero-padded."""
    count, n = values.shape
    padded = np.zeros((count, _ceil_div(n, config.cols) * config.cols), np.int32)
    padded[:, :n] = values
    return np.ascontiguousarray(padded.reshape(count, -1, config.cols).transpose(1, 0, 2))


def unpack_columns(blocks: NDArray[np.generic], n: int) -> NDArray[np.generic]:
    """[N / cols, M, cols] to [M, N]: the inverse of the output layout."""
    return np.ascontiguousarray(blocks.transpose(1, 0, 2).reshape(blocks.shape[1], -1)[:, :n])


def _int8_matrix(name: str, value: NDArray[np.int8]) -> NDArray[np.int8]:
    array = np.asarray(value)
    if array.dtype != np.int8:
        raise ValueError(f"gemm: {name} must have dtype int8, not {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"gemm: {name} must have two dimensions of at least 1, not shape {array.shape}")
    return array


@dataclass(frozen=True)
class GemmRun:
    """A product with what it cost."""

    output: NDArray[np.generic]
    """int32 or int8 [M, N]."""
    cycles: int
    """From doorbell to the last byte stored."""
    macs: int
    """M * K * N: useful multiply-accumulates only."""
    counters: dict[str, int]
    peak_macs_per_cycle: int

    @property
    def utilization(self) -> float:
        """Useful MACs as a share of what the array could have done in `cycles`."""
        return self.macs / (self.cycles * self.peak_macs_per_cycle)


def run_gemm(
    dev: Npu,
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    *,
    bias: NDArray[np.int32] | None = None,
    requant: Requant | None = None,
) -> GemmRun:
    """Like `gemm`, but returns a `GemmRun` with cycles and counters."""
    a, b = _int8_matrix("A", a), _int8_matrix("B", b)
    (m, k), (kb, n) = a.shape, b.shape
    if k != kb:
        raise ValueError(f"gemm: A is {a.shape} and B is {b.shape}; A's columns must equal B's rows")
    config = dev.config
    if bias is not None:
        bias = np.asarray(bias)
        if bias.dtype != np.int32 or bias.shape not in ((n,), (), (1,)):
            raise ValueError(f"gemm: bias must be int32 [{n}], not {bias.dtype} {list(bias.shape)}")
    mode = None if requant is None else requant.isa_mode
    epilogue = Epilogue(bias is not None, mode)
    if requant is not None:
        epilogue = Epilogue(True, mode, requant.zero_point, requant.qmin, requant.qmax)
    program = build_gemm(config, m, k, n, epilogue)
    inputs: dict[str, ArrayLike] = {"A": pack_activations(a, config), "B": pack_weights(b, config)}
    if epilogue.uses_vector:
        columns = np.zeros((3, n), np.int32)
        columns[0] = 0 if bias is None else bias
        if requant is not None:
            columns[1], columns[2] = requant.columns(n)
        inputs["P"] = pack_columns(columns, config)
    loaded: LoadedProgram = dev.load(program)
    try:
        result: Result = dev.run(loaded, inputs=inputs, outputs=["C"], timeout_cycles=cycle_limit(config, m, k, n))
    finally:
        loaded.free()
    output = unpack_columns(result.outputs["C"], n)
    return GemmRun(output, result.cycles, m * k * n, result.counters, config.peak_macs_per_cycle)


def cycle_limit(config: Config, m: int, k: int, n: int) -> int:
    """Cycles after which a product must have gone wrong, with memories up to a hundred times slower than default."""
    tiles = math.prod(_ceil_div(size, config.dim) for size in (m, k, n))
    return 1_000_000 + 400 * tiles * config.dim * (config.dim + 16)


def gemm(
    dev: Npu,
    a: NDArray[np.int8],
    b: NDArray[np.int8],
    *,
    bias: NDArray[np.int32] | None = None,
    requant: Requant | None = None,
) -> NDArray[np.generic]:
    """Matrix product on the device.

    Parameters
    ----------
    dev : Npu
        From `tidemill.open`.
    a : int8 [M, K]
    b : int8 [K, N]
    bias : int32 [N] or scalar, optional
        Added to each column, modulo 2**32.
    requant : Requant, optional

    Returns int32 [M, N], or int8 [M, N] with `requant`. Raises ValueError for wrong shapes or dtypes.
    """
    return run_gemm(dev, a, b, bias=bias, requant=requant).output
