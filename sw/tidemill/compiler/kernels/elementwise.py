"""Elementwise operations: tables, sums, products, minimum and maximum, with numpy broadcasting.

Operand rows come as they lie in DRAM where pixels of operand and result correspond, as one row used again and again
where one pixel meets all, and gathered otherwise. An operand with one channel against many is spread over the lanes by
the array: a weight tile whose first row is ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidemill.builder import LocalAddress, acc, spad
from tidemill.compiler.context import Context
from tidemill.compiler.ir import Add, MinMax, Mul, Op, Requantize, Table, Tensor
from tidemill.compiler.kernels.tiling import (
    MAX_LINES,
    MAX_N0,
    MIN_TILE,
    TILES,
    Piece,
    RowCache,
    affine,
    gather,
    load,
    pieces,
    set_param,
    set_quant,
    set_vector,
    store,
    taken,
)
from tidemill.compiler.memory import pack
from tidemill.compiler.reference import scale
from tidemill.isa import Post, RequantMode

SWITCHING_TILES = 4
"""Tiles where each loads a table: that takes some 280 cycles."""

Rows = tuple[LocalAddress, int]
"""First row of an operand, and the distance to the next (0: one row for all)."""


def emit_table(context: Context, op: Table) -> None:
    """y = table[x & 255]."""
    emit_lookup(context, op.x, op.y, op.table)


def emit_lookup(context: Context, x: Tensor, y: Tensor, table: NDArray[np.int8]) -> None:
    """One pass of `table` over all rows of `x`."""
    source, result = context.place(x), context.place(y)
    with taken((context.parameters, context.table_rows)) as [tables]:
        _load_table(context, tables.start, table)
        context.stream.vx_lut(src=acc(tables.start))
        for start, rows in pieces(source.blocks * source.pixels, context.outputs.rows // 4):
            with taken((context.inputs, rows), (context.outputs, rows)) as [inputs, outputs]:
                load(context, spad(inputs.start), source.at(0, start), rows)
                set_vector(context, rows)
                context.stream.vx_add(dst=spad(outputs.start), a=spad(inputs.start), b=0, post=Post.LUT)
                store(context, spad(outputs.start), result.at(0, start), rows)


def emit_add(context: Context, op: Add) -> None:
    """y = requantize(table_a[a] + table_b[b])."""
    tables = (op.table_a, op.table_b)
    for side in (0, 1):
        constant, other = op.inputs[side], op.inputs[1 - side]
        if constant.data is None or constant.pixels != 1 or other.shape != op.y.shape:
            continue
        values = tables[side][constant.data.astype(np.int64).reshape(-1) & 255]
        if constant.channels == 1 and not has_channels(op.requantize):
            _fold_to_table(context, op, op.requantize, other, tables[1 - side].astype(np.int64) + values)
            return
        if op.requantize.mode is not RequantMode.DIV:
            _Sum(context, op, op.requantize, [other], [_Term.of(tables[1 - side])], values).emit()
            return
    _Sum(context, op, op.requantize, op.inputs, [_Term.of(table) for table in tables], 0).emit()


def emit_mul(context: Context, op: Mul) -> None:
    """y = requantize((a - a_zero_point) * (b - b_zero_point))."""
    zeros = (op.a_zero_point, op.b_zero_point)
    for side in (0, 1):
        constant, other = op.inputs[side], op.inputs[1 - side]
        if constant.data is None or constant.pixels != 1 or other.shape != op.y.shape:
            continue
        factors = constant.data.reshape(-1).astype(np.int64) - zeros[side]
        if constant.channels == 1 and not has_channels(op.requantize):
            values = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64) - zeros[1 - side]
            _fold_to_table(context, op, op.requantize, other, values * factors)
            return
        if op.requantize.mode is not RequantMode.DIV:
            _Scaled(context, op, op.requantize, other, zeros[1 - side], np.resize(factors, op.y.channels)).emit()
            return
    _Product(context, op, op.requantize, zeros).emit()


def emit_min_max(context: Context, op: MinMax) -> None:
    """y = min(a, b) or max(a, b)."""
    _Extreme(context, op).emit()


def has_channels(requantize: Requantize) -> bool:
    """Its parameters differ from channel to channel."""
    return any(np.size(value) > 1 for value in (requantize.multiplier, requantize.shift, requantize.bias))


def _fold_to_table(context: Context, op: Op, requantize: Requantize, x: Tensor, values: NDArray[np.int64]) -> None:
    """y = requantize(values[x & 255]) as one table."""
    emit_lookup(context, x, op.y, scale(values.astype(np.int32), requantize))


def _load_table(context: Context, row: int, table: NDArray[np.int8] | NDArray[np.int32]) -> None:
    load(context, acc(row), context.table_rows_of(table), context.table_rows)


class _Operand:
    """Rows of one input for tiles of the output."""

    def __init__(self, context: Context, tensor: Tensor, shape: tuple[int, ...]) -> None:
        self.context = context
        self.place = context.place(tensor)
        channels = shape[-1] if shape else 1
        self.spread = tensor.channels == 1 and channels > 1
        own = (1,) * (len(shape) - len(tensor.shape)) + tensor.shape
        pixels = np.arange(tensor.pixels, dtype=np.int64).reshape(own[:-1])
        self.pixels = np.broadcast_to(pixels, shape[:-1]).reshape(-1)
        self.identity = tensor.pixels == len(self.pixels) and not self.spread
        """Rows of operand and result correspond one to one."""
        changes = np.flatnonzero(np.diff(self.pixels))
        self.run = int(changes[0]) + 1 if len(changes) else len(self.pixels)
        """Pixels in succession that use one row; counts where it is the same everywhere."""
        if len(changes) and (len(self.pixels) % self.run or len(changes) != len(self.pixels) // self.run - 1):
            self.run = 1

    def fetch(self, stack: ExitStack, flat: bool, block: int, start: int, rows: int) -> Rows:
        """Load what result rows `start .. start + rows - 1` of `block` (of all blocks where `flat`) need; the regions
        live as long as `stack`."""
        context = self.context
        if self.spread:
            block = 0
        if flat:
            sources = np.arange(start, start + rows)
        else:
            sources = self.pixels[start : start + rows] + block * self.place.pixels
        step = 1
        if sources[0] == sources[-1] and (sources == sources[0]).all():
            sources, step = sources[:1], 0
        count = len(sources)
        [region] = stack.enter_context(taken((context.inputs, count)))
        nests = affine(sources, np.arange(count), (MAX_N0, MAX_LINES, MAX_LINES), contiguous=True)
        gather(context, region.start, self.place.ref, nests, self.place.row_bytes)
        if not self.spread:
            return spad(region.start), step
        return acc(self._spread(stack, region.start, count)), step

    def _spread(self, stack: ExitStack, row: int, count: int) -> int:
        """Lane 0 of the rows to all lanes of accumulator rows."""
        context = self.context
        dim = context.config.dim
        ones = np.zeros((dim, dim), np.int8)
        ones[0] = 1
        [weights] = stack.enter_context(taken((context.weights, dim)))
        [sums] = stack.enter_context(taken((context.sums, count)))
        load(context, spad(weights.start), context.stream.constant(ones, "spread"), dim)
        context.stream.mx_wload(src=spad(weights.start))
        context.stream.mx_act(n0=count, s0=1)
        context.stream.mx_acc(t0=1)
        context.stream.mx_run(act=spad(row), acc=acc(sums.start))
        return sums.start


class _Elementwise:
    """Tiles of the output; subclasses say what one tile does."""

    parts = TILES
    """Tiles to cut a large operation into."""
    sums_per_row = 0
    """Accumulator rows a row of the output takes, beside those of spread operands."""

    def __init__(
        self, context: Context, op: Op, requantize: Requantize | None, inputs: list[Tensor],
        bias: NDArray[np.int64] | int = 0,
    ) -> None:  # fmt: skip
        self.context, self.op, self.requantize = context, op, requantize
        self.operands = [_Operand(context, tensor, op.y.shape) for tensor in inputs]
        self.bias = np.asarray(bias).astype(np.int32)
        self.y = context.place(op.y)
        self.per_channel = self.bias.size > 1 or (requantize is not None and has_channels(requantize))
        self.flat = all(operand.identity for operand in self.operands) and not self.per_channel
        """One list of rows over all blocks."""

    def emit(self) -> None:
        """The whole operation."""
        self.prepare()
        if self.requantize is not None:
            set_quant(self.context, self.requantize)
        for block in range(1 if self.flat else self.y.blocks):
            self._parameters(block)
            for start, rows in self._tiles():
                self._tile(block, start, rows)
        self.close()

    def _parameters(self, block: int) -> None:
        if self.requantize is None or (block and not self.per_channel):
            return
        channels = self.op.y.channels if self.per_channel else self.context.config.dim
        ref = self.context.parameter_rows(self.requantize, channels, self.bias)
        set_param(self.context, ref + block * 3 * self.context.config.acc_row_bytes)

    def _tiles(self) -> list[Piece]:
        total = self.y.blocks * self.y.pixels if self.flat else self.y.pixels
        context = self.context
        per_row = self.sums_per_row + sum(operand.spread for operand in self.operands)
        largest = min(context.outputs.rows, context.inputs.rows // len(self.operands)) // 4
        if per_row:
            largest = min(largest, context.sums.rows // per_row)
        # One row for many pixels: tiles within such a run, so that the row is loaded once.
        runs = [operand.run for operand in self.operands if MIN_TILE // 4 <= operand.run < total]
        if self.flat or not runs:
            return pieces(total, largest, self.parts)
        run = min(runs)
        return [(first + start, rows) for first in range(0, total, run) for start, rows in pieces(run, largest)]

    def _tile(self, block: int, start: int, rows: int) -> None:
        context = self.context
        with ExitStack() as stack:
            fetched = [operand.fetch(stack, self.flat, block, start, rows) for operand in self.operands]
            [outputs] = stack.enter_context(taken((context.outputs, rows)))
            self.compute(stack, spad(outputs.start), rows, fetched)
            store(context, spad(outputs.start), self.y.at(block, start), rows)

    def prepare(self) -> None:
        """Before the first tile."""

    def close(self) -> None:
        """After the last tile."""

    def compute(self, stack: ExitStack, dst: LocalAddress, rows: int, operands: list[Rows]) -> None:
        """One tile: operand rows to result rows."""
        raise NotImplementedError

    def _sums(self, stack: ExitStack, rows: int) -> int:
        [region] = stack.enter_context(taken((self.context.sums, rows)))
        return region.start

    def _final(self, mnemonic: str, dst: LocalAddress, rows: int, a: Rows, b: Rows | int, post: Post) -> None:
        if isinstance(b, int):
            set_vector(self.context, rows, a[1], 1)
            self.context.stream.emit(mnemonic, dst=dst, a=a[0], b=b, post=post)
        else:
            set_vector(self.context, rows, a[1], b[1])
            self.context.stream.emit(mnemonic, dst=dst, a=a[0], b=b[0], post=post)


@dataclass(frozen=True)
class _Term:
    """A function of one int8 operand: `table`, and where it is `factor * v + offset` modulo 2**32, that. The factor
    is 0 where the table is not affine or the factor has no cheap form."""

    table: NDArray[np.int32]
    factor: int
    offset: int

    @classmethod
    def of(cls, table: NDArray[np.int32]) -> _Term:
        """Find out."""
        values = table.astype(np.int64)
        factor = int(np.int64(values[1] - values[0]).astype(np.int32))
        numbers = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)
        exact = np.array_equal((factor * numbers + values[0]).astype(np.int32), table)
        cheap = -(1 << 15) <= factor < 1 << 15 or (factor > 0 and factor & (factor - 1) == 0)
        return cls(table, factor if exact and cheap else 0, int(values[0]))

    @property
    def shift(self) -> int | None:
        """The logarithm of a factor that is a power of two."""
        power = self.factor > 0 and self.factor & (self.factor - 1) == 0
        return self.factor.bit_length() - 1 if power else None


class _Sum(_Elementwise):
    """Sum of terms and a constant per channel. Affine terms are shifted or multiplied, one row a cycle; others go
    through the table unit. Two tables take turns: every second tile starts with the table the one before ended with."""

    def __init__(
        self, context: Context, op: Op, requantize: Requantize, inputs: list[Tensor], terms: list[_Term],
        constant: NDArray[np.int64] | int,
    ) -> None:  # fmt: skip
        if requantize.mode is RequantMode.DIV:  # its bias is not an addend
            terms = [term if term.offset == 0 else _Term(term.table, 0, 0) for term in terms]
        bias = np.asarray(constant).astype(np.int64) + sum(term.offset for term in terms if term.factor)
        factors = {term.factor for term in terms}
        shift = terms[0].shift
        self.common = len(factors) == 1 and 0 not in factors
        """All terms are the same multiple: the operands are added first."""
        self.factor = terms[0].factor
        preshift = requantize.preshift
        if self.common and shift is not None and requantize.mode is not RequantMode.DIV and shift + preshift < 32:
            total = np.asarray(bias) + np.asarray(requantize.bias, np.int64)
            if not (total % (1 << shift)).any():
                # (v + bias / 2**shift) << shift: the requantizer's own shift
                requantize = Requantize(
                    requantize.multiplier, requantize.shift, requantize.zero_point, requantize.qmin, requantize.qmax,
                    requantize.mode, (total >> shift).astype(np.int32), preshift + shift,
                )  # fmt: skip
                bias, self.factor = np.zeros_like(total), 1
        super().__init__(context, op, requantize, inputs, bias)
        self.terms = terms
        self.sums_per_row = len(terms)
        if sum(term.factor == 0 for term in terms) > 1:
            self.parts = SWITCHING_TILES
        self.tables = RowCache(context, context.parameters)
        self.loaded: int | None = None
        self.forward = True

    def close(self) -> None:
        self.tables.close()

    def compute(self, stack: ExitStack, dst: LocalAddress, rows: int, operands: list[Rows]) -> None:
        if self.common:
            self._common(stack, dst, rows, operands)
            return
        order = range(len(operands)) if self.forward else reversed(range(len(operands)))
        self.forward = not self.forward
        done = dict(self._passes(stack, rows, operands, order))
        b = done[1] if len(operands) > 1 else 0
        self._final("vx.add", dst, rows, done[0], b, Post.RQ)

    def _passes(
        self, stack: ExitStack, rows: int, operands: list[Rows], order: Iterable[int]
    ) -> Iterator[tuple[int, Rows]]:
        for number in order:
            term, (address, step) = self.terms[number], operands[number]
            if term.factor == 1:
                yield number, (address, step)
                continue
            count = rows if step else 1
            sums = acc(self._sums(stack, count))
            set_vector(self.context, count)
            shift = term.shift
            if shift is not None:
                self.context.stream.vx_shl(dst=sums, a=address, b=shift)
            elif term.factor:
                self.context.stream.vx_mul(dst=sums, a=address, b=term.factor)
            else:
                self._lookup(number)
                set_vector(self.context, count)
                self.context.stream.vx_add(dst=sums, a=address, b=0, post=Post.LUT)
            yield number, (sums, step)

    def _lookup(self, number: int) -> None:
        if self.loaded == number:
            return
        row = self.tables.row(self.context.table_rows_of(self.terms[number].table), self.context.table_rows)
        self.context.stream.vx_lut(src=acc(row))
        self.loaded = number

    def _common(self, stack: ExitStack, dst: LocalAddress, rows: int, operands: list[Rows]) -> None:
        if len(operands) == 1 or self.factor == 1:
            mnemonic, b = ("vx.add", 0) if self.factor == 1 else self._scaling()
            second: Rows | int = operands[1] if len(operands) > 1 else b
            self._final(mnemonic, dst, rows, operands[0], second, Post.RQ)
            return
        sums = acc(self._sums(stack, rows))
        self._final("vx.add", sums, rows, operands[0], operands[1], Post.NONE)
        mnemonic, b = self._scaling()
        self._final(mnemonic, dst, rows, (sums, 1), b, Post.RQ)

    def _scaling(self) -> tuple[str, int]:
        if -(1 << 15) <= self.factor < 1 << 15:
            return "vx.mul", self.factor
        return "vx.shl", self.factor.bit_length() - 1


class _Product(_Elementwise):
    """Product of two operands without their zero points."""

    sums_per_row = 2

    def __init__(self, context: Context, op: Op, requantize: Requantize, zeros: tuple[int, int]) -> None:
        super().__init__(context, op, requantize, op.inputs)
        self.zeros = zeros

    def compute(self, stack: ExitStack, dst: LocalAddress, rows: int, operands: list[Rows]) -> None:
        factors = []
        for (address, step), zero in zip(operands, self.zeros, strict=True):
            if zero == 0:
                factors.append((address, step))
                continue
            count = rows if step else 1
            sums = acc(self._sums(stack, count))
            self._final("vx.add", sums, count, (address, 1), -zero, Post.NONE)
            factors.append((sums, step))
        self._final("vx.mul", dst, rows, factors[0], factors[1], Post.RQ)


class _Scaled(_Elementwise):
    """x times a constant per channel; the zero point of x goes into the bias."""

    def __init__(
        self, context: Context, op: Op, requantize: Requantize, x: Tensor, zero: int, factors: NDArray[np.int64]
    ) -> None:
        super().__init__(context, op, requantize, [x], -zero * factors)
        rows = pack(factors.astype(np.int32), context.config)
        self.factors = context.stream.constant(rows, "factors")
        self.rows = RowCache(context, context.sums)
        self.block = -1

    def _parameters(self, block: int) -> None:
        super()._parameters(block)
        self.block = block

    def compute(self, stack: ExitStack, dst: LocalAddress, rows: int, operands: list[Rows]) -> None:
        row = self.rows.row(self.factors + self.block * self.context.config.acc_row_bytes, 1)
        self._final("vx.mul", dst, rows, operands[0], (acc(row), 0), Post.RQ)

    def close(self) -> None:
        self.rows.close()


class _Extreme(_Elementwise):
    """Minimum or maximum: int8 in, int8 out."""

    def __init__(self, context: Context, op: MinMax) -> None:
        super().__init__(context, op, None, op.inputs)
        self.mnemonic = "vx.max" if op.maximum else "vx.min"

    def compute(self, stack: ExitStack, dst: LocalAddress, rows: int, operands: list[Rows]) -> None:
        self._final(self.mnemonic, dst, rows, operands[0], operands[1], Post.NONE)
