"""`athena-flight materialize`: fill the table of a dataset from its query. Exit codes as of `athena-flight tables`."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from types import FrameType
from typing import Annotated

import typer

from flight_server import server
from flight_server.cli.options import ConfigFile
from flight_server.config import Config, load
from flight_server.model import ANONYMOUS
from flight_server.plan.planner import Planner
from flight_server.plan.scan import Tables
from flight_server.tables import lock
from flight_server.tables.catalog import open_catalog
from flight_server.tables.locate import locator
from flight_server.tables.materialize import Materialized
from flight_server.tables.materialize import materialize as fill


def materialize(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Dataset with a \\[materialize] table and query.")],
    force: Annotated[bool, typer.Option("--force", help="Fill the table even when it is up to date.")] = False,
    config: ConfigFile = None,
) -> None:
    """Fill the table of a dataset from its query, on the dataset's engine or the first configured one.

    Does nothing when neither the query nor the files that it reads have changed. Readers see the old rows until the new
    ones are complete. A second run at the same time is refused.

    Example: athena-flight materialize daily_portfolio_value
    """
    # Stopped by a scheduler, it stops its query and releases its lock as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        done = _materialize(load(config), name, force)
    finally:
        signal.signal(signal.SIGTERM, before)
    if done.filled is None:
        print(f"{done.table}\tup to date")
        return
    print(f"{done.table}\t{done.filled.rows} rows in {done.filled.files} files\tsnapshot {done.filled.snapshot_id}")
    for each in done.spent:
        print(f"query {each.query_id}\t{each.scanned_bytes} bytes scanned\t${each.usd:.6f}")


def _materialize(config: Config, name: str, force: bool) -> Materialized:
    found, errors = server.load_datasets(config.datasets.directory)
    if errors:
        raise errors[0]
    dataset = found.get(name, None, ANONYMOUS)
    with closing(open_catalog(config)) as catalog:
        engines = server.build_engines(config, catalog)
        try:
            default = next(iter(engines))
            engine = engines[default if dataset.engine == "auto" else dataset.engine]
            tables = Tables(catalog, locator(catalog))
            return fill(
                dataset,
                catalog,
                tables,
                Planner(tables, config.cost),
                engine,
                lambda table: lock.held(
                    lock.place_of(config, catalog.properties["warehouse"], table),
                    f"materialize {table}",
                    config.lock.age_s,
                    getattr(engine, "has_ended", lambda _: False),
                    lambda text: print(text, file=sys.stderr),
                ),
                force=force,
            )
        finally:
            for each in engines.values():
                each.close()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
