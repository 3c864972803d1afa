"""Writing pins: an Iceberg tag of the pin's name on each of its tables. How they are read: plan/as_of.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table, Transaction
from pyiceberg.table.update.snapshot import ManageSnapshots

from flight_server.errors import Error, InvalidRequest, TableError
from flight_server.plan.as_of import tags
from flight_server.tables.catalog import find_table, table_names, translated
from flight_server.telemetry import log

# Another commit comes in between by chance only; so many in a row are a table that is written to all the time.
_COMMITS_MAX = 5

# What is to be done to a table as it is now, or None where that is done already.
Change = Callable[[Table], Callable[[Transaction], object] | None]
# With the pin's name after it, the property that a tag is committed with: all tables of the pin, separated by commas. A
# pin is several commits, and who made it can be killed between them.
_TABLES = "athena-flight.pin."


@dataclass(frozen=True, slots=True)
class Tagged:
    """A table of a pin: the snapshot that its tag keeps, and when that was committed."""

    table: str
    snapshot_id: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Pinned:
    """A pin as its tables have it. `missing` are those that it was made for and is not on: it is incomplete."""

    name: str
    tables: tuple[Tagged, ...]
    missing: tuple[str, ...]


def listed(catalog: Catalog) -> list[Pinned]:
    """All pins of a catalog by name, with their tables by name. A tag of another engine's making is never incomplete.

    Raises TableError when the catalog or its storage does not answer.
    """
    found: dict[str, list[Tagged]] = {}
    wanted: dict[str, set[str]] = {}
    for name in table_names(catalog):
        table = find_table(catalog, name)
        for pin, snapshot in tags(table).items():
            kept = table.snapshot_by_id(snapshot)
            at = datetime.fromtimestamp(kept.timestamp_ms / 1000 if kept else 0, UTC)
            found.setdefault(pin, []).append(Tagged(name, snapshot, at))
            wanted.setdefault(pin, set()).update(table.properties.get(_TABLES + pin, name).split(","))
    return [
        Pinned(pin, tuple(found[pin]), tuple(sorted(wanted[pin] - {each.table for each in found[pin]})))
        for pin in sorted(found)
    ]


class Tags:
    """The tags of a catalog's tables, as pins are kept."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def create(self, name: str, snapshots: Mapping[str, int]) -> None:
        """Tag the snapshot of each table with `name`: all of them or none. A table that has it there is left alone.

        Raises InvalidRequest (bad-request) for a snapshot that is not there and for a name that is taken, TableError
        for a table that is not there, and when the catalog or its storage does not take the change.
        """
        made: list[str] = []
        try:
            for table, snapshot in snapshots.items():
                if self._commit(table, _tagging(table, name, snapshot, ",".join(sorted(snapshots)))):
                    made.append(table)
        except Error:
            self.remove(name, made)
            raise

    def remove(self, name: str, tables: Iterable[str]) -> None:
        """Take the tag `name` from the tables. All are tried before one that cannot be changed is a TableError."""
        failed: list[TableError] = []
        for table in tables:
            try:
                self._commit(table, lambda found: _untagging(found, name))
            except TableError as error:
                log.error("unpin_failed", pin=name, table=table, reason=error.message)
                failed.append(error)
        if failed:
            raise failed[0]

    def _commit(self, name: str, change: Change) -> bool:
        """Whether there was anything to change. Another's commit in between is no failure: it is changed upon that."""
        for _ in range(_COMMITS_MAX):
            table = find_table(self._catalog, name)
            wanted = change(table)
            if wanted is None:
                return False
            try:
                with translated(f"change the tags of {name!r}"):
                    changes = table.transaction()
                    wanted(changes)
                    changes.commit_transaction()
            except CommitFailedException:
                continue
            return True
        raise TableError(f"cannot change the tags of {name!r}: others wrote to it {_COMMITS_MAX} times meanwhile")


def _tagging(name: str, pin: str, snapshot: int, tables: str) -> Change:
    def tag(changes: Transaction) -> None:
        changes.set_properties({_TABLES + pin: tables})
        ManageSnapshots(changes).create_tag(snapshot, pin).commit()

    def change(table: Table) -> Callable[[Transaction], object] | None:
        if table.snapshot_by_id(snapshot) is None:
            raise InvalidRequest("bad-request", f"{name} has no snapshot {snapshot}")
        ref = table.metadata.refs.get(pin)
        if ref is None:
            return tag
        if tags(table).get(pin) != snapshot:
            raise InvalidRequest(
                "bad-request",
                f"{name} has a {ref.snapshot_ref_type} {pin!r} elsewhere; choose another name, or unpin it",
            )
        return None

    return change


def _untagging(table: Table, pin: str) -> Callable[[Transaction], object] | None:
    def untag(changes: Transaction) -> None:
        ManageSnapshots(changes).remove_tag(pin).commit()
        if _TABLES + pin in table.properties:
            changes.remove_properties(_TABLES + pin)

    return untag if pin in tags(table) else None
