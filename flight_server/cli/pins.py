"""`athena-flight pins …`: named sets of snapshots, as the actions `pins`, `pin` and `unpin` make them.

They are in the tables, so that these commands work on the catalog and need no server. Output, exit codes and the reason
for imports inside of functions are those of `cli/tables.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flight_server.cli.tables import ConfigFile, opened, print_rows
from flight_server.errors import TableError, nearest

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from flight_server.tables.pins import Pinned

app = typer.Typer(help="List, make and remove pins: snapshots kept under a name, for `as_of`.")
PinName = Annotated[str, typer.Argument(metavar="NAME", help="A letter, then letters, digits, _ or -, at most 63.")]


@app.callback(invoke_without_command=True)
def pins(context: typer.Context, config: ConfigFile = None) -> None:
    """List, make and remove pins: snapshots that are kept under a name, and that `as_of` reads again.

    Without a command, list them: pin, table, snapshot, when that was committed. A table that a pin was made for and
    is not on is `missing`: who made it, or removed it, was killed halfway.

    Example: athena-flight pins --config prod.toml
    """
    if context.invoked_subcommand is not None:
        if config is not None:
            raise typer.BadParameter("--config goes after the command: pins add NAME --config FILE")
        return
    from flight_server.tables.pins import listed

    with opened(config) as (_, catalog):
        found = listed(catalog)
    _print(found)
    for each in found:
        if each.missing:
            print(f"{each.name} is incomplete; `athena-flight pins remove {each.name}` lets it go", file=sys.stderr)


@app.command()
def add(
    name: PinName,
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TABLE[=SNAPSHOT]]", help="Those to keep; all that have rows if none."),
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Keep the snapshots that the tables have now, or the given ones, under a name. The same again changes nothing.

    Example: athena-flight pins add month-end market_data.us_stocks_price portfolio.tb_nav=6218563098264236417
    """
    from flight_server.plan.as_of import PIN_NAME
    from flight_server.tables.pins import Tags, listed

    if not PIN_NAME.fullmatch(name):
        raise typer.BadParameter(
            f"{name[:80]!r} is no name of a pin: a letter, then letters, digits, _ or -, at most 63"
        )
    with opened(config) as (_, catalog):
        snapshots = _snapshots(catalog, tables or [])
        there = _named(listed(catalog), name)
        if there is not None and {each.table: each.snapshot_id for each in there.tables} != snapshots:
            state = "an incomplete pin" if there.missing else "a pin"
            raise TableError(f"there is {state} {name!r} already; choose another name, or remove it")
        Tags(catalog).create(name, snapshots)
        _print([each for each in listed(catalog) if each.name == name])


@app.command()
def remove(name: PinName, config: ConfigFile = None) -> None:
    """Remove a pin, also an incomplete one, from all its tables. Its snapshots may then be expired.

    Example: athena-flight pins remove month-end
    """
    from flight_server.tables.pins import Tags, listed

    with opened(config) as (_, catalog):
        known = listed(catalog)
        found = _named(known, name)
        if found is None:
            raise TableError(f"there is no pin {name!r}{nearest(name, [each.name for each in known])}")
        Tags(catalog).remove(name, [each.table for each in found.tables])
    for each in found.tables:
        print(f"{name}\t{each.table}\tremoved")


def _named(found: Sequence[Pinned], name: str) -> Pinned | None:
    return next((each for each in found if each.name == name), None)


def _snapshots(catalog: Catalog, asked: Sequence[str]) -> Mapping[str, int]:
    """The snapshots to keep: those asked for, else those that readers are given now, of all tables that have one."""
    from flight_server.plan.scan import Tables
    from flight_server.tables.catalog import find_table, table_names
    from flight_server.tables.locate import locator

    read = Tables(catalog, locator(catalog))
    found: dict[str, int] = {}
    for word in asked or table_names(catalog):
        table, equals, given = word.partition("=")
        if equals and not (given.isascii() and given.isdigit()):
            raise TableError(f"{word!r}: a snapshot is a whole number; `athena-flight tables show {table}` lists them")
        there = find_table(catalog, table)
        if equals and there.snapshot_by_id(int(given)) is None:
            raise TableError(f"{table} has no snapshot {given}; `athena-flight tables show {table}` lists those it has")
        snapshot = int(given) if equals else read.pin(table).pin.snapshot_id
        if snapshot is not None:
            found[table] = snapshot
        elif asked:
            raise TableError(f"{table} is empty: there is no snapshot to pin")
    if not found:
        raise TableError("there is no table to pin: none has rows")
    return found


def _print(found: Sequence[Pinned]) -> None:
    rows: list[tuple[str, str, str, str]] = []
    for pin in found:
        rows += [(pin.name, each.table, str(each.snapshot_id), f"{each.at:%Y-%m-%d %H:%M:%S}") for each in pin.tables]
        rows += [(pin.name, table, "missing", "") for table in pin.missing]
    print_rows(("pin", "table", "snapshot", "at (UTC)"), rows)
