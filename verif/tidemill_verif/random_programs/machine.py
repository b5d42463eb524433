"""What the generator knows of the machine while it writes a program: registers, configuration, room."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tidemill.config import Config
from tidemill.isa import OPS, SCALAR_REGISTERS
from tidemill.operands import space_rows
from tidemill_verif.random_programs.footprint import Dims, extent

WORD = 1 << 32


@dataclass(frozen=True)
class Affine:
    """A register: `base` plus, for each loop around, a step times the number of its iteration; modulo 2**32."""

    base: int = 0
    steps: tuple[tuple[int, int], ...] = ()
    """(loop, step) with step not 0."""

    def plus(self, other: Affine, factor: int = 1) -> Affine:
        """self + factor * other."""
        steps = dict(self.steps)
        for loop, step in other.steps:
            steps[loop] = (steps.get(loop, 0) + factor * step) % WORD
        kept = tuple(sorted((loop, step) for loop, step in steps.items() if step))
        return Affine((self.base + factor * other.base) % WORD, kept)

    def without(self, loop: int, iteration: int) -> Affine:
        """The value in that iteration of `loop`."""
        steps = dict(self.steps)
        step = steps.pop(loop, 0)
        return Affine((self.base + step * iteration) % WORD, tuple(sorted(steps.items())))


ZERO = Affine()


@dataclass
class Frame:
    """A loop that is being written. `kept` registers and settings must not change inside; `moving` registers step by
    a fixed amount an iteration."""

    number: int
    trips: int
    kept_registers: set[int] = field(default_factory=set)
    kept_settings: set[str] = field(default_factory=set)
    moving: dict[int, int] = field(default_factory=dict)


@dataclass
class Knowledge:
    """Registers (None: unknown), settings of configuration instructions (None: unknown), and whether weights wait for a
    swap."""

    registers: list[Affine | None]
    settings: dict[str, dict[str, int] | None]
    pending: bool = False

    @staticmethod
    def at_start() -> Knowledge:
        """Everything at its reset value."""
        settings = {
            op.mnemonic: {f.name: f.default or 0 for f in op.fields}
            for op in OPS
            if op.fields and all(f.default is not None and f.index is None for f in op.fields)
        }
        return Knowledge([ZERO] * SCALAR_REGISTERS, dict(settings))

    def copy(self) -> Knowledge:
        """Another one that changes on its own."""
        return Knowledge(list(self.registers), dict(self.settings), self.pending)


@dataclass(frozen=True)
class Taste:
    """What a program is like."""

    weights: dict[str, float]
    """Of the generator's rules."""
    registers: float
    """Chance of an address with a register."""
    reconfigure: float
    """Chance of new settings where the old ones would do."""
    homes: dict[tuple[int, str], int]
    """Row around which an engine's rows lie in a memory."""
    spread: int
    """Rows around the home."""
    corners: float
    """Chance of a row at the end of a memory or at the border of a bank."""
    reach: int
    """Points of a typical instruction."""


class Place:
    """Chooses addresses: rows near an engine's home, at ends and at bank borders; DRAM bytes at ends and pages."""

    def __init__(self, config: Config, rng: Random, taste: Taste) -> None:
        self.config, self.rng, self.taste = config, rng, taste

    def row(self, engine: int, space: str, low: int, high: int) -> int:
        """A row of `low` to `high`, all of them legal."""
        rng, config = self.rng, self.config
        kind = rng.random()
        corners = self.taste.corners
        if kind < 0.3 * corners:
            return low
        if kind < 0.6 * corners:
            return high
        if kind < corners:
            banks = config.spad_banks if space == "spad" else config.acc_banks
            border = rng.randrange(1, banks) * (space_rows(config, space) // banks)
            return min(max(border - rng.randrange(4), low), high)
        if kind < 0.9:
            home, spread = self.taste.homes[engine, space], self.taste.spread
            return min(max(home + rng.randrange(spread), low), high)
        return rng.randint(low, high)

    def byte(self, window: tuple[int, int], dims: Dims, run: int, unit: int) -> int | None:
        """A first byte, multiple of `unit`, from which the walk stays in `window`; None where it does not fit."""
        rng = self.rng
        low, high = extent(dims)
        first, last = window[0] - low, window[1] - high - run + 1
        first = -(-first // unit) * unit
        last = last // unit * unit
        if first > last:
            return None
        kind = rng.random()
        if kind < 0.1:
            return first
        if kind < 0.2:
            return last
        if kind < 0.5:
            page = rng.randrange(first // 4096, last // 4096 + 1) * 4096
            value = page - rng.choice((0, unit, self.config.axi_bytes, run, rng.randrange(1, 200)))
        else:
            value = rng.randint(first, last)
        if rng.random() < 0.4:
            value = value // self.config.axi_bytes * self.config.axi_bytes
        value = value // unit * unit
        return min(max(value, first), last)
