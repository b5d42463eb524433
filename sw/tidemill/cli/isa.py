"""`tidemill isa`."""

from __future__ import annotations

from pathlib import Path

import click

from tidemill.isa_doc import isa_markdown


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for the page; default: the terminal.")
def isa(output: Path | None) -> None:
    """Write the instruction set reference as Markdown.

    \b
    Example:
      tidemill isa -o docs/isa.md
    """
    if output is None:
        click.echo(isa_markdown(), nl=False)
    else:
        output.write_text(isa_markdown(), encoding="utf-8")
