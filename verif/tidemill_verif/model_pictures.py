"""Draws what networks saw and heard, with what they made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tidemill.models import audio
from tidemill_verif.model_inputs import NETWORKS, Sample, sounds

Answers = tuple[Sequence[Sample], Sequence[NDArray[np.float32]]]
"""Inputs of a network and its scores."""

STEP_SECONDS = 0.03
"""Sound in a step of a wake-word network."""


def draw(answers: Mapping[str, Answers], folder: Path) -> list[Path]:
    """Write the pictures of the networks that are there into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in ("person_detect", "vww_96_int8", "micro_speech_quantized"):
        if name in answers:
            written.append(_scores(name, answers[name], folder / f"{name}.png"))
    streams = {name: answer for name, answer in answers.items() if NETWORKS[name].stream}
    if streams:
        written.append(_wake_words(streams, folder / "wake_words.png"))
    return written


def _scores(name: str, answer: Answers, path: Path) -> Path:
    """Each real input above a bar for each class."""
    network = NETWORKS[name]
    chosen = [(s, scores) for s, scores in zip(*answer, strict=True) if not s.source.startswith("random")]
    figure = Figure(figsize=(3 * max(2, len(chosen)), 4.8), layout="constrained")
    axes = figure.subplots(2, len(chosen), squeeze=False, height_ratios=(2, 1))
    for column, (sample, scores) in enumerate(chosen):
        above, below = axes[0, column], axes[1, column]
        _show(above, sample)
        right = not sample.label or network.labels[int(np.argmax(scores))] == sample.label
        above.set_title(sample.source)
        colours = ["tab:gray"] * len(scores)
        colours[int(np.argmax(scores))] = "tab:green" if right else "tab:red"
        bars = below.barh(network.labels, scores, color=colours)
        below.bar_label(bars, [f"{score:.1%}" for score in scores], padding=3)
        below.set_xlim(0, 1.3)
        below.set_xticks([0, 0.5, 1])
        below.invert_yaxis()
    figure.suptitle(f"{name} on the Tidemill NPU")
    figure.savefig(path, dpi=80)
    return path


def _show(axis: Any, sample: Sample) -> None:
    value = sample.value
    if sample.source.endswith("wav"):
        axis.imshow(value.reshape(-1, audio.CHANNELS).T, origin="lower", aspect="auto", cmap="magma")
        axis.set_xlabel("window (20 ms)")
        axis.set_ylabel("mel band")
    else:
        axis.imshow((value[0, ..., 0].astype(np.int32) + 128), cmap="gray", vmin=0, vmax=255)
        axis.set_axis_off()


def _wake_words(streams: Mapping[str, Answers], path: Path) -> Path:
    """For each network the sound, the probability after each step, and the cutoff."""
    figure = Figure(figsize=(9, 1 + 1.6 * len(streams)), layout="constrained")
    axes = figure.subplots(len(streams), 1, squeeze=False)[:, 0]
    for axis, (name, (steps, scores)) in zip(axes, streams.items(), strict=True):
        times = (np.arange(len(steps)) + 1) * STEP_SECONDS
        start = 0.0
        for source, sound in sounds(NETWORKS[name], download=False).items():
            if start >= times[-1]:
                break
            loudness = 0.5 + 0.5 * sound / max(1, int(np.abs(sound.astype(np.int32)).max()))
            axis.plot(start + np.arange(len(sound)) / audio.RATE, loudness, linewidth=0.3, color="lightgray", zorder=0)
            axis.axvline(start, color="gray", linewidth=0.5)
            axis.text(start + 0.03, 1.02, source, fontsize=8, va="bottom", clip_on=True)
            start += len(sound) / audio.RATE
        axis.step(times, [score[0] for score in scores], where="post", color="tab:blue")
        axis.axhline(NETWORKS[name].cutoff, linestyle=":", color="tab:red")
        axis.set(ylabel=name, xlim=(0, times[-1]), ylim=(0, 1.12))
    axes[-1].set_xlabel("seconds")
    figure.suptitle("Wake words on the Tidemill NPU: probability after each step")
    figure.savefig(path, dpi=80)
    return path
