"""Writes one harness as RTLIL: a program of its own, so that it can import a broken copy of the hardware.

`python -m tidemill_verif.formal.emit BLOCK PROOF` writes `design.il` and `inner.json` into the working folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from amaranth.back import rtlil

from tidemill_verif.formal.proof import ProofError, find_proof


def main(block: str, name: str) -> int:
    """Returns 1 with a message for an unknown proof."""
    try:
        harness = find_proof(block, name).harness()
    except ProofError as error:
        print(error, file=sys.stderr)
        return 1
    text = rtlil.convert(harness, name="top", emit_src=False)
    # Amaranth writes the formal cells as if they were modules of the user.
    Path("design.il").write_text(text.replace("cell \\$", "cell $"))
    Path("inner.json").write_text(json.dumps(harness.inner_paths, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
