"""From a seed to an illegal program: a legal one, spoiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from tidemill.config import Config
from tidemill.isa import (
    BY_MNEMONIC,
    BY_OPCODE,
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    OPS,
    SIGNAL,
    WAIT,
    Field,
    Kind,
    encode,
    extract,
)  # fmt: skip
from tidemill.operands import space_rows
from tidemill_verif.illegal_programs.ends import possible_ends
from tidemill_verif.illegal_programs.streams import TooLong
from tidemill_verif.random_programs.case import MEM_SIZE, Case
from tidemill_verif.random_programs.corners import field_value, number
from tidemill_verif.random_programs.generate import MAX_WORDS, generate

WATCHDOGS = (2_000, 5_000)
"""Cycles of the watchdog: more than any memory of `generate` lets pass without a beat."""
TRIES = 20
"""Programs made from a seed until one is not too long."""

_WORD_MASK = (1 << INSTRUCTION_BITS) - 1


@dataclass(frozen=True)
class Spoiled:
    """`kind` is one of `KINDS`; `skipped` programs of this seed were too long to run."""

    case: Case
    kind: str
    skipped: int


def spoil(config: Config, seed: int) -> Spoiled:
    """The illegal program of `seed`: the same on every machine. Some are legal after all."""
    rng = Random(f"tidemill illegal {config.hash:#010x} {seed}")
    for skipped in range(TRIES):
        case = replace(generate(config, rng.getrandbits(40)), seed=seed, watchdog=rng.choice(WATCHDOGS), guarded=True)
        kind = rng.choice(list(KINDS))
        case = KINDS[kind](rng, case)
        try:
            possible_ends(case)
        except TooLong:
            continue
        return Spoiled(case, kind, skipped)
    raise AssertionError(f"seed {seed}: {TRIES} programs in a row are too long")


def _executed(case: Case) -> int:
    """Instructions up to the first halt; all of them where it is spoiled."""
    halt = encode("halt")
    return case.words.index(halt) + 1 if halt in case.words else len(case.words)


def _put(case: Case, at: int, word: int) -> Case:
    return case.with_words((*case.words[:at], word & _WORD_MASK, *case.words[at + 1 :]))


def _insert(case: Case, at: int, *words: int) -> Case:
    return _shifted(case, (*case.words[:at], *words, *case.words[at:]))


def _shifted(case: Case, words: tuple[int, ...]) -> Case:
    """`words` in place of those of `case`, moved down where they would leave the room for instructions."""
    grown = len(words) - len(case.words)
    room = MAX_WORDS * INSTRUCTION_BYTES
    end = room if case.address < room else MEM_SIZE
    over = max(0, case.address + INSTRUCTION_BYTES * (len(case.words) + grown) - end)
    if over > case.address - (end - room):
        return case
    return replace(case, words=words, address=case.address - over)


def _set(word: int, field: Field, value: int) -> int:
    mask = ((1 << field.width) - 1) << field.lo
    return word & ~mask | value << field.lo & mask


def _pick(rng: Random, case: Case, *mnemonics: str) -> int | None:
    """Position of some executed instruction with one of these names."""
    opcodes = [BY_MNEMONIC[name].opcode for name in mnemonics]
    found = [at for at in range(_executed(case)) if case.words[at] & 0xFF in opcodes]
    return rng.choice(found) if found else None


def _flip(rng: Random, case: Case) -> Case:
    """One bit of one instruction."""
    at = rng.randrange(_executed(case))
    return _put(case, at, case.words[at] ^ 1 << rng.randrange(INSTRUCTION_BITS))


def _flips(rng: Random, case: Case) -> Case:
    for _ in range(rng.randint(2, 6)):
        at = rng.randrange(len(case.words))
        case = _put(case, at, case.words[at] ^ 1 << rng.randrange(INSTRUCTION_BITS))
    return case


def _random_words(rng: Random, case: Case) -> Case:
    """Words of any bits: as they are, with an opcode that exists, or with no reserved bit set."""
    for _ in range(rng.choice((1, 1, 1, 3, 8))):
        word = rng.getrandbits(INSTRUCTION_BITS)
        op = rng.choice(OPS)
        kind = rng.randrange(3)
        if kind:
            word = word & ~0xFF | op.opcode
        if kind == 2:
            word &= op.used_mask
        case = _put(case, rng.randrange(_executed(case)), word)
    return case


def _random_fields(rng: Random, case: Case) -> Case:
    """Instructions that decode, with operands that fit nothing around them."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        op = rng.choice(OPS)
        values = {field.name: field_value(rng, field) for field in op.all_fields[1:]}
        for mask in (WAIT, SIGNAL):
            if mask.name in values and rng.random() < 0.8:
                values[mask.name] = 0
        if values.get("b_imm"):
            values["b"] -= (values["b"] >> 15) << 16
        word = encode(op.mnemonic, **values)
        at = rng.randrange(_executed(case))
        case = _put(case, at, word) if rng.random() < 0.5 else _insert(case, at, word)
    return case


def _opcode(rng: Random, case: Case) -> Case:
    """Another opcode, any of 256, or a number that no field may hold."""
    at = rng.randrange(_executed(case))
    word = case.words[at]
    limited = [
        f for f in BY_OPCODE[word & 0xFF].all_fields[1:] if (f.legal_min, f.legal_max) != (f.bits_min, f.bits_max)
    ]
    if limited and rng.random() < 0.5:
        field = rng.choice(limited)
        illegal = [*range(field.bits_min, field.legal_min), *range(field.legal_max + 1, field.bits_max + 1)]
        return _put(case, at, _set(word, field, rng.choice(illegal)))
    return _put(case, at, word & ~0xFF | rng.randrange(256))


def _truncated(rng: Random, case: Case) -> Case:
    return case.with_words(case.words[: rng.randrange(_executed(case))])


def _start(rng: Random, case: Case) -> Case:
    """Start registers that do not fit the program."""
    kind = rng.randrange(6)
    if kind == 0:
        return replace(case, prog_addr=case.address | rng.randrange(1, INSTRUCTION_BYTES))
    if kind == 1:
        away = rng.choice((MEM_SIZE, MEM_SIZE - 16, 1 << 31, (1 << 32) - 16, rng.randrange(MEM_SIZE, 1 << 32, 16)))
        return replace(case, prog_addr=away)
    if kind == 2:
        return replace(case, prog_len=rng.choice((0, (1 << 32) - 1, 1 << 24, rng.getrandbits(32))))
    if kind == 3:
        skip = rng.randrange(_executed(case))
        return replace(case, prog_addr=case.address + 16 * skip, prog_len=len(case.words) - skip)
    if kind == 4:
        at = rng.randrange(0, MEM_SIZE, 16)
        length = rng.randint(1, 40)
        low, high = case.write_window
        return replace(case, prog_addr=at, prog_len=length) if at + 16 * length <= low or at > high else case
    return replace(case, words=case.words[: _executed(case) - 1], prog_len=len(case.words) + rng.randint(1, 60))


def _loops(rng: Random, case: Case) -> Case:
    """Loops with a wrong length, no end, no beginning, too deep, too long."""
    kind = rng.randrange(6)
    at = _pick(rng, case, "loop")
    end = _pick(rng, case, "endloop")
    somewhere = rng.randrange(_executed(case))
    if kind == 0 and at is not None:
        field = BY_MNEMONIC["loop"].field("length")
        length = extract(case.words[at], field) + rng.choice((-2, -1, 1, 2, 60, 300))
        word = _set(case.words[at], field, max(0, length))
        if rng.random() < 0.5:
            word = _set(word, BY_MNEMONIC["loop"].field("count"), rng.choice((0, 1, 2)))
        return _put(case, at, word)
    if kind == 1 and end is not None:
        return _put(case, end, encode("nop"))
    if kind == 2 and at is not None:
        return _put(case, at, encode("nop"))
    if kind == 3:
        depth = case.config.loop_depth + rng.choice((0, 0, 1, 2))
        opens = [encode("loop", count=1, rs=0, length=2 * (depth - k)) for k in range(depth)]
        return _insert(case, somewhere, *opens, encode("nop"), *[encode("endloop")] * depth)
    if kind == 4:
        body = case.config.ibuf_depth + rng.choice((-2, -1, 0, 1, 5))
        length = rng.choice((body - 1, 3))
        nops = [encode("nop")] * (body - 2)
        return _insert(case, 0, encode("loop", count=2, rs=0, length=length), *nops, encode("endloop"))
    return _insert(case, somewhere, rng.choice((encode("endloop"), encode("loop", count=3, rs=0, length=1))))


def _addresses(rng: Random, case: Case) -> Case:
    """Rows and bytes at and beyond the ends of memories and windows."""
    runs = [op.mnemonic for op in OPS if any(f.kind in (Kind.LOCAL, Kind.DRAM) for f in op.fields)]
    at = _pick(rng, case, *runs)
    if at is None or rng.random() < 0.3:
        at = _pick(rng, case, "ld.stride", "ld.dst", "st.stride", "st.src", "mx.act", "mx.acc", "vx.dims", "vx.astride")
        if at is None:
            return _windows(rng, case)
        field = rng.choice([f for f in BY_OPCODE[case.words[at] & 0xFF].fields if f.default is not None])
        value = number(rng, field.legal_min, field.legal_max)
        return _put(case, at, _set(case.words[at], field, value))
    op = BY_OPCODE[case.words[at] & 0xFF]
    field = rng.choice([f for f in op.fields if f.kind in (Kind.LOCAL, Kind.DRAM) or f.index is not None])
    if field.kind is Kind.DRAM:
        edges = (*case.read_window, *case.write_window, MEM_SIZE, 1 << 31, 0)
        value = rng.choice(edges) + rng.choice((-64, -16, -4, -1, 0, 1, 4, 16))
    else:
        space = rng.choice((0, 1))
        depth = space_rows(case.config, "acc" if space else "spad")
        value = rng.choice((depth - 1, depth, depth - 4, 0, 1, 0x7FFF, rng.randrange(1 << 15))) | space << 15
    return _put(case, at, _set(case.words[at], field, value))


def _windows(rng: Random, case: Case) -> Case:
    """Windows that the program leaves, of no bytes, turned around, larger than DRAM, not on beats."""
    name = rng.choice(("read_window", "write_window"))
    low, high = getattr(case, name)
    middle = (low + high) // 2
    changed = rng.choice(
        (
            (low, middle | case.config.axi_bytes - 1), ((middle + 1) & -case.config.axi_bytes, high), (high, low),
            (0, 0), ((1 << 32) - 4, (1 << 32) - 1), (low + 1, high - 1), (low, high - rng.randrange(1, 40)),
            (middle, middle - 1), (low, (1 << 32) - 1) if name == "read_window" and low else (low, middle),
        )
    )  # fmt: skip
    return replace(case, **{name: changed})


def _weights(rng: Random, case: Case) -> Case:
    """A weight load or a swap too many or too few."""
    at = _pick(rng, case, "mx.wload", "mx.run")
    if at is None:
        word = encode("mx.run", act=0, acc=1 << 15) if rng.random() < 0.5 else encode("mx.wload", src=0)
        return _insert(case, rng.randrange(_executed(case)), word, word)
    word = case.words[at]
    kind = rng.randrange(3)
    if kind == 0:
        return _insert(case, at, word & ~(((1 << 32) - 1) << 8))
    if kind == 1 and word & 0xFF == BY_MNEMONIC["mx.run"].opcode:
        return _put(case, at, word ^ 1 << BY_MNEMONIC["mx.run"].field("swap").lo)
    return _put(case, at, _set(_set(encode("mx.sync"), WAIT, extract(word, WAIT)), SIGNAL, extract(word, SIGNAL)))


def _semaphores(rng: Random, case: Case) -> Case:
    """Semaphores forgotten, doubled, waited for in vain, filled too far."""
    executed = _executed(case)
    found = [at for at in range(executed) if case.words[at] & 0xFF >= 0x20]
    kind = rng.randrange(4)
    if kind == 0 or not found:
        at = rng.randrange(executed)
        name = rng.choice(("ld.sync", "st.sync", "mx.sync", "vx.sync"))
        masks = {mask: 1 << rng.randrange(16) for mask in rng.choice((("wait",), ("signal",), ("wait", "signal")))}
        return _insert(case, at, encode(name, **masks))
    at = rng.choice(found)
    mask = rng.choice((WAIT, SIGNAL))
    if kind == 1:
        return _put(case, at, _set(case.words[at], mask, 0))
    if kind == 2:
        return _put(case, at, case.words[at] ^ 1 << mask.lo + rng.randrange(16))
    most = 1 << case.config.semaphore_width
    times = most + rng.choice((-1, 0, 0, 5))
    name = rng.choice(("ld.sync", "st.sync", "mx.sync", "vx.sync"))
    signal = encode(name, signal=1 << rng.randrange(16))
    outside = [0, executed - 1]
    return _insert(case, rng.choice(outside), encode("loop", count=times, rs=0, length=2), signal, encode("endloop"))


KINDS: dict[str, Callable[[Random, Case], Case]] = {
    "flipped bit": _flip,
    "flipped bits": _flips,
    "random words": _random_words,
    "random fields": _random_fields,
    "opcodes and operands": _opcode,
    "truncated": _truncated,
    "start registers": _start,
    "loops": _loops,
    "addresses": _addresses,
    "windows": _windows,
    "weights": _weights,
    "semaphores": _semaphores,
}
"""How a program is spoiled."""
