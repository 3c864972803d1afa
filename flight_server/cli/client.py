"""`athena-flight client …`: code for the users of the datasets, written from the contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flight_server import config as settings
from flight_server.authoring.local import datasets
from flight_server.authoring.python_module import module
from flight_server.cli.options import ConfigFile

app = typer.Typer(no_args_is_help=True, help="Write typed code for clients from the contracts.")
_FILE = "flight_datasets.py"


@app.callback()
def _root() -> None:
    """Write typed code for clients from the contracts."""


@app.command()
def python(
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="Where the module goes; made if absent.")],
    config: ConfigFile = None,
) -> None:
    """Write flight_datasets.py: a typed function for each dataset, over athena-flight-client. Needs no server.

    Example: athena-flight client python --output stubs/
    """
    found = list(datasets(settings.load(config)).all())
    output.mkdir(parents=True, exist_ok=True)
    file = output / _FILE
    file.write_text(module(found), encoding="utf-8")
    print(f"{file}\t{len(found)} datasets")
