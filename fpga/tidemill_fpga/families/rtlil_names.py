"""Names of wires that every pass of Yosys can take."""

from __future__ import annotations

import re

_NAME = re.compile(r"\\\S+")
_BRACKETS = str.maketrans("[]", "<>")


def plain_names(rtlil: str) -> str:
    """`rtlil` with angle for square brackets in names: on names of wires with square ones abc9 ends without a message.

    Slices keep theirs: RTLIL writes them after a space.
    """
    return _NAME.sub(lambda match: match[0].translate(_BRACKETS), rtlil)
