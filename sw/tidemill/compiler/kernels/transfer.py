"""DMA transfers of any nesting: merged where rows are contiguous, split where counts exceed an instruction's fields."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tidemill.compiler.stream import Stream
from tidemill.isa import BY_MNEMONIC
from tidemill.operands import BufferRef, LocalAddress

MAX_ROWS = BY_MNEMONIC["ld.run"].field("n0").legal_max
MAX_LINES = BY_MNEMONIC["ld.run"].field("n1").legal_max
MAX_PADDING = BY_MNEMONIC["ld.dst"].field("pad_lo").legal_max


@dataclass(frozen=True)
class Dim:
    """`count` steps of `dram` bytes in DRAM and `local` rows in local memory."""

    count: int
    dram: int
    local: int


def _merge(rows: int, row_bytes: int, dims: Sequence[Dim], padded: bool) -> tuple[int, list[Dim]]:
    """The same rows in fewer, longer lines: (rows of a line, dims without those that vanish)."""
    merged: list[Dim] = []
    for dim in dims:
        if merged and merged[-1].dram == dim.count * dim.dram and merged[-1].local == dim.count * dim.local:
            merged.append(Dim(merged.pop().count * dim.count, dim.dram, dim.local))
        elif dim.count > 1:
            merged.append(dim)
    if merged and not padded and (merged[-1].dram, merged[-1].local) == (rows * row_bytes, rows):
        rows *= merged.pop().count
    return rows, merged


def _pieces(rows: int, row_bytes: int, dims: list[Dim]) -> Iterator[tuple[int, int, int, Dim, Dim]]:
    """(DRAM offset, local offset, rows, inner lines, planes) of instructions that together walk everything."""
    none = Dim(1, 0, 0)
    # The two longest dims go into the instruction, the inner one first.
    chosen = sorted(sorted(range(len(dims)), key=lambda i: -dims[i].count)[:2], reverse=True)
    inner, outer = [*(dims[i] for i in chosen), none, none][:2]
    loops = [dim for i, dim in enumerate(dims) if i not in chosen]
    for steps in itertools.product(*(range(dim.count) for dim in loops)):
        dram = sum(step * dim.dram for step, dim in zip(steps, loops, strict=True))
        local = sum(step * dim.local for step, dim in zip(steps, loops, strict=True))
        for first in range(0, max(rows, 1), MAX_ROWS):
            n0 = min(rows - first, MAX_ROWS)
            for i, j in itertools.product(range(0, outer.count, MAX_LINES), range(0, inner.count, MAX_LINES)):
                yield (
                    dram + first * row_bytes + i * outer.dram + j * inner.dram,
                    local + first + i * outer.local + j * inner.local,
                    n0,
                    Dim(min(inner.count - j, MAX_LINES), inner.dram, inner.local),
                    Dim(min(outer.count - i, MAX_LINES), outer.dram, outer.local),
                )


def _row_bytes(stream: Stream, local: LocalAddress) -> int:
    return stream.config.acc_row_bytes if local.space == "acc" else stream.config.spad_row_bytes


def load(
    stream: Stream,
    dst: LocalAddress,
    dram: BufferRef,
    rows: int,
    dims: Sequence[Dim] = (),
    padding: tuple[int, int] = (0, 0),
    value: int = 0,
) -> None:
    """Load lines of `rows` rows, one for each point of `dims` (outermost first), each with `padding` rows of the byte
    `value` before and after it (at most MAX_PADDING; then `rows` must be at most MAX_ROWS)."""
    row_bytes = _row_bytes(stream, dst)
    rows, dims = _merge(rows, row_bytes, dims, padding != (0, 0))
    for offset, local, n0, inner, outer in _pieces(rows, row_bytes, dims):
        stream.ld_stride(s1=inner.dram, s2=outer.dram)
        stream.ld_dst(
            d1=inner.local, d2=outer.local, pad_lo=padding[0], pad_hi=padding[1], value=value if any(padding) else 0
        )
        stream.ld_run(dst=dst + local, dram=dram + offset, n0=n0, n1=inner.count, n2=outer.count)


def fill(stream: Stream, dst: LocalAddress, rows: int, value: int, dram: BufferRef, dims: Sequence[Dim] = ()) -> None:
    """Fill lines of `rows` rows with the byte `value`; `dims` as in `load` (DRAM steps are 0). `dram` is any address:
    nothing is read."""
    if rows == 0:
        return
    rows, dims = _merge(rows, 0, dims, False)
    whole, rest = divmod(rows, MAX_PADDING)
    if whole:
        load(stream, dst, dram, 0, [*dims, Dim(whole, 0, MAX_PADDING)], (MAX_PADDING, 0), value)
    if rest:
        load(stream, dst + whole * MAX_PADDING, dram, 0, dims, (rest, 0), value)


def store(stream: Stream, src: LocalAddress, dram: BufferRef, rows: int, dims: Sequence[Dim] = ()) -> None:
    """Store lines of `rows` rows, one for each point of `dims` (outermost first)."""
    row_bytes = _row_bytes(stream, src)
    rows, dims = _merge(rows, row_bytes, dims, False)
    for offset, local, n0, inner, outer in _pieces(rows, row_bytes, dims):
        stream.st_stride(s1=inner.dram, s2=outer.dram)
        stream.st_src(d1=inner.local, d2=outer.local)
        stream.st_run(src=src + local, dram=dram + offset, n0=n0, n1=inner.count, n2=outer.count)
