"""Assembly source to a program: names and expressions become operands, the program builder encodes them."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidemill.asm.diagnostics import MAX_ERRORS, AsmError, Diagnostic, Location, SourceError
from tidemill.asm.expressions import Scope, as_int
from tidemill.asm.lexer import tokenize
from tidemill.asm.parser import List, Name, Number, Operand, Parser, Statement, Unary
from tidemill.builder import BuildError, ProgramBuilder
from tidemill.checker import Finding, check
from tidemill.config import DEFAULT_PRESET, Config, ConfigError, preset
from tidemill.isa import BY_MNEMONIC, Kind
from tidemill.program import DTYPES, Program, SourceLine

DIRECTIVES = (".preset", ".config", ".const", ".sem", ".buffer", ".include", ".word")


@dataclass(frozen=True)
class Assembly:
    """A program and the place in the source of each of its instructions."""

    program: Program
    locations: tuple[Location, ...]

    def diagnostics(self, order: bool = True) -> list[Diagnostic]:
        """What the checker says, as messages at the source; `order` includes accesses between engines."""
        return [self._diagnostic(finding) for finding in check(self.program, order=order)]

    def _diagnostic(self, finding: Finding) -> Diagnostic:
        index = min(finding.index, len(self.locations) - 1)
        return Diagnostic(self.locations[index], f"{finding.message} [{finding.kind}]", finding.severity)


def assemble(
    text: str, file: str = "<text>", config: Config | None = None, bounds: bool = True, order: bool = False
) -> Program:
    """Assemble `text`; `file` names it in messages and anchors `.include`.

    `config` is the configuration where the source has no `.preset` (default: preset "base"). `bounds` makes errors of
    accesses outside a buffer or memory; `order` runs the whole checker. Raises AsmError.
    """
    assembly = assemble_source(text, file, config)
    if bounds or order:
        errors = [d for d in assembly.diagnostics(order) if d.severity == "error"]
        if errors:
            raise AsmError(errors[:MAX_ERRORS])
    return assembly.program


def assemble_file(path: str | Path, config: Config | None = None, bounds: bool = True, order: bool = False) -> Program:
    """`assemble` the file at `path`; raises OSError where it cannot be read."""
    return assemble(Path(path).read_text(encoding="utf-8"), str(path), config, bounds, order)


def assemble_source(text: str, file: str = "<text>", config: Config | None = None) -> Assembly:
    """Assemble without the checker. Raises AsmError with up to MAX_ERRORS messages."""
    return _Assembler(config).run(text, file)


class _Assembler:
    def __init__(self, config: Config | None) -> None:
        self._config = config or preset(DEFAULT_PRESET)
        self._errors: list[Diagnostic] = []
        self._statements: list[Statement] = []
        self._scope = Scope()

    def run(self, text: str, file: str) -> Assembly:
        self._read(text, file, None, ())
        self._declare_names()
        builder = ProgramBuilder(self._config)
        self._directives(builder)
        locations = self._instructions(builder)
        if self._errors:
            raise AsmError(self._errors)
        return Assembly(builder.build(), tuple(locations))

    def _report(self, error: SourceError) -> None:
        if error.diagnostic in self._errors:
            return
        self._errors.append(error.diagnostic)
        if len(self._errors) >= MAX_ERRORS:
            raise AsmError(self._errors)

    # ---- reading

    def _read(self, text: str, file: str, included_from: Location | None, stack: tuple[Path, ...]) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            try:
                statement = Parser(tokenize(file, number, line, included_from)).statement()
                if statement is None:
                    continue
                if statement.mnemonic == ".include":
                    self._include(statement, file, stack)
                else:
                    self._statements.append(statement)
            except SourceError as error:
                self._report(error)

    def _include(self, statement: Statement, file: str, stack: tuple[Path, ...]) -> None:
        name = statement.operands[0].value if len(statement.operands) == 1 else None
        if not isinstance(name, Name) or not name.quoted:
            raise SourceError(statement.location, '.include takes one file name: `.include "x.s"`')
        path = Path(file).parent / name.name
        if path.resolve() in (*stack, Path(file).resolve()):
            raise SourceError(name.location, f"{name.name!r} includes itself")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise SourceError(name.location, f"cannot include {name.name!r}: {reason}") from None
        self._read(text, str(path), statement.location, (*stack, Path(file).resolve()))

    # ---- names and directives

    def _declare_names(self) -> None:
        index = 0
        for statement in self._statements:
            try:
                if statement.label:
                    self._scope.define_label(statement.label, index, statement.location)
                if statement.mnemonic == ".const":
                    operand = statement.operands[0]
                    self._scope.define_constant(operand.name, operand.value, operand.location)
            except SourceError as error:
                self._report(error)
            index += statement.mnemonic == ".word" or (
                not statement.mnemonic.startswith(".") and statement.mnemonic != ""
            )

    def _directives(self, builder: ProgramBuilder) -> None:
        handlers = {".preset": self._preset, ".config": self._configure}
        for statement in self._statements:
            try:
                if statement.mnemonic in handlers:
                    handlers[statement.mnemonic](statement)
                    builder.config = self._config
                elif statement.mnemonic == ".sem":
                    self._semaphores(builder, statement)
                elif statement.mnemonic == ".buffer":
                    self._buffer(builder, statement)
                elif statement.mnemonic.startswith(".") and statement.mnemonic not in DIRECTIVES:
                    hint = ", ".join(DIRECTIVES)
                    raise SourceError(statement.location, f"unknown directive {statement.mnemonic!r}; known: {hint}")
            except SourceError as error:
                self._report(error)
            except (BuildError, ConfigError) as error:
                self._report(SourceError(statement.location, str(error)))

    def _preset(self, statement: Statement) -> None:
        name = statement.operands[0].value if len(statement.operands) == 1 else None
        if not isinstance(name, Name):
            raise SourceError(statement.location, ".preset takes the name of a preset: `.preset base`")
        self._config = preset(name.name)

    def _configure(self, statement: Statement) -> None:
        known = {field.name for field in dataclasses.fields(Config)}
        changes: dict[str, int | str] = {}
        for operand in statement.operands:
            if operand.name not in known:
                raise SourceError(operand.location, f"{operand.name!r} is not a field of the configuration")
            if operand.name == "name":
                changes["name"] = operand.value.name if isinstance(operand.value, Name) else ""
            else:
                changes[operand.name] = as_int(self._scope.evaluate(operand.value), operand.location)
        self._config = self._config.replace(**changes)

    def _semaphores(self, builder: ProgramBuilder, statement: Statement) -> None:
        for operand in statement.operands:
            if not isinstance(operand.value, Name) or operand.name:
                raise SourceError(operand.location, "expected the name of a semaphore")
            self._scope.define_semaphore(builder.semaphore(operand.value.name), operand.location)

    def _buffer(self, builder: ProgramBuilder, statement: Statement) -> None:
        values = [operand.value for operand in statement.operands]
        if len(values) not in (3, 4) or any(operand.name for operand in statement.operands):
            raise SourceError(statement.location, ".buffer takes: name, type, [shape] and optionally its data")
        name, dtype, shape = values[:3]
        if not isinstance(name, Name):
            raise SourceError(name.location, "expected the name of a buffer")
        if not isinstance(dtype, Name) or dtype.name not in DTYPES:
            raise SourceError(dtype.location, f"expected a type, one of {', '.join(DTYPES)}")
        if not isinstance(shape, List):
            raise SourceError(shape.location, "expected a shape such as [16, 16]")
        dims = tuple(as_int(self._scope.evaluate(item), item.location) for item in shape.items)
        if any(size < 1 for size in dims):
            raise SourceError(shape.location, f"buffer {name.name!r} shape: {dims} must have sizes of 1 and more")
        data = self._data(values[3], DTYPES[dtype.name], dims) if len(values) == 4 else None
        self._scope.define(name.name, builder.buffer(name.name, dtype.name, dims, data), name.location)

    def _data(self, value: object, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
        if isinstance(value, Name) and value.name == "zero" and not value.quoted:
            return bytes(math.prod(shape) * dtype.itemsize)
        if isinstance(value, Name) and value.quoted:
            try:
                return base64.b64decode(value.name, validate=True)
            except binascii.Error as error:
                raise SourceError(value.location, f"data is not base64: {error}") from None
        if not isinstance(value, List):
            raise SourceError(value.location, "expected data: a list, `zero` or a base64 string")  # type: ignore[attr-defined]
        low, high = (-math.inf, math.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        flat: list[int | float] = []

        def collect(items: tuple[object, ...]) -> None:
            for item in items:
                if isinstance(item, List):
                    collect(item.items)
                    continue
                number = self._number(item, dtype.kind == "f")
                if not low <= number <= high:
                    raise SourceError(item.location, f"{number} is not in {low}..{high}")  # type: ignore[attr-defined]
                flat.append(number)

        collect(value.items)
        if len(flat) != math.prod(shape):
            raise SourceError(value.location, f"{len(flat)} values, the shape {list(shape)} has {math.prod(shape)}")
        return np.array(flat, dtype).tobytes()

    def _number(self, item: object, real: bool) -> int | float:
        inner, sign = (item.operand, -1) if isinstance(item, Unary) else (item, 1)
        if real and isinstance(inner, Number):
            return sign * inner.value
        return as_int(self._scope.evaluate(item), item.location)  # type: ignore[arg-type, attr-defined]

    # ---- instructions

    def _instructions(self, builder: ProgramBuilder) -> list[Location]:
        locations: list[Location] = []
        loops: list[tuple[Statement, int | None]] = []
        for statement in self._statements:
            if not statement.mnemonic or (statement.mnemonic.startswith(".") and statement.mnemonic != ".word"):
                continue
            at = statement.location
            source = SourceLine(at.file, at.line, at.text.strip())
            try:
                if statement.mnemonic == "loop":
                    loops.append((statement, None))
                    loops[-1] = (statement, self._loop(builder, statement, source))
                elif statement.mnemonic == "endloop":
                    self._endloop(builder, statement, loops, len(locations), source)
                elif statement.mnemonic == ".word":
                    if len(statement.operands) != 1:
                        raise SourceError(at, ".word takes one number")
                    builder.raw(as_int(self._scope.evaluate(statement.operands[0].value), at), source)
                else:
                    self._instruction(builder, statement, source)
            except SourceError as error:
                self._report(error)
            except BuildError as error:
                self._report(SourceError(_place(statement, error.field), str(error)))
            locations.append(at)
        for statement, _ in loops:
            self._report(SourceError(statement.location, "loop without endloop"))
        return locations

    def _loop(self, builder: ProgramBuilder, statement: Statement, source: SourceLine) -> int | None:
        end, count = None, None
        for operand in statement.operands:
            if operand.name == "end":
                if not isinstance(operand.value, Name) or operand.value.name not in self._scope.labels:
                    raise SourceError(operand.location, "end= takes the label of the matching endloop")
                end = self._scope.labels[operand.value.name]
            elif operand.name in ("", "count") and count is None:
                count = operand
            else:
                raise SourceError(operand.location, "loop takes a count and optionally end=label")
        if count is None:
            raise SourceError(statement.location, "loop needs a count")
        value = self._scope.evaluate(count.value)
        builder.loop_begin(value, source=source)  # type: ignore[arg-type]
        return end

    def _endloop(
        self,
        builder: ProgramBuilder,
        statement: Statement,
        loops: list[tuple[Statement, int | None]],
        index: int,
        source: SourceLine,
    ) -> None:
        if statement.operands:
            raise SourceError(statement.operands[0].location, "endloop takes no operands")
        if not loops:
            raise SourceError(statement.location, "endloop without loop")
        opening, end = loops.pop()
        if end is not None and end != index:
            raise SourceError(
                statement.location,
                f"the loop of line {opening.location.line} names another endloop (instruction {end}, this is {index})",
            )
        if not self._errors:
            builder.loop_end(source=source)

    def _instruction(self, builder: ProgramBuilder, statement: Statement, source: SourceLine) -> None:
        mnemonic, operands = statement.mnemonic, statement.operands
        if mnemonic == "li":
            mnemonic = "addi"
            if len(operands) != 2:
                raise SourceError(statement.location, "li takes a register and a value: `li r1, 16`")
            operands = (operands[0], Operand("rs", Name("r0", False, operands[0].location), operands[0].location),
                        operands[1])  # fmt: skip
            operands = tuple(
                dataclasses.replace(operand, name=name)
                for operand, name in zip(operands, ("rd", "rs", "imm"), strict=True)
            )
        op = BY_MNEMONIC.get(mnemonic)
        fields = [] if op is None else op.fields
        hidden = {field.index for field in fields} | {"b_imm"}
        positional = [field for field in fields if field.name not in hidden]
        values: dict[str, object] = {}
        for position, operand in enumerate(operands if op is not None else ()):
            name = operand.name
            if not name:
                if position >= len(positional):
                    raise SourceError(
                        operand.location, f"{mnemonic} takes at most {len(positional)} positional operands"
                    )
                name = positional[position].name
            if name in hidden and any(field.name == name for field in fields):
                hint = (
                    "`b=` with a number is an immediate" if name == "b_imm" else "write it in the address: spad[4 + r1]"
                )
                raise SourceError(operand.location, f"{mnemonic} field {name!r} cannot be given; {hint}")
            if name in values:
                raise SourceError(operand.location, f"{mnemonic} field {name!r} is given twice")
            spec = next((field for field in (op.all_fields[1:] if op else ()) if field.name == name), None)
            if spec is None:
                values[name] = 0
            elif spec.kind is Kind.SEMAPHORES:
                values[name] = self._scope.semaphores(operand.value)
            elif spec.kind is Kind.ENUM:
                values[name] = operand.value.name if isinstance(operand.value, Name) else ""
            elif mnemonic == "fence":
                values[name] = as_int(self._scope.evaluate(operand.value, engines=True), operand.location)
            else:
                values[name] = self._scope.evaluate(operand.value)
        builder.op(mnemonic, source=source, **values)


def _place(statement: Statement, field: str | None) -> Location:
    """Where to point for an error in `field`: its operand, else the mnemonic."""
    op = BY_MNEMONIC.get("addi" if statement.mnemonic == "li" else statement.mnemonic)
    if field is None or op is None:
        return statement.location
    hidden = {spec.index for spec in op.fields} | {"b_imm"}
    names = [spec.name for spec in op.fields if spec.name not in hidden]
    if statement.mnemonic == "li":
        names = ["rd", "imm"]
    for position, operand in enumerate(statement.operands):
        if (operand.name or (names[position] if position < len(names) else "")) == field:
            return operand.value.location if operand.name in names else operand.location
    return statement.location
