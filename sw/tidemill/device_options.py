"""Command-line options that choose a device and its memory, shared by the commands that run something."""

from __future__ import annotations

from collections.abc import Callable

import click

from tidemill.config import DEFAULT_PRESET, PRESETS


def device_options(default: str) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Adds --device (`default`), --preset, --read-latency and --bandwidth."""

    def add(function: Callable[..., object]) -> Callable[..., object]:
        for option in (
            click.option(
                "--bandwidth", type=click.FloatRange(0.01, 1.0), default=1.0, show_default=True,
                help="Data beats the memory moves per cycle, each way.",
            ),
            click.option(
                "--read-latency", type=click.IntRange(1, 10_000), default=20, show_default=True,
                help="Cycles from a read burst's address to its first beat.",
            ),
            click.option(
                "--preset", type=click.Choice(list(PRESETS)), default=DEFAULT_PRESET, show_default=True,
                help="Configuration of the NPU.",
            ),
            click.option(
                "--device", default=default, show_default=True,
                help="rtl (Verilated hardware), iss (simulator), uart:PORT[?baud=N] (a board), ...",
            ),
        ):  # fmt: skip
            function = option(function)
        return function

    return add
