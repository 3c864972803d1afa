"""The `athena-flight` command: one module per group of commands, put together here.

A command's module is imported when the command is used: `check` needs neither Flight, boto3 nor SQLAlchemy, and they
are half of its time (0.6 s of 1.2 s).
"""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flight_server import __version__
from flight_server.cli import stdout
from flight_server.errors import Error

# Where each command's function is, in the order of --help; a Typer of its own is a group of commands.
_COMMANDS = {
    "demo": "demo:demo",
    "serve": "serve:serve",
    "check": "check:check",
    "test": "cases:run_cases",
    "new": "new:new",
    "explain": "run:explain",
    "run": "run:run",
    "datasets": "datasets:datasets",
    "client": "client:app",
    "tables": "tables:app",
    "materialize": "materialize:materialize",
    "results": "results:app",
    "pins": "pins:app",
    "config": "config:app",
    "auth": "auth:app",
    "tls": "tls:app",
    "version": "version:version",
}


class _Group(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - fixed by Typer
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - fixed by Typer
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        alone = typer.Typer(add_completion=False)
        if isinstance(found, typer.Typer):
            # Through a parent, or every group would have the options that install completion.
            alone.add_typer(found, name=cmd_name)
            return typer.main.get_group(alone).commands[cmd_name]
        alone.command(cmd_name)(found)
        command = typer.main.get_command(alone)
        command.name = cmd_name
        return command


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        print(f"athena-flight {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")
    ] = False,
) -> None:
    """Serve named, typed SQL datasets as Arrow record batches."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `athena-flight` command. Exits with 0, 1 (failed or refused) or 2 (wrong usage), or 141.

    141 where the reader of its output has gone (`cli/stdout.py`).
    """
    stdout.guard()
    try:
        try:
            app(args=arguments, prog_name="athena-flight")
        finally:
            # Here, where it can still be told that it fails.
            sys.stdout.flush()
    except Error as error:
        print(f"error: {line(error)}", file=sys.stderr)
        sys.exit(1)


def line(error: Error) -> str:
    """`[code] …` on one line, with the place in the file where there is one."""
    text = " ".join(str(error).split())
    return text if text.startswith(f"[{error.code}]") else f"[{error.code}] {text}"
