"""Third-party models and inputs by name, and the way from a user's file to a model's input."""

from tidemill.models.errors import InputError, ModelError, ModelNotFound, WrongChecksum
from tidemill.models.manifest import Entry, load_manifest
from tidemill.models.store import find

__all__ = ["Entry", "InputError", "ModelError", "ModelNotFound", "WrongChecksum", "find", "load_manifest"]
