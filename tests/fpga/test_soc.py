"""The units of a board's small system, each in its bench."""

from __future__ import annotations

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

from tidemill.config import Config, preset
from tidemill.driver.uart.protocol import MAX_WORDS
from tidemill_fpga.families.ice40_memory import SpramMemory
from tidemill_fpga.gate_level.device import Gates
from tidemill_fpga.gate_level.netlist import MODULE, cell_counts, cell_models, netlist
from tidemill_fpga.soc.bridge import UartBridge, divisor
from tidemill_fpga.soc.memory import OnChipMemory
from tidemill_fpga.soc.soc import Arbiter, Soc
from tidemill_fpga.unit import synthesize
from tidemill_hdl.interfaces import Axi4Master
from tidemill_verif.elaborate import to_rtlil
from tidemill_verif.runner import run_bench

CLOCK_HZ, BAUD = 8_000, 2_000
"""Slow on paper, so that a frame times out after 400 bit times."""


class SharedMemory(wiring.Component):
    """A board's memory behind the arbiter."""

    def __init__(self, config: Config, memory: OnChipMemory | SpramMemory) -> None:
        self.config = config
        self.memory = memory
        super().__init__({"npu": In(Axi4Master(config)), "link": In(Axi4Master(config))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = Arbiter(self.config)
        m.submodules.memory = memory = self.memory
        connect(m, flipped(self.npu), arbiter.npu)
        connect(m, flipped(self.link), arbiter.link)
        connect(m, arbiter.memory, memory.s_axi)
        return m


@pytest.mark.parametrize(
    ("name", "tests", "longest"),
    [("tiny", None, MAX_WORDS), ("base", ["test_plain_frames", "test_checked_frames"], 21)],
)
def test_uart_bridge(name: str, tests: list[str] | None, longest: int) -> None:
    config, memory = preset(name), 1 << 16
    bridge = UartBridge(config, memory_size=memory, clock_hz=CLOCK_HZ, baud=BAUD)
    params = {"divisor": bridge.divisor, "timeout_bits": bridge.timeout_bits, "clock_hz": CLOCK_HZ, "memory": memory}
    run_bench(
        bridge,
        bench="tidemill_verif.benches.uart_bridge",
        name=f"uart-bridge-{name}",
        params={**params, "hash": config.hash, "longest": longest, "broken": 8},
        seed=1,
        tests=tests,
    )


@pytest.mark.parametrize(("name", "size"), [("tiny", 8192), ("base", 12288)])
def test_board_memory(name: str, size: int) -> None:
    config = preset(name)
    run_bench(
        SharedMemory(config, OnChipMemory(config, size)),
        bench="tidemill_verif.benches.board_memory",
        name=f"board-memory-{name}",
        params={"size": size, "bus_bytes": config.axi_bytes},
        seed=1,
    )


def test_memory_of_single_port_ram_after_mapping() -> None:
    config, size = preset("tiny"), 1 << 16
    shared = SharedMemory(config, SpramMemory(config, size))
    mapped = netlist(shared, "ice40up5k", {})
    assert cell_counts(mapped)["SB_SPRAM256KA"] == 2
    run_bench(
        Gates(shared),
        bench="tidemill_verif.benches.board_memory",
        name="board-memory-ice40up5k",
        params={"size": size, "bus_bytes": config.axi_bytes, "undefined": True},
        seed=1,
        sources=(mapped / f"{MODULE}.v", *cell_models("ice40up5k")),
    )


def test_memory_of_block_ram_after_mapping_for_gowin() -> None:
    config, size = preset("tiny"), 32 << 10
    shared = SharedMemory(config, OnChipMemory(config, size))
    mapped = netlist(shared, "gw5a", {})
    cells = cell_counts(mapped)
    assert cells["DPB"] == 16
    assert cells["RAM16SDP4"] > 0
    run_bench(
        Gates(shared),
        bench="tidemill_verif.benches.board_memory",
        name="board-memory-gw5a",
        params={"size": size, "bus_bytes": config.axi_bytes},
        seed=1,
        sources=(mapped / f"{MODULE}.v", *cell_models("gw5a")),
    )


@pytest.mark.parametrize(("clock_hz", "baud"), [(1_000_000, 300_000), (12_000_000, 5_000_000), (1_000_000, 0)])
def test_impossible_baud_rates_are_refused(clock_hz: int, baud: int) -> None:
    with pytest.raises(ValueError, match=f"cannot make {baud} baud"):
        divisor(clock_hz, baud)


@pytest.mark.parametrize("size", [0, 100, 6000, 1 << 32])
def test_impossible_memories_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=r"multiple of 4096 bytes, at most 2 GiB, not"):
        Soc(preset("tiny"), memory=size, clock_hz=1_000_000, baud=100_000)


def test_units_have_registers_at_their_borders_and_stay_small() -> None:
    config = preset("tiny")
    bridge = synthesize(to_rtlil(UartBridge(config, memory_size=65536, clock_hz=125_000_000, baud=1_000_000)), "top")
    memory = synthesize(to_rtlil(OnChipMemory(config, 65536)), "top")
    assert bridge.paths == memory.paths == ()
    assert bridge.usage.lut4 < 850
    assert (bridge.usage.bram, memory.usage.bram) == (1, 32)
    assert memory.usage.lut4 < 400
