"""`tidemill run`."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from tidemill import program_file


def _pairs(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    pairs = {}
    for value in values:
        name, separator, path = value.partition("=")
        if not separator or not name or not path:
            raise click.BadParameter(f"{value!r} is not of the form BUFFER=FILE.npy", param=option)
        pairs[name] = Path(path)
    return pairs


@click.command()
@click.argument("program", type=click.Path(path_type=Path))
@click.option(
    "--device", default="iss", show_default=True, help="Where to run: iss (simulator), rtl (Verilated hardware), ..."
)
@click.option("--in", "inputs", multiple=True, callback=_pairs, metavar="BUFFER=FILE.npy", help="Content of a buffer.")
@click.option(
    "--out", "outputs", multiple=True, callback=_pairs, metavar="BUFFER=FILE.npy", help="Where to save a buffer."
)
@click.option("--json", "as_json", is_flag=True, help="Print cycles and counters as JSON.")
def run(program: Path, device: str, inputs: dict[str, Path], outputs: dict[str, Path], as_json: bool) -> None:
    """Run PROGRAM, a .tmb file, and print how long it took.

    \b
    Example:
      tidemill run k.tmb --device rtl --in A=a.npy --out C=c.npy --json
    """
    from tidemill.driver.npu import open_npu

    loaded_program = program_file.load(program)
    for name in (*inputs, *outputs):
        if name not in loaded_program.buffers:
            known = ", ".join(loaded_program.buffers) or "none"
            raise click.BadParameter(f"{program} has no buffer {name!r}; its buffers: {known}")
    arrays = {name: _load(path) for name, path in inputs.items()}
    with open_npu(device, config=loaded_program.config) as npu:
        result = npu.run(npu.load(loaded_program), inputs=arrays, outputs=list(outputs))
    for name, path in outputs.items():
        with path.open("wb") as file:
            np.save(file, result.outputs[name])
    if as_json:
        click.echo(json.dumps({"device": device, "cycles": result.cycles, "counters": result.counters}, indent=2))
    else:
        click.echo(f"{program}: {result.cycles} cycles on {device}")


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise click.BadParameter(f"{path} is not a .npy file: {error}") from None
