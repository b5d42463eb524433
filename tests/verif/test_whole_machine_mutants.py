"""Mutants in the whole machine: the original passes, mutants are killed one by one, blocks are found."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from amaranth.hdl import Elaboratable, Fragment
from amaranth.lib import wiring

from tidemill_hdl.prim.queue import SkidBuffer
from tidemill_hdl.sync import Sync
from tidemill_hdl.top import Npu
from tidemill_verif.mutation import MutationError, blocks, mutated_npu, netlist, whole_machine
from tidemill_verif.mutation.fork_server import TIMEOUT, Result
from tidemill_verif.rtl_device.build import Variant


@pytest.fixture(scope="module")
def machine() -> Variant:
    """Mutants 1 and 2 of the semaphores: a grant that never comes and one that does not wait; 3 changes nothing."""
    design = partial(Sync, mutated_npu.CONFIG)
    base = netlist.prepare(design)
    cells = base.module["cells"]
    (never,) = base.module["ports"]["o_instr__0__valid"]["bits"]
    driver, port = next(
        (name, port)
        for name, cell in cells.items()
        for port, bits in cell["connections"].items()
        if cell["port_directions"][port] == "output" and bits == [never]
    )
    changes = [(mode, driver, port) for mode in ("const0", "const1", "none")]
    chosen = [netlist.Mutant(mode, cell, cells[cell]["type"], port, 0, None, "", ()) for mode, cell, port in changes]
    return mutated_npu.variant(base, chosen, design)


def test_the_original_passes_and_its_mutants_fail(machine: Variant) -> None:
    results: list[Result] = []
    whole_machine.run_mutants(machine, [1, 2, 3], 1, results.append)
    stuck, hasty, same = results
    assert stuck.reason.startswith("legal program 0: end: rtl WATCHDOG in SYNC")
    assert hasty.reason
    assert not same.reason


def test_an_original_that_fails_is_no_original(machine: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_machine, "open_mutant", lambda machine, _, mem_size: opened(machine, 1, mem_size))
    opened = mutated_npu.open_mutant
    with pytest.raises(MutationError, match="fails without any mutant: legal program 0: end: rtl WATCHDOG"):
        whole_machine.run_mutants(machine, [2], 1, lambda _: None)


def test_a_mutant_that_takes_too_long_is_killed(machine: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_machine, "LEGAL", 1)
    monkeypatch.setattr(whole_machine, "ILLEGAL", 0)
    monkeypatch.setattr(whole_machine, "FAULTS", 0)
    monkeypatch.setattr(whole_machine, "REGRESSION", whole_machine.Regression())
    monkeypatch.setattr(whole_machine, "_GRACE", 1)
    results: list[Result] = []

    def hang(machine: Variant, selector: int, mem_size: int) -> object:
        while selector:
            pass
        return mutated_npu.open_mutant(machine, selector, mem_size)

    monkeypatch.setattr(whole_machine, "open_mutant", hang)
    whole_machine.run_mutants(machine, [3], 1, results.append)
    assert [result.reason for result in results] == [TIMEOUT]


def _components(fragment: Fragment) -> Iterator[Elaboratable]:
    yield from fragment.origins or ()
    for inner, *_ in fragment.subfragments:
        yield from _components(inner)


def test_the_machine_has_every_block_but_those_that_stand_alone() -> None:
    machine = [
        (type(component), mutated_npu.likeness(component))
        for component in _components(Fragment.get(Npu(mutated_npu.CONFIG), None))
        if isinstance(component, wiring.Component)
    ]
    for target in (target for block in blocks.BLOCKS.values() for target in block.targets):
        block = target.runs()[0][0].design()
        block._MustUse__used = True
        assert ((type(block), mutated_npu.likeness(block)) in machine) is not target.alone, target.run


def test_a_block_that_the_machine_does_not_have_is_one_clear_error() -> None:
    design = partial(SkidBuffer, 8)
    base = netlist.prepare(design)
    machine = mutated_npu.variant(base, netlist.mutants(base, 1, 1), design)
    with pytest.raises(MutationError, match="the machine has no SkidBuffer like that of the bench"):
        Fragment.get(machine.design(mutated_npu.CONFIG), None)
