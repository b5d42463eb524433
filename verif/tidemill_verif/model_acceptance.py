"""Whole third-party networks against TFLite Micro: every output and every tensor between, byte for byte.

`python -m tidemill_verif.model_acceptance --device iss|rtl --preset P --model NAME ... --inputs N` compiles each
network three times: as users get it, with every tensor kept, and as batches. The first must give TFLite Micro's
outputs, the second every tensor that TFLite Micro computes, the third the outputs again. Streaming networks keep their
variables from step to step in both runtimes. Recordings and pictures must also be given the right class.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import tidemill as tm
from tidemill.compiler.ir import ModelError
from tidemill.compiler.ports import InputError
from tidemill.config import PRESETS
from tidemill.driver.errors import DeviceError
from tidemill.isa import INSTRUCTION_BYTES
from tidemill.models import ModelNotFound, find
from tidemill_verif import model_pictures
from tidemill_verif.model_inputs import NETWORKS, SYNTHETIC, WINDOW, Network, Sample, samples
from tidemill_verif.runtimes.whole_models import TfliteModel

Array = NDArray[Any]
BATCH = 8
"""Inferences in a call of the third program."""
FILE_WIDTH = 170
"""Columns of the table where it does not go to a terminal."""


@dataclass
class Outcome:
    """What became of one network; `problem` is empty where all bytes agree and every class is right.

    `compile_seconds` is the processor time from the file to the program; `seconds` that of an input on the device, and
    `batch_seconds` of an input of a batch, as `cycles` and `batch_cycles`. `tensors` is how many tensors were compared
    for each input, `reference_tensors` how many the reference computes; `missing` names those between the two. `bytes`
    is the number of bytes compared, `differing` how many are wrong, by tensor.
    """

    model: str
    device: str
    preset: str
    inputs: int = 0
    real_inputs: int = 0
    compile_seconds: float = 0.0
    instructions: int = 0
    program_bytes: int = 0
    constant_bytes: int = 0
    activation_bytes: int = 0
    macs: int = 0
    cycles: int = 0
    utilization: float = 0.0
    seconds: float = 0.0
    batch: int = 0
    batch_cycles: float = 0.0
    batch_seconds: float = 0.0
    tensors: int = 0
    reference_tensors: int = 0
    missing: list[str] = field(default_factory=list)
    bytes: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass
class Run:
    """A network's outcome, and its inputs with the device's outputs as real numbers."""

    outcome: Outcome
    samples: list[Sample] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)


class _Comparison:
    """Counts bytes that differ, by tensor."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self.bytes = 0
        self.seen: set[int] = set()
        self.differing: Counter[str] = Counter()

    def compare(self, what: str, actual: Mapping[int, Array], expected: Mapping[int, Array]) -> None:
        """Tensors by index; a tensor of another shape or type differs in all bytes."""
        for index, value in actual.items():
            wanted = expected[index]
            self.seen.add(index)
            self.bytes += wanted.nbytes
            if value.shape != wanted.shape or value.dtype != wanted.dtype:
                wrong = wanted.nbytes
            else:
                flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
                wrong = int(np.count_nonzero(flat != np.ascontiguousarray(wanted).reshape(-1).view(np.uint8)))
            if wrong:
                self.differing[f"{what}: tensor {index} {self._names.get(index, '')}"] += wrong


def check_network(
    network: Network,
    device: str,
    preset: str,
    count: int,
    *,
    seed: int = 0,
    batch: int = BATCH,
    download: bool = True,
    advance: Callable[[int], None] | None = None,
) -> Run:
    """Run a network on `count` inputs, alone and with every tensor kept, and where it has no variables in batches
    (`batch` 0: not). `advance` is told how many inputs are done. Problems are in the outcome."""
    outcome = Outcome(network.name, device, preset)
    run = Run(outcome)
    try:
        path = find(network.name, download=download)
        reference = TfliteModel(path)
        comparison = _Comparison(reference.names)
        start = time.process_time()
        plain = tm.compile(path, preset=preset, device=device)
        outcome.compile_seconds = time.process_time() - start
        _sizes(outcome, plain)
        with plain, tm.compile(path, preset=preset, device=device, keep_all=True) as kept:
            run.samples = samples(network, plain.inputs[0], count, seed, download)
            expected = _singles(run, plain, kept, reference, comparison, advance)
        if batch and not plain.compiled.variables:
            _batches(run, path, expected, batch, comparison)
    except (ModelNotFound, ModelError, InputError, DeviceError, OSError) as error:
        outcome.problem = f"{type(error).__name__}: {error}"
        return run
    outcome.bytes, outcome.differing = comparison.bytes, dict(comparison.differing)
    outcome.tensors = len(comparison.seen)
    problems = [f"{sum(outcome.differing.values())} bytes differ"] if outcome.differing else []
    if outcome.missing:
        problems.append(f"{len(outcome.missing)} tensors of the reference cannot be read")
    problems += _classify(network, run)
    outcome.problem = "; ".join(problems)
    return run


def _sizes(outcome: Outcome, model: tm.Model) -> None:
    compiled = model.compiled
    outcome.instructions = len(compiled.program.words)
    outcome.program_bytes = outcome.instructions * INSTRUCTION_BYTES
    outcome.constant_bytes = sum(b.nbytes for b in compiled.program.buffers.values() if b.data is not None)
    outcome.activation_bytes = compiled.arena_bytes
    outcome.macs = sum(op.macs for op in compiled.ops)


def _singles(
    run: Run,
    plain: tm.Model,
    kept: tm.Model,
    reference: TfliteModel,
    comparison: _Comparison,
    advance: Callable[[int], None] | None,
) -> list[dict[int, Array]]:
    """One input after another; returns the reference's outputs."""
    outcome = run.outcome
    assert plain.graph is not None
    outputs = [(port.name, _index(port.tensor_index)) for port in plain.graph.outputs]
    exposed = {port.name: _index(port.tensor_index) for port in plain.graph.exposed}
    plain.session.reset()
    wanted: list[dict[int, Array]] = []
    seconds = 0.0
    for sample in run.samples:
        expected = reference(sample.value)
        start = time.process_time()
        call = plain.run(sample.value)
        seconds += time.process_time() - start
        comparison.compare("program", {index: call.outputs[name] for name, index in outputs}, expected)
        every = kept.run(sample.value)
        between = {exposed[name]: value for name, value in kept.exposed().items()}
        final = {index: every.outputs[name] for name, index in outputs}
        comparison.compare("all tensors", {**between, **final}, expected)
        outcome.reference_tensors = len(expected)
        missing = expected.keys() - between.keys() - final.keys()
        outcome.missing = [f"tensor {index} {reference.names.get(index, '')}" for index in sorted(missing)]
        outcome.cycles = max(outcome.cycles, call.cycles)
        wanted.append({index: expected[index] for _, index in outputs})
        first = plain.outputs[0]
        run.scores.append(plain.dequantize(call.outputs[first.name], first.name).reshape(-1))
        if advance is not None:
            advance(1)
    outcome.inputs = len(run.samples)
    outcome.real_inputs = sum(not s.source.startswith(("random", SYNTHETIC)) for s in run.samples)
    outcome.seconds = seconds / len(run.samples)
    outcome.utilization = outcome.macs / (outcome.cycles * plain.config.peak_macs_per_cycle)
    return wanted


def _batches(run: Run, path: Path, expected: list[dict[int, Array]], batch: int, comparison: _Comparison) -> None:
    """As many whole batches as the inputs fill."""
    calls = len(run.samples) // batch
    if not calls:
        return
    outcome = run.outcome
    with tm.compile(path, preset=outcome.preset, device=outcome.device, batch=batch) as model:
        assert model.graph is not None
        indices = {port.name: _index(port.tensor_index) for port in model.graph.outputs}
        assert model.session
        seconds, cycles = 0.0, 0
        for number in range(calls):
            part = slice(number * batch, (number + 1) * batch)
            x = np.concatenate([sample.value for sample in run.samples[part]])
            start = time.process_time()
            call = model.run(x)
            seconds += time.process_time() - start
            cycles += call.cycles
            actual = {index: call.outputs[name] for name, index in indices.items()}
            wanted = {index: np.concatenate([e[index] for e in expected[part]]) for index in actual}
            comparison.compare(f"batch of {batch}", actual, wanted)
    outcome.batch = batch
    outcome.batch_seconds, outcome.batch_cycles = seconds / (calls * batch), cycles / (calls * batch)


def _index(number: int | None) -> int:
    if number is None:
        raise ModelError("a port has no number in the model file; a TFLite model is expected")
    return number


def _classify(network: Network, run: Run) -> list[str]:
    """Say which class each real input is given; returns what is wrong with them."""
    if network.stream:
        return _listen(network, run)
    problems = []
    for sample, scores in zip(run.samples, run.scores, strict=True):
        if not network.labels or sample.source.startswith("random"):
            continue
        best = int(np.argmax(scores))
        text = f"{sample.source}: {network.labels[best]} ({scores[best]:.1%})"
        run.outcome.classes.append(text)
        if sample.label and network.labels[best] != sample.label:
            problems.append(f"{text}, not {sample.label}")
    return problems


def _listen(network: Network, run: Run) -> list[str]:
    """Say in which whole recordings a wake word is heard: where the mean probability rises to the cutoff. Returns what
    is wrong with that."""
    problems = []
    words = {real.name for real in network.real}
    sources = [sample.source for sample in run.samples]
    means = np.convolve([score[0] for score in run.scores], np.full(WINDOW, 1 / WINDOW))[: len(sources)]
    rises = np.flatnonzero((means >= network.cutoff) & (np.append(0, means[:-1]) < network.cutoff))
    for source in dict.fromkeys(sources):
        if source in (SYNTHETIC, sources[-1]):
            continue
        steps = [int(step) for step in rises if sources[step] == source]
        text = f"{source}: {f'heard in step {steps[0]}' if steps else 'not heard'}"
        run.outcome.classes.append(text)
        if bool(steps) != (source in words):
            problems.append(f"{text}, which is wrong")
    return problems


def accept(options: argparse.Namespace, console: Console) -> list[Run]:
    """Run all chosen networks with a progress bar."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    runs = []
    with Progress(*columns, console=console) as progress:
        for name in options.model:
            network = NETWORKS[name]
            count = max(options.inputs, options.steps) if network.stream else options.inputs
            task = progress.add_task(f"{name} on {options.device} {options.preset}", total=count)

            def advance(done: int, task: Any = task) -> None:
                progress.advance(task, done)

            runs.append(
                check_network(
                    network, options.device, options.preset, count, seed=options.seed, batch=options.batch,
                    advance=advance,
                )
            )  # fmt: skip
    return runs


def table(outcomes: Sequence[Outcome]) -> Table:
    """For a terminal."""
    result = Table("model", "inputs", "compiled in", "instructions", "constants", "cycles", "utilization", "an input",
                   "cycles, an input of a batch", "tensors", "bytes", "differ")  # fmt: skip
    for column in result.columns[1:]:
        column.justify = "right"
    for outcome in outcomes:
        batch = f"{outcome.batch_cycles:,.0f}, {outcome.batch_seconds:.3f} s" if outcome.batch else ""
        result.add_row(
            outcome.model, f"{outcome.inputs} ({outcome.real_inputs} real)", f"{outcome.compile_seconds:.2f} s",
            f"{outcome.instructions:,}", f"{outcome.constant_bytes:,}", f"{outcome.cycles:,}",
            f"{outcome.utilization:.1%}", f"{outcome.seconds:.3f} s", batch,
            f"{outcome.tensors} of {outcome.reference_tensors}", f"{outcome.bytes:,}",
            f"{sum(outcome.differing.values()):,}",
        )  # fmt: skip
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns 1 where a network has a problem."""
    parser = argparse.ArgumentParser(
        prog="python -m tidemill_verif.model_acceptance", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--device", choices=["iss", "rtl"], default="iss")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="base")
    parser.add_argument("--model", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--inputs", type=int, default=10, help="inputs of each network")
    parser.add_argument(
        "--steps", type=int, default=132, help="least number of steps of a stream (the recordings: 132)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs")
    parser.add_argument("--batch", type=int, default=BATCH, help="inferences in a call of the batched program; 0: none")
    parser.add_argument("--json", action="store_true", help="print the outcomes for programs")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="draw the recordings and pictures with the answers"
    )
    options = parser.parse_args(arguments)
    if options.inputs < 1 or options.batch < 0:
        parser.error("--inputs must be at least 1, --batch at least 0")
    errors, console = Console(stderr=True), Console()
    if not console.is_terminal:
        console.width = FILE_WIDTH
    runs = accept(options, errors)
    outcomes = [run.outcome for run in runs]
    written = model_pictures.draw(runs_by_name(runs), options.pictures) if options.pictures else []
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
        return 1 if any(outcome.problem for outcome in outcomes) else 0
    console.print(table(outcomes))
    for outcome in outcomes:
        for line in [*outcome.classes, *(f"{n} bytes differ in {what}" for what, n in outcome.differing.items()),
                     *(f"not compared: {name}" for name in outcome.missing)]:  # fmt: skip
            console.print(f"{outcome.model}: {line}", markup=False, highlight=False)
        if outcome.problem:
            console.print(f"{outcome.model}: FAILED: {outcome.problem}", markup=False, highlight=False)
    for file in written:
        console.print(f"wrote {file}", markup=False, highlight=False)
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def runs_by_name(runs: Sequence[Run]) -> dict[str, tuple[list[Sample], list[NDArray[np.float32]]]]:
    """Inputs and scores of the networks that ran."""
    return {run.outcome.model: (run.samples, run.scores) for run in runs if run.scores}


if __name__ == "__main__":
    sys.exit(main())
