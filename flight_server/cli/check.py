"""`athena-flight check`: what is wrong with the dataset files, without a server, a catalog or a network."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from flight_server import config as settings
from flight_server.authoring.against import breaking
from flight_server.authoring.check import check as check_folder
from flight_server.cli.options import ConfigFile


def check(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One dataset; all if none is named.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="REF", help="Name what breaks callers since this git commit, too.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Check the dataset files: contract, SQL, tables, columns, types. Offline; exit code 1 when one is wrong.

    Everything that is wrong is one line FILE:LINE:COLUMN: MESSAGE on standard output.

    Examples: athena-flight check

              athena-flight check daily_prices

              athena-flight check --against origin/main
    """
    started = time.perf_counter()
    directory = settings.load(config).datasets.directory
    errors = check_folder(directory, name)
    if against is not None:
        errors += breaking(directory, against, name)
    for error in errors:
        print(error)
    sys.stdout.flush()
    took = f"{time.perf_counter() - started:.2f} s"
    if errors:
        print(f"{len(errors)} wrong in {directory} ({took})", file=sys.stderr)
        raise typer.Exit(1)
    what = name or f"{len(list(directory.glob('*.sql')))} dataset files in {directory}"
    print(f"{what}: all right ({took})", file=sys.stderr)
