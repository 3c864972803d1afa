"""The datasets that every server has: its own calls, queries, datasets and costs, for the roles of `system.roles`.

Files like any dataset's, shipped with the package; they exist for who has one of the roles and for nobody else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from flight_server.datasets import contract
from flight_server.datasets.registry import Registry
from flight_server.errors import DatasetError
from flight_server.model import Dataset

FOLDER = Path(__file__).parent


def load(roles: Collection[str]) -> list[Dataset]:
    """The shipped datasets, bound to the engine that has their tables. With `*` among the roles, for everybody."""
    wanted = frozenset() if "*" in roles else frozenset(roles)
    found = [contract.parse(path, path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.sql"))]
    return [replace(dataset, engine="system", roles=wanted) for dataset in found]


def served(registry: Registry, own: Iterable[Dataset]) -> Registry:
    """The registry with the server's own datasets. Raises DatasetError for a file that has the name of one."""
    together = dict(registry.datasets)
    for dataset in own:
        for error in _taken(registry, dataset.name):
            raise error
        together[dataset.name] = {dataset.version: dataset}
    return replace(registry, datasets=together)


def problems(registry: Registry) -> list[DatasetError]:
    """The files that no server starts with, as they have the name of a dataset of its own."""
    return [error for path in sorted(FOLDER.glob("*.sql")) for error in _taken(registry, path.stem)]


def _taken(registry: Registry, name: str) -> list[DatasetError]:
    said = f"{name} is a dataset of the server's own; choose another name"
    return [DatasetError(taken.path, 1, 1, said) for taken in registry.datasets.get(name, {}).values()]


def files(registry: Registry) -> int:
    """How many datasets the folder has: those that are not the server's own."""
    return sum(registry.latest(name).engine != "system" for name in registry.datasets)
