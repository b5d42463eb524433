"""`tidemill compile`."""

from __future__ import annotations

from pathlib import Path

import click

from tidemill.config import DEFAULT_PRESET, PRESETS
from tidemill.config import preset as preset_config
from tidemill.files import check_writable

STAGES = ("graph", "fused", "dram", "tiles", "stream", "program")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Compiled model; default: MODEL with .tmb.")
@click.option(
    "--preset", type=click.Choice(list(PRESETS)), default=DEFAULT_PRESET, show_default=True,
    help="Configuration of the NPU.",
)  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(1, 4096), default=1, show_default=True,
    help="Inferences in one call: they share the weights.",
)  # fmt: skip
@click.option(
    "--planner", type=click.Choice(["greedy", "cpsat"]), default="greedy", show_default=True,
    help="How activation memory is planned; cpsat is the solver of OR-tools.",
)  # fmt: skip
@click.option(
    "--softmax", type=click.Choice(["npu", "host"]), default="npu", show_default=True,
    help="Where int8 softmax runs; the bytes are the same.",
)  # fmt: skip
@click.option(
    "--dump", "stages", type=click.Choice(STAGES), multiple=True, metavar="STAGE",
    help=f"Print a stage of the compiler: {', '.join(STAGES)}. Nothing is written then without -o.",
)  # fmt: skip
def compile(
    model: Path, output: Path | None, preset: str, batch: int, planner: str, softmax: str, stages: tuple[str, ...]
) -> None:  # fmt: skip
    """Compile MODEL, a quantized .tflite or .onnx network, into a .tmb file.

    \b
    Example:
      tidemill compile net.tflite -o net.tmb --preset base
    """
    from tidemill.compiler import model_file
    from tidemill.compiler.compile import compile_graph
    from tidemill.compiler.dump import Dump
    from tidemill.compiler.frontends import load_model
    from tidemill.compiler.passes.batch import batched
    from tidemill.compiler.passes.fallback import softmax_on_host
    from tidemill.compiler.report import size_line

    if model.suffix == ".tmb":
        raise click.BadParameter(f"{model} is compiled already")
    target = output or (None if stages else model.with_suffix(".tmb"))
    if target is not None:
        check_writable(target)
    config = preset_config(preset)
    dumps = [Dump(stage, config) for stage in stages]

    def observe(stage: str, result: object) -> None:
        for dump in dumps:
            dump(stage, result)

    graph = batched(load_model(model), batch)
    if softmax == "host":
        graph = softmax_on_host(graph)
    compiled = compile_graph(graph, config, planner=planner, observer=observe)
    for dump in dumps:
        click.echo(dump.text, nl=False)
    if target is not None:
        model_file.save(compiled, target)
        click.echo(f"{target}: {size_line(compiled)}", err=bool(stages))
