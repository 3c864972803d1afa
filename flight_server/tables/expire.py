"""Forgetting old snapshots of a table, and removing the files that no snapshot needs any more.

A snapshot is kept when it is current or published, when a branch or tag names it, when it is one of the last `keep`, or
when it is young. Files are found by listing the table's folder and taking away all that the kept snapshots name, so
what a crashed writer left is found too. A file is never removed that is younger than the age: it may belong to a commit
that is still being made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from pyarrow import fs as pafs
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from flight_server.errors import TableError
from flight_server.plan.scan import published
from flight_server.tables.catalog import translated


@dataclass(frozen=True, slots=True)
class Unreferenced:
    """A file that no kept snapshot names."""

    path: str
    bytes: int


def expirable(table: Table, older_than: datetime, keep: int = 1) -> list[Snapshot]:
    """The snapshots that may be forgotten, oldest first. Pure."""
    metadata = table.metadata
    history = [each.snapshot_id for each in ancestors_of(table.current_snapshot(), metadata)]
    kept = {*history[: max(keep, 1)], published(table), *(ref.snapshot_id for ref in metadata.refs.values())}
    limit_ms = older_than.timestamp() * 1000
    found = [each for each in metadata.snapshots if each.snapshot_id not in kept and each.timestamp_ms < limit_ms]
    return sorted(found, key=lambda each: each.timestamp_ms)


def expire(table: Table, snapshots: Iterable[Snapshot]) -> None:
    """Forget the snapshots, in one commit. Their files stay."""
    ids = [each.snapshot_id for each in snapshots]
    with translated(f"expire snapshots of {'.'.join(table.name())!r}"):
        if ids:
            table.maintenance.expire_snapshots().by_ids(ids).commit()


def unreferenced(table: Table, older_than: datetime, without: Iterable[Snapshot] = ()) -> list[Unreferenced]:
    """Data files and manifests in the table's folder that no snapshot names, but for those `without`, by path.

    Raises TableError when a file that is needed is not among the listed: then nothing that the listing says is to be
    trusted, and nothing is to be removed.
    """
    name = ".".join(table.name())
    for key in ("write.data.path", "write.metadata.path"):
        if key in table.properties:
            raise TableError(f"{name} keeps files outside of its own folder ({key}): they are not looked for")
    with translated(f"list the files of {name!r}"):
        needed = {_path(uri) for uri in _referenced(table, {each.snapshot_id for each in without})}
        listed = {info.path: info for info in _listed(table)}
    roots = _roots(table)
    missing = [path for path in needed if path not in listed and path.startswith(roots)]
    if missing:
        raise TableError(f"{name} needs {sorted(missing)[0]}, which its folder does not have: nothing is removed")
    return [
        Unreferenced(path, info.size)
        for path, info in sorted(listed.items())
        if path not in needed and info.mtime.timestamp() < older_than.timestamp() and _is_ours(path, roots)
    ]


def remove(table: Table, files: Iterable[Unreferenced]) -> None:
    filesystem = _filesystem(table)
    with translated(f"remove files of {'.'.join(table.name())!r}"):
        for file in files:
            filesystem.delete_file(file.path)


def _referenced(table: Table, without: set[int]) -> Iterator[str]:
    metadata = table.metadata
    yield from (each.statistics_path for each in (*metadata.statistics, *metadata.partition_statistics))
    seen: set[str] = set()
    for snapshot in metadata.snapshots:
        if snapshot.snapshot_id in without:
            continue
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            # Most manifests are shared by many snapshots.
            if manifest.manifest_path in seen:
                continue
            seen.add(manifest.manifest_path)
            yield manifest.manifest_path
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file.file_path


def _is_ours(path: str, roots: tuple[str, str]) -> bool:
    """Whether a file may go: all below data/, manifests and their lists below metadata/; metadata.json is Iceberg's."""
    return path.startswith(roots[0]) or path.endswith(".avro")


def _roots(table: Table) -> tuple[str, str]:
    location = _path(table.location().rstrip("/"))
    return f"{location}/data/", f"{location}/metadata/"


def _listed(table: Table) -> Iterator[pafs.FileInfo]:
    filesystem = _filesystem(table)
    for root in _roots(table):
        selector = pafs.FileSelector(root.rstrip("/"), recursive=True, allow_not_found=True)
        yield from (info for info in filesystem.get_file_info(selector) if info.is_file)


def _filesystem(table: Table) -> pafs.FileSystem:
    io = PyArrowFileIO(table.io.properties)
    scheme, netloc, _ = PyArrowFileIO.parse_location(table.location(), table.io.properties)
    return io.fs_by_scheme(scheme, netloc)


def _path(uri: str) -> str:
    """As pyarrow's file systems name it: `bucket/key`, or an absolute path."""
    return str(PyArrowFileIO.parse_location(uri)[2])
