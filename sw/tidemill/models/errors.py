"""What can be wrong with models and inputs that a user names."""

from __future__ import annotations


class ModelError(Exception):
    """A model or input file that cannot be used; the message says which and why."""


class ModelNotFound(ModelError):
    """No such name in the manifest, or its file is nowhere; the message lists the names or where it was looked for."""


class WrongChecksum(ModelError):
    """A file with a model's name whose content is not the one in the manifest."""


class InputError(ModelError):
    """An input file that does not fit the model's input; the message names the file."""
