"""`tidemill disasm`."""

from __future__ import annotations

from pathlib import Path

import click

from tidemill.asm.disassembler import disassemble
from tidemill.compiler import model_file
from tidemill.files import write_whole


@click.command()
@click.argument("program", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for the source; default: the terminal.")
def disasm(program: Path, output: Path | None) -> None:
    """Print the assembly source of PROGRAM, a .tmb file: a program, or the program of a compiled model.

    \b
    Example:
      tidemill disasm k.tmb -o k.s
    """
    text = disassemble(model_file.load_program(program))
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(output, text.encode())
