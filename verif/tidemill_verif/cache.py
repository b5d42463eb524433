"""A build cache keyed by content: what was built once for the same inputs is not built again."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

_COMPLETE = ".complete"


def cache_root() -> Path:
    """`TIDEMILL_CACHE` where set, else `tidemill` in the user's cache folder."""
    if root := os.environ.get("TIDEMILL_CACHE"):
        return Path(root).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemill"


def content_key(*parts: str | bytes) -> str:
    """Hash of `parts`, order and borders included; 24 hex digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]


def tree_key(*roots: Path, suffix: str = ".py") -> str:
    """Hash of every file ending in `suffix` below `roots` (a root may be a file): names and content."""
    parts: list[str | bytes] = []
    for root in roots:
        files = [root] if root.is_file() else sorted(root.rglob(f"*{suffix}"))
        for file in files:
            parts += [file.relative_to(root.parent).as_posix(), file.read_bytes()]
    return content_key(*parts)


def is_built(kind: str, key: str) -> bool:
    """Whether `build_once` of the same kind and key has finished before."""
    return (cache_root() / kind / key / _COMPLETE).exists()


def build_once(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder that `build(folder)` filled for `key`; calls `build` at most once over all processes.

    An interrupted or failed build leaves nothing that counts as built; the exception of `build` passes through.
    """
    folder = cache_root() / kind / key
    complete = folder / _COMPLETE
    if complete.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            complete.touch()
    return folder
