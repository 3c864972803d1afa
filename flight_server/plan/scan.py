"""What a plan will read: tables at pinned snapshots, the files left after pushing filters, bytes and dollars.

Everything comes from Iceberg metadata and manifests; no data file is opened.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import BooleanExpression
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from sqlglot import exp

from flight_server.config import Cost, Keeping
from flight_server.errors import InvalidRequest, NotFound, ServerError, TableError, first_line
from flight_server.model import Estimate, TablePin
from flight_server.plan import pushdown
from flight_server.plan.as_of import AsOf, tags
from flight_server.plan.kept import Kept

# What a path takes beside its letters: the string's own head and its place in the tuple.
_PATH_BYTES = 57
# A property of a table that is refilled in more than one commit: the snapshot that is read meanwhile, instead of the
# current one (tables/materialize.py).
PUBLISHED = "athena-flight.published-snapshot"


@dataclass(frozen=True, slots=True)
class PinnedTable:
    """A table as one plan sees it: the pin, its schema at that snapshot, and the handle to its manifests."""

    pin: TablePin
    schema: Schema
    # None of the server's own tables.
    table: Table | None


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files that one scan reads: data and delete files by path, and the bytes of the columns in use."""

    paths: tuple[str, ...]
    bytes: int


class Tables:
    """The catalog as the planner sees it.

    Remembers what cannot change: the metadata at a location, and the file list of a snapshot and a filter. `locate`
    gives the location of a table's metadata now; it is asked for each plan, so that no plan is ever stale. `own` are
    the server's own tables, which are in no catalog.
    """

    def __init__(
        self,
        catalog: Catalog,
        locate: Callable[[str], str],
        own: Mapping[str, Schema] = MappingProxyType({}),
        kept: Keeping = Keeping(),  # noqa: B008 - frozen
    ) -> None:
        self._own = own
        self._catalog = catalog
        self._locate = locate
        self._lock = threading.Lock()
        self._tables: OrderedDict[str, Table] = OrderedDict()
        self._tables_max = kept.tables_max
        self._files: Kept[FileSet] = Kept(kept.file_lists_max, kept.bytes_max)

    def pin(self, name: str, as_of: AsOf | None = None, snapshot: int | None = None) -> PinnedTable:
        """The table `database.table` at its published or else current snapshot, as of something, or at a given one.

        Raises NotFound (unknown-pin) where `as_of` names no snapshot of the table, InvalidRequest (expired-ticket)
        where the given snapshot has been expired, ServerError (internal) where there is no such table, or where its
        published snapshot is gone, TableError where the catalog or its storage does not answer.
        """
        if name in self._own:
            if as_of is not None:
                raise NotFound("unknown-pin", "the server's own tables are as they are now; ask without as_of")
            return PinnedTable(TablePin(name, None, 0, ""), self._own[name], None)
        table = self._current(name)
        current = published(table) or table.metadata.current_snapshot_id
        if as_of is not None:
            current = as_of.snapshot(name, table)
        elif snapshot is not None:
            if table.snapshot_by_id(snapshot) is None:
                raise InvalidRequest("expired-ticket", f"{name} no longer has the snapshot of this ticket; ask again")
            current = snapshot
        found = table.snapshot_by_id(current) if current is not None else None
        if current is not None and found is None:
            raise ServerError("internal", f"the published snapshot {current} of {name} is gone; materialize it again")
        schema_id = table.metadata.current_schema_id
        asked = as_of is not None or snapshot is not None or current != table.metadata.current_snapshot_id
        if found is not None and found.schema_id is not None and asked:
            schema_id = found.schema_id
        return PinnedTable(
            TablePin(name, current, schema_id, table.metadata_location), table.schemas()[schema_id], table
        )

    def names(self) -> list[str]:
        """All tables of the catalog as `database.table`, sorted."""
        try:
            return table_names(self._catalog)
        except (ClientError, BotoCoreError) as error:
            raise TableError(f"cannot list the tables: {first_line(error)}") from error

    def pins(self, names: Iterable[str]) -> dict[str, dict[str, int]]:
        """The pins of these tables: of each, the snapshots of those in it. Tables that are gone have none."""
        found: dict[str, dict[str, int]] = {}
        for name in names:
            try:
                table = self._current(name)
            except ServerError:
                continue
            for pin, snapshot in tags(table).items():
                found.setdefault(pin, {})[name] = snapshot
        return dict(sorted(found.items()))

    def _current(self, name: str) -> Table:
        try:
            location = self._locate(name)
            with self._lock:
                table = self._tables.get(location)
            if table is None:
                # It may have moved since it was located: remembered under where it was found.
                with _read(f"the metadata of {name}"):
                    table = self._catalog.load_table(name)
            if ".".join(table.name()) != name:
                # A catalog that folds names in a way of its own must not lead to a table past its policies.
                raise NoSuchTableError(name)
        except NoSuchTableError:
            raise ServerError("internal", f"the table {name} is not in the catalog") from None
        with self._lock:
            self._tables[table.metadata_location] = table
            while len(self._tables) > self._tables_max:
                self._tables.popitem(last=False)
        return table

    def files(
        self,
        pinned: PinnedTable,
        scan: exp.Table,
        masked: frozenset[str] = frozenset(),
        also_read: frozenset[str] = frozenset(),
    ) -> FileSet:
        """The files that `scan`, a table node of a qualified tree, reads at the pin.

        `masked`: columns of which the query sees other values than are stored, so that its terms about them tell
        nothing about files. `also_read`: columns that are read besides the query's own.
        """
        return self._left(
            pinned, pushdown.row_filter(scan, pinned.schema, masked), (pushdown.columns(scan) - masked) | also_read
        )

    def admitted(self, pinned: PinnedTable, guarded: exp.Table, columns: Collection[str]) -> FileSet:
        """The files that `guarded`, a scan inside a policy's subquery, can be read from: nothing that the query says
        about its rows is regarded. `columns`: those that are read.
        """
        return self._left(pinned, pushdown.row_filter(guarded, pinned.schema), columns)

    def _left(self, pinned: PinnedTable, row_filter: BooleanExpression, wanted: Collection[str]) -> FileSet:
        if pinned.table is None or pinned.pin.snapshot_id is None:
            return FileSet((), 0)
        columns = tuple(sorted(wanted))
        key = (pinned.pin.table, pinned.pin.snapshot_id, str(row_filter), columns)
        known = self._files.get(key)
        if known is not None:
            return known
        with _read(f"the manifests of {pinned.pin.table}"):
            tasks = list(pinned.table.scan(row_filter=row_filter, snapshot_id=pinned.pin.snapshot_id).plan_files())
        ids = _field_ids(pinned.schema, columns)
        size = 0
        paths: set[str] = set()
        for task in tasks:
            paths.add(task.file.file_path)
            size += _column_bytes(task.file, ids)
            for delete in task.delete_files:
                if delete.file_path not in paths:
                    paths.add(delete.file_path)
                    size += delete.file_size_in_bytes
        files = FileSet(tuple(sorted(paths)), size)
        self._files.put(key, files, len(key[2]) + sum(_PATH_BYTES + len(path) for path in files.paths))
        return files


def table_names(catalog: Catalog) -> list[str]:
    """All tables of the catalog that may be listed, as `database.table`, sorted."""
    found: list[str] = []
    for space in catalog.list_namespaces():
        try:
            found += [".".join(name) for name in catalog.list_tables(space)]
        except ClientError as error:
            # Glue names every database of the account; those that the role may not look into are somebody else's.
            if error.response["Error"]["Code"] != "AccessDeniedException":
                raise
    return sorted(found)


@contextmanager
def _read(what: str) -> Iterator[None]:
    """Turn what S3 or a disk says into TableError: not the server is at fault, and its traceback helps nobody."""
    try:
        yield
    except OSError as error:
        raise TableError(f"cannot read {what}: {first_line(error)}") from error


def published(table: Table) -> int | None:
    """The snapshot that the table's readers are given instead of the current one, where one has been named."""
    found = table.properties.get(PUBLISHED)
    return int(found) if found else None


def estimate(scans: Mapping[str, list[FileSet]], cost: Cost) -> Estimate:
    """Files, bytes and dollars of all scans together; a table read twice is paid twice, as Athena does."""
    files = sum(len(each.paths) for sets in scans.values() for each in sets)
    size = sum(each.bytes for sets in scans.values() for each in sets)
    return Estimate(files, size, cost.usd(size))


def _field_ids(schema: Schema, columns: tuple[str, ...]) -> set[int]:
    """Ids of the columns and of everything nested in them."""
    ids: set[int] = set()
    for name in columns:
        try:
            field = schema.find_field(name, case_sensitive=False)
        except ValueError:
            continue
        full = schema.find_column_name(field.field_id) or field.name
        ids |= {i for i, path in schema._lazy_id_to_name.items() if path == full or path.startswith(f"{full}.")}
    return ids


def _column_bytes(file: DataFile, wanted: set[int]) -> int:
    sizes = file.column_sizes
    # Without sizes in the manifest the whole file is the honest upper bound.
    return sum(size for field, size in sizes.items() if field in wanted) if sizes else file.file_size_in_bytes
