"""gowin_pack with arguments: its own `main` takes them from the command line of the process."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Pack as `gowin_pack` does with `arguments`; raises what that raises."""
    from apycula.gowin_pack import main

    sys.argv = ["gowin_pack", *arguments]
    main()
