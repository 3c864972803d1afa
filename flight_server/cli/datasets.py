"""`athena-flight datasets`: what is there."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from flight_server import config as settings
from flight_server.authoring.local import datasets as load_datasets
from flight_server.cli.options import ConfigFile
from flight_server.cli.output import print_rows
from flight_server.datasets.describe import contract_json
from flight_server.model import Dataset


def datasets(
    as_json: Annotated[bool, typer.Option("--json", help="The whole contracts as one JSON list.")] = False,
    config: ConfigFile = None,
) -> None:
    """List the datasets: name, version, parameters (a ? marks one that may be left out), title.

    Example: athena-flight datasets --json | jq '.[].columns[].name'
    """
    found = list(load_datasets(settings.load(config)).all())
    if as_json:
        print(json.dumps([contract_json(dataset) for dataset in found], indent=2))
        return
    rows = [(dataset.name, str(dataset.version), _params(dataset), dataset.title) for dataset in found]
    print_rows(("dataset", "version", "parameters", "title"), rows)


def _params(dataset: Dataset) -> str:
    return ", ".join(f"{name}{'' if each.required else '?'}" for name, each in dataset.params.items())
