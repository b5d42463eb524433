"""The `tidemill` command. Each file of this package is one subcommand: its function has the file's name.

Subcommands are imported when they are used, so a missing optional package only breaks the command that needs it.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import PackageNotFoundError, version

import click

from tidemill.asm.diagnostics import AsmError
from tidemill.compiler import ir
from tidemill.compiler.ports import InputError
from tidemill.config import ConfigError
from tidemill.driver.errors import DeviceError
from tidemill.isa import EncodingError
from tidemill.models import errors
from tidemill.program_file import ProgramFileError

KNOWN_ERRORS = (
    AsmError,
    ConfigError,
    ProgramFileError,
    DeviceError,
    EncodingError,
    InputError,
    ir.ModelError,
    errors.ModelError,
    OSError,
    UnicodeDecodeError,
)
"""Errors that are about the user's input: one message, no traceback."""


def _version() -> str:
    try:
        return version("tidemill")
    except PackageNotFoundError:
        return "from source"


class _Commands(click.Group):
    """Finds subcommands among the modules of this package and turns known errors into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all subcommands."""
        return sorted(
            module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.name != "__main__"
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand, imported now; None where there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        try:
            command: click.Command = getattr(importlib.import_module(f"{__name__}.{name}"), name)
        except ImportError as error:
            missing = error
            return click.Command(
                cmd_name,
                callback=lambda **_: _fail(f"{cmd_name} needs a package that is not installed: {missing}"),
                context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
                short_help="(not available: a package is missing)",
            )
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand; known errors end with exit code 1 and a message."""
        try:
            return super().invoke(ctx)
        except AsmError as error:
            click.echo(str(error), err=True)
            count = len(error.diagnostics)
            _fail(f"{count} error{'s' if count != 1 else ''} in the source")
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        except KNOWN_ERRORS as error:
            _fail(" ".join(str(error).split("\n")))
        return None


def _fail(message: str) -> None:
    click.echo(f"tidemill: error: {message}", err=True)
    raise click.exceptions.Exit(1)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="tidemill")
def main() -> None:
    """Tidemill: compile networks and run them on the NPU; assemble, check and run its programs.

    \b
    Example:
      tidemill compile net.tflite -o net.tmb
      tidemill infer net.tmb --input x.npy --output y.npy
      tidemill asm k.s -o k.tmb
      tidemill run k.tmb --device iss --in A=a.npy --out C=c.npy
    """
