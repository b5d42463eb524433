"""Train a small network and write it in float: `float.onnx` and `float.tflite`.

    python examples/train.py fashion_mnist

Seeded; one core, about a minute. Needs `pip install -e '.[examples]'`.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import click
import numpy as np
import torch
from datasets import NETWORKS, Images, test_images, training_images
from torch import nn

SEED = 3


def fit(network: nn.Module, data: Images, epochs: int, batch: int, rate: float) -> None:
    """Adam with one cycle of the learning rate; images are shifted by up to one pixel."""
    x, y = torch.from_numpy(data.pixels), torch.from_numpy(data.labels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    steps = epochs * -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for index in torch.randperm(len(x)).split(batch):
            moved = torch.roll(x[index], tuple(torch.randint(-1, 2, (2,)).tolist()), (2, 3))
            loss = nn.functional.cross_entropy(network(moved), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        if (epoch + 1) % max(1, epochs // 4) == 0:
            click.echo(f"epoch {epoch + 1} of {epochs}: loss {total / len(x):.3f}")
    network.eval()


def export(network: nn.Module, shape: tuple[int, ...], folder: Path) -> None:
    """Write `float.onnx` and `float.tflite` for one image at a time."""
    import litert_torch

    example = (torch.zeros(1, *shape),)
    with warnings.catch_warnings():  # the exporter without further packages calls itself the old one
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network, example, str(folder / "float.onnx"),
            dynamo=False, opset_version=20, input_names=["image"], output_names=["logits"],
        )  # fmt: skip
    litert_torch.convert(network, example).export(str(folder / "float.tflite"))


@click.command()
@click.argument("network", type=click.Choice(NETWORKS))
@click.option("--models", type=click.Path(path_type=Path), help="Folder to write to; default: build/examples/NETWORK.")
def main(network: str, models: Path | None) -> None:
    """Train NETWORK and write it in float."""
    folder = models or Path("build/examples") / network
    folder.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"{network}.network")
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    net = module.Net()
    fit(net, training_images(network), module.EPOCHS, module.BATCH, module.RATE)
    test = test_images(network, 10_000)
    with torch.no_grad():
        guesses = np.concatenate([net(part).argmax(1) for part in torch.from_numpy(test.pixels).split(500)])
    export(net, net.shape, folder)
    parameters = sum(value.numel() for value in net.parameters())
    click.echo(f"{folder}: {parameters:,} parameters, {np.mean(guesses == test.labels):.2%} of the test images right")


if __name__ == "__main__":
    main()
