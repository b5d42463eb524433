"""`tidemill selftest`."""

from __future__ import annotations

import time
from typing import Any

import click

from tidemill.device_options import device_options


@click.command()
@device_options("iss")
@click.option(
    "--memory",
    type=click.IntRange(4, 1 << 30),
    default=16 << 10,
    show_default=True,
    help="Bytes of memory to test.",
)
@click.option(
    "--images", type=click.IntRange(0, 360), default=3, show_default=True, help="Digits to classify; 0: none."
)  # fmt: skip
def selftest(device: str, preset: str, read_latency: int, bandwidth: float, memory: int, images: int) -> None:
    """Test an NPU: registers, memory, every engine, recovery from an error, and a small network.

    Prints a line for each test and a verdict; everything is held against golden models. Exits with 1 if a test fails.
    The first thing to run on a new board.

    \b
    Example:
      tidemill selftest --device uart:/dev/ttyUSB0 --preset tiny
    """
    from tidemill.driver.npu import open_npu
    from tidemill.selftest import run_selftest

    timing: dict[str, Any] = {"read_latency": read_latency, "bandwidth": bandwidth}
    passed = total = 0
    with open_npu(device, preset=preset, **timing) as npu:
        begun = time.monotonic()
        for outcome in run_selftest(npu, memory=memory, images=images):
            now = time.monotonic()
            verdict = "ok  " if outcome.passed else "FAIL"
            click.echo(f"{verdict} {outcome.name:<10} {outcome.text} ({now - begun:.1f} s)")
            begun, total, passed = now, total + 1, passed + outcome.passed
    click.echo(f"{'PASS' if passed == total else 'FAIL'}: {passed} of {total} tests on {device} {preset}")
    if passed != total:
        raise SystemExit(1)
