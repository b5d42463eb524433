"""Speech features of 16 kHz audio, in the integer arithmetic of TensorFlow Lite Micro's signal library.

Every 30 ms window becomes 40 log-mel values: window, real FFT with common scaling, mel filter bank, square root,
spectral subtraction (a running noise estimate for each channel), PCAN gain control and logarithm. Two versions are in
use, which differ in roundings of the window and the filter bank, in the time between windows and in the scaling of
windows that hold -32768: `MICRO_SPEECH` gives the values of tflite-micro's `audio_preprocessor_int8` model,
`WAKE_WORD` those of pymicro-features.

Sources of the formulas: tflite-micro signal/src (ApplyWindow, FftAutoScale, SpectrumToEnergy,
FilterbankAccumulateChannels, Sqrt64, FilterbankSpectralSubtraction, ApplyPcanAutoGainControlFixed, Log32), its
microfrontend library (FilterbankPopulateState, PcanGainControlPopulateState) and kissfft 1.3 with FIXED_POINT 16
(kf_bfly4, kiss_fftr).
"""

from __future__ import annotations

import math
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidemill.models.errors import InputError

RATE = 16_000
"""Samples per second."""
WINDOW = 480
"""Samples of a window: 30 ms."""
CHANNELS = 40

_FFT = 512
_BANDS = _FFT // 2 + 1
_LOWEST_HZ, _HIGHEST_HZ = 125.0, 7500.0
_WEIGHT_BITS = 12
_SMOOTHING_BITS = 10
_NOISE_BITS = 14
_SMOOTHING = np.where(np.arange(CHANNELS) % 2 == 0, 409, 983)  # 0.025 and 0.06 of 2**14
_LEAST_SIGNAL = 819  # 0.05 of 2**14
_CORRECTION_BITS = 3
_SNR_BITS = 12
_SNR_SHIFT = 6
_OUTPUT_BITS = 6
_LOG_SEGMENTS = 128
_LN2 = 45426  # of 2**16

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Version:
    """What differs between the front ends: `step`, samples from one window to the next; and `single`: window and
    filter bank are computed in single precision and rounded, as C programs do, and -32768 is left out of the scaling.
    Otherwise they are computed in double precision, the filter bank is cut off, and -32768 wraps the maximum."""

    step: int
    single: bool


MICRO_SPEECH = Version(step=320, single=False)
"""tflite-micro's audio_preprocessor_int8 with the 20 ms steps of micro_speech."""
WAKE_WORD = Version(step=160, single=True)
"""pymicro-features: microfrontend with the 10 ms steps of microWakeWord."""


@dataclass(frozen=True)
class _Complex:
    real: Integers
    imag: Integers


def _wrap16(value: Any) -> Integers:
    return np.asarray(value).astype(np.int16).astype(np.int64)


def _round15(product: Any) -> Integers:
    return _wrap16((product + (1 << 14)) >> 15)


def _multiply(a: _Complex, b: _Complex) -> _Complex:
    return _Complex(_round15(a.real * b.real - a.imag * b.imag), _round15(a.real * b.imag + a.imag * b.real))


def _divide(value: _Complex, by: int) -> _Complex:
    return _Complex(_round15(value.real * (32767 // by)), _round15(value.imag * (32767 // by)))


def _add(a: _Complex, b: _Complex) -> _Complex:
    return _Complex(_wrap16(a.real + b.real), _wrap16(a.imag + b.imag))


def _subtract(a: _Complex, b: _Complex) -> _Complex:
    return _Complex(_wrap16(a.real - b.real), _wrap16(a.imag - b.imag))


def _unit(phase: NDArray[np.float64]) -> _Complex:
    return _Complex(
        np.floor(0.5 + 32767 * np.cos(phase)).astype(np.int64), np.floor(0.5 + 32767 * np.sin(phase)).astype(np.int64)
    )


def _fft(x: _Complex, twiddles: _Complex) -> _Complex:
    """Decimation in time by 4 along the last axis, whose length is a power of 4; each level divides by 4."""
    size = x.real.shape[-1]
    if size == 1:
        return x
    total = len(twiddles.real)
    part = [_fft(_Complex(x.real[..., k::4], x.imag[..., k::4]), twiddles) for k in range(4)]
    index = np.arange(size // 4) * (total // size)
    f0, *rest = (_divide(value, 4) for value in part)
    s0, s1, s2 = (
        _multiply(value, _Complex(twiddles.real[index * (k + 1)], twiddles.imag[index * (k + 1)]))
        for k, value in enumerate(rest)
    )
    s5, f0 = _subtract(f0, s1), _add(f0, s1)
    s3, s4 = _add(s0, s2), _subtract(s0, s2)
    turned = _Complex(s4.imag, -s4.real)
    quarters = (_add(f0, s3), _add(s5, turned), _subtract(f0, s3), _subtract(s5, turned))
    return _Complex(
        np.concatenate([quarter.real for quarter in quarters], axis=-1),
        np.concatenate([quarter.imag for quarter in quarters], axis=-1),
    )


def _real_fft(x: Integers) -> _Complex:
    """`x` int16 [..., 512] -> bands 0..256 of its spectrum divided by 512, as int16."""
    half = _FFT // 2
    z = _fft(_Complex(x[..., 0::2], x[..., 1::2]), _unit(-2 * math.pi * np.arange(half) / half))
    first = _divide(_Complex(z.real[..., :1], z.imag[..., :1]), 2)
    low = _divide(_Complex(z.real[..., 1 : half // 2 + 1], z.imag[..., 1 : half // 2 + 1]), 2)
    high = _divide(_Complex(z.real[..., : half // 2 - 1 : -1], -z.imag[..., : half // 2 - 1 : -1]), 2)
    f1, f2 = _add(low, high), _subtract(low, high)
    turned = _multiply(f2, _unit(-math.pi * (np.arange(1, half // 2 + 1) / half + 0.5)))
    real, imag = np.zeros((2, *x.shape[:-1], _BANDS), dtype=np.int64)
    real[..., :1], real[..., half:] = _wrap16(first.real + first.imag), _wrap16(first.real - first.imag)
    real[..., 1 : half // 2 + 1] = _wrap16((f1.real + turned.real) >> 1)
    imag[..., 1 : half // 2 + 1] = _wrap16((f1.imag + turned.imag) >> 1)
    real[..., half - 1 : half // 2 - 1 : -1] = _wrap16((f1.real - turned.real) >> 1)
    imag[..., half - 1 : half // 2 - 1 : -1] = _wrap16((turned.imag - f1.imag) >> 1)
    return _Complex(real, imag)


@cache
def _window(single: bool) -> Integers:
    """The Hann window, of 2**12."""
    kind: Any = np.float32 if single else np.float64
    phase = kind(2 * math.pi / WINDOW) * (np.arange(WINDOW, dtype=kind) + kind(0.5))
    return np.asarray(np.floor((kind(0.5) - kind(0.5) * np.cos(phase)) * kind(4096) + kind(0.5)), dtype=np.int64)


@cache
def _filter_bank(single: bool) -> Integers:
    """Weights [257 bands, 40 channels], of 2**12: each band is shared by the two channels beside it."""
    kind: Any = np.float32 if single else np.float64

    def mel(hz: Any) -> Any:
        return kind(1127) * np.log1p(kind(hz) / kind(700))

    low = mel(_LOWEST_HZ)
    spacing = (mel(_HIGHEST_HZ) - low) / kind(CHANNELS + 1)
    edges = np.concatenate([[low], low + spacing * np.arange(1, CHANNELS + 2, dtype=kind)]).astype(kind)
    hz = kind(RATE / _FFT)
    half = 0.5 if single else 0.0
    weights = np.zeros((_BANDS, CHANNELS + 2), dtype=np.int64)
    for band in range(int(1.5 + _LOWEST_HZ / hz), _BANDS):
        place = mel(band * hz)
        upper = int(np.searchsorted(edges[1:], place)) + 1  # the first edge at or above the band
        if upper > CHANNELS + 1:
            break
        share = (edges[upper] - place) / (edges[upper] - edges[upper - 1])
        weights[band, upper - 1] += math.floor(share * (1 << _WEIGHT_BITS) + half)
        weights[band, upper] += math.floor((1 - share) * (1 << _WEIGHT_BITS) + half)
    return weights[:, 1:-1]


@cache
def _gain_table() -> Integers:
    """PCAN's gain 2**21 * (x / 128 + 80) ** -0.95, one quadratic for each power of two: [33, 3]."""

    def gain(x: int) -> int:
        value = np.float32(2**21) * np.power(np.float32(x) / np.float32(128) + np.float32(80), np.float32(-0.95))
        return min(int(value + np.float32(0.5)), 32767)

    table = np.zeros((33, 3), dtype=np.int64)
    table[:2, 0] = gain(0), gain(1)
    for interval in range(2, 33):
        start = 1 << (interval - 1)
        y0, y1, y2 = gain(start), gain(start + start // 2), gain(2 * start - (interval == 32))
        slope = 4 * (y1 - y0) - (y2 - y0)
        table[interval] = y0, slope, y2 - y0 - slope
    return table


@cache
def _log_table() -> Integers:
    """2**16 * (log2(1 + x) - x) at x = 0, 1/128, ..., 1."""
    x = np.arange(_LOG_SEGMENTS + 1) / _LOG_SEGMENTS
    return np.rint(65536 * (np.log2(1 + x) - x)).astype(np.int64)


def _bit_length(value: Integers) -> Integers:
    return np.frexp(value.astype(np.float64))[1].astype(np.int64)


def _scale_bits(windowed: Integers, skip_lowest: bool) -> int:
    """The shift that makes the largest sample fill 15 bits.

    -32768 is left out, or wraps the running int16 maximum of MaxAbs16, which starts again after it.
    """
    wrapped = np.flatnonzero(windowed == -32768)
    if len(wrapped) == 0 or skip_lowest:
        largest = int(np.abs(np.where(windowed == -32768, 0, windowed)).max())
    else:
        after = windowed[wrapped[-1] + 1 :]
        largest = max(int(after[0]), int(np.abs(after[1:]).max(initial=-32768))) if len(after) else -32768
    return 15 - largest.bit_length() if largest >= 0 else 0


def _square_root(value: int) -> int:
    root = math.isqrt(value)
    limit = 0xFFFF if value >> 32 == 0 else 0xFFFFFFFF
    return root + (value - root * root > root and root != limit)


def _gain(noise: Integers) -> Integers:
    lengths = _bit_length(noise)
    coefficients = _gain_table()[np.where(noise <= 1, noise, lengths)]
    fraction = np.where(lengths < 11, noise << np.maximum(11 - lengths, 0), noise >> np.maximum(lengths - 11, 0))
    fraction &= 0x3FF
    value = ((coefficients[:, 2] * fraction) >> 5) + (coefficients[:, 1] << 5)
    gains = ((value * fraction + (1 << 14)) >> 15) + coefficients[:, 0]
    return np.where(noise <= 1, coefficients[:, 0], gains)


def _shrink(snr: Integers) -> Integers:
    small = ((snr * snr) & 0xFFFFFFFF) >> (2 + 2 * _SNR_BITS - _OUTPUT_BITS)
    return np.where(snr < 2 << _SNR_BITS, small, (snr >> (_SNR_BITS - _OUTPUT_BITS)) - (1 << _OUTPUT_BITS))


def _log(value: Integers) -> Integers:
    """64 * ln(value) for uint32 values, 0 for 0 and 1."""
    whole = _bit_length(np.maximum(value, 1)) - 1
    rest = np.maximum(value, 1) - (1 << whole)
    fraction = np.where(whole < 16, rest << np.maximum(16 - whole, 0), rest >> np.maximum(whole - 16, 0))
    segment = fraction >> 9
    table = _log_table()
    step = table[np.minimum(segment + 1, _LOG_SEGMENTS)] - table[segment]
    log2 = (whole << 16) + fraction + table[segment] + ((step * (fraction - (segment << 9))) >> 16)
    natural = (_LN2 * log2 + 32768) >> 16
    return np.where(value > 1, (64 * natural + 32768) >> 16, 0)


class FrontEnd:
    """Turns a stream of samples into features; keeps the noise estimate and the unused samples between calls."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self.reset()

    def reset(self) -> None:
        """Forget the sound heard so far."""
        self._samples = np.zeros(0, dtype=np.int64)
        self._noise = np.zeros(CHANNELS, dtype=np.int64)

    def process(self, samples: NDArray[np.int16]) -> NDArray[np.int16]:
        """int16 samples [n] of 16 kHz mono sound -> int16 [windows, 40]: 64 times the natural logarithm.

        Raises InputError for another type or shape.
        """
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise InputError(f"samples are {samples.dtype} {list(samples.shape)}: int16 of one dimension is expected")
        sound = np.concatenate([self._samples, samples.astype(np.int64)])
        step, single = self._version.step, self._version.single
        count = max(0, (len(sound) - WINDOW) // step + 1)
        self._samples = sound[count * step :]
        if count == 0:
            return np.zeros((0, CHANNELS), dtype=np.int16)
        frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::step][:count]
        windowed = np.clip((frames * _window(single)) >> 12, -32768, 32767)
        shifts = [_scale_bits(frame, single) for frame in windowed]
        padded = np.zeros((count, _FFT), dtype=np.int64)
        padded[:, :WINDOW] = _wrap16(windowed << np.array(shifts)[:, None])
        spectrum = _real_fft(padded)
        channels = (spectrum.real**2 + spectrum.imag**2) @ _filter_bank(single)
        out = np.zeros((count, CHANNELS), dtype=np.int16)
        for row, shift, energies in zip(out, shifts, channels, strict=True):
            signal = np.array([_square_root(int(energy)) >> shift for energy in energies], dtype=np.int64)
            row[:] = np.minimum(_log((self._without_noise(signal) << _CORRECTION_BITS) & 0xFFFFFFFF), 32767)
        return out

    def _without_noise(self, signal: Integers) -> Integers:
        """Update the noise estimate by one window and remove it from the channels: the result of PCAN."""
        scaled = (signal << _SMOOTHING_BITS) & 0xFFFFFFFF
        self._noise = (scaled * _SMOOTHING + self._noise * ((1 << _NOISE_BITS) - _SMOOTHING)) >> _NOISE_BITS
        floor = (signal * _LEAST_SIGNAL) >> _NOISE_BITS
        clean = np.maximum((scaled - np.minimum(self._noise, scaled)) >> _SMOOTHING_BITS, floor)
        return _shrink(((clean * _gain(self._noise)) >> _SNR_SHIFT) & 0xFFFFFFFF)


def micro_speech_features(samples: NDArray[np.int16]) -> NDArray[np.int8]:
    """The input of micro_speech: int8 [windows, 40], a window every 20 ms; one second gives 49 windows."""
    logs = FrontEnd(MICRO_SPEECH).process(samples).astype(np.int64)
    return np.clip((logs * 256 + 333) // 666 - 128, -128, 127).astype(np.int8)


def wake_word_features(samples: NDArray[np.int16], scale: float, zero_point: int) -> NDArray[np.int8]:
    """The input of the microWakeWord models: int8 [windows, 40], a window every 10 ms, in the model's quantization.

    The real value is the front end's divided by 25.6, as pymicro-features returns it; the rounding is that of
    pymicro-wakeword's process_streaming_prob.
    """
    real = (FrontEnd(WAKE_WORD).process(samples) * 0.0390625).astype(np.float32)
    return np.clip(np.round(real / np.float32(scale) + zero_point), -128, 127).astype(np.int8)


def read_wav(path: str | Path) -> NDArray[np.int16]:
    """Samples of a 16-bit mono WAV file of 16 kHz. Raises InputError, which names the file; OSError."""
    try:
        with wave.open(str(path), "rb") as file:
            form = (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate())
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise InputError(f"{path}: not a WAV file: {error or 'it is truncated'}") from None
    if form != (1, 16, RATE):
        raise InputError(
            f"{path}: {form[0]} channel(s), {form[1]} bits, {form[2]} Hz: mono, 16 bits, {RATE} Hz expected"
        )
    return np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2").astype(np.int16)
