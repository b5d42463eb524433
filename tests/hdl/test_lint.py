"""Every preset elaborates, and its Verilog has no warning without an explained waiver."""

from __future__ import annotations

import inspect
import subprocess
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from tidemill.cli import main
from tidemill.config import PRESETS, preset
from tidemill_hdl.top import Npu
from tidemill_verif.cache import build_once, content_key
from tidemill_verif.elaborate import verilog_file
from tidemill_verif.toolchain import WAIVERS, build_env, verilator_bin, verilator_version


def lint(source: Path) -> str:
    """What Verilator has to say about `source` with all warnings on, empty if nothing; asked once for the same text,
    waivers and Verilator."""

    def build(folder: Path) -> None:
        (folder / "said.txt").write_text(_lint(source))

    key = content_key(source.read_bytes(), WAIVERS.read_bytes(), verilator_version(), inspect.getsource(_lint))
    return (build_once("lint", key, build) / "said.txt").read_text()


def _lint(source: Path) -> str:
    command = [verilator_bin() / "verilator", "--lint-only", "-Wall", "--top-module", "top", WAIVERS, source]
    result = subprocess.run(command, env=build_env(), capture_output=True, text=True, check=False)
    assert bool(result.returncode) == bool(result.stderr), result.stderr
    return result.stderr


@pytest.mark.parametrize("name", PRESETS)
def test_preset_passes_verilator_lint(name: str) -> None:
    assert lint(verilog_file(partial(Npu, preset(name)))) == ""


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("assign o = i[2:0];", "WIDTHEXPAND"),
        ("assign o = {i, i};", "WIDTHTRUNC"),
        ("assign o[0] = i < 4'd0; assign o[3:1] = i[3:1];", "UNSIGNED"),
        ("assign o[0] = i > 4'd15; assign o[3:1] = i[3:1];", "CMPCONST"),
        ("always @* begin if (i[0]) o = i; end", "LATCH"),
        ("assign o = o + i;", "UNOPTFLAT"),
    ],
)
def test_real_defects_are_not_waived(tmp_path: Path, body: str, warning: str) -> None:
    kind = "reg" if "always" in body else "wire"
    source = tmp_path / "top.v"
    source.write_text(f"module top(input [3:0] i, output {kind} [3:0] o);\n  {body}\nendmodule\n")
    assert f"-{warning}:" in lint(source)


def test_every_waiver_has_a_reason() -> None:
    lines = WAIVERS.read_text().splitlines()
    waivers = [index for index, line in enumerate(lines) if line.startswith("lint_off")]
    assert waivers
    for index in waivers:
        assert lines[index - 1].startswith("// "), lines[index]


def test_verilog_command_writes_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "npu.v"
    result = CliRunner().invoke(main, ["verilog", "--preset", "tiny", "-o", str(file)])
    assert result.exit_code == 0, result.output
    assert "module tidemill(" in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["npu.v"]


def test_verilog_command_names_what_is_wrong(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["verilog", "--preset", "huge", "-o", str(tmp_path / "npu.v")])
    assert result.exit_code == 2
    assert "'tiny', 'small', 'base', 'large'" in result.output
    result = CliRunner().invoke(main, ["verilog", "--preset", "tiny", "-o", str(tmp_path / "missing" / "npu.v")])
    assert result.exit_code == 1
    assert "missing: No such file or directory" in result.output
