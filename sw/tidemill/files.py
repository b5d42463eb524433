"""Writing files so that they appear complete or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path


def check_writable(path: str | Path) -> None:
    """Raises OSError, which names `path`, where no file can be written there."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))


def write_whole(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, replacing what was there. Raises OSError; the old file is unharmed then."""
    path = Path(path)
    check_writable(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
