"""Replacing all rows of a table in one commit, for the embedded engine: readers see the old rows or the new ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table

from flight_server.plan.scan import PUBLISHED
from flight_server.tables.load import CHUNK_BYTES, Loaded, commit, write, writing


def replace_rows(
    table: Table,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    properties: Mapping[str, str],
    chunk_bytes: int = CHUNK_BYTES,
) -> Loaded:
    """Replace the rows by `batches`, which have `schema`, the table's; publish them, with table `properties`.

    All in one commit, that fails when another one came in between: then, and after any other failure, the table is as
    it was and TableError or the error of `batches` is raised.
    """
    with writing(table) as files:
        written = write(table, batches, schema, files, chunk_bytes)
        old = list(live_files(table))
        transaction = table.transaction()
        snapshot_id = table.metadata.current_snapshot_id
        # No rows for no rows: nothing to commit but the properties.
        if written or old:
            with transaction.update_snapshot().overwrite() as snapshot:
                for file in old:
                    snapshot.delete_data_file(file)
                for file in written:
                    snapshot.append_data_file(file)
            snapshot_id = snapshot.snapshot_id
        transaction.set_properties({**properties, **({PUBLISHED: str(snapshot_id)} if snapshot_id is not None else {})})
        commit(transaction, files)
    return Loaded.of(written, snapshot_id)


def live_files(table: Table) -> Iterator[DataFile]:
    """The data files of the current snapshot, whatever delete files say of their rows."""
    current = table.current_snapshot()
    for manifest in current.manifests(table.io) if current is not None else []:
        if manifest.content == ManifestContent.DATA:
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file
