"""Filling a table with the rows of a plan, and publishing them, by either engine.

The embedded engine replaces all rows in one Iceberg commit. Athena has no statement for that, only DELETE and INSERT,
each with a commit of its own, so there the property `PUBLISHED` of the table names the last complete snapshot, and
readers get that one (`plan/scan.py`) until the new rows are complete and it is moved. A run that breaks off anywhere
leaves its readers with the old rows, and the next run starts over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.types import NestedField

from flight_server.errors import TableError
from flight_server.model import Engine, ExecutionStats, Plan
from flight_server.plan.dialect import table_sql, to_insert
from flight_server.plan.scan import PUBLISHED
from flight_server.tables.catalog import translated
from flight_server.tables.conform import check_columns, check_types, conform
from flight_server.tables.load import Loaded
from flight_server.tables.replace import live_files, replace_rows

# A property of the table: the fingerprint (model.Plan) of the rows that it publishes.
FINGERPRINT = "athena-flight.materialize.fingerprint"


class Statements(Protocol):
    """What runs a statement that gives no rows, telling each query's id at its start (AthenaEngine.execute)."""

    def execute(self, sql: str, started: Callable[[str], None], *, again: bool) -> ExecutionStats: ...


def fill_embedded(table: Table, engine: Engine, plan: Plan) -> tuple[Loaded, list[ExecutionStats]]:
    """Stream the plan's rows into the table, bounded in memory, in one commit that replaces all others.

    Raises TableError for a value that its column cannot hold, or a null where none may be, and changes nothing then.
    """
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    execution = engine.start(plan)
    try:
        batches = _conformed(execution.batches(), schema)
        return replace_rows(table, batches, schema, {FINGERPRINT: plan.fingerprint}), []
    finally:
        execution.close()


def fill_on_athena(
    table: Table, engine: Statements, plan: Plan, started: Callable[[str], None]
) -> tuple[Loaded, list[ExecutionStats]]:
    """DELETE, INSERT, and publish. Raises EngineFailed, or TableError for rows that are not as asked."""
    name = ".".join(table.name())
    _hold_published(table)
    before = table.metadata.current_snapshot_id
    spent: list[ExecutionStats] = []
    commits_max = 1
    if next(live_files(table), None) is not None:
        spent.append(engine.execute(f"DELETE FROM {table_sql(name)}", started, again=True))
        commits_max = 2
    pins = {pin.table: pin for pin in plan.pins}
    spent.append(engine.execute(to_insert(plan.bound_sql, pins, name), started, again=False))
    with translated(f"read the new rows of {name!r}"):
        table.refresh()
        _check_commits(table, before, commits_max)
        filled = _check_rows(table)
    with translated(f"publish the new rows of {name!r}"), table.transaction() as transaction:
        transaction.set_properties({PUBLISHED: str(filled.snapshot_id), FINGERPRINT: plan.fingerprint})
    return filled, spent


def _conformed(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        if not rows:
            check_columns(batch.schema.names, schema)
            check_types(batch.schema, schema)
        yield conform(batch, schema, rows + 1)
        rows += batch.num_rows


def _hold_published(table: Table) -> None:
    """Keep readers at the rows of now. An empty table gets an empty snapshot to be kept at."""
    if PUBLISHED in table.properties:
        return
    name = ".".join(table.name())
    with translated(f"publish the current rows of {name!r}"), table.transaction() as transaction:
        current = table.metadata.current_snapshot_id
        if current is None:
            with transaction.update_snapshot().fast_append() as snapshot:
                current = snapshot.snapshot_id
        transaction.set_properties({PUBLISHED: str(current)})


def _check_commits(table: Table, before: int | None, commits_max: int) -> None:
    """Refuse when more commits came after `before` than the statements of this run can have made."""
    commits, current = 0, table.current_snapshot()
    while current is not None and current.snapshot_id != before:
        commits += 1
        parent = current.parent_snapshot_id
        current = table.snapshot_by_id(parent) if parent is not None else None
    if current is None or commits > commits_max:
        raise TableError(
            f"something else wrote to {'.'.join(table.name())} meanwhile: nothing is published, readers keep the rows "
            "they had; find out what it was, then run this again"
        )


def _check_rows(table: Table) -> Loaded:
    """What the table holds now. TableError for nulls where none may be, as its files' statistics tell."""
    files = list(live_files(table))
    required = [field for field in table.schema().fields if field.required]
    for field in required:
        nulls = sum((file.null_value_counts or {}).get(field.field_id, 0) for file in files)
        if nulls:
            raise TableError(_null_message(table, field, nulls))
    return Loaded.of(files, table.metadata.current_snapshot_id)


def _null_message(table: Table, field: NestedField, nulls: int) -> str:
    return (
        f"column {field.name!r} of {'.'.join(table.name())} must not be null and has {nulls:,} nulls: nothing is "
        "published, readers keep the rows they had"
    )
