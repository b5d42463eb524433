"""A short part of the sweep of bus faults, and what the machine promises on a bus that never answers."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tidemill.config import preset
from tidemill.csr import Cause, bit, counter_offsets, offset
from tidemill.driver.errors import DeviceError
from tidemill.isa import INSTRUCTION_BYTES, encode
from tidemill_verif.bus_faults.__main__ import main
from tidemill_verif.bus_faults.machine import NEVER, Action, Machine, Scenario, Timing, Wrong
from tidemill_verif.bus_faults.scenarios import CHANNELS, KINDS, beats, offsets, random_scenario
from tidemill_verif.bus_faults.workloads import PROGRAM, WORKLOADS

BUSY, DONE, ERROR, RESETTING = (bit("STATUS", name) for name in ("busy", "done", "error", "resetting"))
START, SOFT_RESET = bit("CONTROL", "start"), bit("CONTROL", "soft_reset")
RUNS = 12
"""Random scenarios of each kind."""
LONG = 5000
"""Cycles in which a stuck machine must show that it is stuck and nothing else."""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    opened = Machine(preset("tiny"))
    yield opened
    opened.close()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_after_random_disturbances(machine: Machine, kind: str) -> None:
    for number in range(RUNS):
        machine.run(random_scenario(machine, seed=11, number=number, kind=kind))


def test_resets_at_moments_all_over_a_run_leave_no_trace(machine: Machine) -> None:
    outcomes = [machine.run(scenario) for scenario in offsets(machine, step=53)]
    assert outcomes.count("aborted") > len(outcomes) * 0.6
    assert outcomes.count("done") > len(outcomes) * 0.1


def test_an_error_of_any_beat_is_reported_as_the_simulator_does(machine: Machine) -> None:
    outcomes = [machine.run(scenario) for scenario in beats(machine, step=13)]
    assert outcomes.count(Cause.BUS_SLVERR.name) > 20
    assert outcomes.count(Cause.BUS_DECERR.name) > 20


@pytest.mark.parametrize("at", [0, 30, 31, 32, 33, 90, 91, 92, 93])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_reset_among_resets_and_starts(machine: Machine, workload: str, at: int) -> None:
    actions = tuple(Action(at + i, kind) for i, kind in enumerate(("start", "soft_reset", "start", "soft_reset")))
    assert machine.run(Scenario("resets", workload, actions=actions, recovery=workload)) == "aborted"


def write(machine: Machine, name: str, value: int) -> None:
    machine.rtl.csr_write(offset(name), value)


def read(machine: Machine, name: str) -> int:
    return machine.rtl.csr_read(offset(name))


def begin(machine: Machine, workload: str, watchdog: int) -> None:
    """Start a program on a calm bus."""
    machine.rtl.set_timing()
    machine.begin(machine.workloads[workload], watchdog)


def stuck_machine(machine: Machine, channel: str, watchdog: int) -> None:
    """The program `copy` with a channel that stands still for ever from its 60th cycle on, and a full bus."""
    begin(machine, "copy", watchdog)
    machine.rtl.step(60)
    machine.rtl.hold(channel, NEVER)
    machine.rtl.step(LONG + watchdog)


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_bus_that_never_answers_ends_in_the_watchdog_and_a_hard_reset(machine: Machine, channel: str) -> None:
    stuck_machine(machine, channel, watchdog=700)
    assert read(machine, "STATUS") == BUSY | ERROR
    assert machine.rtl.ports["irq"]
    assert read(machine, "ERROR_CAUSE") == Cause.WATCHDOG
    write(machine, "IRQ_STATUS", bit("IRQ_STATUS", "error"))
    write(machine, "CONTROL", SOFT_RESET)
    machine.rtl.step(LONG)
    write(machine, "CONTROL", START)
    machine.rtl.step(LONG)
    assert read(machine, "STATUS") == RESETTING
    assert read(machine, "ERROR_CAUSE") == 0
    machine.rtl.reset()
    assert read(machine, "STATUS") == 0
    machine.recover("copy")


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_bus_that_answers_after_all_completes_the_drain(machine: Machine, channel: str) -> None:
    stuck_machine(machine, channel, watchdog=700)
    write(machine, "IRQ_STATUS", bit("IRQ_STATUS", "error"))
    write(machine, "CONTROL", SOFT_RESET)
    machine.rtl.hold(channel, 0)
    machine.rtl.step(300)
    assert read(machine, "STATUS") == 0
    machine.recover("gemm")


def test_without_a_watchdog_a_stuck_machine_is_busy_until_a_reset(machine: Machine) -> None:
    begin(machine, "copy", 0)
    machine.rtl.hold("r", NEVER)
    assert not machine.rtl.run(20 * LONG)
    assert read(machine, "STATUS") == BUSY
    cycles = machine.rtl.csr_read(counter_offsets()["CYCLES"])
    assert cycles >= 20 * LONG
    write(machine, "CONTROL", SOFT_RESET)
    machine.rtl.hold("r", 0)
    machine.rtl.step(300)
    assert read(machine, "STATUS") == 0
    machine.recover("copy")


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_channel_may_stand_still_for_thousands_of_cycles(machine: Machine, channel: str) -> None:
    """Early write data are the one way on while AWREADY is low: with them and without."""
    for early_data in (False, True):
        holds = tuple(Action(at, "hold", channel, LONG) for at in (10, LONG + 60, 2 * LONG + 150))
        timing = Timing(early_data=early_data)
        assert machine.run(Scenario(f"hold {channel}", "copy", timing, actions=holds)) == "done"


def test_a_host_that_does_not_take_answers_blocks_nothing_but_itself(machine: Machine) -> None:
    """BREADY and RREADY low for thousands of cycles while a program runs and ends; then both answers are right."""
    ports = machine.rtl.ports
    begin(machine, "gemm", 100_000)
    ports.update({"s_axil__awaddr": offset("USER_CODE"), "s_axil__wstrb": 15, "s_axil__araddr": offset("PROG_ADDR")})
    for channel in ("aw", "w", "ar"):
        ports[f"s_axil__{channel}valid"] = 1
    for _ in range(8):
        taken = [c for c in ("aw", "w", "ar") if ports[f"s_axil__{c}valid"] and ports[f"s_axil__{c}ready"]]
        machine.rtl.step()
        for channel in taken:
            ports[f"s_axil__{channel}valid"] = 0
    machine.rtl.step(LONG)
    assert ports["irq"]
    assert ports["s_axil__bvalid"]
    assert ports["s_axil__rvalid"]
    assert ports["s_axil__rdata"] == PROGRAM
    ports.update({"s_axil__bready": 1, "s_axil__rready": 1})
    machine.rtl.step()
    ports.update({"s_axil__bready": 0, "s_axil__rready": 0})
    assert not ports["s_axil__bvalid"]
    assert not ports["s_axil__rvalid"]
    assert read(machine, "STATUS") == DONE
    write(machine, "IRQ_STATUS", bit("IRQ_STATUS", "done"))
    machine.recover("gemm")


def test_half_a_register_write_waits_for_the_other_half(machine: Machine) -> None:
    ports = machine.rtl.ports
    for first, second in (("aw", "w"), ("w", "aw")):
        ports.update({"s_axil__awaddr": offset("WATCHDOG"), "s_axil__wdata": 0x1234 + len(first), "s_axil__wstrb": 15})
        assert ports[f"s_axil__{first}ready"]
        ports[f"s_axil__{first}valid"] = 1
        machine.rtl.step()
        ports[f"s_axil__{first}valid"] = 0
        machine.rtl.step(LONG)
        assert not ports["s_axil__bvalid"]
        ports.update({f"s_axil__{second}valid": 1, "s_axil__bready": 1})
        machine.rtl.step()
        ports[f"s_axil__{second}valid"] = 0
        machine.rtl.step(3)
        ports["s_axil__bready"] = 0
        assert read(machine, "WATCHDOG") == 0x1234 + len(first)
    machine.recover("fetch")


def test_code_beyond_the_end_of_a_program_never_reaches_the_next_one(machine: Machine) -> None:
    """A prefetch that the gateway had not taken at `halt` must not leave after done: it would be the next program's."""
    words = [encode("halt")] + [0xFF] * 300
    for latency in (1, 2, 5, 20, 60, 300, 1000):
        machine.rtl.set_timing(read_latency=latency)
        machine.rtl.mem_write(PROGRAM, b"".join(word.to_bytes(INSTRUCTION_BYTES, "little") for word in words))
        for name, value in {"PROG_ADDR": PROGRAM, "PROG_LEN": len(words), "IRQ_ENABLE": 7, "CONTROL": START}.items():
            write(machine, name, value)
        assert machine.rtl.run(100_000)
        write(machine, "IRQ_STATUS", 7)
        assert read(machine, "STATUS") == DONE
        assert machine.rtl.in_flight == 0
        machine.recover("fetch")


def test_no_output_depends_on_an_input_of_the_same_cycle(machine: Machine) -> None:
    """A3.2.1: no combinational path between the two directions of an interface."""
    ports, rng = machine.rtl.ports, random.Random(3)
    inputs = [name for name in ports if name.startswith("s_axil") and name[8:] in (
        "awaddr", "awvalid", "wdata", "wstrb", "wvalid", "bready", "araddr", "arvalid", "rready"
    )]  # fmt: skip
    inputs += [f"m_axi__{name}" for name in (
        "arready", "awready", "wready", "rvalid", "rid", "rdata", "rresp", "rlast", "bvalid", "bid", "bresp"
    )]  # fmt: skip
    outputs = [name for name in ports if name not in (*inputs, "clk", "rst", "s_axil__awprot", "s_axil__arprot")]
    begin(machine, "gemm", 100_000)
    for _ in range(60):
        machine.rtl.step(rng.randint(1, 20))
        kept, shown = {name: ports[name] for name in inputs}, {name: ports[name] for name in outputs}
        for name in inputs:
            ports[name] = rng.getrandbits(ports.bits(name))
            assert {name: ports[name] for name in outputs} == shown
        ports.update(kept)
    assert machine.rtl.run(100_000)
    write(machine, "IRQ_STATUS", bit("IRQ_STATUS", "done"))
    machine.recover("gemm")


def test_the_judge_is_no_yes_man() -> None:
    """Wrong expectations of bytes, of a report and of an outcome are each noticed."""
    machine = Machine(preset("tiny"))
    copy = machine.workloads["copy"]
    output = int(copy.outputs.nonzero()[0][17])
    copy.after[output] ^= 0x40
    with pytest.raises(Wrong, match=f"byte {output:#x}"):
        machine.run(Scenario("a wrong byte", "copy"))
    middle = Scenario("old or new", "copy", actions=(Action(machine.cycles["copy"] - 20, "soft_reset"),))
    with pytest.raises(Wrong, match="neither old nor new"):
        machine.run(middle)
    copy.after[output] ^= 0x40
    machine.calm["gemm"]["READ_BEATS"] += 1
    with pytest.raises(Wrong, match="recovery: READ_BEATS"):
        machine.run(Scenario("a wrong counter", "copy"))
    machine.calm["gemm"]["READ_BEATS"] -= 1
    error = next(scenario for scenario in beats(machine) if scenario.workload == "copy" and scenario.name.endswith("0"))
    machine.run(error)
    machine.simulated.update(dict.fromkeys(machine.simulated, None))
    with pytest.raises(Wrong, match="reported, not one of"):
        machine.run(error)
    machine.close()


def test_random_scenarios_are_reproducible(machine: Machine) -> None:
    first, again = ([random_scenario(machine, 5, number) for number in range(100)] for _ in range(2))
    assert first == again
    assert len({scenario.name.split(" of ")[0] for scenario in first}) == len(KINDS)
    other = random_scenario(machine, 6, 0)
    assert replace(other, name="") != replace(first[0], name="")


def test_impossible_settings_of_the_memory_are_refused(machine: Machine) -> None:
    with pytest.raises(DeviceError, match="channel must be one of ar, r, aw, w, b, not 'x'"):
        machine.rtl.hold("x", 1)
    for bad in ({"read_latency": 0}, {"write_latency": 0}, {"bandwidth": 0.0}, {"stall_probability": 1.0}):
        with pytest.raises(DeviceError, match=next(iter(bad))):
            machine.rtl.set_timing(**bad)
    with pytest.raises(DeviceError, match="errors must be"):
        machine.rtl.set_errors([(5, 4, "slverr", "read")])


@pytest.mark.parametrize(
    "arguments", [["--runs", "0"], ["--seed", "-1"], ["--seed", "x"], ["--preset", "huge"], ["--sweep", "all"]]
)
def test_bad_arguments_are_one_clear_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        main(arguments)
    assert info.value.code == 2
    assert f"argument {arguments[0]}" in capsys.readouterr().err.splitlines()[-1]


def test_the_command_prints_what_ended_how() -> None:
    command = [sys.executable, "-m", "tidemill_verif.bus_faults", "--runs", "5", "--preset", "tiny"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "tiny: 5 scenarios" in result.stdout
    assert not result.stderr
