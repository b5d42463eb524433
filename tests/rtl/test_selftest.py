"""`tidemill selftest` on the Verilated NPU; on a whole board it is in `tests/fpga`."""

from __future__ import annotations

from click.testing import CliRunner

from tidemill.cli import main


def test_selftest_passes_on_the_hardware() -> None:
    result = CliRunner().invoke(main, ["selftest", "--device", "rtl", "--preset", "tiny", "--images", "2"])
    assert result.exit_code == 0, result.output
    assert "PASS: 8 of 8 tests on rtl tiny" in result.output
