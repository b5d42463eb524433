# amaranth: UnusedElaboratable=no
"""The whole machine with one of its blocks mutated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from amaranth.hdl import ClockSignal, Fragment, Instance, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from tidemill.config import Config, preset
from tidemill_hdl.memory.accumulators import Accumulators
from tidemill_hdl.memory.scratchpad import Scratchpad
from tidemill_hdl.top import Npu
from tidemill_hdl.vector.engine import VectorEngine
from tidemill_verif.cache import build_once, content_key
from tidemill_verif.elaborate import Design
from tidemill_verif.mutation import SELECTOR, SELECTOR_BITS, MutationError, netlist
from tidemill_verif.rtl_device import RtlDevice
from tidemill_verif.rtl_device.build import Variant

CONFIG = preset("tiny")
"""Configuration of the machine that mutants run in."""
_OWNERS = {Scratchpad: "scratchpad", Accumulators: "accumulators", VectorEngine: "vector"}
"""Submodules of `Npu` with local memories, whose mutated modules are flat."""


class MutatedNpu(wiring.Component):
    """An `Npu` in which the module `netlist.BLOCK` stands for every block like `block`.

    Parameters
    ----------
    config : Config
    block : the original; the same class, numbers and configuration make a block of the machine like it.
    ports : (name, is an input, bits) of the module but for the selector; as `Netlist.ports`.

    Members
    -------
    those of `Npu`.
    mutant_select : In(16): 0 is the original, n the n-th mutant. Constant.

    Raises `MutationError` in `elaborate` where the machine has no block like it.
    """

    def __init__(self, config: Config, block: wiring.Component, ports: list[tuple[str, bool, int]]) -> None:
        self._npu, self._block, self._ports = Npu(config), block, ports
        super().__init__({**self._npu.signature.members, SELECTOR: In(SELECTOR_BITS)})

    def elaborate(self, platform: object) -> Fragment:
        m = self._npu.elaborate(platform)
        # Amaranth warns of components that are elaborated by hand.
        self._npu._MustUse__used = True
        for name in self._npu.signature.members:
            inner, outer = getattr(self._npu, name), getattr(self, name)
            if name == "irq":
                m.d.comb += outer.eq(inner)
            else:
                connect(m, inner, flipped(outer))
        replaced = 0

        def instance(component: wiring.Component) -> Instance:
            nonlocal replaced
            replaced += 1
            return self._instance(component)

        with _elaborated_as(self._block, instance):
            fragment = Fragment.get(m, platform)
        if not replaced:
            raise MutationError(f"the machine has no {type(self._block).__name__} like that of the bench")
        return fragment

    def _instance(self, component: wiring.Component) -> Instance:
        values: dict[str, Value] = {"clk": ClockSignal(), "rst": ResetSignal()}
        for path, _, value in component.signature.flatten(component):
            values["__".join(map(str, path))] = Value.cast(value)
        connections = [("i" if is_input else "o", name, values[name]) for name, is_input, _ in self._ports]
        return Instance(netlist.BLOCK, *connections, ("i", SELECTOR, getattr(self, SELECTOR)))


@contextmanager
def _elaborated_as(block: wiring.Component, instance: Callable[[Any], Instance]) -> Iterator[None]:
    """Components like `block` elaborate to `instance` of them."""
    kind, wanted = type(block), likeness(block)
    original = kind.elaborate

    def elaborate(component: Any, platform: object) -> Any:
        return instance(component) if likeness(component) == wanted else original(component, platform)

    kind.elaborate = elaborate
    try:
        yield
    finally:
        kind.elaborate = original


def likeness(component: wiring.Component) -> dict[str, object]:
    """What tells blocks of one class from each other; the library's own attributes are of the place they are made."""
    own = {name: value for name, value in vars(component).items() if not name.startswith("_MustUse")}
    return {name: value for name, value in own.items() if isinstance(value, (Config, int, str))}


def variant(base: netlist.Netlist, chosen: list[netlist.Mutant], design: Design) -> Variant:
    """The machine with `chosen` mutants of `design`, whose netlist is `base`. Raises `MutationError`."""
    commands = "\n".join(mutant.command for mutant in chosen)
    key = content_key(base.key, commands, *(Path(module).read_bytes() for module in (__file__, netlist.__file__)))
    folder = build_once("mutation-block", key, lambda folder: netlist.write_mutated(base, chosen, folder))
    block = design() if isinstance(design, partial) else design
    sources = (folder / netlist.MUTATED,)
    return Variant(key, lambda config: MutatedNpu(config, block, base.ports()), sources, _OWNERS.get(type(block), ""))


def open_mutant(machine: Variant, selector: int, mem_size: int) -> RtlDevice:
    """The machine with mutant number `selector`, after a reset, and `mem_size` bytes of DRAM."""
    device = RtlDevice(CONFIG, mem_size=mem_size, variant=machine)
    device.ports[SELECTOR] = selector
    device.reset()
    return device
