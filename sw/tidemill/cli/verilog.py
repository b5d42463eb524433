"""`tidemill verilog`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import click

from tidemill.config import DEFAULT_PRESET, PRESETS, Config, preset
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
    """The generator of `language`; a registered one wins over a built-in one."""
    known = BUILT_IN | {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    module, _, attribute = known[language].partition(":")
    try:
        generator: Callable[[Config], str] = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise click.ClickException(
            f"the hardware generator cannot be imported ({error}); install it with: pip install 'tidemill[hdl]'"
        ) from None
    return generator
