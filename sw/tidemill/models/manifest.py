"""The list of models and inputs that are known by name: `manifest.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePosixPath

from tidemill.models.errors import ModelNotFound

_DOWNLOADS = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Entry:
    """A file and where it comes from: a `repository` (owner/name) at a `commit`, or an installed `package`."""

    name: str
    kind: str
    """model or input."""
    file: PurePosixPath
    """Where it lies in a folder of models."""
    path: PurePosixPath
    """Where it lies in its origin."""
    sha256: str
    bytes: int
    licence: str
    input: str
    """What the model takes, or what the input is for."""
    repository: str = ""
    commit: str = ""
    package: str = ""
    version: str = ""

    @property
    def url(self) -> str:
        """Where it is downloaded from; empty for a file of a package."""
        return f"{_DOWNLOADS}/{self.repository}/{self.commit}/{self.path}" if self.repository else ""

    @property
    def origin(self) -> str:
        """The origin in words."""
        return f"{self.repository} at {self.commit[:8]}" if self.repository else f"{self.package} {self.version}"


@cache
def load_manifest() -> dict[str, Entry]:
    """All entries by name, in the manifest's order."""
    content = tomllib.loads(resources.files("tidemill.models").joinpath("manifest.toml").read_text(encoding="utf-8"))
    entries = {}
    for item in content["file"]:
        origin = content["origin"][item.pop("origin")]
        file, path = PurePosixPath(item.pop("file")), PurePosixPath(item.pop("path"))
        entries[item["name"]] = Entry(file=file, path=path, **item, **origin)
    return entries


def entry(name: str) -> Entry:
    """The entry of that name. Raises ModelNotFound with all names."""
    known = load_manifest()
    if name not in known:
        raise ModelNotFound(f"no model or input is named {name!r}; known are {', '.join(known)}")
    return known[name]
