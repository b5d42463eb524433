"""`tidemill check-model`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from tidemill.config import DEFAULT_PRESET, PRESETS
from tidemill.config import preset as preset_config

UNSUPPORTED = "unsupported"


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), default=DEFAULT_PRESET, show_default=True,
    help="Configuration that the model must fit.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the nodes as JSON.")
def check_model(model: Path, preset: str, as_json: bool) -> None:
    """List every node of MODEL, a .tflite or .onnx network, with where it runs, and compile it.

    Exits with 1 where a node is unsupported or the model does not fit the configuration.

    \b
    Example:
      tidemill check-model net.tflite --preset small
    """
    from rich.console import Console
    from rich.table import Table

    from tidemill.compiler.compile import compile_graph
    from tidemill.compiler.frontends import inspect_model, load_model
    from tidemill.compiler.ir import ModelError
    from tidemill.compiler.report import size_line

    nodes = inspect_model(model)
    wrong = [node for node in nodes if node.where == UNSUPPORTED]
    problem, size = "", ""
    if wrong:
        problem = f"{len(wrong)} of {len(nodes)} nodes unsupported"
    else:
        try:
            size = size_line(compile_graph(load_model(model), preset_config(preset)))
        except ModelError as error:
            problem = str(error)
    if as_json:
        figures = {
            "model": str(model), "preset": preset, "supported": not problem, "problem": problem,
            "nodes": [dataclasses.asdict(node) for node in nodes],
        }  # fmt: skip
        click.echo(json.dumps(figures, indent=2))
    else:
        table = Table("node", "operator", "name", "runs on", "how, or why not")
        for node in nodes:
            style = "red" if node.where == UNSUPPORTED else None
            table.add_row(str(node.index), node.op, node.name, node.where, node.why, style=style)
        console = Console()
        (console if console.is_terminal else Console(width=200)).print(table)
        if size:
            click.echo(f"{model}: {size}")
    if problem:
        message = problem if problem.startswith(str(model)) else f"{model}: {problem}"
        click.echo(f"tidemill: error: {message}", err=True)
        raise click.exceptions.Exit(1)
