"""The surroundings of a block in a proof: free inputs, assumptions, and the properties as named conditions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from amaranth.hdl import Instance, Module, ResetSignal, Shape, ShapeLike, Signal, Value, ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In


class Harness(wiring.Component):
    """Base of all harnesses: a design without ports that subclasses fill in `build`.

    The first step is a cycle of reset from an arbitrary state; registers without reset and memories stay arbitrary
    after it, so what is proved holds after every reset. Assumptions and properties count from the second step on.

    In the design: `m.submodules.dut = dut` and all else in domain `sync` or combinational. A harness's own registers
    are reset like the block's.
    """

    def __init__(self) -> None:
        super().__init__({})
        self.inner_paths: dict[str, str] = {}
        """Name of a top wire -> the path of the wire inside the block that it shows."""
        self._inner: dict[str, Signal] = {}

    def build(self, m: Module) -> None:
        """Adds the block, its inputs and the properties to `m`."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._m = m
        first = Signal(name="first_step")
        self.running = Signal(name="running")
        m.submodules.initial = Instance("$initstate", o_Y=first)
        m.submodules.reset = Instance("$assume", i_A=ResetSignal() == first, i_EN=1)
        m.d.comb += self.running.eq(~first)
        self.build(m)
        return m

    # ---- inputs

    def free(self, name: str, shape: ShapeLike = 1) -> Any:
        """A signal that takes any value in every cycle."""
        return self._any("$anyseq", name, shape)

    def constant(self, name: str, shape: ShapeLike = 1) -> Any:
        """A signal that has any value, the same in all cycles."""
        return self._any("$anyconst", name, shape)

    def _any(self, cell: str, name: str, shape: ShapeLike) -> Any:
        signal = Signal(shape, name=name)
        width = Shape.cast(shape).width
        self._m.submodules[f"any_{name}"] = Instance(cell, p_WIDTH=width, o_Y=Value.cast(signal))
        return signal

    def free_inputs(self, component: wiring.Component, *, but: Collection[str] = ()) -> None:
        """Lets every input of `component` take any value in every cycle, except those whose path, dotted, begins with
        one of `but` (`i_instr.0.valid` begins with `i_instr`)."""
        for path, member, port in component.signature.flatten(component):
            name = ".".join(map(str, path))
            if member.flow == In and not any(f"{name}.".startswith(f"{prefix}.") for prefix in but):
                signal = self.free("__".join(map(str, path)), Value.cast(port).shape())
                self._m.d.comb += Value.cast(port).eq(signal)

    def inner(self, path: str, shape: ShapeLike = 1) -> Any:
        """A signal inside the block as a signal of the harness, for lemmas.

        `path` is dotted from the harness: `dut.count`, `dut.queue.level`, `dut.storage[3]` (a row of a memory); `shape`
        has its exact width.
        """
        name = "inner_" + "".join(c if c.isalnum() else "_" for c in path)
        if path in self._inner:
            return self._inner[path]
        signal = self._inner[path] = Signal(shape, name=name)
        width = Shape.cast(shape).width
        # Gives the wire a place in the netlist; the proof's script takes the cell away and connects the inner signal.
        self._m.submodules[f"cut_{name}"] = Instance("$anyseq", p_WIDTH=width, o_Y=Value.cast(signal))
        self.inner_paths[name] = path
        return signal

    def past(self, value: ValueLike, name: str) -> Signal:
        """What `value` was in the cycle before; zero in the first cycle after reset."""
        value = Value.cast(value)
        signal = Signal(value.shape(), name=name)
        self._m.d.sync += signal.eq(value)
        return signal

    # ---- statements

    def assume(self, condition: ValueLike) -> None:
        """Only behaviours in which `condition` holds in every cycle count."""
        name = f"assume_{sum(1 for known in self._m._named_submodules if known.startswith('assume_'))}"
        self._m.submodules[name] = Instance("$assume", i_A=Value.cast(condition).bool(), i_EN=self.running)

    def prove(self, name: str, condition: ValueLike) -> None:
        """`condition` must hold in every cycle: property `name`."""
        self._statement("$assert", f"prove_{name}", condition)

    def lemma(self, name: str, condition: ValueLike) -> None:
        """`condition` must hold in every cycle, checked like a property; it is there to make induction close."""
        self._statement("$assert", f"lemma_{name}", condition)

    def cover(self, name: str, condition: ValueLike) -> None:
        """`condition` must be reachable: the assumptions allow that traffic."""
        self._statement("$cover", f"cover_{name}", condition)

    def _statement(self, cell: str, name: str, condition: ValueLike) -> None:
        # The condition is a named wire so that counterexamples show it.
        holds = Signal(name=f"{name}_holds")
        self._m.d.comb += holds.eq(Value.cast(condition).bool())
        self._m.submodules[name] = Instance(cell, i_A=holds, i_EN=self.running)
