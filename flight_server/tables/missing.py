"""Tables that datasets read and the catalog does not have: told at start, and by commands that meet one."""

from __future__ import annotations

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from flight_server.datasets.registry import Registry
from flight_server.plan import allowed
from flight_server.tables.locate import locator

WAY_OUT = "`athena-flight tables create` and `load` make it, `athena-flight demo` those of the demo"


def missing(catalog: Catalog, registry: Registry) -> dict[str, list[str]]:
    """Datasets by the missing table `database.table` that they read, sorted. The server's own tables are in no catalog.

    Raises TableError when the catalog does not answer.
    """
    readers: dict[str, set[str]] = {}
    for dataset in registry.all():
        if dataset.engine != "system":
            for name in allowed.table_names(dataset.tree):
                readers.setdefault(name, set()).add(dataset.name)
    locate = locator(catalog)
    found = {}
    for name in sorted(readers):
        try:
            locate(name)
        except NoSuchTableError:
            found[name] = sorted(readers[name])
    return found
