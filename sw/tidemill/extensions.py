"""Parts of Tidemill that other packages bring: found by name in a group of entry points, imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

import click


def load_extension(group: str, built_in: Mapping[str, str], name: str, what: str, extra: str) -> Any:
    """The object called `name` of entry-point group `group`; a registered one wins over a built-in `module:attribute`.

    Raises `click.ClickException` where it cannot be imported: `what` says what is missing, `extra` the optional
    dependencies that bring it.
    """
    known = dict(built_in) | {point.name: point.value for point in entry_points(group=group)}
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise click.ClickException(
            f"{what} cannot be imported ({error}); install it with: pip install 'tidemill[{extra}]'"
        ) from None
