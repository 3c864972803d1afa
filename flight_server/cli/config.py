"""`athena-flight config …`: the settings in force with where they come from, and what is wrong with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from flight_server import preconditions, provenance
from flight_server.cli.options import ConfigFile, Host, InsecureAllowRemote, Port, server_flags
from flight_server.cli.output import print_rows
from flight_server.errors import DatasetError

app = typer.Typer(no_args_is_help=True, help="Show and check the settings.")


@app.callback()
def _root() -> None:
    """Show and check the settings."""


@app.command()
def show(
    host: Host = None,
    port: Port = None,
    insecure_allow_remote: InsecureAllowRemote = False,
    config: ConfigFile = None,
) -> None:
    """Print every setting, its value and its source: default, file:PATH, a variable, or a flag. No secrets.

    The flags are those of `serve`, to see what it would do with them. In a pipe the columns are separated by tabs.

    Example: athena-flight config show --config prod.toml
    """
    found = provenance.effective(config, server_flags(host, port, insecure_allow_remote))
    print_rows(("setting", "value", "source"), [(each.setting, each.value, each.source) for each in found])


@app.command()
def check(config: ConfigFile = None) -> None:
    """Name keys and variables that no setting has, and what `serve` would refuse to start with; 1 if there is any.

    All of it at once: also what settings need of each other and of this machine, as long as each value is good by
    itself. Nothing is started, and no network is used.

    Example: athena-flight config check --config prod.toml
    """
    lines = [str(problem) for problem in provenance.problems(config)] + list(_together(config))
    for said in lines:
        print(said)
    if lines:
        sys.exit(1)
    print("the settings are good")


def _together(config: Path | None) -> Iterator[str]:
    found = provenance.known(config)
    for error in preconditions.problems(found) if found else ():
        # What stands in a file has its own place.
        yield str(error if isinstance(error, DatasetError) else provenance.placed(config, str(error)))
