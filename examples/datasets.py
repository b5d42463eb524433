"""The data of the examples: images as float [N, 1, height, width] from 0 to 1 with labels, and model files."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files; the environment variable FASHION_MNIST moves it."""
NETWORKS = ("fashion_mnist", "digits_cnn")
CLASSES = {
    "fashion_mnist": (
        "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"
    ),
    "digits_cnn": tuple("0123456789"),
}  # fmt: skip


@dataclass(frozen=True)
class Images:
    """float32 [N, 1, height, width] and int64 [N]."""

    pixels: NDArray[np.float32]
    labels: NDArray[np.int64]


def _read_idx(name: str) -> NDArray[np.uint8]:
    """One file of the Fashion-MNIST format: a big-endian header with the sizes, then bytes."""
    path = Path(os.environ.get("FASHION_MNIST", FASHION_MNIST)) / name
    try:
        data = gzip.decompress(path.read_bytes())
    except OSError as error:
        raise click.ClickException(
            f"{path}: {error.strerror or error}; apt-get install dataset-fashion-mnist, "
            "or name the folder with the four .gz files in FASHION_MNIST"
        ) from None
    axes = data[3]
    shape = np.frombuffer(data, ">u4", axes, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _fashion_mnist(part: str) -> Images:
    pixels, labels = _read_idx(f"{part}-images-idx3-ubyte.gz"), _read_idx(f"{part}-labels-idx1-ubyte.gz")
    return Images(pixels[:, None].astype(np.float32) / 255, labels.astype(np.int64))


def _digits(test: bool) -> Images:
    from tidemill.demo.digits.network import load_split

    split = load_split()
    pixels, labels = (split.test_images, split.test_labels) if test else (split.train_images, split.train_labels)
    return Images((pixels[:, None] / 16).astype(np.float32), labels.astype(np.int64))


def training_images(network: str) -> Images:
    """60,000 clothes or 1,437 digits."""
    return _digits(test=False) if network == "digits_cnn" else _fashion_mnist("train")


def test_images(network: str, count: int) -> Images:
    """The first `count` of 10,000 clothes or 360 digits. The first 64 clothes lie beside this file."""
    stored = HERE / network / "test_images.npz"
    if network == "digits_cnn":
        images = _digits(test=True)
    elif count <= 64:
        with np.load(stored) as arrays:
            images = Images(arrays["pixels"][:, None].astype(np.float32) / 255, arrays["labels"].astype(np.int64))
    else:
        images = _fashion_mnist("t10k")
    return Images(images.pixels[:count], images.labels[:count])


def existing(path: Path, command: str) -> Path:
    """The path, if the file is there; else an error that names the command that writes it."""
    if not path.is_file():
        raise click.ClickException(f"{path}: no such file; {command} writes it")
    return path
