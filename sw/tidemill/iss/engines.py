"""What the four engines do, instruction by instruction: exact effects on memories and exact work counts.

An engine executes one whole instruction at a time. An error raises `MachineFault` after the effects of everything
before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from tidemill.config import Config
from tidemill.csr import Cause
from tidemill.golden import matrix, requant, vector
from tidemill.isa import ACC_SPACE, BY_MNEMONIC, Post, RequantMode
from tidemill.iss.bus import Bus
from tidemill.iss.memory import LONG_WALK, LocalMemory, MachineFault, Walk, cut, first_outside, legal_rows, walk
from tidemill.iss.timing import Transfer, line_bursts

Values = dict[str, int]

CHUNK_POINTS = 1 << 15
"""Operand points the vector engine handles at once; bounds the simulator's memory."""

LUT_ENTRIES = 256


def reset_values(mnemonic: str) -> Values:
    """The reset values of the configuration that `mnemonic` sets: every field's default."""
    return {field.name: field.default or 0 for field in BY_MNEMONIC[mnemonic].fields}


@dataclass(frozen=True)
class Window:
    """Addresses a DMA may touch: `base` to `limit`, both included."""

    base: int = 0
    limit: int = 0


class DmaEngine:
    """Load or store engine between DRAM (`dram`, uint8, behind `bus`) and local memory.

    `window` is the address window; `configuration` holds what `*.stride` and `ld.dst` / `st.src` set.
    """

    def __init__(self, config: Config, local: LocalMemory, dram: np.ndarray, bus: Bus, *, store: bool) -> None:
        self.config = config
        self.local = local
        self.dram = dram
        self.bus = bus
        self.store = store
        self.window = Window()
        self.beats = 0
        self._bursts: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}
        self.reset()

    def reset(self) -> None:
        """State at the start of a program."""
        names = ("st.stride", "st.src") if self.store else ("ld.stride", "ld.dst")
        self.configuration = reset_values(names[0]) | reset_values(names[1])

    def configure(self, mnemonic: str, values: Values) -> None:
        """A configuration or sync instruction."""
        self.configuration.update(values)

    def run(self, values: Values) -> Transfer:
        """`ld.run` or `st.run`. Raises `MachineFault`: MISALIGNED, WINDOW, BUS_SLVERR, BUS_DECERR,
        LOCAL_RANGE."""
        state = self.configuration
        local, dram = values["src" if self.store else "dst"], values["dram"]
        n0, n1, n2 = values["n0"], values["n1"], values["n2"]
        low, high = (0, 0) if self.store else (state["pad_lo"], state["pad_hi"])
        memory = self.local.bytes_of(local)
        nbytes = n0 * memory.shape[1]
        rows_per_line = low + n0 + high
        if rows_per_line == 0:
            return Transfer((), 0)
        if n2 * n1 * rows_per_line > LONG_WALK:
            n2, n1 = self._reached(local, len(memory), rows_per_line, nbytes, values)
        steps = walk((n2, state["d2"]), (n1, state["d1"]), (rows_per_line, 1))
        rows, bad_row = legal_rows(local, steps, len(memory))
        lines = (dram + walk((n2, state["s2"]), (n1, state["s1"])).offsets) & 0xFFFF_FFFF
        if bad_row is None and not self._bad_lines(lines, nbytes).any():
            shape = (n2, n1, nbytes)
            self._move(rows.reshape(-1, rows_per_line), lines, shape, memory, low, high, steps)
            transfer = self._transfer(lines, dram, nbytes, n1, n2)
            self.beats += transfer.beats
            return transfer
        self._move_until_fault(rows.reshape(-1, rows_per_line), lines, nbytes, memory, low, high)
        raise AssertionError("a faulty walk ended without its fault")

    def _reached(self, local: int, depth: int, rows_per_line: int, nbytes: int, values: Values) -> tuple[int, int]:
        """(n2, n1) of a transfer cut behind its first fault; the given ones where it has none."""
        state, counts = self.configuration, (values["n2"], values["n1"])
        walked = ((counts[0], state["d2"]), (counts[1], state["d1"]), (rows_per_line, 1))
        bad_row = first_outside(local, walked, depth)
        needed = prod(counts) if bad_row is None else bad_row // rows_per_line + 1
        lines = (values["dram"] + walk((counts[0], state["s2"]), (counts[1], state["s1"])).offsets) & 0xFFFF_FFFF
        bad = self._bad_lines(lines, nbytes)
        if bad.any():
            needed = min(needed, int(np.argmax(bad)) + 1)
        (n2, _), (n1, _) = cut(((counts[0], 0), (counts[1], 0)), needed)
        return n2, n1

    def _bad_lines(self, lines: np.ndarray, nbytes: int) -> np.ndarray:
        """Which lines cannot be transferred: bool [lines]."""
        if nbytes == 0:
            return np.zeros(len(lines), bool)
        last = lines + (nbytes - 1)
        bad = (lines < self.window.base) | (last > min(self.window.limit, 0xFFFF_FFFF))
        bad |= self.bus.suspects(lines, nbytes, write=self.store)
        if self.store:
            bad |= lines % self.config.axi_bytes != 0
        return bad

    def _line_fault(self, first: int, nbytes: int) -> Cause | None:
        """Why the line from `first` may not be transferred."""
        if self.store and first % self.config.axi_bytes:
            return Cause.MISALIGNED
        if first < self.window.base or first + nbytes - 1 > min(self.window.limit, 0xFFFF_FFFF):
            return Cause.WINDOW
        return None

    def _transfer(self, lines: np.ndarray, dram: int, nbytes: int, n1: int, n2: int) -> Transfer:
        state = self.configuration
        padding = 0 if self.store else (state["pad_lo"] + state["pad_hi"]) * n1 * n2
        key = (dram % 4096, nbytes, n1, n2, state["s1"], state["s2"])
        bursts = self._bursts.get(key)
        if bursts is None:
            bursts = self._bursts[key] = line_bursts(self.config, lines.tolist(), nbytes)
        return Transfer(bursts, padding)

    def _move(
        self,
        rows: np.ndarray,
        lines: np.ndarray,
        shape: tuple[int, int, int],
        memory: np.ndarray,
        low: int,
        high: int,
        steps: Walk,
    ) -> None:
        """Move every line; all of them are legal. `rows` [lines, rows of a line]."""
        n2, n1, nbytes = shape
        state = self.configuration
        if nbytes == 0:
            memory[rows.reshape(-1)] = state["value"] & 0xFF
            return
        s1, s2 = state["s1"] if n1 > 1 else 0, state["s2"] if n2 > 1 else 0
        straight = int(lines[0]) + (n2 - 1) * s2 + (n1 - 1) * s1 == int(lines[-1])
        apart = (n1 == 1 or abs(s1) >= nbytes) and (n2 == 1 or abs(s2) >= abs(s1) * (n1 - 1) + nbytes)
        if not straight or steps.repeats or (self.store and not apart):
            self._move_until_fault(rows, lines, nbytes, memory, low, high)
            return
        block = np.ndarray(shape, np.uint8, self.dram, int(lines[0]), (s2, s1, 1))
        if self.store:
            block[...] = memory[rows.reshape(-1)].reshape(shape)
            return
        body = rows if not low and not high else rows[:, low : rows.shape[1] - high]
        if low:
            memory[rows[:, :low].reshape(-1)] = state["value"] & 0xFF
        memory[body.reshape(-1)] = block.reshape(-1, memory.shape[1])
        if high:
            memory[rows[:, rows.shape[1] - high :].reshape(-1)] = state["value"] & 0xFF

    def _move_until_fault(
        self, rows: np.ndarray, lines: np.ndarray, nbytes: int, memory: np.ndarray, low: int, high: int
    ) -> None:
        """Move line by line, row by row, up to the first illegal one."""
        row_bytes = memory.shape[1]
        done = 0
        suspects = self.bus.suspects(lines, nbytes, write=self.store)
        for line, first, suspect in zip(rows.tolist(), lines.tolist(), suspects.tolist(), strict=True):
            if nbytes and (cause := self._line_fault(first, nbytes)) is not None:
                raise MachineFault(cause, first, done)
            spoiled: Cause | None = None
            for position, row in enumerate(line):
                start = first + (position - low) * row_bytes
                moves = low <= position < len(line) - high
                if moves and suspect and not self.store:
                    self._check_read(first, start, row_bytes, done)
                if not 0 <= row < len(memory):
                    raise MachineFault(Cause.LOCAL_RANGE, row, done)
                if self.store and suspect:
                    spoiled = self._store_suspect(first, first + nbytes, start, memory[row], spoiled, done)
                elif self.store:
                    self.dram[start : start + row_bytes] = memory[row]
                elif moves:
                    memory[row] = self.dram[start : start + row_bytes]
                else:
                    memory[row] = self.configuration["value"] & 0xFF
                done += 1

    def _check_read(self, line: int, start: int, nbytes: int, done: int) -> None:
        """Raises the bus error that spoils the row at `start` of the line from `line`."""
        error = self.bus.first_error(start, nbytes, write=False)
        if error is not None:
            beat, cause = error
            raise MachineFault(cause, self.bus.burst_of(line, beat), done)

    def _store_suspect(
        self, line: int, end: int, start: int, row: np.ndarray, spoiled: Cause | None, done: int
    ) -> Cause | None:
        """Store a row beat by beat; the error of a burst (`spoiled`, carried from row to row) is raised at its end."""
        width = self.bus.width
        for beat in self.bus.beats(start, len(row)):
            cause = self.bus.response(beat, write=True)
            if cause is None:
                self.dram[beat : beat + width] = row[beat - start : beat - start + width]
            else:
                spoiled = cause if spoiled is None else max(spoiled, cause)
            if spoiled is not None and (beat + width == end or (beat + width) % self.bus.burst == 0):
                raise MachineFault(spoiled, self.bus.burst_of(line, beat), done)
        return spoiled


class MatrixEngine:
    """The systolic array with its two weight buffers. `rows_sent` counts activation rows."""

    def __init__(self, config: Config, local: LocalMemory) -> None:
        self.config = config
        self.local = local
        self.rows_sent = 0
        self.reset()

    def reset(self) -> None:
        """State at the start of a program: zero weights, no pending load."""
        self.activation = reset_values("mx.act")
        self.accumulator = reset_values("mx.acc")
        self.weights = np.zeros((self.config.rows, self.config.cols), np.int8)
        self.pending: np.ndarray | None = None

    def configure(self, mnemonic: str, values: Values) -> None:
        """`mx.act`, `mx.acc` or `mx.sync`."""
        if mnemonic == "mx.act":
            self.activation.update(values)
        elif mnemonic == "mx.acc":
            self.accumulator.update(values)

    def wload(self, values: Values, word: int) -> None:
        """`mx.wload`. Raises `MachineFault`: ILLEGAL_OPERAND, LOCAL_RANGE."""
        if self.pending is not None:
            raise MachineFault(Cause.ILLEGAL_OPERAND, word)
        steps = walk((self.config.rows, values["stride"]))
        rows, bad = legal_rows(values["src"], steps, self.config.spad_rows, space=False)
        if bad is not None:
            raise MachineFault(Cause.LOCAL_RANGE, int(rows[bad]), bad)
        self.pending = self.local.spad[rows]

    def run(self, values: Values, word: int) -> int:
        """`mx.run`; returns the activation rows sent. Raises `MachineFault`: ILLEGAL_OPERAND, LOCAL_RANGE."""
        if values["swap"]:
            if self.pending is None:
                raise MachineFault(Cause.ILLEGAL_OPERAND, word)
            self.weights, self.pending = self.pending, None
        act, acc = self.activation, self.accumulator
        source = tuple((act[f"n{k}"], act[f"s{k}"]) for k in (2, 1, 0))
        target = tuple((act[f"n{k}"], acc[f"t{k}"]) for k in (2, 1, 0))
        points = act["n2"] * act["n1"] * act["n0"]
        if points > LONG_WALK:
            bad = (
                first_outside(values["act"], source, self.config.spad_rows, space=False),
                first_outside(values["acc"], target, self.config.acc_rows, space=True),
            )
            points = min(points, *(at + 1 for at in bad if at is not None))
            source, target = cut(source, points), cut(target, points)
        sources, targets = walk(*source), walk(*target)
        from_rows, bad_act = legal_rows(values["act"], sources, self.config.spad_rows, space=False)
        to_rows, bad_acc = legal_rows(values["acc"], targets, self.config.acc_rows, space=True)
        count = len(from_rows)
        good = min(count if bad_act is None else bad_act, count if bad_acc is None else bad_acc)
        self._multiply(from_rows[:good], to_rows[:good], targets.repeats, bool(values["accumulate"]))
        self.rows_sent += good
        if good < count:
            outside = from_rows if good == bad_act else to_rows
            raise MachineFault(Cause.LOCAL_RANGE, int(outside[good]), good)
        return count

    def _multiply(self, from_rows: np.ndarray, to_rows: np.ndarray, repeats: bool, accumulate: bool) -> None:
        products = matrix.product(self.local.spad[from_rows], self.weights)
        acc = self.local.acc
        if not accumulate:
            acc[to_rows] = products
        elif repeats:
            np.add.at(acc, to_rows, products)
        else:
            acc[to_rows] = matrix.accumulate(acc[to_rows], products)


class VectorEngine:
    """The vector unit. `rows_read` counts operand rows; the table keeps its content over `reset`."""

    def __init__(self, config: Config, local: LocalMemory) -> None:
        self.config = config
        self.local = local
        self.rows_read = 0
        self.table = np.zeros(LUT_ENTRIES, np.int32)
        self.reset()

    def reset(self) -> None:
        """State at the start of a program."""
        self.configuration = {name: reset_values(name) for name in ("vx.dims", "vx.astride", "vx.bstride", "vx.quant")}
        self.parameters = np.zeros((3, self.config.cols), np.int32)

    def configure(self, mnemonic: str, values: Values) -> None:
        """`vx.dims`, `vx.astride`, `vx.bstride`, `vx.quant` or `vx.sync`."""
        if mnemonic in self.configuration:
            self.configuration[mnemonic].update(values)

    def param(self, values: Values) -> int:
        """`vx.param`; returns the rows read. Raises `MachineFault` LOCAL_RANGE."""
        self.parameters = self._consecutive(values["src"], 3)
        return 3

    def lut(self, values: Values) -> int:
        """`vx.lut`; returns the rows read. Raises `MachineFault` LOCAL_RANGE."""
        count = LUT_ENTRIES // self.config.cols
        self.table = self._consecutive(values["src"], count).reshape(-1)
        return count

    def _consecutive(self, address: int, count: int) -> np.ndarray:
        rows, bad = legal_rows(address, walk((count, 1)), self.config.acc_rows, space=True)
        if bad is not None:
            self.rows_read += bad
            raise MachineFault(Cause.LOCAL_RANGE, int(rows[bad]), bad)
        self.rows_read += count
        content: np.ndarray = self.local.acc[rows]
        return content

    def operate(self, mnemonic: str, values: Values) -> tuple[int, int]:
        """An ALU operation; returns (result rows, window rows each). Raises `MachineFault` LOCAL_RANGE."""
        dims = self.configuration["vx.dims"]
        n1, n0, k1, k0 = dims["n1"], dims["n0"], dims["k1"], dims["k0"]
        window = k1 * k0
        if n1 * n0 * window > LONG_WALK:
            n1, n0 = self._reached(values)
        count = n1 * n0
        strides_a, strides_b = self.configuration["vx.astride"], self.configuration["vx.bstride"]
        rows_a, bad_a = self._operand(values["a"], strides_a, (n1, n0, k1, k0))
        rows_b, bad_b = (None, None) if values["b_imm"] else self._operand(values["b"], strides_b, (n1, n0, k1, k0))
        rows_d, bad_d = legal_rows(
            values["dst"], walk((n1, dims["d1"]), (n0, dims["d0"])), len(self.local.rows_of(values["dst"]))
        )
        points = count * window
        never = points + 1
        limits = [never if bad is None else bad for bad in (bad_a, bad_b)]
        limits.append(never if bad_d is None else (bad_d + 1) * window - 1)
        good = min(*limits, points)
        results = min(good // window, count if bad_d is None else bad_d)
        step = max(1, CHUNK_POINTS // window)
        for start in range(0, results, step):
            stop = min(start + step, results)
            self._results(mnemonic, values, rows_a, rows_b, rows_d, slice(start, stop), window)
        self.rows_read += good
        if min(limits) < never:
            first = limits.index(min(limits))
            outside = (rows_a, rows_a if rows_b is None else rows_b, rows_d)[first]
            position = bad_d if first == 2 else min(limits)
            raise MachineFault(Cause.LOCAL_RANGE, int(outside[position]), good)
        return count, window

    def _reached(self, values: Values) -> tuple[int, int]:
        """(n1, n0) of an operation cut behind its first fault; the given ones where it has none."""
        dims = self.configuration["vx.dims"]
        counts = {name: dims[name] for name in ("n1", "n0", "k1", "k0")}
        operands = [(values["a"], "vx.astride")] + ([] if values["b_imm"] else [(values["b"], "vx.bstride")])
        outer = dims["n1"] * dims["n0"]
        needed = [outer]
        for address, name in operands:
            strides = self.configuration[name]
            levels = tuple((count, strides[level]) for level, count in counts.items())
            bad = first_outside(address, levels, len(self.local.rows_of(address)))
            if bad is not None:
                needed.append(bad // (dims["k1"] * dims["k0"]) + 1)
        levels = ((dims["n1"], dims["d1"]), (dims["n0"], dims["d0"]))
        bad = first_outside(values["dst"], levels, len(self.local.rows_of(values["dst"])))
        if bad is not None:
            needed.append(bad + 1)
        (n1, _), (n0, _) = cut(levels, min(needed))
        return n1, n0

    def _operand(
        self, address: int, strides: Values, counts: tuple[int, int, int, int]
    ) -> tuple[np.ndarray, int | None]:
        n1, n0, k1, k0 = counts
        levels = ((n1, strides["n1"]), (n0, strides["n0"]), (k1, strides["k1"]), (k0, strides["k0"]))
        return legal_rows(address, walk(*levels), len(self.local.rows_of(address)))

    def _results(
        self,
        mnemonic: str,
        values: Values,
        rows_a: np.ndarray,
        rows_b: np.ndarray | None,
        rows_d: np.ndarray,
        part: slice,
        window: int,
    ) -> None:
        """Compute and write the result rows `part`."""
        quant = self.configuration["vx.quant"]
        points = slice(part.start * window, part.stop * window)
        a = self.local.rows_of(values["a"])[rows_a[points]].astype(np.int32)
        if rows_b is None:
            number = values["b"] - ((values["b"] & 0x8000) << 1)
            b = np.full((1, 1), number, np.int32)
        else:
            b = self.local.rows_of(values["b"])[rows_b[points]].astype(np.int32)
        v = vector.ALU[mnemonic](a, b, quant["qmin"], quant["qmax"])
        if window > 1:
            combine = BY_MNEMONIC[mnemonic].combine
            assert combine is not None, f"{mnemonic} has no window fold"
            v = vector.fold(combine, v.reshape(-1, window, self.config.cols), 1)
        to_acc = bool(values["dst"] & ACC_SPACE)
        v = self._post(Post(values["post"]), v, quant, to_acc)
        self.local.rows_of(values["dst"])[rows_d[part]] = v if to_acc else vector.saturate_int8(v)

    def _post(self, post: Post, v: np.ndarray, quant: Values, to_acc: bool) -> np.ndarray:
        if post is Post.NONE:
            return v
        if post is Post.LUT:
            return vector.post_lut(v, self.table)
        if post is Post.LSUM:
            return vector.lane_sum(v)
        if post is Post.LMAX:
            return vector.lane_max(v)
        bias, multiplier, shift = self.parameters
        y = requant.requantize(
            v,
            bias,
            multiplier,
            shift,
            zero_point=quant["zero_point"],
            preshift=quant["preshift"],
            mode=RequantMode(quant["mode"]),
        )
        return y if to_acc else vector.clamp(y, quant["qmin"], quant["qmax"])
