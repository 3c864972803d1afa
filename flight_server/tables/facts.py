"""What can be said of a table from its metadata alone, for people: columns, partitioning, snapshots, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from flight_server.tables.load import FILE


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column; `type` is Iceberg's word for it."""

    name: str
    type: str
    not_null: bool
    doc: str


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """One commit: what it did, how many rows it added, and the file that was loaded where it was a load."""

    snapshot_id: int
    at: datetime
    operation: str
    rows_added: int
    file: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A table at its current snapshot; `snapshots` oldest first. Sizes are of live data files."""

    name: str
    doc: str
    location: str
    columns: tuple[ColumnFacts, ...]
    partitioning: tuple[str, ...]
    snapshots: tuple[SnapshotFacts, ...]
    rows: int
    files: int
    bytes: int


def facts(table: Table) -> Facts:
    """The facts of `table` as it was when it was opened; reads nothing but the metadata that is in memory."""
    schema, current = table.schema(), table.current_snapshot()
    return Facts(
        name=".".join(table.name()),
        doc=table.properties.get("comment", ""),
        location=table.location(),
        columns=tuple(
            ColumnFacts(field.name, str(field.field_type), field.required, field.doc or "") for field in schema.fields
        ),
        partitioning=tuple(
            f"{field.transform}({schema.find_column_name(field.source_id)})" for field in table.spec().fields
        ),
        snapshots=tuple(
            SnapshotFacts(
                snapshot_id=snapshot.snapshot_id,
                at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
                operation=snapshot.summary.operation.value if snapshot.summary is not None else "",
                rows_added=_total(snapshot, "added-records"),
                file=(snapshot.summary.get(FILE) if snapshot.summary is not None else None) or "",
            )
            for snapshot in sorted(table.snapshots(), key=lambda snapshot: snapshot.timestamp_ms)
        ),
        rows=_total(current, "total-records"),
        files=_total(current, "total-data-files"),
        bytes=_total(current, "total-files-size"),
    )


def _total(snapshot: Snapshot | None, key: str) -> int:
    if snapshot is None or snapshot.summary is None:
        return 0
    return int(snapshot.summary.get(key) or 0)
