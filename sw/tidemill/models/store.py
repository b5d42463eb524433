"""Finds the files of the manifest: in a folder, in the cache, in an installed package, or at their origin."""

from __future__ import annotations

import hashlib
import http.client
import importlib.metadata
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import platformdirs

from tidemill.files import write_whole
from tidemill.models.errors import ModelNotFound, WrongChecksum
from tidemill.models.manifest import Entry, entry

FOLDER_VARIABLE = "TIDEMILL_MODELS"
"""Environment variable that names a folder of models."""
TIMEOUT = 30.0
"""Seconds without an answer after which a download fails."""

_BLOCK = 1 << 14

Progress = Callable[[int, int], None]
"""Called with the bytes received and the bytes expected."""


def cache_folder() -> Path:
    """The folder of downloaded files; XDG_CACHE_HOME moves it where the platform has that variable."""
    return platformdirs.user_cache_path("tidemill") / "models"


def _check(item: Entry, content: bytes, where: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != item.sha256:
        raise WrongChecksum(
            f"{where}: this is not {item.name}: sha256 {found[:16]}..., expected {item.sha256[:16]}...; remove the file"
            f" or restore it"
        )


def _candidates(item: Entry) -> list[Path]:
    """Where the file may be without a download, in the order of search."""
    places = []
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        places += [Path(folder) / item.file, Path(folder) / item.file.name]
    places.append(cache_folder() / item.file)
    if item.package:
        try:
            distribution = importlib.metadata.distribution(item.package)
        except importlib.metadata.PackageNotFoundError:
            return places
        places.append(Path(str(distribution.locate_file(str(item.path)))))
    return places


def _download(item: Entry, progress: Progress | None) -> bytes:
    received = bytearray()
    try:
        with urllib.request.urlopen(item.url, timeout=TIMEOUT) as answer:
            while block := answer.read(_BLOCK):
                received += block
                if progress is not None:
                    progress(len(received), item.bytes)
                if len(received) > item.bytes:
                    break
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        looked = ", ".join(str(place) for place in _candidates(item))
        raise ModelNotFound(
            f"{item.name} is not in {looked}, and cannot be downloaded from {item.url}: {reason}; put the file into a"
            f" folder and name that in {FOLDER_VARIABLE}"
        ) from None
    return bytes(received)


def find(name: str, *, download: bool = True, progress: Progress | None = None) -> Path:
    """The file of the model or input `name`, its checksum verified.

    Looks in the folder TIDEMILL_MODELS (at the manifest's relative path, then by file name), in the user's cache, in
    the installed package that carries it, and downloads it into the cache where `download` allows that. A download
    appears in the cache complete and correct or not at all.

    Raises ModelNotFound, WrongChecksum; OSError where the cache cannot be written.
    """
    item = entry(name)
    places = _candidates(item)
    for place in places:
        if place.is_file():
            _check(item, place.read_bytes(), str(place))
            return place
    looked = ", ".join(str(place) for place in places)
    if item.package:
        raise ModelNotFound(f"{name} is not in {looked}; it is part of the Python package {item.origin}: install that")
    if not download:
        raise ModelNotFound(f"{name} is not in {looked}; `tidemill models get {name}` downloads it")
    content = _download(item, progress)
    _check(item, content, item.url)
    target = cache_folder() / item.file
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, content)
    return target
