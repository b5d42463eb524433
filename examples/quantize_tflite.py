"""Quantize `float.tflite` with ai-edge-quantizer: int8 weights per channel, int8 activations.

    python examples/quantize_tflite.py fashion_mnist

Needs `pip install -e '.[examples]'`.
"""

from __future__ import annotations

from pathlib import Path

import click
from ai_edge_quantizer import quantizer, recipe
from datasets import NETWORKS, existing, training_images

CALIBRATION = 200
SIGNATURE, INPUT = "serving_default", "args_0"
"""What litert-torch calls the network and its input."""


@click.command()
@click.argument("network", type=click.Choice(NETWORKS))
@click.option(
    "--models", type=click.Path(path_type=Path), help="Folder of the models; default: build/examples/NETWORK."
)
def main(network: str, models: Path | None) -> None:
    """Write NETWORK as int8.tflite."""
    folder = models or Path("build/examples") / network
    source = existing(folder / "float.tflite", f"python examples/train.py {network}")
    path = folder / "int8.tflite"
    images = [{INPUT: image[None]} for image in training_images(network).pixels[:CALIBRATION]]
    job = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
    ranges = job.calibrate({SIGNATURE: images})
    job.quantize(ranges).export_model(str(path), overwrite=True)
    click.echo(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
