"""`tidemill asm`."""

from __future__ import annotations

from pathlib import Path

import click

from tidemill import program_file
from tidemill.asm.assembler import assemble_source
from tidemill.asm.diagnostics import MAX_ERRORS, AsmError
from tidemill.config import PRESETS, preset


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Program file; default: SOURCE with .tmb.")
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), help="Configuration where SOURCE has no .preset.")
@click.option("--check/--no-check", default=True, help="Also check the order of accesses between engines (default).")
def asm(source: Path, output: Path | None, name: str | None, check: bool) -> None:
    """Assemble SOURCE into a .tmb program.

    \b
    Example:
      tidemill asm k.s -o k.tmb
    """
    assembly = assemble_source(source.read_text(encoding="utf-8"), str(source), preset(name) if name else None)
    diagnostics = assembly.diagnostics(order=check)
    errors = [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]
    for diagnostic in diagnostics:
        if diagnostic.severity != "error":
            click.echo(str(diagnostic), err=True)
    if errors:
        raise AsmError(errors[:MAX_ERRORS])
    program_file.save(assembly.program, output or source.with_suffix(".tmb"))
