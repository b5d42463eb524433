"""`tidemill infer`."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

from tidemill.device_options import device_options
from tidemill.files import check_writable, write_whole

if TYPE_CHECKING:
    from tidemill.compiler.compiled import Border
    from tidemill.compiler.runtime import Call
    from tidemill.model import Model

Array = NDArray[Any]
SHOWN = 20
"""Inferences whose best classes are printed."""


def _files(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> list[tuple[str | None, Path]]:
    """NAME=FILE or FILE; an existing file may have a = in its name."""
    files: list[tuple[str | None, Path]] = []
    for value in values:
        name, separator, path = value.partition("=")
        if not separator or Path(value).exists():
            files.append((None, Path(value)))
        elif name and path:
            files.append((name, Path(path)))
        else:
            raise click.BadParameter(f"{value!r} is not of the form FILE or NAME=FILE", param=option)
    return files


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--input", "inputs", multiple=True, required=True, callback=_files, metavar="[NAME=]FILE",
    help="Input: .npy, .png, .bmp or .wav; a file may hold several, which run one after another.",
)  # fmt: skip
@click.option(
    "--output", "outputs", multiple=True, callback=_files, metavar="[NAME=]FILE",
    help="Where to save an output (.npy).",
)  # fmt: skip
@device_options("iss")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Run every input so many times.")
@click.option("--workers", type=click.IntRange(1), help="Processes for several inferences; default: one a core.")
@click.option("--report", "with_report", is_flag=True, help="Show where the cycles of the first input went.")
@click.option(
    "--labels", "labels_file", type=click.Path(path_type=Path), help="Names of the classes, one a line."
)  # fmt: skip
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Best classes to print.")
@click.option(
    "--pixels", type=click.Choice(["shift", "unit", "bytes"]), default="shift", show_default=True,
    help="What a pixel means: p - 128 for int8 (p for uint8), p / 255 quantized, or its byte.",
)  # fmt: skip
@click.option("--resize", is_flag=True, help="Scale images to the size of the input.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def infer(
    model: Path,
    inputs: list[tuple[str | None, Path]],
    outputs: list[tuple[str | None, Path]],
    device: str,
    preset: str,
    read_latency: int,
    bandwidth: float,
    repeat: int,
    workers: int | None,
    with_report: bool,
    labels_file: Path | None,
    top: int,
    pixels: str,
    resize: bool,
    as_json: bool,
) -> None:
    """Run MODEL - a .tflite or .onnx network, or a compiled .tmb file - on files.

    Floating-point arrays are quantized as the input asks for. A model with variables takes several inputs as one
    stream, in order.

    \b
    Example:
      tidemill infer net.tflite --input x.png --device rtl --preset base --labels labels.txt
    """
    from rich.console import Console

    labels = None if labels_file is None else labels_file.read_text(encoding="utf-8").splitlines()
    network = _open(model, device, preset, {"read_latency": read_latency, "bandwidth": bandwidth})
    with network:
        items = _items(network, inputs, pixels, resize) * repeat
        targets = {_named(network.outputs, name, "output"): path for name, path in outputs}
        for path in targets.values():
            check_writable(path)
        start = time.perf_counter()
        calls = _run(network, items, workers)
        seconds = time.perf_counter() - start
        report = network.report(items[0], calls[0]) if with_report else None
    for name, path in targets.items():
        arrays = [call.outputs[name] for call in calls]
        content = io.BytesIO()
        np.save(content, arrays[0] if len(arrays) == 1 else np.stack(arrays))
        write_whole(path, content.getvalue())
    best = [_best(network, call, labels, top) for call in calls]
    if as_json:
        figures: dict[str, Any] = {
            "model": str(model), "device": device, "preset": network.config.name, "inferences": len(calls),
            "cycles": [call.cycles for call in calls], "seconds": seconds, "best": best,
        }  # fmt: skip
        if report is not None:
            figures["report"] = report.as_dict()
        click.echo(json.dumps(figures, indent=2))
        return
    for number, classes in enumerate(best[:SHOWN]):
        if classes:
            shown = ", ".join(f"{entry['label']} {entry['value']:.6g}" for entry in classes)
            click.echo(f"{number}: {shown}" if len(calls) > 1 else shown)
    if len(best) > SHOWN:
        click.echo(f"... {len(best) - SHOWN} more")
    cycles = sum(call.cycles for call in calls)
    each = f" ({cycles // len(calls):,} each of {len(calls)})" if len(calls) > 1 else ""
    click.echo(f"{model}: {cycles:,} cycles{each} on {device} {network.config.name}, {seconds:.2f} s")
    if report is not None:
        console = Console()
        (console if console.is_terminal else Console(width=160)).print(report.table())


def _open(path: Path, device: str, preset: str, options: dict[str, Any]) -> Model:
    """The model on its device; a .tmb file has a preset of its own."""
    from tidemill.model import compile, load_model

    if path.suffix != ".tmb":
        return compile(path, preset=preset, device=device, **options)
    network = load_model(path, device=device, **options)
    asked = click.get_current_context().get_parameter_source("preset") is ParameterSource.COMMANDLINE
    if asked and preset != network.config.name:
        raise click.BadParameter(f"{path} is compiled for {network.config.name}, not {preset}")
    return network


def _named(borders: tuple[Border, ...], name: str | None, what: str) -> str:
    known = ", ".join(border.name for border in borders)
    if name is None and len(borders) != 1:
        raise click.BadParameter(f"the model has {len(borders)} {what}s, give NAME=FILE for each: {known}")
    if name is not None and name not in {border.name for border in borders}:
        raise click.BadParameter(f"the model has no {what} {name!r}; its {what}s: {known}")
    return name or borders[0].name


def _items(network: Model, files: list[tuple[str | None, Path]], pixels: str, resize: bool) -> list[dict[str, Array]]:
    """The inputs of each inference. Several files for one input follow each other."""
    from tidemill.models.inputs import Pixels, load_inputs

    columns: dict[str, list[Array]] = {border.name: [] for border in network.inputs}
    borders = {border.name: border for border in network.inputs}
    for given, path in files:
        border = borders[_named(network.inputs, given, "input")]
        quantization = (1.0 if border.scale is None else border.scale, border.zero_point)
        columns[border.name] += list(
            load_inputs(
                path, border.shape, border.dtype, quantization, pixels=cast(Pixels, pixels),
                layout="NCHW" if _channels_first(border.shape) else "NHWC", resize=resize,
            )
        )  # fmt: skip
    for name, values in columns.items():
        if not values:
            raise click.BadParameter(f"input {name!r} is missing; give --input {name}=FILE")
    counts = {name: len(values) for name, values in columns.items()}
    if len(set(counts.values())) != 1:
        raise click.BadParameter(f"the files hold different numbers of inputs: {counts}")
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _channels_first(shape: tuple[int, ...]) -> bool:
    """[1, C, H, W] of an image, told from [1, H, W, C] by where one or three channels are."""
    return len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)


def _run(network: Model, items: list[dict[str, Array]], workers: int | None) -> list[Call]:
    """All inferences, with a progress bar on a terminal: by cycles where there is one, else by inferences."""
    from tidemill.compiler.compiled import NpuStep

    if len(items) == 1:
        steps = network.compiled.steps
        estimate = sum(step.estimate for step in steps if isinstance(step, NpuStep))
        with _progress("cycles", estimate) as advance:
            return [network.run(items[0], advance)]
    with _progress("inferences", len(items)) as advance:
        return list(network.calls(items, workers=workers, progress=advance))


@contextmanager
def _progress(unit: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """Sets how far a bar on a terminal's stderr is; None where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(unit, total=total)
        yield lambda done: bar.update(task, completed=min(done, total))


def _best(network: Model, call: Call, labels: list[str] | None, top: int) -> list[dict[str, Any]]:
    """The largest values of a model's only output, as real numbers where it has a scale."""
    if len(network.outputs) != 1:
        return []
    border = network.outputs[0]
    values = call.outputs[border.name].reshape(-1).astype(np.float64)
    if border.scale is not None and np.dtype(border.dtype).kind in "iu":
        values = (values - border.zero_point) * border.scale
    order = np.argsort(-values, kind="stable")[:top]
    return [
        {"index": int(i), "label": labels[i] if labels and i < len(labels) else str(i), "value": float(values[i])}
        for i in order
    ]
