"""Samples the points of `plan/frontend.py`; the bench's interpreter says what is executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidemill import isa
from tidemill.config import Config
from tidemill.csr import Cause
from tidemill_verif.coverage.collect import hit
from tidemill_verif.coverage.isa_bins import operand_hits, operands
from tidemill_verif.coverage.plan.frontend import REGISTER_FIELDS
from tidemill_verif.coverage.plan.sync import ENGINE_NAMES
from tidemill_verif.coverage.point import join
from tidemill_verif.coverage.sampling.wires import Streams, Wires, every_cycle


def watch(dut: Any) -> None:
    """Sample the streams in every cycle of this test."""
    ports = {f"instr {name}": f"instr__{i}" for i, name in enumerate(ENGINE_NAMES)}
    ports |= {"fetch cmd": "fetch__cmd", "fetch beat": "fetch__beat"}
    every_cycle(dut, Streams(Wires(dut), "frontend", ports))


def program(config: Config, address: int, length: int) -> None:
    """Sample the shape of a program that is run."""
    if length <= 1:
        hit("frontend.program", "one instruction" if length else "empty")
    hit("frontend.program", "fits the buffer" if length <= config.ibuf_depth else "longer than the buffer")
    if length and address // 4096 != (address + 16 * length - 1) // 4096:
        hit("frontend.program", "crosses a page")


def executed(config: Config, decoded: isa.Decoded, registers: Sequence[int], depth: int) -> None:
    """Sample an instruction that the decoder accepts, with the registers and the nesting of loops before it."""
    op, values = decoded.op, decoded.values
    hit("frontend.opcode", op.mnemonic)
    hit("frontend.operand", *operand_hits(op, values))
    for field in op.fields:
        if field.name in REGISTER_FIELDS:
            hit("frontend.register", join(field.name, f"r{values[field.name]}"))
        if field.index is not None:
            register = values[field.index]
            wraps = (values[field.name] & field.bits_max) + (registers[register] & field.bits_max) > field.bits_max
            kind = "r0" if not register else "wraps" if wraps else "added"
            hit("frontend.index", f"{op.mnemonic}.{field.name}, {kind}")
    if op.mnemonic == "fence":
        hit("frontend.fence", values["engines"])
    if op.mnemonic == "loop" and depth < config.loop_depth and values["length"] < config.ibuf_depth:
        _loop(config, values, registers[values["rs"]], depth + 1)


def _loop(config: Config, values: Mapping[str, int], register: int, depth: int) -> None:
    total = values["count"] + (register & 0xFFFF)
    count = total & 0xFFFF
    hit("frontend.loop_count", str(count) if count < 3 else "many")
    if total >> 16:
        hit("frontend.loop_count", "wraps")
    if count:
        hit("frontend.loop_depth", depth)
    length = values["length"]
    hit("frontend.loop_length", "1" if length == 1 else "longest" if length + 1 == config.ibuf_depth else "between")


def fault(config: Config, words: Sequence[int], cause: Cause, pc: int, info: int) -> None:
    """Sample a fault."""
    detail = ""
    if cause is Cause.LOOP:
        decoded = isa.decode(words[pc])
        if not info:
            detail = "runs away"
        elif decoded.op.mnemonic == "endloop":
            detail = "endloop alone"
        else:
            detail = "too long" if decoded.values["length"] >= config.ibuf_depth else "too deep"
    hit("frontend.fault", join(cause.name, detail) if detail else cause.name)


def refused(word: int) -> None:
    """Sample why the decoder refuses `word`."""
    opcode = word & 0xFF
    op = isa.BY_OPCODE.get(opcode)
    if op is None:
        group = opcode >> 5
        hit("frontend.illegal_opcode", isa.Engine(group).name if group < len(isa.Engine) else f"group {group}")
        return
    if word & ~op.used_mask:
        hit("frontend.illegal", join(op.mnemonic, "reserved bit"))
        return
    for field in operands(op):
        raw = word >> field.lo & ((1 << field.width) - 1)
        value = raw - (1 << field.width) if field.signed and raw >> (field.width - 1) else raw
        if value < field.legal_min:
            hit("frontend.illegal", f"{op.mnemonic}.{field.name} below")
        elif value > field.legal_max:
            hit("frontend.illegal", f"{op.mnemonic}.{field.name} above")
