"""`tidemill demo`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tidemill.device_options import device_options


@click.command()
@device_options("rtl")
@click.option(
    "--images", type=click.IntRange(1, 360), default=360, show_default=True, help="Held-out images to classify."
)
@click.option(
    "--picture", type=click.Path(path_type=Path), default=Path("build/digits.png"), show_default=True,
    help="Where to write sample digits with their predictions.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def demo(
    device: str, preset: str, read_latency: int, bandwidth: float, images: int, picture: Path, as_json: bool
) -> None:
    """Classify handwritten digits with an int8 convolutional network, every image on the device.

    Holds every output byte against the simulator and against numpy, and writes a picture. Exits with 1 if any differs.

    \b
    Example:
      tidemill demo --device rtl --preset base --json
    """
    from rich.console import Console
    from rich.table import Table

    from tidemill.demo.digits.network import load_split
    from tidemill.demo.digits.run import draw, run_digits
    from tidemill.driver.npu import open_npu
    from tidemill.profile import busy, stalls

    timing: dict[str, Any] = {"read_latency": read_latency, "bandwidth": bandwidth}
    with open_npu(device, preset=preset, **timing) as dev:
        run = run_digits(dev, images, **timing)
    draw(load_split(), run.logits, picture)
    error = run.predicted_cycles / run.cycles - 1
    if as_json:
        figures = {
            "device": device, "preset": preset, "images": run.images, "accuracy": run.accuracy,
            "cycles": run.cycles, "cycles_per_image": run.cycles_per_image, "macs": run.macs,
            "utilization": run.utilization, "identical": run.identical, "mismatches_iss": run.mismatches_iss,
            "mismatches_numpy": run.mismatches_numpy, "predicted_cycles": run.predicted_cycles,
            "prediction_error": error, "busy": busy(run.counters), "stalls": stalls(run.counters),
            "picture": str(picture),
        }  # fmt: skip
        click.echo(json.dumps(figures, indent=2))
    else:
        table = Table(title=f"Digits on {device} {preset}", show_header=False)
        right = round(run.accuracy * run.images)
        table.add_row("accuracy", f"{run.accuracy:.1%} ({right} of {run.images})")
        table.add_row("cycles per image", f"{run.cycles_per_image:,.0f}")
        table.add_row("utilization", f"{run.utilization:.1%} of {dev.config.peak_macs_per_cycle} MACs per cycle")
        table.add_row("same bytes as iss", f"{run.images - run.mismatches_iss} of {run.images} images")
        table.add_row("same bytes as numpy", f"{run.images - run.mismatches_numpy} of {run.images} images")
        table.add_row("cycles predicted by iss", f"{run.predicted_cycles:,} ({error:+.1%})")
        table.add_row("picture", str(picture))
        Console().print(table)
    if not run.identical:
        raise SystemExit(1)
