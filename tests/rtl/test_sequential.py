"""The sequential NPU as a whole: the same programs, errors and disturbances as for the parallel one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import tidemill as tm
from tidemill.config import preset
from tidemill.csr import BY_NAME, COUNTERS, Access, counter_offsets, offset
from tidemill.demo.digits.network import load_network, load_split, quantize_images
from tidemill.driver.npu import Npu
from tidemill.iss.device import IssDevice
from tidemill_fpga.gate_level.digits import logits
from tidemill_verif.bus_faults.machine import Machine
from tidemill_verif.bus_faults.scenarios import KINDS, beats, offsets, random_scenario
from tidemill_verif.error_programs import CONFIG, GROUPS, MEM_SIZE, Case, judge
from tidemill_verif.illegal_programs.campaign import run_seed
from tidemill_verif.random_programs import Lockstep, generate
from tidemill_verif.rtl_device import RtlDevice

MICRO = preset("micro")
LEGAL, ILLEGAL = 40, 25
SEQUENTIAL = CONFIG.replace(name="sequential", sequential=True)
"""A sequential NPU with the memories that the error programs know."""
MEANINGLESS = {
    "QUEUE_FULL", "FETCH_WAIT", "BUS_READ_WAIT", "BUS_WRITE_WAIT",
    *(f"{what}_{engine}" for what in ("BUSY", "SEM", "CONFLICT") for engine in ("LOAD", "STORE", "MATRIX", "VECTOR")),
}  # fmt: skip
"""Counters that read zero: `docs/blocks/sequential.md`."""
CASES = [pytest.param(case, id=f"{group}: {case.name}") for group, cases in GROUPS.items() for case in cases]
OVERLAPPING = "destination before the next A"
"""An operation that reads rows that it has written: which of both comes first is open."""


@pytest.fixture(scope="module")
def lockstep() -> Iterator[Lockstep]:
    with Lockstep(MICRO) as opened:
        yield opened


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    opened = Machine(MICRO)
    yield opened
    opened.close()


@pytest.fixture
def device() -> Iterator[RtlDevice]:
    opened = RtlDevice(MICRO)
    yield opened
    opened.close()


def test_legal_programs_leave_what_the_simulator_leaves(lockstep: Lockstep) -> None:
    for seed in range(LEGAL):
        found = lockstep.compare(generate(MICRO, seed))
        assert found is None, f"tidemill fuzz --preset micro --programs 1 --seed {seed}: {found}"


def test_illegal_programs_end_as_the_machine_promises(lockstep: Lockstep) -> None:
    for seed in range(ILLEGAL):
        result = run_seed(lockstep, MICRO, seed)
        assert not result.failure, f"tidemill fuzz --illegal --preset micro --programs 1 --seed {seed}"


@pytest.mark.parametrize("case", CASES)
def test_an_error_is_reported_and_the_machine_recovers(case: Case) -> None:
    slow = {"stall_probability": 0.4, "seed": 3, "read_latency": 50, "write_latency": 40}
    content = []
    for opened in (
        IssDevice(CONFIG, mem_size=MEM_SIZE, errors=case.errors),
        RtlDevice(SEQUENTIAL, mem_size=MEM_SIZE, errors=case.errors, **slow),
    ):
        with Npu(opened) as npu:
            wrong, left = judge(npu, case)
            assert not wrong
            content.append(left)
    assert content[0] == content[1] or case.name == OVERLAPPING


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_after_disturbances(machine: Machine, kind: str) -> None:
    for number in range(2):
        machine.run(random_scenario(machine, seed=12, number=number, kind=kind))


def test_resets_and_bus_errors_all_over_a_run(machine: Machine) -> None:
    assert "aborted" in [machine.run(scenario) for scenario in offsets(machine, step=4001)]
    assert {"BUS_SLVERR", "BUS_DECERR"} <= {machine.run(scenario) for scenario in beats(machine, step=61)}


def test_registers_keep_what_the_table_says_and_reset_restores_it(device: RtlDevice) -> None:
    kept = {"IRQ_ENABLE": 7, "PROG_ADDR": 0xFFFF_FFF0, "PROG_LEN": 0xFF_FFFF}
    writable = [register for register in BY_NAME.values() if register.access is Access.RW]
    for register in BY_NAME.values():
        if register.access in (Access.RO, Access.RW) and register.reset:
            assert device.csr_read(register.offset) == register.reset, register.name
    for value in (0xFFFF_FFFF, 0x1234_5678):
        for register in BY_NAME.values():
            if register.name != "CONTROL":
                device.csr_write(register.offset, value)
        for register in writable:
            assert device.csr_read(register.offset) == value & kept.get(register.name, 0xFFFF_FFFF), register.name
    assert device.registers["CONFIG_HASH"] == MICRO.hash
    device.reset()
    for register in writable:
        assert device.csr_read(register.offset) == register.reset, register.name


def test_words_that_are_no_register_read_zero(device: RtlDevice) -> None:
    known = {register.offset for register in BY_NAME.values()}
    for counter in COUNTERS:
        at = counter_offsets()[counter.name]
        known |= set(range(at, at + counter.width // 8, 4))
    for word in range(0, 1 << 12, 4):
        if word not in known:
            device.csr_write(word, 0xFFFF_FFFF)
            assert device.csr_read(word) == 0, hex(word)


def test_bytes_are_written_alone(device: RtlDevice) -> None:
    device.csr_write(offset("READ_LIMIT"), 0x1122_3344)
    ports = device.ports
    for name, value in (("awaddr", offset("READ_LIMIT")), ("wdata", 0xAABB_CCDD), ("wstrb", 0b0101)):
        ports[f"s_axil__{name}"] = value
    ports["s_axil__awvalid"] = ports["s_axil__wvalid"] = ports["s_axil__bready"] = 1
    # The address in the first cycle in which both are ready, the response within the rules' patience.
    device.step()
    ports["s_axil__awvalid"] = ports["s_axil__wvalid"] = 0
    device.step(8)
    ports["s_axil__bready"] = 0
    assert device.csr_read(offset("READ_LIMIT")) == 0x11BB_33DD


def test_only_counters_with_a_meaning_count(device: RtlDevice) -> None:
    rng = np.random.default_rng(6)
    a, b = (rng.integers(-128, 128, (9, 9), dtype=np.int8) for _ in range(2))
    with Npu(device) as npu:
        bias = np.arange(9, dtype=np.int32)
        np.testing.assert_array_equal(tm.gemm(npu, a, b, bias=bias), a.astype(np.int32) @ b.astype(np.int32) + bias)
        counted = {counter.name: device.registers[counter.name] for counter in COUNTERS}
        assert {name for name, value in counted.items() if not value} == MEANINGLESS
        assert 1000 < counted["CYCLES"] < device.cycle


def test_the_digits_network_is_exact(device: RtlDevice) -> None:
    network, images = load_network(), quantize_images(load_split().test_images[:1])
    with Npu(device) as npu:
        np.testing.assert_array_equal(logits(npu, network, images), network.forward(images))
