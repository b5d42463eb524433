"""`tidemill verilog`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from tidemill.config import DEFAULT_PRESET, PRESETS, Config, preset
from tidemill.extensions import load_extension
from tidemill.files import check_writable, write_whole

ENTRY_POINTS = "tidemill.generators"
"""Group of entry points; each names a function `(config) -> str` that writes the hardware in one language."""

BUILT_IN = {"verilog": "tidemill_verif.elaborate:npu_verilog"}
"""Generators known without installation, as `module:attribute`; imported when used."""


@click.command()
@click.option(
    "--preset",
    "name",
    type=click.Choice(list(PRESETS)),
    default=DEFAULT_PRESET,
    show_default=True,
    help="Configuration.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Verilog file to write.")
def verilog(name: str, output: Path) -> None:
    """Write the NPU as Verilog: one file, top module `tidemill`.

    \b
    Example:
      tidemill verilog --preset base -o npu.v
    """
    check_writable(output)
    write_whole(output, _generator("verilog")(preset(name)).encode())
    click.echo(f"{output}: {name}")


def _generator(language: str) -> Callable[[Config], str]:
    """The generator of `language`."""
    return load_extension(ENTRY_POINTS, BUILT_IN, language, "the hardware generator", "hdl")  # type: ignore[no-any-return]
