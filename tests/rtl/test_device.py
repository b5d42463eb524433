"""The Verilated NPU as a Python object: ports, registers, memory, bus parameters, waveforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tidemill as tm
from tidemill.builder import ProgramBuilder, spad
from tidemill.config import preset
from tidemill.csr import MAGIC
from tidemill_verif.rtl_device import RtlDevice, Waves

TINY = preset("tiny")


def copy_program(rows: int = 64) -> tm.Program:
    """DRAM to scratchpad and back."""
    b = ProgramBuilder(TINY)
    source = b.buffer("A", "int8", (rows, TINY.rows))
    target = b.buffer("C", "int8", (rows, TINY.rows))
    loaded = b.semaphore("loaded")
    b.ld_run(dst=spad(0), dram=source, n0=rows, signal=[loaded])
    b.st_run(src=spad(0), dram=target, n0=rows, wait=[loaded])
    b.halt()
    return b.build()


def copy_cycles(**options: object) -> int:
    """Cycles of the copy; its bytes are checked."""
    data = np.random.default_rng(1).integers(-128, 128, (64, TINY.rows), dtype=np.int8)
    with tm.open("rtl", preset="tiny", **options) as dev:
        result = dev.run(dev.load(copy_program()), inputs={"A": data})
    assert np.array_equal(result.outputs["C"], data)
    return result.cycles


def test_ports_registers_and_memory_are_python_objects() -> None:
    device = RtlDevice(TINY, mem_size=1 << 20)
    try:
        assert device.registers["MAGIC"] == MAGIC
        assert device.registers["CONFIG_HASH"] == TINY.hash
        assert device.ports.bits("m_axi__rdata") == TINY.axi_data_width
        assert device.ports["irq"] == 0
        device.ports["s_axil__araddr"] = 0x1C
        assert device.ports["s_axil__araddr"] == 0x1C
        with pytest.raises(tm.DeviceError, match="'irq' is an output"):
            device.ports["irq"] = 1
        with pytest.raises(tm.DeviceError, match=r"not in 0\.\.1"):
            device.ports["rst"] = 2
        device.mem_write(0x100, b"tide")
        assert bytes(device.memory[0x100:0x104]) == b"tide"
        before = device.cycle
        device.step(10)
        assert device.cycle == before + 10
    finally:
        device.close()


def test_memory_parameters_change_the_cycles() -> None:
    quick = copy_cycles(read_latency=1)
    assert copy_cycles(read_latency=1) == quick, "runs are repeatable"
    assert copy_cycles(read_latency=201) >= quick + 200
    assert copy_cycles(read_latency=1, bandwidth=0.25) > 2 * quick
    assert copy_cycles(read_latency=1, stall_probability=0.5, seed=3) > quick


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth": 0}, "bandwidth"),
        ({"read_latency": 0}, "read_latency"),
        ({"write_latency": 0}, "write_latency"),
        ({"stall_probability": 1.0}, "stall_probability"),
        ({"waves": "x.txt"}, r"\.vcd or \.fst"),
        ({"errors": [(0, 1, "boom", "read")]}, "slverr"),
        ({"speed": 3}, "does not take these options"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(tm.DeviceError, match=message):
        tm.open("rtl", preset="tiny", **options)


@pytest.mark.parametrize("kind", ["vcd", "fst"])
def test_waveform_shows_the_interrupt_of_a_run(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "waves" / f"run.{kind}"
    copy_cycles(waves=path)
    waves = Waves(path)
    (_, before), (time, after) = waves["top.irq"][:2]
    assert (int(before), int(after)) == (0, 1)
    assert time > 10 * 64, "a copy of 64 rows takes its time"
    assert any(name.startswith("top.top.frontend.") for name in waves)


def test_a_missing_waveform_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no waveform at"):
        Waves(tmp_path / "none.vcd")
