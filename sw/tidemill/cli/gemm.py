"""`tidemill gemm`."""

from __future__ import annotations

import json

import click
import numpy as np

from tidemill.device_options import device_options

_SIZE = click.IntRange(1, 1 << 16)


@click.command()
@click.option("-M", "m", type=_SIZE, default=256, show_default=True, help="Rows of A and of the result.")
@click.option("-K", "k", type=_SIZE, default=256, show_default=True, help="Columns of A, rows of B.")
@click.option("-N", "n", type=_SIZE, default=256, show_default=True, help="Columns of B and of the result.")
@device_options("rtl")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the random operands.")
@click.option(
    "--requant", type=click.Choice(["none", "tflite", "onnx"]), default="none", show_default=True,
    help="Return int8, requantized per column with random biases and scales.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def gemm(
    m: int,
    k: int,
    n: int,
    device: str,
    preset: str,
    read_latency: int,
    bandwidth: float,
    seed: int,
    requant: str,
    as_json: bool,
) -> None:
    """Multiply random int8 matrices on a device, check the result against numpy, and show where the cycles went.

    Every cycle from the doorbell to the last byte stored counts. Exits with 1 if a single value differs.

    \b
    Example:
      tidemill gemm -M 37 -K 113 -N 59 --device rtl --preset small --seed 1
    """
    from rich.console import Console
    from rich.table import Table

    from tidemill.driver.npu import open_npu
    from tidemill.golden.requant import requantize
    from tidemill.ops.gemm import run_gemm
    from tidemill.ops.requant import Requant
    from tidemill.profile import STALLS, busy, stalls

    rng = np.random.default_rng(seed)
    a = rng.integers(-128, 128, (m, k), dtype=np.int8)
    b = rng.integers(-128, 128, (k, n), dtype=np.int8)
    bias = scaling = None
    expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
    if requant != "none":
        bias = rng.integers(-(1 << 16), 1 << 16, n).astype(np.int32)
        scaling = Requant.from_scale(rng.uniform(0.1, 1, n) / (60 * k**0.5), zero_point=3, mode=requant)
        multiplier, shift = scaling.columns(n)
        y = requantize(
            (expected + bias).astype(np.int32), 0, multiplier, shift,
            zero_point=scaling.zero_point, preshift=0, mode=scaling.isa_mode,
        )  # fmt: skip
        expected = np.clip(y, scaling.qmin, scaling.qmax)
    with open_npu(device, preset=preset, read_latency=read_latency, bandwidth=bandwidth) as dev:
        run = run_gemm(dev, a, b, bias=bias, requant=scaling)
    mismatches = int((run.output != expected).sum())
    if as_json:
        figures = {
            "device": device, "preset": preset, "m": m, "k": k, "n": n, "seed": seed, "requant": requant,
            "read_latency": read_latency, "bandwidth": bandwidth, "cycles": run.cycles, "macs": run.macs,
            "peak_macs_per_cycle": run.peak_macs_per_cycle, "utilization": run.utilization, "mismatches": mismatches,
            "busy": busy(run.counters), "stalls": stalls(run.counters), "counters": run.counters,
        }  # fmt: skip
        click.echo(json.dumps(figures, indent=2))
    else:
        table = Table(title=f"[{m}, {k}] x [{k}, {n}] on {device} {preset}", show_header=False)
        table.add_row("cycles", f"{run.cycles:,}")
        table.add_row("MACs", f"{run.macs:,}")
        table.add_row("utilization", f"{run.utilization:.1%} of {run.peak_macs_per_cycle} MACs per cycle")
        table.add_row("mismatches", f"{mismatches} of {run.output.size:,}")
        table.add_section()
        for engine, cycles in busy(run.counters).items():
            table.add_row(f"{engine} busy", f"{cycles:,}")
        table.add_section()
        for name, words in STALLS.items():
            if run.counters[name]:
                table.add_row(words, f"{run.counters[name]:,}")
        Console().print(table)
    if mismatches:
        raise SystemExit(1)
