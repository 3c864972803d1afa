"""`athena-flight new`: a starter to change."""

from __future__ import annotations

from typing import Annotated

import typer

from flight_server import config as settings
from flight_server.authoring.new import create
from flight_server.cli.options import ConfigFile


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower case, digits and underscores.")],
    table: Annotated[
        str | None, typer.Option(metavar="DATABASE.TABLE", help="Table to read; default: the first one with dates.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Write a commented starter dataset and its test file. What exists is never overwritten.

    Examples: athena-flight new monthly_returns

              athena-flight new holdings --table portfolio.tb_rebalance
    """
    for path in create(settings.load(config).datasets.directory, name, table):
        print(path)
