"""Programs back to assembly that assembles to the same words and relocations."""

from __future__ import annotations

import base64
import dataclasses

from tidemill.asm.expressions import ENGINE_BITS, PLAIN_NAME, RESERVED
from tidemill.asm.lexer import quote
from tidemill.config import PRESETS, preset
from tidemill.isa import BY_OPCODE, Decoded, EncodingError, Field, Kind, decode, extract
from tidemill.operands import LocalAddress
from tidemill.program import Program

_BLOCK = "    "


def disassemble(program: Program) -> str:
    """Assembly source of `program`, declarations included."""
    lines = [*_header(program), ""]
    relocations: dict[int, dict[str, str]] = {}
    for relocation in program.relocations:
        relocations.setdefault(relocation.index, {})[relocation.field] = relocation.buffer
    structured = _structured(program.words)
    depth = 0
    for index, word in enumerate(program.words):
        text = format_instruction(word, program.semaphores, relocations.get(index), index in structured)
        depth -= text == "endloop"
        lines.append(_BLOCK * (depth + 1) + text)
        depth += text.startswith("loop ")
    return "\n".join(lines) + "\n"


def format_instruction(
    word: int, semaphores: tuple[str, ...] = (), buffers: dict[str, str] | None = None, structured: bool = True
) -> str:
    """One instruction; `buffers` maps relocated fields to buffers. An illegal word, and a loop or endloop without its
    partner (`structured` false), becomes `.word`."""
    try:
        decoded = decode(word)
    except EncodingError as error:
        return f".word {word:#x} ; {error}"
    mnemonic, values = decoded.op.mnemonic, decoded.values
    buffers = buffers or {}
    if mnemonic in ("loop", "endloop") and not structured:
        return f".word {word:#x} ; {mnemonic} without its partner"
    if mnemonic == "endloop":
        return "endloop"
    if mnemonic == "loop":
        return f"loop {_sum(str(values['count']), values['rs'])}"
    if mnemonic == "addi" and values["rs"] == 0:
        return f"li r{values['rd']}, {_value(decoded, decoded.op.field('imm'), semaphores, buffers)}"
    operands = []
    hidden = {field.index for field in decoded.op.fields} | {"b_imm"}
    for field in (*decoded.op.fields, *(f for f in decoded.op.all_fields[1:] if f.kind is Kind.SEMAPHORES)):
        register = values[field.index] if field.index else 0
        if field.name in hidden or (
            field.default is not None
            and values[field.name] == field.default
            and not register
            and field.name not in buffers
        ):
            continue
        operands.append(f"{field.name}={_value(decoded, field, semaphores, buffers)}")
    return f"{mnemonic} {', '.join(operands)}".rstrip()


def _value(decoded: Decoded, field: Field, semaphores: tuple[str, ...], buffers: dict[str, str]) -> str:
    value = decoded.values[field.name]
    register = decoded.values[field.index] if field.index else 0
    if field.name in buffers:
        offset = value - (1 << 32) if value >> 31 > 0 else value
        name = _name(buffers[field.name])
        base = name if offset == 0 else f"{name} {'+' if offset > 0 else '-'} {abs(offset)}"
        return base if register == 0 else f"{base} + r{register}"
    if field.kind is Kind.REGISTER:
        return f"r{value}"
    if field.kind is Kind.SEMAPHORES:
        bits = [bit for bit in range(16) if value >> bit & 1]
        return "|".join(_name(semaphores[bit]) if bit < len(semaphores) else f"sem[{bit}]" for bit in bits)
    if field.kind is Kind.ENUM:
        assert field.choices is not None
        return field.choices(value).name.lower()
    if field.kind is Kind.LOCAL:
        if field.name == "b" and decoded.values["b_imm"]:
            return _sum(str(value - (1 << 16) if value >> 15 else value), register)
        return str(LocalAddress.from_bits(value, register))
    if field.kind is Kind.DRAM:
        return _sum(f"{value:#x}", register)
    if decoded.op.mnemonic == "fence":
        return "|".join(name for name, bit in ENGINE_BITS.items() if value & bit)
    return str(value)


def _sum(number: str, register: int) -> str:
    return f"{number} + r{register}" if register else number


def _name(name: str) -> str:
    return name if PLAIN_NAME.fullmatch(name) and name not in RESERVED else quote(name)


def _header(program: Program) -> list[str]:
    config = program.config
    base = config.name if config.name in PRESETS else "base"
    lines = [f".preset {base}"]
    changed = [
        f"{field.name}={quote(config.name) if field.name == 'name' else getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(preset(base), field.name)
    ]
    if changed:
        lines.append(f".config {', '.join(changed)}")
    if program.semaphores:
        lines.append(f".sem {', '.join(_name(name) for name in program.semaphores)}")
    for buffer in program.buffers.values():
        data = ""
        if buffer.data is not None:
            zero = not any(buffer.data)
            data = ", zero" if zero else ", " + quote(base64.b64encode(buffer.data).decode())
        lines.append(f".buffer {_name(buffer.name)}, {buffer.dtype}, {list(buffer.shape)}{data}")
    return lines


def _structured(words: tuple[int, ...]) -> set[int]:
    """Indices of the loop and endloop instructions that pair up with the length the loop states."""
    paired: set[int] = set()
    stack: list[int] = []
    for index, word in enumerate(words):
        op = BY_OPCODE.get(word & 0xFF)
        if op is None or op.mnemonic not in ("loop", "endloop") or word & ~op.used_mask:
            continue
        if op.mnemonic == "loop":
            stack.append(index)
        elif stack:
            start = stack.pop()
            if extract(words[start], BY_OPCODE[words[start] & 0xFF].field("length")) == index - start:
                paired |= {start, index}
    return paired
