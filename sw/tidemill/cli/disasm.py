"""`tidemill disasm`."""

from __future__ import annotations

from pathlib import Path

import click

from tidemill import program_file
from tidemill.asm.disassembler import disassemble
from tidemill.files import write_whole


@click.command()
@click.argument("program", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for the source; default: the terminal.")
def disasm(program: Path, output: Path | None) -> None:
    """Print the assembly source of PROGRAM, a .tmb file.

    \b
    Example:
      tidemill disasm k.tmb -o k.s
    """
    text = disassemble(program_file.load(program))
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(output, text.encode())
