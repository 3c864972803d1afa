"""Whether tables can be read, as /readyz asks: their catalog, and the metadata of one of them where it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import load_file_io

from flight_server import config as settings
from flight_server.errors import TableError
from flight_server.tables.catalog import database, translated
from flight_server.tables.locate import locator

# What a catalog is asked for by a server whose datasets read no table.
_NO_TABLE = "default.none"


def probe(config: settings.Catalog, catalog: Catalog, tables: Callable[[], Iterable[str]]) -> Callable[[], None]:
    """A function that raises TableError unless the first of `tables` can be looked up and its metadata be opened.

    It takes no other right than plans do. A table that is not there is nobody's outage.
    """
    locate = locator(catalog)
    # One for all probes: each has connections of its own.
    stored = load_file_io(catalog.properties, catalog.properties.get("warehouse"))
    file = database(config)
    opened = _identity(file)

    def reachable() -> None:
        if _identity(file) != opened:
            raise TableError(
                f"the catalog's file {str(file)!r} was removed or replaced; this server reads on in the one that it "
                "has open: put that back, or restart the server"
            )
        with translated("reach the catalog"), suppress(NoSuchTableError):
            location = locate(next(iter(tables()), _NO_TABLE))
            with translated(f"read the tables' metadata: {location!r}"):
                stored.new_input(location).open().close()

    return reachable


def _identity(file: Path | None) -> tuple[int, int] | None:
    """What stays of a file for as long as it is the same one."""
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status else None
