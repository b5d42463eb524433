"""`tidemill check`."""

from __future__ import annotations

from pathlib import Path

import click

from tidemill.asm.assembler import assemble_source
from tidemill.checker import check as check_program
from tidemill.checker.findings import Finding
from tidemill.compiler import model_file
from tidemill.compiler.compiled import CompiledModel, NpuStep
from tidemill.config import PRESETS, preset


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), help="Configuration where FILE has no .preset.")
def check(file: Path, name: str | None) -> None:
    """Check FILE (assembly, or a .tmb file) for accesses that nothing orders, deadlocks and ranges.

    Exits with 1 where there are errors; warnings alone exit with 0.

    \b
    Example:
      tidemill check k.s
    """
    if file.suffix == ".tmb":
        findings = _findings(file)
        messages = [f"{file}: {f.severity}: {f.message} [{f.kind}]" for f in findings]
        errors = sum(finding.severity == "error" for finding in findings)
    else:
        assembly = assemble_source(file.read_text(encoding="utf-8"), str(file), preset(name) if name else None)
        diagnostics = assembly.diagnostics()
        messages = [str(diagnostic) for diagnostic in diagnostics]
        errors = sum(diagnostic.severity == "error" for diagnostic in diagnostics)
    for message in messages:
        click.echo(message, err=True)
    if errors:
        click.echo(f"tidemill: error: {file}: {errors} error{'s' if errors != 1 else ''}", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"{file}: no errors, {len(messages)} warning{'s' if len(messages) != 1 else ''}")


def _findings(file: Path) -> list[Finding]:
    """Of a program, or of each segment of a compiled model."""
    loaded = model_file.load_any(file)
    if not isinstance(loaded, CompiledModel):
        return check_program(loaded)
    found: list[Finding] = []
    for step in loaded.steps:
        if isinstance(step, NpuStep):
            found += check_program(loaded.program.part(step.first, step.count))
    return found
