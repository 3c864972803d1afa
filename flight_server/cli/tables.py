"""`athena-flight tables …`: create tables from their DDL, load files into them, list and show them.

Tables are printed as boxes on a terminal and as tab-separated lines without a header in a pipe. Exit codes: 0 done,
1 failed or refused, 2 wrong usage.

The catalog's libraries take more than a second to import. Every command of `athena-flight` imports this module, so they
are imported inside the functions that need them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Box

from flight_server.cli import maintain
from flight_server.config import Config
from flight_server.config import load as load_config
from flight_server.errors import SetupError, TableError, nearest

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from flight_server.tables.facts import Facts
    from flight_server.tables.load import Loaded

app = typer.Typer(no_args_is_help=True, help="Create, load, list, show and look after the Iceberg tables.")
app.command()(maintain.optimize)
app.command()(maintain.expire)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", exists=True, dir_okay=False, help="Settings; default athena-flight.toml."),
]
TableName = Annotated[str, typer.Argument(metavar="TABLE", help="database.table")]


@app.command()
def create(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]", help="Tables; all DDL files if none.")] = None,
    config: ConfigFile = None,
) -> None:
    """Create tables, and their databases, from the DDL files in <datasets>/tables. Existing ones are left as they are.

    Example: athena-flight tables create reference.tb_meta
    """
    from flight_server.tables.catalog import create_table
    from flight_server.tables.ddl import read_all

    with opened(config) as (settings, catalog):
        definitions = read_all(settings.datasets.directory / "tables")
        for name in names or []:
            if name not in definitions:
                raise TableError(f"there is no DDL file for table {name!r}{nearest(name, definitions)}")
        for name in names or definitions:
            done = create_table(catalog, definitions[name])
            print(f"{name}\tcreated" if done else f"{name}\texists, left as it is")


@app.command()
def load(
    table: TableName,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="CSV, Parquet, Arrow IPC or Feather files.")],
    again: Annotated[bool, typer.Option("--again", help="Load a file even if it was loaded before.")] = False,
    config: ConfigFile = None,
) -> None:
    """Append files to a table, each in one commit, after checking every row. A refused file changes nothing.

    With several files the others are still loaded, and the exit code is 1.

    Example: athena-flight tables load market_data.us_stocks_price prices-2013.csv prices-2014.parquet
    """
    failed = False
    with opened(config) as (_, catalog):
        for file in files:
            try:
                loaded = _load_with_bar(catalog, table, file, again)
            except TableError as error:
                failed = True
                _complain(error)
                continue
            if loaded.snapshot_id is None:
                print(f"{file}\tno rows, nothing to load")
            else:
                print(f"{file}\t{loaded.rows} rows in {loaded.files} files\tsnapshot {loaded.snapshot_id}")
    if failed:
        raise typer.Exit(1)


@app.command("list")
def list_tables(config: ConfigFile = None) -> None:
    """List the tables of the catalog: name, rows, data files, bytes, snapshots.

    Example: athena-flight tables list | sort -t$'\\t' -k2 -n
    """
    from flight_server.tables.catalog import find_table, table_names
    from flight_server.tables.facts import facts

    with opened(config) as (_, catalog):
        found = [facts(find_table(catalog, name)) for name in table_names(catalog)]
    rows = [(each.name, each.rows, each.files, each.bytes, len(each.snapshots)) for each in found]
    print_rows(("table", "rows", "files", "bytes", "snapshots"), rows)


@app.command()
def show(table: TableName, config: ConfigFile = None) -> None:
    """Show a table: columns, partitioning, snapshots, data files, rows, bytes.

    Example: athena-flight tables show portfolio.tb_nav
    """
    from flight_server.tables.catalog import find_table
    from flight_server.tables.facts import facts

    with opened(config) as (_, catalog):
        found = facts(find_table(catalog, table))
    print_rows(("table", found.name), _summary(found))
    columns = [(each.name, each.type, "not null" if each.not_null else "", each.doc) for each in found.columns]
    print_rows(("column", "type", "null", "doc"), columns, "column")
    snapshots = [
        (str(each.snapshot_id), f"{each.at:%Y-%m-%d %H:%M:%S}", each.operation, each.rows_added, each.file)
        for each in found.snapshots
    ]
    print_rows(("snapshot", "at (UTC)", "operation", "rows added", "file"), snapshots, "snapshot")


@contextmanager
def opened(path: Path | None) -> Iterator[tuple[Config, Catalog]]:
    """The settings and the open catalog; what goes wrong inside is one line on standard error and exit code 1."""
    from flight_server.tables.catalog import open_catalog

    try:
        settings = load_config(path)
        with closing(open_catalog(settings)) as catalog:
            yield settings, catalog
    except SetupError as error:
        _complain(error)
        raise typer.Exit(1) from error


def _complain(error: SetupError) -> None:
    print(f"error: {error}", file=sys.stderr)


def _load_with_bar(catalog: Catalog, name: str, file: Path, again: bool) -> Loaded:
    from flight_server.tables.catalog import find_table
    from flight_server.tables.load import load_file

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(escape(file.name), total=1.0, rows=0)
        return load_file(
            find_table(catalog, name),
            file,
            again=again,
            progress=lambda done, rows: bar.update(task, completed=done, rows=rows),
        )


def _summary(found: Facts) -> list[tuple[str, str | int]]:
    return [
        ("doc", found.doc),
        ("location", found.location),
        ("partitioned by", ", ".join(found.partitioning)),
        ("rows", found.rows),
        ("files", found.files),
        ("bytes", found.bytes),
    ]


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str | int]], kind: str = "") -> None:
    """A box on a terminal; else one line a row, tab-separated, with `kind` in front where rows of several kinds mix."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(str(value) for value in ([kind, *row] if kind else row)))
        return
    table = Box(box=box.SIMPLE, header_style="bold")
    for number, name in enumerate(header):
        figures = bool(rows) and isinstance(rows[0][number], int)
        table.add_column(name, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else escape(value) for value in row))
    Console().print(table)
