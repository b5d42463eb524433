"""From a seed to a random legal program."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tidemill.config import Config
from tidemill.isa import ENGINES, INSTRUCTION_BYTES, encode
from tidemill.operands import space_rows
from tidemill_verif.random_programs.case import MEM_SIZE, Bus, Case
from tidemill_verif.random_programs.machine import Taste
from tidemill_verif.random_programs.order import Orderer, Style, TooLong, Word
from tidemill_verif.random_programs.rules import FAMILIES, Window
from tidemill_verif.random_programs.tree import Node
from tidemill_verif.random_programs.writer import Writer

MAX_WORDS = 1000
"""Instructions that DRAM has room for."""
_USUAL = {
    "free": 0.3, "sync": 0.2, "scalar": 1.0, "ld.run": 2.0, "st.run": 2.0, "mx.wload": 1.2, "mx.run": 3.0,
    "vector": 4.0, "rows": 0.5, "setting": 0.3, "stray": 0.1, "loop": 0.5, "tokens": 0.05,
}  # fmt: skip


def generate(config: Config, seed: int, exclusive: bool = False) -> Case:
    """The program of `seed`: the same on every machine.

    `exclusive` keeps each semaphore to one signalling and one waiting engine; otherwise a quarter of the programs let
    semaphores change hands, in an order that is guaranteed but that `tidemill check` cannot see.
    Raises `GeneratorError` for an instruction or a field without a rule.
    """
    rng = Random(f"tidemill {config.hash:#010x} {seed}")
    room = MAX_WORDS * INSTRUCTION_BYTES
    low = rng.random() < 0.5
    data = (room, MEM_SIZE - 1) if low else (0, MEM_SIZE - room - 1)
    everything = (0, MEM_SIZE - 1)
    read = everything if rng.random() < 0.1 else _window(rng, config, data)
    write = _window(rng, config, data)
    style = Style(
        fence=rng.choice((0.1, 0.4, 0.02)),
        late=rng.choice((0.2, 0.6, 0.9)),
        noise=rng.choice((0, 0.05, 0.3)),
        reuse=rng.choice((0.0, 0.0, 0.0, 0.7)),
    )
    if exclusive:
        style = replace(style, reuse=0.0)
    writer = Writer(config, rng, taste(config, rng), read, write)
    long = rng.random() < 0.04
    if long:
        writer.work *= 3
    tree = writer.block(config.ibuf_depth if long else rng.choice((3, 10, 20, 35, 60)))
    words = _ordered(config, rng, style, tree)
    after = rng.randrange(6) if rng.random() < 0.3 else 0
    encoded = [*(encode(word.mnemonic, **word.values) for word in words), encode("halt")]
    encoded += [rng.getrandbits(128) for _ in range(after)]
    slack = (MAX_WORDS - len(encoded)) * INSTRUCTION_BYTES
    start = 0 if low else MEM_SIZE - room
    place = rng.choice((0, slack, rng.randrange(0, slack + 1, INSTRUCTION_BYTES)))
    return Case(config, seed, tuple(encoded), start + place, read, write, rng.getrandbits(32), bus(rng))


def taste(config: Config, rng: Random) -> Taste:
    """What a program is like: which instructions it prefers, how far its addresses spread."""
    weights = {family: _USUAL[family] * rng.choice((0.3, 1, 1, 1, 3)) for family in (*FAMILIES, "tokens")}
    spread = rng.choice((12, 40, 150, 1000))
    homes = {}
    parallel = rng.random() < 0.5
    for space in ("spad", "acc"):
        rows = space_rows(config, space)
        home = rng.randrange(rows)
        reach = min(spread, rows // 8)
        for engine in range(len(ENGINES)):
            apart = engine * 2 * reach if parallel else engine * rng.choice((0, 0, spread))
            homes[engine, space] = (home + apart) % rows
    return Taste(
        weights=weights,
        registers=rng.choice((0.1, 0.5)),
        reconfigure=rng.choice((0.3, 0.8)),
        homes=homes,
        spread=spread,
        corners=0.04 if parallel else 0.22,
        reach=rng.choice((2, 6, 20, 60)),
    )


def bus(rng: Random) -> Bus:
    """A memory: fast, slow, narrow, stalling."""
    return Bus(
        read_latency=rng.choice((1, 2, 5, 20, 20, rng.randint(1, 120))),
        write_latency=rng.choice((1, 2, 6, rng.randint(1, 60))),
        bandwidth=rng.choice((1.0, 1.0, 1.0, 0.7, 0.4)),
        stall_probability=rng.choice((0.0, 0.0, 0.1, 0.3, 0.6)),
        seed=rng.getrandbits(31),
        interleave=rng.random() < 0.3,
        early_data=rng.random() < 0.3,
    )


def _window(rng: Random, config: Config, data: Window) -> Window:
    """Bytes inside `data`, multiples of the bus width, at least 16 KiB."""
    beat = config.axi_bytes
    size = rng.choice((1 << 14, 1 << 15, 1 << 16, data[1] + 1 - data[0]))
    first = data[0] + rng.randrange(0, data[1] + 2 - data[0] - size, beat)
    return first, first + size - 1


def _ordered(config: Config, rng: Random, style: Style, tree: list[Node]) -> list[Word]:
    """The words of `tree`, up to the first node that does not fit the loop buffer or the room for instructions."""
    orderer = Orderer(config, rng, style)
    for node in tree:
        mark = len(orderer.words)
        try:
            orderer.write([node])
        except TooLong:
            return orderer.words[:mark]
        if len(orderer.words) > MAX_WORDS - 8:
            return orderer.words[:mark]
    return orderer.words
