"""Parts of Tidemill that other packages bring: found by name in a group of entry points, imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any


def known_extensions(group: str, built_in: Mapping[str, str]) -> dict[str, str]:
    """Name and `module:attribute` of all objects of a group; registered ones win over built-in ones."""
    return dict(built_in) | {point.name: point.value for point in entry_points(group=group)}


def import_object(path: str) -> Any:
    """The object at `module:attribute`. Raises `ImportError`."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_extension(group: str, built_in: Mapping[str, str], name: str, what: str, extra: str) -> Any:
    """The object called `name` of entry-point group `group`.

    Raises `click.ClickException` where it cannot be imported: `what` says what is missing, `extra` the optional
    dependencies that bring it.
    """
    try:
        return import_object(known_extensions(group, built_in)[name])
    except ImportError as error:
        import click

        raise click.ClickException(
            f"{what} cannot be imported ({error}); install it with: pip install 'tidemill[{extra}]'"
        ) from None
