"""The networks of the acceptance run and what they are given: recordings and pictures where there are some, then
random values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.compiler.compiled import Border
from tidemill.models import ModelNotFound, audio, find
from tidemill.models.inputs import Pixels, load_input

Array = NDArray[Any]


@dataclass(frozen=True)
class Real:
    """A recording or picture of the manifest, the class it must be given, and what its pixels are (`load_input`)."""

    name: str
    label: str
    pixels: Pixels = "bytes"

    @property
    def source(self) -> str:
        """The name, and how pixels were read."""
        return f"{self.name} ({self.pixels})" if self.name.endswith("bmp") else self.name


@dataclass(frozen=True)
class Network:
    """A network by its name in the manifest.

    `labels` name its classes; `real` are its real inputs. `cutoff` is the probability that a wake word has over WINDOW
    steps when it is heard (of pymicro-wakeword), 0 for a network that does not listen step by step.
    """

    name: str
    labels: tuple[str, ...] = ()
    real: tuple[Real, ...] = ()
    cutoff: float = 0.0

    @property
    def stream(self) -> bool:
        """Listens step by step and keeps variables."""
        return self.cutoff > 0


SYNTHETIC = "synthetic"
"""Source of the steps of a stream that no recording fills."""
WINDOW = 5
"""Steps over which pymicro-wakeword takes the mean of the probabilities."""
PERSON = ("no person", "person")
PICTURES = (
    Real("person_bmp", "person"),
    Real("no_person_bmp", "no person", "shift"),
    Real("no_person_bmp", "no person"),
)
"""The bytes of person_bmp are int8 pixels. no_person_bmp holds plain ones; TFLite Micro's test takes its bytes."""
WORDS = ("silence", "unknown", "yes", "no")
RECORDINGS = (
    Real("yes_wav", "yes"),
    Real("no_wav", "no"),
    Real("noise_wav", "silence"),
    Real("silence_wav", "silence"),
)
NETWORKS = {
    network.name: network
    for network in (
        Network("resnet8_int8"),
        Network("kws_dscnn_int8"),
        Network("vww_96_int8", PERSON, PICTURES),
        Network("ad01_int8"),
        Network("person_detect", PERSON, PICTURES),
        Network("micro_speech_quantized", WORDS, RECORDINGS),
        Network("hello_world_int8"),
        Network("alexa", real=(Real("alexa_wav", "alexa"),), cutoff=0.9),
        Network("hey_jarvis", real=(Real("hey_jarvis_wav", "hey_jarvis"),), cutoff=0.97),
        Network("hey_mycroft", real=(Real("hey_mycroft_wav", "hey_mycroft"),), cutoff=0.95),
        Network("okay_nabu", real=(Real("okay_nabu_wav", "okay_nabu"),), cutoff=0.85),
    )
}


@dataclass(frozen=True)
class Sample:
    """One input: where it comes from, its value, and the class it must be given (or empty)."""

    source: str
    value: Array
    label: str = ""


def samples(network: Network, border: Border, count: int, seed: int, download: bool = True) -> list[Sample]:
    """`count` inputs: the real ones first, then random ones. Of a stream, steps of one sound.

    Random inputs are by turns uniform over the type, and normal with a random mean and spread, saturated.
    Raises ModelNotFound, InputError.
    """
    if network.stream:
        return _steps(network, border, count, seed, download)
    dtype = np.dtype(border.dtype)
    quantization = (border.scale or 1.0, border.zero_point)
    found = []
    for real in network.real[:count]:
        path = find(real.name, download=download)
        value = load_input(path, border.shape, dtype, quantization, pixels=real.pixels)
        found.append(Sample(real.source, value, real.label))
    rng, limits = np.random.default_rng(seed), np.iinfo(dtype)
    drawn: Array
    for number in range(len(found), count):
        if number % 2:
            drawn = rng.normal(rng.uniform(limits.min, limits.max), rng.uniform(1, 60), border.shape)
        else:
            drawn = rng.integers(limits.min, limits.max + 1, border.shape)
        found.append(Sample(f"random {number}", np.clip(np.rint(drawn), limits.min, limits.max).astype(dtype)))
    return found


def sounds(network: Network, download: bool = True) -> dict[str, NDArray[np.int16]]:
    """What a wake-word network listens to, by name: the recording of its word, then the words of RECORDINGS; those
    that can be found."""
    found = {}
    for real in (*network.real, *RECORDINGS):
        try:
            found[real.name] = audio.read_wav(find(real.name, download=download))
        except ModelNotFound:
            continue
    return found


def _steps(network: Network, border: Border, count: int, seed: int, download: bool) -> list[Sample]:
    windows = border.shape[-2]
    hop = windows * audio.WAKE_WORD.step
    length = audio.WINDOW + count * hop - audio.WAKE_WORD.step
    parts = sounds(network, download)
    ends = np.cumsum([len(part) for part in parts.values()])
    missing = max(0, length - sum(len(part) for part in parts.values()))
    sound = np.concatenate([*parts.values(), *synthetic(seed, missing)])[:length]
    features = audio.wake_word_features(sound, border.scale or 1.0, border.zero_point)
    names = [*parts, SYNTHETIC]
    return [
        Sample(names[int(np.searchsorted(ends, number * hop, side="right"))], step.reshape(border.shape))
        for number, step in enumerate(features.reshape(count, windows, audio.CHANNELS))
    ]


def synthetic(seed: int, length: int) -> Iterator[NDArray[np.int16]]:
    """At least `length` samples of sounds with the rhythm of speech: gliding harmonics that swell and fade, noise."""
    rng = np.random.default_rng(seed)
    while length > 0:
        count = int(rng.integers(1600, 6400))
        pitch = np.geomspace(rng.uniform(80, 300), rng.uniform(80, 300), count)
        phase = 2 * np.pi * np.cumsum(pitch) / audio.RATE
        tones = np.sum([rng.normal() / k * np.sin(k * phase) for k in range(1, 20)], axis=0)
        swell = np.sin(np.linspace(0, np.pi, count)) * 10 ** rng.uniform(1.5, 4.2)
        sound = swell * (tones + rng.uniform(0, 0.5) * rng.normal(size=count)) + rng.normal(size=count) * 5
        yield np.clip(np.rint(sound), -32768, 32767).astype(np.int16)
        length -= count
