"""The smallest cells of a netlist as statements instead of instances.

A netlist has tens of thousands of them; as modules they keep Verilator busy for many minutes. `statements` writes what
the models that come with Yosys say, cell by cell; a test proves the two equivalent. Distributed RAM, block RAM and
multiplier blocks stay instances of their models.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Fields = Mapping[str, str]


class CellError(ValueError):
    """A cell whose parameters have values that are not modelled; the message names both."""


def _lut(name: str, parameters: Fields, pins: Fields) -> str:
    """LUT4 of the ECP5, LUT1 to LUT4 of Gowin."""
    if "Z" in pins:
        return f"  assign {pins['Z']} = {_table(parameters['INIT'], [pins[pin] for pin in 'ABCD'])};\n"
    inputs = [pins[f"I{index}"] for index in range(4) if f"I{index}" in pins]
    return f"  assign {pins['F']} = {_table(parameters['INIT'], inputs)};\n"


def _table(init: str, inputs: Sequence[str]) -> str:
    """What a table gives for its inputs, the first of them the lowest bit of the entry's number."""
    entries = int(init.partition("'h")[2], 16) & (1 << (1 << len(inputs))) - 1
    return _choose(entries, inputs)


def _choose(entries: int, inputs: Sequence[str]) -> str:
    """A table of 2**n entries as an expression: chosen by the last input between what is left of it."""
    size = 1 << len(inputs)
    if entries in (0, (1 << size) - 1):
        return "1'h1" if entries else "1'h0"
    half, full = size // 2, (1 << size // 2) - 1
    low, high = entries & full, entries >> half
    pin, rest = inputs[-1], inputs[:-1]
    if low == high or pin == "1'h0":
        return _choose(low, rest)
    if pin == "1'h1":
        return _choose(high, rest)
    if low == 0:
        return pin if high == full else f"({pin} & {_choose(high, rest)})"
    if high == 0:
        return f"~{pin}" if low == full else f"(~{pin} & {_choose(low, rest)})"
    if low == full:
        return f"(~{pin} | {_choose(high, rest)})"
    if high == full:
        return f"({pin} | {_choose(low, rest)})"
    if low == high ^ full:
        return f"({pin} ^ {_choose(low, rest)})"
    return f"({pin} ? {_choose(high, rest)} : {_choose(low, rest)})"


def _pfumx(name: str, parameters: Fields, pins: Fields) -> str:
    return f"  assign {pins['Z']} = {pins['C0']} ? {pins['ALUT']} : {pins['BLUT']};\n"


def _l6mux21(name: str, parameters: Fields, pins: Fields) -> str:
    return f"  assign {pins['Z']} = {pins['SD']} ? {pins['D1']} : {pins['D0']};\n"


def _ccu2c(name: str, parameters: Fields, pins: Fields) -> str:
    _legal("CCU2C", parameters, {"INJECT1_0": ('"NO"',), "INJECT1_1": ('"NO"',)})
    lines, carry = [], pins["CIN"]
    for half in ("0", "1"):
        table = parameters[f"INIT{half}"]
        a, b, c, d = (pins[f"{pin}{half}"] for pin in "ABCD")
        four, out = f"{name}four{half}", f"{name}carry{half}"
        lines += [
            f"  wire {four} = {_table(table, [a, b, c, d])};\n",
            f"  wire {out} = {four} ? {carry} : {_table(table, [a, b])};\n",
        ]
        if f"S{half}" in pins:
            lines.append(f"  assign {pins[f'S{half}']} = {four} ^ {carry};\n")
        carry = out
    if "COUT" in pins:
        lines.append(f"  assign {pins['COUT']} = {carry};\n")
    return "".join(lines)


def _sb_lut4(name: str, parameters: Fields, pins: Fields) -> str:
    inputs = [pins.get(f"I{index}", "1'h0") for index in range(4)]
    return f"  assign {pins['O']} = {_table(parameters['LUT_INIT'], inputs)};\n"


def _sb_carry(name: str, parameters: Fields, pins: Fields) -> str:
    a, b, carry = (pins[pin] for pin in ("I0", "I1", "CI"))
    return f"  assign {pins['CO']} = ({a} & {b}) | (({a} | {b}) & {carry});\n"


def _gowin_mux(name: str, parameters: Fields, pins: Fields) -> str:
    return f"  assign {pins['O']} = {pins['S0']} ? {pins['I1']} : {pins['I0']};\n"


def _gowin_alu(name: str, parameters: Fields, pins: Fields) -> str:
    """An adder where I3 is set, else a subtractor."""
    _legal("ALU", parameters, {"ALU_MODE": ("32'sd2", "32'd2")})
    a, b, add, carry = (pins[pin] for pin in ("I0", "I1", "I3", "CIN"))
    lines = [f"  wire {name}half = ~({a} ^ {b} ^ {add});\n"]
    if "SUM" in pins:
        lines.append(f"  assign {pins['SUM']} = {name}half ^ {carry};\n")
    if "COUT" in pins:
        lines.append(f"  assign {pins['COUT']} = {name}half ? {carry} : {a};\n")
    return "".join(lines)


def _buffer(name: str, parameters: Fields, pins: Fields) -> str:
    return f"  assign {pins['O']} = {pins['I']};\n"


def _constant(name: str, parameters: Fields, pins: Fields) -> str:
    (pin, net), *_ = pins.items()
    return f"  assign {net} = 1'h{int(pin == 'V')};\n"


@dataclass(frozen=True)
class _Control:
    """What flip-flops in one process share: clock, reset (empty: none), enable, the value after reset and at power-up,
    and whether the reset waits for the enable."""

    clock: str
    reset: str
    enable: str
    value: str
    initial: str
    enabled_reset: bool


def _register(parameters: Fields, pins: Fields) -> _Control:
    """Control of a TRELLIS_FF."""
    legal = {
        "CEMUX": ('"1"', '"CE"', '"INV"'), "CLKMUX": ('"CLK"',), "LSRMUX": ('"LSR"',),
        "SRMODE": ('"LSR_OVER_CE"',), "REGSET": ('"RESET"', '"SET"'), "GSR": ('"DISABLED"',),
    }  # fmt: skip
    _legal("TRELLIS_FF", parameters, legal)
    enables = {'"CE"': pins.get("CE", ""), '"INV"': f"~{pins.get('CE', '')}"}
    enable = enables.get(parameters.get("CEMUX", '"1"'), "1'h1")
    value = "1" if parameters.get("REGSET") == '"SET"' else "0"
    return _Control(pins["CLK"], pins["LSR"], enable, value, value, enabled_reset=False)


def _sb_dff(pins: Fields) -> _Control:
    """Control of a synchronous SB_DFF; its reset waits for its enable, and every one is 0 at power-up."""
    return _Control(
        pins["C"], pins.get("R", pins.get("S", "1'h0")), pins.get("E", "1'h1"), "1" if "S" in pins else "0", "0",
        enabled_reset=True,
    )  # fmt: skip


def _gowin_dff(kind: str, parameters: Fields, pins: Fields) -> _Control:
    """Control of a Gowin flip-flop with a synchronous reset or none, which comes before the enable."""
    value = "1" if "SET" in pins else "0"
    _legal(kind, parameters, {"INIT": (f"1'h{value}",)})
    reset = pins.get("RESET", pins.get("SET", "1'h0"))
    return _Control(pins["CLK"], reset, pins.get("CE", "1'h1"), value, value, enabled_reset=False)


def _registers(name: str, control: _Control, flipflops: Sequence[Fields]) -> str:
    """Flip-flops with the same control in one process."""
    names = [f"{name}_{index}" for index in range(len(flipflops))]
    declared = "".join(f"  reg {register} = 1'b{control.initial};\n" for register in names)
    cleared = "\n".join(f"{register} <= 1'b{control.value};" for register in names)
    taken = "\n".join(
        f"{register} <= {pins.get('DI', pins.get('D'))};" for register, pins in zip(names, flipflops, strict=True)
    )
    shown = "".join(f"  assign {pins['Q']} = {register};\n" for register, pins in zip(names, flipflops, strict=True))
    enable = "" if control.enable == "1'h1" else f"if ({control.enable}) "
    body = f"{'' if control.enabled_reset else enable}begin {taken} end"
    if control.reset != "1'h0":
        body = f"if ({control.reset}) begin {cleared} end else {body}"
    if control.enabled_reset and enable:
        body = f"{enable}begin {body} end"
    return f"{declared}  always @(posedge {control.clock}) begin {body} end\n{shown}"


_STATEMENTS: dict[str, Callable[[str, Fields, Fields], str]] = {
    **{f"LUT{inputs}": _lut for inputs in range(1, 5)},
    "PFUMX": _pfumx,
    "L6MUX21": _l6mux21,
    "CCU2C": _ccu2c,
    "SB_LUT4": _sb_lut4,
    "SB_CARRY": _sb_carry,
    **{f"MUX2_LUT{inputs}": _gowin_mux for inputs in range(5, 9)},
    "ALU": _gowin_alu,
    "IBUF": _buffer,
    "OBUF": _buffer,
    "VCC": _constant,
    "GND": _constant,
}
_SB_DFF = "SB_DFFE?(?:S[RS])?"
_GOWIN_DFF = "DFF[RS]?E?"
_KINDS = "|".join((*_STATEMENTS, "TRELLIS_FF", _SB_DFF, _GOWIN_DFF))
_CELL = re.compile(
    rf"^  ({_KINDS}) (?:#\(\n(.*?)\n  \) )?\S+ +\(\n(.*?)\n  \);\n",
    re.MULTILINE | re.DOTALL,
)
_OUTPUT = re.compile(r"^  output \[(\d+):0\] (\w+);$", re.MULTILINE)
_USE = r"\b{}\b(?:\[(\d+)(?::(\d+))?\])?"
_FIELD = re.compile(r"^    \.(\w+)\((.*)\),?$", re.MULTILINE)


def statements(netlist: str) -> str:
    """The netlist's Verilog as Yosys writes it, with statements for cells of the types above. Raises `CellError`."""
    count = 0
    groups: dict[_Control, list[Fields]] = defaultdict(list)

    def replace(cell: re.Match[str]) -> str:
        nonlocal count
        count += 1
        parameters, pins = (dict(_FIELD.findall(cell[group] or "")) for group in (2, 3))
        if cell[1] == "TRELLIS_FF":
            groups[_register(parameters, pins)].append(pins)
            return ""
        if cell[1].startswith("SB_DFF"):
            groups[_sb_dff(pins)].append(pins)
            return ""
        if cell[1].startswith("DFF"):
            groups[_gowin_dff(cell[1], parameters, pins)].append(pins)
            return ""
        return _STATEMENTS[cell[1]](f"cell{count}_", parameters, pins)

    rest = _CELL.sub(replace, netlist)
    registers = [
        _registers(f"register{number}", control, flipflops)
        for number, (control, flipflops) in enumerate(groups.items())
    ]
    body, end = rest.rsplit("endmodule", 1)
    return _split_outputs(f"{body}{''.join(registers)}endmodule{end}")


def _split_outputs(netlist: str) -> str:
    """The netlist with a wire for each bit of an output: a bit may depend on another one of the same port, which
    Verilator takes for a loop."""
    for high, name in _OUTPUT.findall(netlist):
        bits = [f"{name}__bit{index}" for index in range(int(high) + 1)]
        declared = f"  output [{high}:0] {name};\n  wire [{high}:0] {name};\n"
        wires = f"  wire {', '.join(bits)};\n  assign {name} = {{ {', '.join(reversed(bits))} }};\n"

        def of_bits(use: re.Match[str], bits: list[str] = bits) -> str:
            top = int(use[1] or len(bits) - 1)
            return f"{{ {', '.join(reversed(bits[int(use[2] or use[1] or 0) : top + 1]))} }}"

        head, body = netlist.split(declared)
        netlist = f"{head}{declared}{wires}{re.sub(_USE.format(name), of_bits, body)}"
    return netlist


def _legal(kind: str, parameters: Fields, legal: Mapping[str, tuple[str, ...]]) -> None:
    for name, values in legal.items():
        if parameters.get(name, values[0]) not in values:
            raise CellError(f"{kind} with {name} {parameters[name]} is not modelled; only {', '.join(values)}")
