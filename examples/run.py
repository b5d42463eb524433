"""Run the quantized networks on the NPU and hold every output byte against the runtime they were quantized for.

    python examples/run.py fashion_mnist --device rtl --images 1000

ONNX Runtime is the reference of the .onnx files, TFLite Micro that of int8.tflite. Exits with 1 if a byte differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from datasets import CLASSES, HERE, NETWORKS, Images, existing, test_images
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import tidemill as tm
from tidemill.device_options import device_options

FILES = ("qdq_int8.onnx", "qdq_uint8.onnx", "qoperator_int8.onnx", "qoperator_uint8.onnx", "int8.tflite")
Array = NDArray[Any]


@dataclass(frozen=True)
class Run:
    """Outputs [N, 10] of the NPU and of the reference for the same images, and the NPU's cycles for each."""

    npu: Array
    reference: Array
    cycles: list[int]

    @property
    def equal(self) -> int:
        """Images all of whose output bytes agree."""
        pairs = zip(self.npu, self.reference, strict=True)
        return sum(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


def onnx_runtime(path: Path, inputs: Sequence[Array]) -> Array:
    """ONNX Runtime's outputs, one image after another."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Without this entry ONNX Runtime computes QDQ models of int8 in floating point.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([np.asarray(session.run(None, {name: x})[0]) for x in inputs])


def tflite_micro(path: Path, inputs: Sequence[Array]) -> Array:
    """TFLite Micro's outputs, one image after another."""
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(str(path))
    outputs = []
    for x in inputs:
        interpreter.set_input(x, 0)
        interpreter.invoke()
        outputs.append(np.array(interpreter.get_output(0)))
    return np.concatenate(outputs)


def reference(path: Path, inputs: Sequence[Array]) -> Array:
    """The outputs of the runtime that the file is for."""
    return tflite_micro(path, inputs) if path.suffix == ".tflite" else onnx_runtime(path, inputs)


def run(path: Path, pixels: NDArray[np.float32], device: str, workers: int | None, **options: Any) -> Run:
    """One network on images float32 [N, 1, height, width]."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        tm.compile(path, device=device, **options) as model,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        quantized = model.inputs[0].dtype == "int8"
        inputs = [model.quantize(image[None]) if quantized else image[None] for image in pixels]
        task = bar.add_task(f"{path.name} on {device}", total=len(inputs))
        calls = model.calls(inputs, workers=workers, progress=lambda done: bar.update(task, completed=done))
        results = [(call.outputs[model.outputs[0].name], call.cycles) for call in calls]
    outputs, cycles = zip(*results, strict=True)
    return Run(np.concatenate(outputs), reference(path, inputs), list(cycles))


def draw(images: Images, outputs: Array, names: Sequence[str], path: Path) -> None:
    """Write a picture of sample images with their predictions, the wrong ones first and in red."""
    from matplotlib.figure import Figure

    guesses, labels = outputs.argmax(axis=1), images.labels
    wrong, right = np.flatnonzero(guesses != labels), np.flatnonzero(guesses == labels)
    chosen = [*wrong[:8], *right[:: max(1, len(right) // 24)]][:32]
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    axes = figure.subplots(4, 8).reshape(-1)
    for axis in axes:
        axis.set_axis_off()
    for axis, index in zip(axes, chosen, strict=False):
        good = guesses[index] == labels[index]
        axis.imshow(images.pixels[index, 0], cmap="gray_r", vmin=0, vmax=1)
        text = names[guesses[index]] if good else f"{names[guesses[index]]}\n(is {names[labels[index]]})"
        axis.set_title(text, color="tab:green" if good else "tab:red", fontsize=10)
    figure.suptitle(f"Classified on the Tidemill NPU: {len(right)} of {len(labels)} right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


@click.command()
@click.argument("network", type=click.Choice(NETWORKS))
@click.option("--models", type=click.Path(path_type=Path), help="Folder of the models; default: the one beside run.py.")
@click.option("--file", "files", multiple=True, type=click.Choice(FILES), help="Only this model; may be repeated.")
@click.option("--images", type=click.IntRange(1), default=64, show_default=True, help="Test images, from the first on.")
@click.option("--workers", type=click.IntRange(1), help="Processes; default: one a core.")
@click.option(
    "--picture", type=click.Path(path_type=Path),
    help="Where to write samples with their predictions; default: build/examples/NETWORK.png.",
)  # fmt: skip
@device_options("iss")
def main(
    network: str,
    models: Path | None,
    files: tuple[str, ...],
    images: int,
    workers: int | None,
    picture: Path | None,
    device: str,
    **options: Any,
) -> None:
    """Classify test images with every quantized form of NETWORK."""
    folder = models or HERE / network
    for name in ("float.onnx", *(files or FILES)):
        script = "train" if name == "float.onnx" else f"quantize_{name.rsplit('.')[-1]}"
        existing(folder / name, f"python examples/{script}.py {network}")
    test = test_images(network, images)
    count = len(test.labels)

    def accuracy(outputs: Array) -> str:
        return f"{np.mean(outputs.argmax(axis=1) == test.labels):.1%}"

    try:
        floating = accuracy(onnx_runtime(folder / "float.onnx", [image[None] for image in test.pixels]))
        runs = {name: run(folder / name, test.pixels, device, workers, **options) for name in files or FILES}
    except (tm.ModelError, tm.DeviceError) as error:
        raise click.ClickException(str(error)) from None
    table = Table(title=f"{network}: {count} images on {device} {options['preset']}; {floating} right in float")
    for column in ("model", "reference right", "NPU right", "equal outputs", "cycles per image"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, result in runs.items():
        cycles = f"{np.mean(result.cycles):,.0f}"
        equal = f"{result.equal} of {count}"
        table.add_row(name, accuracy(result.reference), accuracy(result.npu), equal, cycles)
    console = Console()
    (console if console.is_terminal else Console(width=120)).print(table)
    path = picture or Path("build/examples") / f"{network}.png"
    draw(test, next(iter(runs.values())).npu, CLASSES[network], path)
    click.echo(f"picture: {path}")
    if any(result.equal != count for result in runs.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
