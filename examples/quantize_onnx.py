"""Quantize `float.onnx` with ONNX Runtime, in four forms: QDQ or QOperator, int8 or uint8 activations.

python examples/quantize_onnx.py fashion_mnist
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from datasets import NETWORKS, existing, training_images
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

CALIBRATION = 200
FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}
TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}


class TrainingImages(CalibrationDataReader):
    """The images on which ONNX Runtime measures the ranges of the activations."""

    def __init__(self, pixels: NDArray[np.float32]) -> None:
        self._images: Iterator[NDArray[np.float32]] = iter(pixels)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next image as the network's input; None after the last."""
        image = next(self._images, None)
        return None if image is None else {"image": image[None]}


@click.command()
@click.argument("network", type=click.Choice(NETWORKS))
@click.option(
    "--models", type=click.Path(path_type=Path), help="Folder of the models; default: build/examples/NETWORK."
)
def main(network: str, models: Path | None) -> None:
    """Write NETWORK as qdq_int8.onnx, qdq_uint8.onnx, qoperator_int8.onnx, qoperator_uint8.onnx."""
    logging.disable(logging.WARNING)
    folder = models or Path("build/examples") / network
    source = existing(folder / "float.onnx", f"python examples/train.py {network}")
    pixels = training_images(network).pixels[:CALIBRATION]
    for form, quant_format in FORMATS.items():
        for kind, activation_type in TYPES.items():
            path = folder / f"{form}_{kind}.onnx"
            quantize_static(
                source, path, TrainingImages(pixels),
                quant_format=quant_format, activation_type=activation_type,
                weight_type=QuantType.QInt8, per_channel=True,
            )  # fmt: skip
            click.echo(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
