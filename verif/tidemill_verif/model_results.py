"""Writes docs/models-results.md: `model_acceptance` of every network on both devices, and on the small presets.

`make models` runs it; `--quick` takes few inputs. Networks run in `--jobs` processes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tidemill_verif import model_pictures
from tidemill_verif.model_acceptance import BATCH, Outcome, Run, check_network, runs_by_name
from tidemill_verif.model_inputs import NETWORKS

STEPS = 132
"""Steps of a stream: all recordings."""
INPUTS = {("iss", "base"): 200, ("rtl", "base"): 10, ("iss", "small"): 10, ("iss", "tiny"): 10}
"""Inputs of a network that is not a stream, by device and preset."""
HEAD = """# Networks bit for bit

Third-party networks, each compiled and run on the Verilated hardware (`rtl`) and in the simulator (`iss`), next to
TFLite Micro: every output and every tensor between is compared, byte for byte. Written by `make models`; one network
alone: `python -m tidemill_verif.model_acceptance --model {example} --device rtl --preset base --inputs 10`. Origins and
licences of the networks: [models and inputs by name](models.md). Inputs are recordings and pictures where there are
some, then random ones (seed 0). Memory: 64-bit bus, 20 cycles of read latency.
"""


@dataclass(frozen=True)
class Job:
    """A network on a device of a preset."""

    device: str
    preset: str
    name: str
    inputs: int

    def run(self) -> Run:
        """Compare; batches only where the full-size preset is simulated."""
        batch = BATCH if (self.device, self.preset) == ("iss", "base") else 0
        return check_network(NETWORKS[self.name], self.device, self.preset, self.inputs, batch=batch)


def jobs(quick: bool) -> list[Job]:
    """All networks on all of INPUTS, the longest first."""
    found = []
    for (device, preset), inputs in INPUTS.items():
        for name, network in NETWORKS.items():
            count = max(STEPS, inputs) if network.stream else inputs
            found.append(Job(device, preset, name, min(count, 4) if quick else count))
    return sorted(found, key=lambda job: (job.device != "rtl", -job.inputs))


def run_all(wanted: Sequence[Job], processes: int, console: Console) -> dict[Job, Run]:
    """Run the jobs with a progress bar."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    runs = {}
    with Progress(*columns, console=console) as progress, ProcessPoolExecutor(processes) as pool:
        task = progress.add_task("networks", total=len(wanted))
        futures = {pool.submit(job.run): job for job in wanted}
        for future in as_completed(futures):
            runs[futures[future]] = future.result()
            progress.advance(task)
    return {job: runs[job] for job in wanted}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _verdict(outcome: Outcome) -> str:
    return outcome.problem.split("\n")[0] or f"{sum(outcome.differing.values())} of {outcome.bytes:,}"


def page(runs: dict[Job, Run], pictures: Sequence[Path], folder: Path) -> str:
    """The page; `pictures` are named relative to `folder`."""
    outcomes = {(job.device, job.preset, job.name): run.outcome for job, run in runs.items()}

    def of(device: str, preset: str) -> list[Outcome]:
        return [outcome for (d, p, _), outcome in outcomes.items() if (d, p) == (device, preset)]

    lines = [HEAD.format(example=next(iter(NETWORKS)))]
    for device in ("rtl", "iss"):
        lines += [f"## `base` on `{device}`", ""]
        head = ["network", "inputs (real)", "tensors of an input", "bytes that differ", "cycles of an input"]
        rows = [
            [o.model, f"{o.inputs} ({o.real_inputs})", f"{o.tensors} of {o.reference_tensors}", _verdict(o),
             f"{o.cycles:,}"] for o in of(device, "base")
        ]  # fmt: skip
        lines += _table(head, rows)
    lines += ["## What they take", "",
              "Processor seconds of one core: they depend on the machine. `utilization` is the share of the array's "
              "multiply-accumulates that the network used, over the whole inference.", ""]  # fmt: skip
    head = ["network, `base`", "MACs", "utilization", "instructions", "constants (bytes)", "activations (bytes)",
            "compiled in (s)", "an input on `iss` (s)", f"in a batch of {BATCH} (s)",
            "cycles in the batch"]  # fmt: skip
    rows = [
        [o.model, f"{o.macs:,}", f"{o.utilization:.1%}", f"{o.instructions:,}", f"{o.constant_bytes:,}",
         f"{o.activation_bytes:,}", f"{o.compile_seconds:.2f}", f"{o.seconds:.3f}",
         f"{o.batch_seconds:.3f}" if o.batch else "", f"{o.batch_cycles:,.0f}" if o.batch else ""]
        for o in of("iss", "base")
    ]  # fmt: skip
    lines += _table(head, rows)
    lines += ["## Smaller machines", "", "The same networks tiled for less memory, on `iss`.", ""]
    head = ["network", *(f"`{p}`: {what}" for p in ("small", "tiny") for what in ("bytes that differ", "cycles"))]
    small, tiny = of("iss", "small"), of("iss", "tiny")
    lines += _table(
        head,
        [[a.model, _verdict(a), f"{a.cycles:,}", _verdict(b), f"{b.cycles:,}"]
         for a, b in zip(small, tiny, strict=True)],
    )  # fmt: skip
    lines += ["## What they said", "", "On `rtl`, `base`.", ""]
    lines += [f"- {o.model}: {text}" for o in of("rtl", "base") for text in o.classes]
    lines += ["", *(f"![{path.stem}]({path.relative_to(folder).as_posix()})" for path in pictures)]
    lines += ["", "The pictures and recordings in them are TFLite Micro's test data (Apache License 2.0)."]
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 1 where a network has a problem."""
    parser = argparse.ArgumentParser(
        prog="python -m tidemill_verif.model_results", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/models-results.md"), metavar="FILE")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes (2)")
    parser.add_argument("--quick", action="store_true", help="4 inputs of each network")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")
    if not options.output.parent.is_dir():
        parser.error(f"{options.output.parent} is not a folder")
    console = Console(stderr=True)
    runs = run_all(jobs(options.quick), options.jobs, console)
    on_rtl = [run for job, run in runs.items() if (job.device, job.preset) == ("rtl", "base")]
    folder = options.output.parent
    pictures = model_pictures.draw(runs_by_name(on_rtl), folder / "models")
    options.output.write_text(page(runs, pictures, folder), encoding="utf-8")
    console.print(f"wrote {options.output}", highlight=False)
    problems = [run.outcome for run in runs.values() if run.outcome.problem]
    for outcome in problems:
        console.print(f"{outcome.model} on {outcome.device} {outcome.preset}: {outcome.problem}", markup=False)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
