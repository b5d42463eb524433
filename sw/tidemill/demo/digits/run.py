"""Run the digits network on a device and hold it against the simulator and numpy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.compile import compile_graph
from tidemill.compiler.runtime import Session
from tidemill.demo.digits.graph import digits_graph
from tidemill.demo.digits.kernel import SMALLEST_ARRAY, build_digits, pack_images
from tidemill.demo.digits.network import CLASSES, TEST_IMAGES, Network, Split, load_network, load_split, quantize_images
from tidemill.driver.npu import Npu, Result, open_npu


@dataclass(frozen=True)
class DigitsRun:
    """What the demo measured."""

    images: int
    accuracy: float
    """Share of images whose largest logit is the label's."""
    cycles: int
    macs: int
    """Multiply-accumulates of the network for all images."""
    utilization: float
    """`macs` as a share of what the array could have done in `cycles`."""
    predicted_cycles: int
    """The simulator's cycles."""
    mismatches_iss: int
    """Images with any logit byte that differs from the simulator's."""
    mismatches_numpy: int
    """Images with any logit byte that differs from numpy's."""
    counters: dict[str, int]
    logits: NDArray[np.int8]

    @property
    def cycles_per_image(self) -> float:
        """Average."""
        return self.cycles / self.images

    @property
    def identical(self) -> bool:
        """All bytes of all images agree on device, simulator and numpy."""
        return self.mismatches_iss == 0 and self.mismatches_numpy == 0


def run_program(dev: Npu, network: Network, images: NDArray[np.int8]) -> tuple[NDArray[np.int8], Result]:
    """Logits int8 [N, 10] of int8 images [N, 8, 8], and the run: the hand-written program where it fits the array, the
    compiled network where not."""
    if dev.config.dim < SMALLEST_ARRAY:
        return _run_compiled(dev, network, images)
    program = build_digits(dev.config, network, len(images))
    loaded = dev.load(program)
    try:
        result = dev.run(loaded, inputs={"images": pack_images(program, images)}, outputs=["logits"])
    finally:
        loaded.free()
    return result.outputs["logits"][: len(images), :CLASSES], result


def _run_compiled(dev: Npu, network: Network, images: NDArray[np.int8]) -> tuple[NDArray[np.int8], Result]:
    """Image by image, counters added up."""
    counters: Counter[str] = Counter()
    logits = []
    with Session(dev, compile_graph(digits_graph(network), dev.config)) as session:
        for image in images:
            call = session.run(image.reshape(1, *image.shape, 1))
            logits.append(call.outputs["logits"][0])
            for _, counts in call.counters:
                counters.update(counts)
    return np.stack(logits), Result({}, dict(counters))


def _differing(a: NDArray[np.int8], b: NDArray[np.int8]) -> int:
    return int((a != b).any(axis=1).sum())


def run_digits(dev: Npu, count: int = TEST_IMAGES, **timing: Any) -> DigitsRun:
    """Classify the first `count` held-out images on `dev`, on `iss` and in numpy; `timing` goes to `iss`."""
    split, network = load_split(), load_network()
    images = quantize_images(split.test_images[:count])
    logits, result = run_program(dev, network, images)
    with open_npu("iss", config=dev.config, **timing) as simulator:
        simulated, prediction = run_program(simulator, network, images)
    macs = network.macs * count
    return DigitsRun(
        images=count,
        accuracy=float((logits.argmax(axis=1) == split.test_labels[:count]).mean()),
        cycles=result.cycles,
        macs=macs,
        utilization=macs / (result.cycles * dev.config.peak_macs_per_cycle),
        predicted_cycles=prediction.cycles,
        mismatches_iss=_differing(logits, simulated),
        mismatches_numpy=_differing(logits, network.forward(images)),
        counters=result.counters,
        logits=logits,
    )


def draw(split: Split, logits: NDArray[np.int8], path: Path) -> None:
    """Write a picture of sample digits with their predictions, the wrong ones first and in red."""
    from matplotlib.figure import Figure

    guesses = logits.argmax(axis=1)
    labels = split.test_labels[: len(guesses)]
    wrong, right = np.flatnonzero(guesses != labels), np.flatnonzero(guesses == labels)
    chosen = [*wrong[:8], *right[:: max(1, len(right) // 32)]][:32]
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.subplots(4, 8).reshape(-1)
    for axis in axes:
        axis.set_axis_off()
    for axis, index in zip(axes, chosen, strict=False):
        good = guesses[index] == labels[index]
        axis.imshow(split.test_images[index], cmap="gray_r", vmin=0, vmax=16)
        text = f"{guesses[index]}" if good else f"{guesses[index]}  (is {labels[index]})"
        axis.set_title(text, color="tab:green" if good else "tab:red", fontsize=12)
    correct = int((guesses == labels).sum())
    figure.suptitle(f"Digits classified on the Tidemill NPU: {correct} of {len(guesses)} right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
