"""RTLIL that names the line of Python behind every branch, which Amaranth's own does not.

Amaranth writes `src` attributes on wires, cells and processes only. Here each switch of a process also has one, with
the lines of all its cases in their order and `|` between: that of `with m.If`, `m.Elif`, `m.Case` or `m.State`; for
`m.Else` and defaults that of the first statement inside; `-` for a case without statements. (An attribute of each case
would be lost where Yosys writes `if`.)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

import amaranth
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, _nir

Location: TypeAlias = tuple[str, int]


_AMARANTH = Path(amaranth.__path__[0])

NOWHERE = "-"
"""Stands for the line of a case without statements."""


class _LocatedSwitch(rtlil.Switch):  # type: ignore[misc]
    """A switch with a `src` attribute."""

    locations: tuple[Location | None, ...] = ()

    def emit(self, line: Any) -> None:
        if any(self.locations):
            texts = (f"{place[0]}:{place[1]}" if place else NOWHERE for place in self.locations)
            line(f'attribute \\src "{"|".join(texts)}"')
        super().emit(line)


class _Emitter(rtlil.ModuleEmitter):  # type: ignore[misc]
    """Amaranth's emitter; adds the locations to each process it has made."""

    def emit_assignment_list(self, cell_idx: int, cell: _nir.AssignmentList) -> None:
        super().emit_assignment_list(cell_idx, cell)
        process = next(reversed(self.builder.contents.values()))
        assignments = iter(cell.assignments)
        default, *body = process.contents
        assert isinstance(default, rtlil.Assignment)
        self._locate(body, assignments, 0)
        assert next(assignments, None) is None, "a process has the assignments of its cell, in their order"

    def _locate(
        self, contents: list[Any], assignments: Iterator[_nir.Assignment], depth: int
    ) -> _nir.Assignment | None:
        """Give the cases below `contents` their locations; the first assignment of `contents` or below."""
        first: _nir.Assignment | None = None
        for item in contents:
            if isinstance(item, rtlil.Assignment):
                assignment = next(assignments)
                first = first or assignment
                continue
            inside = [self._locate(case.contents, assignments, depth + 1) for case in item.cases]
            item.__class__ = _LocatedSwitch
            item.locations = tuple(self._case_location(found, depth) if found else None for found in inside)
            first = first or next(filter(None, inside), None)
        return first

    def _case_location(self, inside: _nir.Assignment, depth: int) -> Location | None:
        """Location of the case at nesting `depth` around the assignment `inside`."""
        nets = []
        net = inside.cond
        while net != _nir.Net.from_const(1):
            nets.append(net)
            net = self.netlist.cells[net.cell].en
        net = nets[-1 - depth]
        switch = self.netlist.cells[net.cell]
        chosen = switch.inputs[net.bit]
        if chosen != _nir.Net.from_const(1):
            return self.netlist.cells[chosen.cell].src_loc  # type: ignore[no-any-return]
        # `m.next` is a statement of Amaranth's own.
        written = inside.src_loc is not None and not Path(inside.src_loc[0]).is_relative_to(_AMARANTH)
        return inside.src_loc if written else switch.src_loc  # type: ignore[no-any-return]


def convert(component: Elaboratable, name: str) -> str:
    """RTLIL of `component` with toplevel module `name` and `src` attributes everywhere."""
    with patch.object(rtlil, "ModuleEmitter", _Emitter):
        return rtlil.convert(component, name=name, emit_src=True)  # type: ignore[no-any-return]
