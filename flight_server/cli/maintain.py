"""`athena-flight tables optimize` and `tables expire`: fewer files, fewer snapshots. Imported by `cli/tables.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from flight_server.cli.durations import seconds
from flight_server.cli.options import ConfigFile
from flight_server.config import Config, load

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from flight_server.engines.athena.engine import AthenaEngine
    from flight_server.tables.lock import Held

# Files of a commit that is still being made are named by no snapshot; Iceberg's own procedures leave them a day too.
_DELETE_AGE_S = 86_400.0
TableName = Annotated[str, typer.Argument(metavar="TABLE", help="database.table")]


def optimize(table: TableName, config: ConfigFile = None) -> None:
    """Rewrite the small data files of a table as few large ones; its rows stay the same.

    On Athena, where it is configured with a Glue catalog, with OPTIMIZE; else in this process.

    Example: athena-flight tables optimize market_data.us_stocks_price
    """
    from flight_server.tables import optimize as rewriting

    with _locked(load(config), table, "optimize") as (found, held, athena):
        if athena is not None:
            done = rewriting.optimize_on_athena(found, athena, held.note)
        else:
            done = rewriting.optimize(found)
    if not done.spent and done.files_before == done.files_after:
        print(f"{table}\tnothing to do, {done.files_before} files")
        return
    before = f"{done.files_before} files, {done.bytes_before} bytes"
    print(f"{table}\t{before}\tnow {done.files_after} files, {done.bytes_after} bytes")
    for each in done.spent:
        print(f"query {each.query_id}\t{each.scanned_bytes} bytes scanned\t${each.usd:.6f}")


def expire(
    table: TableName,
    older_than: Annotated[str, typer.Option(metavar="LENGTH", help="Least age of what is forgotten, such as 7d.")],
    keep: Annotated[int, typer.Option(min=1, help="The last snapshots, which are kept whatever their age.")] = 1,
    delete_files: Annotated[
        bool, typer.Option("--delete-files", help="Remove the files that no snapshot needs any more.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what would be.")] = False,
    config: ConfigFile = None,
) -> None:
    """Forget old snapshots of a table, and with --delete-files remove what only they needed.

    The current snapshot, the published one and those of branches and tags stay. A file younger than the age is never
    removed. A query that still reads a forgotten snapshot fails when its files go, so let the age be days.

    Example: athena-flight tables expire market_data.us_stocks_price --older-than 7d --dry-run
    """
    from flight_server.tables import expire as old

    if delete_files and seconds(older_than) < _DELETE_AGE_S:
        raise typer.BadParameter(f"{older_than} is too young for --delete-files: say 1d or more")
    moment = datetime.now(UTC) - timedelta(seconds=seconds(older_than))
    with _locked(load(config), table, "expire") as (found, _, _):
        snapshots = old.expirable(found, moment, keep)
        files = old.unreferenced(found, moment, snapshots)
        done = "would be forgotten" if dry_run else "forgotten"
        for each in snapshots:
            at = datetime.fromtimestamp(each.timestamp_ms / 1000, UTC)
            print(f"snapshot {each.snapshot_id}\t{at:%Y-%m-%d %H:%M:%S}\t{done}")
        if not dry_run:
            old.expire(found, snapshots)
        removing = delete_files and not dry_run
        for file in files:
            print(f"{file.path}\t{file.bytes} bytes\t{'removed' if removing else 'not needed'}")
        if removing:
            old.remove(found, files)
    size = sum(file.bytes for file in files)
    end = "removed" if removing else "could be removed with --delete-files"
    print(f"{table}\t{len(snapshots)} snapshots {done}\t{len(files)} files, {size} bytes {end}")


@contextmanager
def _locked(config: Config, name: str, work: str) -> Iterator[tuple[Table, Held, AthenaEngine | None]]:
    """The table, held against other jobs on it; and Athena, where the tables are its own."""
    # As in tables.py: the catalog's libraries take more than a second to import.
    from flight_server import server
    from flight_server.tables import lock
    from flight_server.tables.catalog import find_table, open_catalog

    with ExitStack() as stack:
        catalog = stack.enter_context(closing(open_catalog(config)))
        find_table(catalog, name)
        athena = None
        if config.catalog.kind == "glue" and "athena" in config.server.engines:
            athena = stack.enter_context(closing(server.build_athena(config)))
        ended: Callable[[str], bool] = athena.has_ended if athena is not None else lambda _: False
        held = stack.enter_context(
            lock.held(
                lock.place_of(config, catalog.properties["warehouse"], name),
                f"{work} {name}",
                config.lock.age_s,
                ended,
                lambda text: print(text, file=sys.stderr),
            )
        )
        # Opened again under the lock: what held it before may have changed it.
        yield find_table(catalog, name), held, athena
