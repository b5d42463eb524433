"""`tidemill run`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import click
import numpy as np

from tidemill import program_file
from tidemill.files import check_writable, write_whole
from tidemill.program import DTYPES, BufferDecl


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
    "--device",
    default="iss",
    show_default=True,
    help="Where to run: iss (simulator), rtl (Verilated hardware), uart:PORT (a board), ...",
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
    for path in outputs.values():
        check_writable(path)
    arrays = {name: _load(path, loaded_program.buffers[name]) for name, path in inputs.items()}
    with open_npu(device, config=loaded_program.config) as npu:
        result = npu.run(npu.load(loaded_program), inputs=arrays, outputs=list(outputs))
    for name, path in outputs.items():
        content = io.BytesIO()
        np.save(content, result.outputs[name])
        write_whole(path, content.getvalue())
    if as_json:
        click.echo(json.dumps({"device": device, "cycles": result.cycles, "counters": result.counters}, indent=2))
    else:
        click.echo(f"{program}: {result.cycles} cycles on {device}")


def _load(path: Path, buffer: BufferDecl) -> np.ndarray:
    """The array in `path`, which must fit `buffer`."""
    try:
        with path.open("rb") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError):
        raise click.BadParameter(f"{path} is not a complete .npy file of numbers") from None
    if array.dtype != DTYPES[buffer.dtype] or array.shape != buffer.shape:
        raise click.BadParameter(
            f"{path} holds {array.dtype.name} {list(array.shape)}; "
            f"buffer {buffer.name!r} is {buffer.dtype} {list(buffer.shape)}"
        )
    return array
