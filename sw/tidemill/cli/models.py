"""`tidemill models`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tidemill.files import check_writable, write_whole
from tidemill.models import find, load_manifest


@click.group()
def models() -> None:
    """List and fetch the third-party models and inputs that are known by name.

    \b
    Example:
      tidemill models list
      tidemill models get resnet8_int8
    """


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the whole manifest as JSON.")
def list_models(as_json: bool) -> None:
    """List the names, what each model takes, its origin and its licence."""
    entries = load_manifest().values()
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=2, default=str))
        return
    table = Table("name", "kind", "bytes", "input", "origin", "licence")
    for entry in entries:
        table.add_row(entry.name, entry.kind, f"{entry.bytes:,}", entry.input, entry.origin, entry.licence)
    console = Console()
    console.print(table) if console.is_terminal else Console(width=200).print(table)


@models.command("get")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Copy the file to this place.")
def get(name: str, output: Path | None) -> None:
    """Find the file of NAME, verify its checksum and print where it is.

    It is looked for in the folder that TIDEMILL_MODELS names, in the user's cache and in the Python package that
    carries it, and then downloaded from its origin into the cache.

    \b
    Example:
      tidemill models get yes_wav -o yes.wav
    """
    if output is not None:
        check_writable(output)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None, visible=False)
        path = find(name, progress=lambda done, total: bar.update(task, completed=done, total=total, visible=True))
    if output is not None:
        write_whole(output, path.read_bytes())
        path = output
    click.echo(path)
