"""Reads a user's file - .npy, .png, .bmp or .wav - into the input of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tidemill.models import audio
from tidemill.models.errors import InputError

Pixels = Literal["shift", "unit", "bytes"]
"""What a pixel p of 0 to 255 means. "shift": p for uint8, p - 128 for int8, which is p or p / 255 in the usual
quantization of image models. "unit": the real value p / 255, quantized. "bytes": its byte is the value."""
Layout = Literal["NHWC", "NCHW"]

_IMAGES = (".png", ".bmp")
_MICRO_SPEECH_WINDOWS = 49


def quantize(real: NDArray[Any], dtype: DTypeLike, scale: float, zero_point: int) -> NDArray[Any]:
    """round(real / scale) + zero_point in an integer `dtype`, with saturation; halves go away from zero, as
    TensorFlow Lite's AffineQuantize rounds them."""
    limits = np.iinfo(np.dtype(dtype))
    scaled = np.asarray(real, np.float32) / np.float32(scale)
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)) + zero_point
    return np.asarray(np.clip(rounded, limits.min, limits.max), dtype=dtype)


def load_inputs(
    path: str | Path,
    shape: Sequence[int],
    dtype: DTypeLike,
    quant: tuple[float, int] = (1.0, 0),
    *,
    pixels: Pixels = "shift",
    layout: Layout = "NHWC",
    resize: bool = False,
) -> NDArray[Any]:
    """All inputs in a file, in order: `dtype` [n, *shape]. `quant` is the input's scale and zero point.

    - .npy: one input, or several along a first axis; in `dtype`, or floating point, which is quantized.
    - .png, .bmp: one image of the input's size and channels (1 grey, 3 RGB); another size only with `resize`.
    - .wav: 16 kHz mono sound. An input of 49 x 40 values takes micro_speech's features, one second a time; an input
      [..., k, 40] takes the features of the wake-word models, k windows of 10 ms a time. What is left over at the end
      is dropped.

    Raises InputError, which names the file; OSError.
    """
    path, shape, kind = Path(path), tuple(int(size) for size in shape), np.dtype(dtype)
    with open(path, "rb"):
        pass
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _from_npy(path, shape, kind, quant)
    if suffix in _IMAGES:
        return _from_image(path, shape, kind, quant, pixels, layout, resize)[np.newaxis]
    if suffix == ".wav":
        return _from_wav(path, shape, kind, quant)
    raise InputError(f"{path}: the name must end in .npy, .png, .bmp or .wav")


def load_input(
    path: str | Path,
    shape: Sequence[int],
    dtype: DTypeLike,
    quant: tuple[float, int] = (1.0, 0),
    *,
    pixels: Pixels = "shift",
    layout: Layout = "NHWC",
    resize: bool = False,
) -> NDArray[Any]:
    """The only input in a file, `dtype` [*shape], as `load_inputs` reads it. InputError where there are several."""
    values = load_inputs(path, shape, dtype, quant, pixels=pixels, layout=layout, resize=resize)
    if len(values) != 1:
        raise InputError(f"{path}: holds {len(values)} inputs of shape {list(shape)}, one is expected")
    return np.asarray(values[0])


def _from_npy(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], quant: tuple[float, int]) -> NDArray[Any]:
    try:
        value = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise InputError(f"{path}: not a .npy file of numbers: {' '.join(str(error).split())}") from None
    if not isinstance(value, np.ndarray):
        value.close()
        raise InputError(f"{path}: an archive of arrays, not one .npy array")
    if value.shape in (shape, shape[1:] if shape[:1] == (1,) else shape):
        value = value.reshape(1, *shape)
    elif value.shape[1:] != shape:
        raise InputError(f"{path}: shape {list(value.shape)}; the input is {list(shape)}, or [n, ...] for n inputs")
    if value.dtype == dtype:
        return np.asarray(value)
    if value.dtype.kind == "f" and dtype.kind in "iu":
        if not np.isfinite(value).all():
            raise InputError(f"{path}: holds values that are not finite")
        return quantize(value, dtype, *quant)
    if value.dtype.kind == "f" and dtype.kind == "f":
        return np.asarray(value.astype(dtype))
    raise InputError(f"{path}: type {value.dtype}; the input is {dtype}" + (" or float" if dtype.kind in "iu" else ""))


def _from_image(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    quant: tuple[float, int],
    pixels: Pixels,
    layout: Layout,
    resize: bool,
) -> NDArray[Any]:
    from PIL import Image

    if len(shape) != 4 or shape[0] != 1:
        raise InputError(f"{path}: an image does not fit the input {list(shape)}")
    height, width, channels = shape[1:] if layout == "NHWC" else (shape[2], shape[3], shape[1])
    mode = {1: "L", 3: "RGB"}.get(channels)
    if mode is None:
        raise InputError(f"{path}: the input {list(shape)} has {channels} channels; images have 1 or 3")
    try:
        with Image.open(path, formats=("PNG", "BMP")) as file:
            image = file.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image: {error}") from None
    if image.size != (width, height):
        if not resize:
            raise InputError(f"{path}: {image.width}x{image.height} pixels; the input is {width}x{height}")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    value = np.asarray(image, dtype=np.uint8).reshape(height, width, channels)
    if layout == "NCHW":
        value = value.transpose(2, 0, 1)
    value = np.ascontiguousarray(value).reshape(shape)
    if dtype == np.float32 and pixels == "unit":
        return value.astype(np.float32) / np.float32(255)
    if dtype not in (np.int8, np.uint8):
        raise InputError(f"{path}: an image does not fit an input of type {dtype}")
    if pixels == "unit":
        return quantize(value / np.float32(255), dtype, *quant)
    if pixels == "bytes" or dtype == np.uint8:
        return value.view(dtype)
    return (value ^ 0x80).view(np.int8)


def _from_wav(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], quant: tuple[float, int]) -> NDArray[Any]:
    samples = audio.read_wav(path)
    windows, rest = divmod(math.prod(shape), audio.CHANNELS)
    micro_speech = windows == _MICRO_SPEECH_WINDOWS
    if dtype != np.int8 or rest or not (micro_speech or shape[-1] == audio.CHANNELS):
        raise InputError(
            f"{path}: the features that the input {dtype} {list(shape)} takes are not known; int8 with 49 x 40 values"
            f" (micro_speech) or [..., k, 40] (wake words) are; give the features as .npy"
        )
    features = audio.micro_speech_features(samples) if micro_speech else audio.wake_word_features(samples, *quant)
    count = len(features) // windows
    if count == 0:
        raise InputError(f"{path}: {len(samples)} samples give {len(features)} windows; the input takes {windows}")
    return features[: count * windows].reshape(count, *shape)
