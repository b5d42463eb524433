"""Programs that use every operand of every instruction at its corners while all other engines are busy.

Made from the instruction table; each ends the same on the simulator, so they run in lockstep like random programs.
Addresses at the ends of their fields come back into the memories by a register, modulo the field's width.
"""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.config import Config
from tidemill.isa import ACC_SPACE, ENGINES, OPS, Engine, Field, Kind, Op, encode
from tidemill_verif.coverage.isa_bins import ALU, corners, operands
from tidemill_verif.random_programs.case import MEM_SIZE, Bus, Case

READ, WRITE = 0x1_0000, 0x2_0000
"""Where loads read and stores write."""
PREFIX = {Engine.LOAD: "ld", Engine.STORE: "st", Engine.MATRIX: "mx", Engine.VECTOR: "vx"}
INDEX = 8
"""The register that brings an address back into its memory."""
BATCH = 10
"""Corners in a program."""
IMPOSSIBLE = {("mx.wload", "stride", "min"), ("mx.wload", "stride", "max")}
"""Corners that no legal program has: rows that far apart are in no memory."""
ROWS = 100
"""Rows of the accumulators from here on belong to the engines that are kept busy."""


def _defaults(config: Config, mnemonic: str) -> dict[str, int]:
    """Operands with which the instruction is legal and touches nothing that the busy engines use."""
    return {
        "fence": {"engines": 1},
        "ld.run": {"dst": 10, "dram": READ, "n0": 2},
        "st.run": {"src": 20, "dram": WRITE, "n0": 2},
        "mx.run": {"act": 30, "acc": ACC_SPACE + 30, "swap": 0},
        "mx.wload": {"src": 40},
        "vx.param": {"src": ACC_SPACE + 20},
        "vx.lut": {"src": ACC_SPACE + config.acc_rows - 256 // config.cols},
        **{op.mnemonic: {"dst": 50, "a": 51, "b": 52} for op in ALU},
    }.get(mnemonic, {})


def _busy(config: Config, engine: Engine) -> list[int]:
    """Work of some hundred cycles for `engine`, on rows of its own."""
    if engine is Engine.LOAD:
        return [encode("ld.run", dst=ACC_SPACE + ROWS, dram=READ + 0x1000, n0=32)]
    if engine is Engine.STORE:
        return [encode("st.run", src=ACC_SPACE + ROWS + 40, dram=WRITE + 0x8000, n0=32)]
    if engine is Engine.MATRIX:
        run = encode("mx.run", act=config.spad_rows - 1, acc=ACC_SPACE + ROWS + 80, swap=0)
        return [encode("mx.act", n0=300), encode("mx.acc"), run, encode("mx.act")]
    operands = {name: ACC_SPACE + ROWS + 81 + row for row, name in enumerate(("dst", "a", "b"))}
    reset = [encode("vx.astride"), encode("vx.bstride"), encode("vx.dims", n0=300)]
    return [*reset, encode("vx.add", **operands), encode("vx.dims")]


def _example(field: Field, name: str) -> int:
    """A value of `field` of the kind `name` of `isa_bins.corners`."""
    if field.choices is not None:
        return field.choices[name]
    if field.kind is Kind.SEMAPHORES:
        return {"none": 0, "one": 4, "several": 0x8421, "all": 0xFFFF}[name]
    if name.isdigit():
        return int(name)
    inside = max(field.legal_min + 1, 2)
    return {"min": field.legal_min, "max": field.legal_max, "zero": 0, "minus one": -1, "inside": inside}[name]


def _engine_corner(config: Config, op: Op, field: Field, name: str) -> tuple[list[int], list[int]]:
    """Instructions that use `field` of `op` at that corner and leave its engine's configuration as it was: what must be
    done before the other engines get busy, and the rest."""
    prefix = PREFIX[op.engine]
    defaults = _defaults(config, op.mnemonic)
    values = {**defaults, field.name: _example(field, name)}
    early: list[int] = []
    before: list[int] = []
    after: list[int] = []
    row_0 = name == "min" and field.kind is Kind.LOCAL and not defaults[field.name] & ACC_SPACE
    if field.index is not None and not row_0:
        needed = (defaults[field.name] - values[field.name]) % (1 << field.width)
        early.append(encode("addi", rd=INDEX, rs=0, imm=needed - (needed >> 31 << 32)))
        values[field.index] = INDEX
    if field.name == "wait" and values["wait"]:
        other = ENGINES[ENGINES.index(op.engine) - 1]
        early.append(encode(f"{PREFIX[other]}.sync", signal=values["wait"]))
    if field.name == "signal" and values["signal"]:
        after.append(encode(f"{prefix}.sync", wait=values["signal"]))
    if field.name in ("n0", "n1", "n2") and op.mnemonic.endswith(".run"):
        values["dst" if op.engine is Engine.LOAD else "src"] = 0
    word = encode(op.mnemonic, **values)
    if op.mnemonic == "mx.wload":
        after.insert(0, encode("mx.run", **_defaults(config, "mx.run") | {"swap": 1}))
    elif op.mnemonic == "mx.run" and values.get("swap"):
        before.append(encode("mx.wload", **_defaults(config, "mx.wload")))
    elif not any(f.index for f in op.fields) and op.fields:
        runs = {"vx": "vx.add"}.get(prefix, f"{prefix}.run")
        post = {"post": 1} if op.mnemonic == "vx.quant" else {}
        after = [encode(runs, **_defaults(config, runs), **post), encode(op.mnemonic), *after]
    return early, [*before, word, *after]


def _finishes() -> Iterator[list[int]]:
    """Weight tiles whose loading ends while another engine completes an instruction in every cycle."""
    for prefix in ("ld", "st", "vx"):
        for gap in range(0, 20, 4):
            syncs = [encode(f"{prefix}.sync")] * 7
            yield [encode("mx.wload", src=40), *[encode("nop")] * gap, *syncs, encode("mx.run", act=30, acc=ACC_SPACE)]


def _addresses(config: Config, engine: Engine) -> Iterator[list[int]]:
    """Instructions at the first and last rows of both memories."""
    last_spad, last_acc = config.spad_rows - 1, ACC_SPACE + config.acc_rows - 1
    for row in (0, last_spad, ACC_SPACE, last_acc):
        if engine is Engine.LOAD:
            yield [encode("ld.run", dst=row, dram=READ)]
        elif engine is Engine.STORE:
            yield [encode("st.run", src=row, dram=WRITE)]
        elif engine is Engine.MATRIX:
            act, acc = (30, row) if row & ACC_SPACE else (row, ACC_SPACE + 30)
            yield [encode("mx.run", act=act, acc=acc, swap=0)]
        else:
            yield [encode("vx.add", dst=row, a=51, b=52), encode("vx.add", dst=50, a=row, b=row)]


def _control() -> list[int]:
    """Control instructions with every operand at its corners, loops nested as deep as every machine allows."""
    words = []
    for op in OPS:
        if op.engine is not Engine.CONTROL or op.mnemonic in ("halt", "loop", "endloop"):
            continue
        for field in operands(op):
            for name in corners(field):
                others = {f.name: 1 for f in operands(op) if f.default is None}
                words.append(encode(op.mnemonic, **{**others, field.name: _example(field, name)}))
        if not operands(op):
            words.append(encode(op.mnemonic))
    end = encode("endloop")
    for number in (1, 7, 15):
        words += [encode("addi", rd=number, rs=0, imm=2), encode("loop", count=0xFFFF, rs=number, length=1), end]
    words += [encode("loop", count=0, rs=0, length=1), end]
    return [*words, *[encode("loop", count=2, rs=0, length=2)] * 4, *[end] * 4]


def corner_programs(config: Config) -> Iterator[Case]:
    """All the programs. Large counts come without busy engines that use the same rows."""
    yield _case(config, 0, _control())
    number = 1
    for engine in ENGINES:
        others = [word for other in ENGINES if other is not engine for word in _busy(config, other)]
        pieces = [
            _engine_corner(config, op, field, name)
            for op in OPS if op.engine is engine for field in operands(op) for name in corners(field)
            if (op.mnemonic, field.name, name) not in IMPOSSIBLE
        ]  # fmt: skip
        pieces += [([], piece) for piece in (*_addresses(config, engine), [encode(f"{PREFIX[engine]}.sync")])]
        for first in range(0, len(pieces), BATCH):
            words = []
            for early, rest in pieces[first : first + BATCH]:
                words += [*early, *others, *rest, encode("fence")]
            yield _case(config, number, words)
            number += 1
    yield _case(config, number, [word for piece in _finishes() for word in (*piece, encode("fence"))])


def _case(config: Config, number: int, words: list[int]) -> Case:
    program = (*words, encode("halt"))
    bus = Bus(read_latency=20, write_latency=6, bandwidth=1.0, stall_probability=0.0, seed=number)
    return Case(config, number, program, 0x100, (READ, WRITE - 1), (WRITE, MEM_SIZE - 1), number, bus)
