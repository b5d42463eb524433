"""What a sequence of matrix instructions must do, from the golden model, and random sequences of them."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tidemill.config import Config
from tidemill.golden.matrix import accumulate, product
from tidemill.isa import ACC_SPACE, decode, encode


def row_bits(row: NDArray[np.generic]) -> int:
    """A row as the integer on a port: lane 0 lowest."""
    return int.from_bytes(row.tobytes(), "little")


@dataclass
class Write:
    """One result row: accumulator row, the sums of the array, and whether they are added."""

    row: int
    sums: NDArray[np.int32]
    accumulate: bool


@dataclass
class MatrixReference:
    """Executes matrix instructions one after another on `spad` (int8 [rows, R]) and `acc` (int32 [rows, C]).

    `writes` collects the result rows, `dones` pairs (signal, result rows before it, tiles read before it) of all
    instructions but mx.wload, `weight_dones` the signals of mx.wload.
    """

    config: Config
    spad: NDArray[np.int8]
    acc: NDArray[np.int32]
    writes: list[Write] = field(default_factory=list)
    dones: list[tuple[int, int, int]] = field(default_factory=list)
    weight_dones: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = (self.config.rows, self.config.cols)
        self.active = np.zeros(shape, np.int8)
        self.shadow = np.zeros(shape, np.int8)
        self.act = {"n0": 1, "n1": 1, "n2": 1, "s0": 0, "s1": 0, "s2": 0}
        self.strides = {"t0": 0, "t1": 0, "t2": 0}

    def execute(self, word: int) -> None:
        """Execute one legal instruction."""
        decoded = decode(word)
        name, values = decoded.op.mnemonic, decoded.values
        if name == "mx.wload":
            rows = values["src"] + values["stride"] * np.arange(self.config.rows)
            self.shadow = self.spad[rows]
            self.weight_dones.append(values["signal"])
            return
        if name == "mx.act":
            self.act = {key: values[key] for key in self.act}
        elif name == "mx.acc":
            self.strides = {key: values[key] for key in self.strides}
        elif name == "mx.run":
            self._run(values)
        self.dones.append((values["signal"], len(self.writes), len(self.weight_dones)))

    def _run(self, values: dict[str, int]) -> None:
        if values["swap"]:
            self.active = self.shadow
        act, strides = self.act, self.strides
        i2, i1, i0 = np.meshgrid(*(np.arange(act[f"n{k}"]) for k in (2, 1, 0)), indexing="ij")
        sources = (values["act"] + i2 * act["s2"] + i1 * act["s1"] + i0 * act["s0"]).ravel()
        targets = i2 * strides["t2"] + i1 * strides["t1"] + i0 * strides["t0"]
        targets = (values["acc"] - ACC_SPACE + targets).ravel()
        sums = product(self.spad[sources], self.active)
        for target, row in zip(targets, sums, strict=True):
            self.writes.append(Write(int(target), row, bool(values["accumulate"])))
            self.acc[target] = accumulate(self.acc[target], row) if values["accumulate"] else row


def _placed(rng: random.Random, counts: list[int], limit: int, reach: int) -> tuple[int, list[int]]:
    """A base and strides that keep every point of the loops inside 0 .. limit - 1."""
    strides = [rng.choice((0, 1, -1, rng.randint(-reach, reach))) for _ in counts]
    low = sum(min(0, (n - 1) * s) for n, s in zip(counts, strides, strict=True))
    high = sum(max(0, (n - 1) * s) for n, s in zip(counts, strides, strict=True))
    return rng.randint(-low, limit - 1 - high), strides


def random_program(rng: random.Random, config: Config, length: int) -> list[int]:
    """A legal random sequence of about `length` matrix instructions that ends with an mx.sync."""
    program: list[int] = []
    counts, act_strides, acc_strides = [1, 1, 1], [0, 0, 0], [0, 0, 0]
    offsets, acc_offset = [0, 0], rng.randint(0, 40)
    queue: deque[str] = deque()
    pending = False
    while len(program) < length or queue:
        kind = queue.popleft() if queue else rng.choice(("act", "acc", "sync", "wload", "run", "run", "tile", "tile"))
        signal = rng.choice((0, 0, rng.getrandbits(16)))
        if kind == "tile":
            queue.extend(("wload", "run"))
        elif kind == "sync":
            program.append(encode("mx.sync", signal=signal))
        elif kind == "act":
            counts = [rng.choice((1, 2, 3, rng.randint(1, 2 * config.rows))), rng.randint(1, 3), rng.randint(1, 2)]
            offsets[0], act_strides = _placed(rng, counts, config.spad_rows, 40)
            fields = {f"n{k}": counts[k] for k in range(3)} | {f"s{k}": act_strides[k] for k in range(3)}
            program.append(encode("mx.act", signal=signal, **fields))
            queue.appendleft("acc")
        elif kind == "acc":
            offsets[1], acc_strides = _placed(rng, counts, config.acc_rows, 3)
            acc_offset = offsets[1]
            program.append(encode("mx.acc", signal=signal, **{f"t{k}": acc_strides[k] for k in range(3)}))
        elif kind == "wload":
            if pending:
                continue
            src, (stride,) = _placed(rng, [config.rows], config.spad_rows, 40)
            program.append(encode("mx.wload", src=src, stride=stride, signal=signal))
            pending = True
        else:
            swap = pending and rng.random() < 0.8
            pending = pending and not swap
            fields = {"act": offsets[0], "acc": ACC_SPACE + acc_offset, "accumulate": rng.random() < 0.7, "swap": swap}
            program.append(encode("mx.run", signal=signal, **fields))
    program.append(encode("mx.sync", signal=0xFFFF))
    return program
