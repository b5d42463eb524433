"""The SDRAM controller in its bench, and the device's model by itself."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from tidemill.config import Config, preset
from tidemill_fpga.soc.sdram import SdramMemory, SdramPins
from tidemill_fpga.soc.sdram_part import AS4C16M16SA_6, SdramPart
from tidemill_fpga.soc.soc import Arbiter
from tidemill_hdl.interfaces import Axi4Master
from tidemill_verif.agents.sdram import (
    ACTIVATE,
    ALL_BANKS,
    NOP,
    PRECHARGE,
    READ,
    REFRESH,
    SET_MODE,
    WRITE,
    Sdram,
    SdramError,
)
from tidemill_verif.runner import run_bench

SMALL = replace(AS4C16M16SA_6, name="small", row_bits=3, col_bits=9, t_power_up=2000, t_refresh=64e6 / 1024)
"""32 KiB, with the same interval of refreshes."""


class SharedSdram(wiring.Component):
    """The controller behind the arbiter."""

    def __init__(self, config: Config, part: SdramPart, clock_hz: float, delay: int) -> None:
        self.config = config
        self.memory = SdramMemory(config, part, clock_hz, capture_delay=delay)
        super().__init__({"npu": In(Axi4Master(config)), "link": In(Axi4Master(config)), "pins": Out(SdramPins(part))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = Arbiter(self.config)
        m.submodules.memory = self.memory
        connect(m, flipped(self.npu), arbiter.npu)
        connect(m, flipped(self.link), arbiter.link)
        connect(m, arbiter.memory, self.memory.s_axi)
        connect(m, self.memory.pins, flipped(self.pins))
        return m


@pytest.mark.parametrize(("name", "mhz", "delay"), [("tiny", 100, 0), ("base", 150, 1)])
def test_sdram(name: str, mhz: int, delay: int) -> None:
    config = preset(name)
    run_bench(
        SharedSdram(config, SMALL, mhz * 1e6, delay),
        bench="tidemill_verif.benches.sdram",
        name=f"sdram-{name}-{mhz}",
        params={
            "size": SMALL.size,
            "bus_bytes": config.axi_bytes,
            "part": asdict(SMALL),
            "period": 1e3 / mhz,
            "delay": delay,
        },
        seed=1,
    )


def test_the_cas_latency_follows_the_clock() -> None:
    assert AS4C16M16SA_6.cas_latency(100e6) == 2
    assert AS4C16M16SA_6.cas_latency(125e6) == 3
    assert AS4C16M16SA_6.size == 32 << 20
    with pytest.raises(ValueError, match=r"AS4C16M16SA-6 runs at 167 MHz at most, not 170 MHz"):
        SdramMemory(preset("tiny"), AS4C16M16SA_6, 170e6)


STARTED = [(PRECHARGE, 0, ALL_BANKS), 2, *[(REFRESH, 0, 0), 6] * 8, (SET_MODE, 0, 0x20), 1]
"""What a device has to see first, at 100 MHz; numbers are cycles of nothing."""


def play(steps: list[tuple[int, int, int] | int], dq: dict[int, int] | None = None) -> Sdram:
    """A device after `steps`; `dq`: step number to the word that the controller drives."""
    device = Sdram(asdict(SMALL), 10.0)
    for number, step in enumerate([SMALL.t_power_up // 10, *steps]):
        if isinstance(step, tuple):
            device.edge(*step, 0, (dq or {}).get(number))
        else:
            for _ in range(int(step)):
                device.edge(NOP, 0, 0, 0, None)
    return device


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([(ACTIVATE, 0, 1)], "ACTIVATE before the mode is set"),
        ([(PRECHARGE, 0, ALL_BANKS), 2, (REFRESH, 0, 0), 3, (REFRESH, 0, 0)], "tRFC: 40.0 ns, must be 60"),
        ([*STARTED[:4], (SET_MODE, 0, 0x20)], "SET_MODE after 1 refreshes"),
        ([*STARTED, (ACTIVATE, 0, 1), (READ, 0, 0)], "tRCD: 10.0 ns, must be 18"),
        ([*STARTED, (ACTIVATE, 0, 1), 1, (ACTIVATE, 0, 2)], "ACTIVATE of bank 0, which is open"),
        ([*STARTED, (ACTIVATE, 0, 1), (ACTIVATE, 1, 2)], "tRRD: 10.0 ns, must be 12"),
        ([*STARTED, (ACTIVATE, 0, 1), 2, (PRECHARGE, 0, 0)], "tRAS: 30.0 ns, must be 42"),
        ([*STARTED, (ACTIVATE, 0, 1), 4, (PRECHARGE, 0, 0), (ACTIVATE, 0, 1)], "tRP: 10.0 ns, must be 18"),
        ([*STARTED, (ACTIVATE, 0, 1), 4, (REFRESH, 0, 0)], "REFRESH with an open bank"),
        ([*STARTED, (REFRESH, 0, 0), 3, (ACTIVATE, 0, 1)], "tRFC: 40.0 ns, must be 60"),
        ([*STARTED, (READ, 2, 0)], "access to bank 2, which is closed"),
        ([*STARTED, (ACTIVATE, 0, 1), 2, (WRITE, 0, 0)], "WRITE without data"),
        ([*STARTED, 3000], "refreshes come too seldom"),
    ],
)
def test_the_device_refuses(steps: list[tuple[int, int, int] | int], message: str) -> None:
    with pytest.raises(SdramError, match=message):
        play(steps)


def test_the_device_keeps_words() -> None:
    steps: list[tuple[int, int, int] | int] = [*STARTED, (ACTIVATE, 2, 5), 2, (WRITE, 2, 7), (READ, 2, 7)]
    device = play(steps, {len(steps) - 1: 0xBEEF})
    assert device.edge(NOP, 0, 0, 0, None) == 0xBEEF
    with pytest.raises(SdramError, match="both sides drive"):
        device.edge(WRITE, 2, 7, 0, 1)
