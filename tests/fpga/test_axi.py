"""The NPU as a part of other people's systems: Verilog with AXI ports, and a module of LiteX."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from pathlib import Path

import pytest
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Value
from amaranth.lib import wiring
from click.testing import CliRunner

from tidemill.cli import main
from tidemill.config import Config, preset
from tidemill.csr import BY_NAME
from tidemill_fpga.axi.module import MODULE, description, verilog
from tidemill_fpga.litex_system import NPU_ORIGIN, RAM_ORIGIN, RAM_SIZE, LitexSystem, sources
from tidemill_hdl.top import Npu
from tidemill_verif.runner import run_bench
from tidemill_verif.toolchain import WAIVERS, build_env, verilator_bin

TINY = preset("tiny")


class Inside(wiring.Component):
    """The ports of `Npu`, and behind them the module that the target writes, connected by the names it promises."""

    def __init__(self, config: Config) -> None:
        super().__init__(Npu(config).signature)
        self._ports = description(config)["buses"]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ports: dict[str, Value] = {"i_clk": ClockSignal(), "i_rst": ResetSignal(), "o_irq": self.irq}
        for prefix, bus in self._ports.items():
            for name, signal in bus["signals"].items():
                ports[f"{signal['direction'][0]}_{signal['port']}"] = Value.cast(getattr(getattr(self, prefix), name))
        m.submodules.module = Instance(MODULE, **ports)
        return m


def test_the_target_writes_verilog_and_its_description(tmp_path: Path) -> None:
    target = tmp_path / "npu.v"
    result = CliRunner().invoke(main, ["build", "--board", "axi", "--preset", "tiny", "-o", str(target)])
    assert result.exit_code == 0, result.output
    text = target.read_text()
    module = text.split("\nmodule tidemill(")[1].split("\nendmodule")[0]
    ports = set(re.findall(r"^  (?:input|output) (?:\[\d+:0\] )?(\w+);", module, re.M))
    about = json.loads((tmp_path / "npu.json").read_text())
    named = {signal["port"] for bus in about["buses"].values() for signal in bus["signals"].values()}
    assert ports == named | {"clk", "rst", "irq"}
    assert {"m_axi_awaddr", "m_axi_rlast", "s_axil_awaddr", "s_axil_bresp"} < ports
    assert about["registers"]["CONTROL"] == BY_NAME["CONTROL"].offset
    assert about["configuration"]["hash"] == TINY.hash
    assert about["buses"]["m_axi"]["data_width"] == 32


def test_the_verilog_passes_lint() -> None:
    command = [
        verilator_bin() / "verilator", "--lint-only", "-Wall", "-Wno-DECLFILENAME", "-Wno-style", WAIVERS,
        "--top-module", MODULE, verilog(TINY),
    ]  # fmt: skip
    result = subprocess.run(command, env=build_env(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:2000]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--freq", "100"], "'axi' is Verilog for any device: it takes no --freq, --memory and --load"),
        (["--memory", "sdram"], "'axi' is Verilog for any device: it takes no --freq, --memory and --load"),
        (["--load"], "'axi' is Verilog for any device: it takes no --freq, --memory and --load"),
        (["-o", "npu.json"], "npu.json is where the description goes; the Verilog needs another name"),
    ],
)
def test_options_that_mean_nothing_are_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["build", "--board", "axi", *arguments])
    assert result.exit_code == 1
    assert f"Error: {message}" in result.output


def test_programs_run_through_the_ports() -> None:
    run_bench(
        Inside(TINY),
        bench="tidemill_verif.benches.npu",
        name="axi-tiny",
        params={"preset": "tiny"},
        seed=1,
        sources=[verilog(TINY)],
    )


def test_a_litex_system_runs_programs(tmp_path: Path) -> None:
    logging.getLogger("SoC").setLevel(logging.ERROR)
    run_bench(
        LitexSystem(),
        bench="tidemill_verif.benches.litex_system",
        name="litex-wishbone",
        params={"preset": "tiny", "ram": RAM_ORIGIN, "ram_size": RAM_SIZE, "npu": NPU_ORIGIN},
        seed=1,
        sources=sources(TINY, "wishbone", tmp_path),
    )
