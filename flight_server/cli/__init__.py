"""The `athena-flight` command: one module per group of commands, put together here."""

from __future__ import annotations

import typer

from flight_server.cli import tables

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)
app.add_typer(tables.app, name="tables")


@app.callback()
def _root() -> None:
    """Serve named, typed SQL datasets as Arrow record batches."""


def main() -> None:
    """Entry point of the `athena-flight` command."""
    app()
