"""The configuration of a Tidemill NPU: one frozen, validated dataclass that every part reads.

The hardware generator, the simulator, the assembler, the compiler and the driver all take a
`Config`; none keeps a copy of a number that stands here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

ISA_VERSION = 1
"""Version of instruction encoding and semantics; part of `Config.hash`."""


SEQUENTIAL_WORDS = 1 << 14
"""32-bit words of the one local memory of a sequential NPU."""
SEQUENTIAL_RESERVED = 512
"""Words of it that the sequencer keeps for itself: the vector unit's table and the engines' queues."""


class ConfigError(ValueError):
    """A configuration that cannot be built; the message names the field, its value and the legal range."""


def _check(condition: bool, field: str, value: object, legal: str) -> None:
    if not condition:
        raise ConfigError(f"config field {field!r}: {value!r} is not legal; must be {legal}")


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True)
class Config:
    """Shape and sizes of one NPU.

    A scratchpad row holds `rows` int8 values, an accumulator row `cols` int32 values. Results of one
    matrix product are activations of the next, so `rows == cols` (`dim`).
    """

    name: str
    """Name the user sees; not part of the hash."""
    rows: int
    """Array rows: the reduction dimension R. Power of two, 4 to 64."""
    cols: int
    """Array columns: the output dimension C. Equal to `rows`."""
    spad_rows: int
    """Scratchpad rows in all banks together; power of two, at most 32768."""
    acc_rows: int
    """Accumulator rows in all banks together; power of two, at most 32768."""
    requant_lanes: int
    """Requantizer lanes L (also of the table look-up and of lane reductions): a power of two that
    divides `cols`; a row takes cols / L cycles."""
    spad_banks: int = 4
    """Scratchpad banks; bank = row // (spad_rows / spad_banks)."""
    acc_banks: int = 2
    """Accumulator banks; bank = row // (acc_rows / acc_banks)."""
    axi_data_width: int = 64
    """AXI4 data width in bits: 32, 64 or 128, at most one scratchpad row."""
    axi_addr_width: int = 32
    """AXI4 address width in bits; fixed at 32 in this ISA version."""
    max_burst: int = 32
    """Longest AXI4 burst the DMA issues, in beats: power of two, 2 to 256."""
    max_outstanding: int = 4
    """Read bursts (and write bursts) each DMA keeps in flight."""
    queue_depth: int = 8
    """Instructions each engine queue holds."""
    ibuf_depth: int = 256
    """Instructions the frontend's loop buffer holds; the longest body of an outermost loop,
    its `loop` and `endloop` included. Power of two, at least 32."""
    loop_depth: int = 4
    """Deepest nesting of hardware loops."""
    semaphores: int = 16
    """Counting semaphores; the instruction format has room for 16."""
    semaphore_width: int = 6
    """Bits of one semaphore's count; counting past 2**width - 1 is an error."""
    sequential: bool = False
    """One microcoded sequencer instead of engines side by side (`docs/blocks/sequential.md`): small and slow.
    Needs a 4 x 4 array, a bus of 32 bits and local memories within `SEQUENTIAL_WORDS`."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "name":
                _check(isinstance(value, str) and value != "", "name", value, "a non-empty string")
            elif field.name == "sequential":
                _check(isinstance(value, bool), "sequential", value, "True or False")
            else:
                _check(isinstance(value, int) and not isinstance(value, bool), field.name, value, "an int")
        _check(_is_power_of_two(self.rows) and 4 <= self.rows <= 64, "rows", self.rows, "a power of two, 4 to 64")
        _check(self.cols == self.rows, "cols", self.cols, f"equal to rows ({self.rows})")
        for name, banks_name in (("spad_rows", "spad_banks"), ("acc_rows", "acc_banks")):
            value, banks = getattr(self, name), getattr(self, banks_name)
            _check(_is_power_of_two(value) and 64 <= value <= 32768, name, value, "a power of two, 64 to 32768")
            _check(_is_power_of_two(banks) and 2 <= banks <= 16, banks_name, banks, "a power of two, 2 to 16")
        _check(
            _is_power_of_two(self.requant_lanes) and self.requant_lanes <= self.cols,
            "requant_lanes",
            self.requant_lanes,
            f"a power of two, 1 to cols ({self.cols})",
        )
        _check(
            self.axi_data_width in (32, 64, 128) and self.axi_data_width <= 8 * self.rows,
            "axi_data_width",
            self.axi_data_width,
            f"32, 64 or 128, and at most one scratchpad row ({8 * self.rows})",
        )
        _check(self.axi_addr_width == 32, "axi_addr_width", self.axi_addr_width, "32")
        _check(
            _is_power_of_two(self.max_burst) and 2 <= self.max_burst <= 256 and self.max_burst * self.axi_bytes <= 4096,
            "max_burst",
            self.max_burst,
            "a power of two, 2 to 256 beats, and at most 4096 bytes",
        )
        _check(1 <= self.max_outstanding <= 16, "max_outstanding", self.max_outstanding, "1 to 16")
        _check(2 <= self.queue_depth <= 64, "queue_depth", self.queue_depth, "2 to 64")
        _check(
            _is_power_of_two(self.ibuf_depth) and 32 <= self.ibuf_depth <= 4096,
            "ibuf_depth",
            self.ibuf_depth,
            "a power of two, 32 to 4096",
        )
        _check(1 <= self.loop_depth <= 8, "loop_depth", self.loop_depth, "1 to 8")
        _check(self.semaphores == 16, "semaphores", self.semaphores, "16")
        _check(2 <= self.semaphore_width <= 8, "semaphore_width", self.semaphore_width, "2 to 8")
        if self.sequential:
            legal = "False unless rows and cols are 4 and axi_data_width is 32"
            _check(self.rows == 4 and self.axi_data_width == 32, "sequential", True, legal)
            _check(self.queue_depth <= 8, "queue_depth", self.queue_depth, "2 to 8 where sequential")
            _check(self.loop_depth <= 4, "loop_depth", self.loop_depth, "1 to 4 where sequential")
            words = self.spad_rows + self.cols * self.acc_rows
            limit = SEQUENTIAL_WORDS - SEQUENTIAL_RESERVED
            _check(words <= limit, "spad_rows", self.spad_rows, f"with {self.cols} * acc_rows at most {limit} words")

    @property
    def dim(self) -> int:
        """Lanes of a row: `rows` and `cols` at once."""
        return self.rows

    @property
    def spad_row_bytes(self) -> int:
        """Bytes of one scratchpad row (int8 lanes)."""
        return self.rows

    @property
    def acc_row_bytes(self) -> int:
        """Bytes of one accumulator row (int32 lanes)."""
        return 4 * self.cols

    @property
    def axi_bytes(self) -> int:
        """Bytes of one AXI4 beat."""
        return self.axi_data_width // 8

    @property
    def peak_macs_per_cycle(self) -> int:
        """int8 multiply-accumulates the array does in one cycle."""
        return self.rows * self.cols

    @property
    def psum_bits(self) -> int:
        """Bits of a partial sum in the array: `rows` products of two int8 always fit."""
        return 16 + self.rows.bit_length() - 1

    @property
    def hash(self) -> int:
        """32-bit hash of everything a program depends on; CSR `CONFIG_HASH` and every program carry it."""
        fields = dataclasses.asdict(self)
        del fields["name"]
        if not self.sequential:
            del fields["sequential"]
        canonical = json.dumps({"isa": ISA_VERSION, **fields}, sort_keys=True)
        return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:4], "little")

    def replace(self, **changes: object) -> Config:
        """Return a copy with `changes` applied and validated; a copy with other values needs a `name` too
        where it should not be taken for the preset."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


PRESETS: dict[str, Config] = {
    config.name: config
    for config in (
        Config("micro", 4, 4, 8192, 1024, requant_lanes=1, axi_data_width=32, ibuf_depth=64, sequential=True),
        Config("tiny", 4, 4, spad_rows=4096, acc_rows=512, requant_lanes=1, axi_data_width=32, ibuf_depth=64),
        Config("small", 8, 8, spad_rows=8192, acc_rows=1024, requant_lanes=2),
        Config("base", 16, 16, spad_rows=8192, acc_rows=2048, requant_lanes=4),
        Config("large", 32, 32, spad_rows=16384, acc_rows=2048, requant_lanes=8),
    )
}
"""The named configurations, smallest first."""

DEFAULT_PRESET = "base"


def preset(name: str) -> Config:
    """Return the preset called `name`; `ConfigError` lists the known ones."""
    try:
        return PRESETS[name]
    except KeyError:
        known = ", ".join(PRESETS)
        raise ConfigError(f"unknown preset {name!r}; known presets: {known}") from None
