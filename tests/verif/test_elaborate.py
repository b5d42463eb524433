"""What is cached is what was elaborated."""

from __future__ import annotations

import pytest

from tidemill_verif import elaborate


def test_sources_edited_after_the_import_do_not_change_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process elaborates what it imported; under the key of newer sources that would be taken for theirs."""
    before = elaborate.hardware_key()
    monkeypatch.setattr(elaborate, "tree_key", lambda *_: "edited")
    assert elaborate.hardware_key() == before
