"""`athena-flight demo`: real prices as Iceberg tables on this machine, served, and asked for once as a client would."""

from __future__ import annotations

import os
import secrets
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flight_server import config as settings
from flight_server import telemetry
from flight_server.cli.options import ConfigFile
from flight_server.cli.output import boxed
from flight_server.cli.serve import Signals, stop
from flight_server.datasets import system
from flight_server.server import Server, build
from flight_server.service import example
from flight_server.tables import demo as tables
from flight_server.tables.catalog import open_catalog

FOLDER = Path(".demo")
_TICKET = "daily_prices?ticker=AAPL&start_date=2010-01-04&end_date=2010-01-29"
# Enough to see what rows are like.
_SHOWN_ROWS = 5
# As the default of `server.port`, which the README's lines name.
_PORT = 8815


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the example.")] = False,
    port: Annotated[int, typer.Option(metavar="PORT", help="Flight port; 0 = any.")] = _PORT,
    config: ConfigFile = None,
) -> None:
    """Build the demo tables in .demo (once), serve them, and show one dataset as a Flight client gets it.

    Examples: athena-flight demo

              athena-flight demo --once
    """
    found = settings.load(
        config,
        # A demo on another port is a second one: it leaves the first one's ports alone.
        server={"port": port, "host": "127.0.0.1", "ticket_secret": _secret()}
        | ({} if port == _PORT else {"http_port": 0, "health_port": 0}),
        # The tables are the visitor's own: SQL may name them.
        sql={"ad_hoc_roles": ("*",)},
        catalog={"kind": "sql", "uri": f"sqlite:///{FOLDER}/catalog.db", "warehouse": str(FOLDER / "warehouse")},
    )
    # A log line for each call would stand among what is shown here.
    telemetry.configure(found.log.format, "warning")
    _build(found)
    server = build(found)
    signals = Signals()
    try:
        _show(server)
        if not once:
            print("\nCtrl-C stops the server.", flush=True)
            signals.wait(server)
    finally:
        stop(server, 0.0 if once else found.server.grace_s)


def _build(config: settings.Config) -> None:
    with closing(open_catalog(config)) as catalog:
        tables.build(catalog, config.datasets.directory / "tables", lambda line: print(f"built {line}", flush=True))


def _secret() -> str:
    """Kept, so that tickets outlive a restart of the demo."""
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / "ticket-secret"
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as new:
            new.write(secrets.token_hex(32))
    return file.read_text(encoding="ascii")


def _show(server: Server) -> None:
    location = f"grpc://localhost:{server.port}"
    count = system.files(server.pipeline.registry)
    print(f"serving {count} datasets on {location}; in Python, with nothing but pyarrow:\n")
    print(example.lines(location, _TICKET), flush=True)
    answer = example.fetch(location, _TICKET)
    print(f"\n{answer.num_rows} rows; the first {_SHOWN_ROWS}:")
    console = Console()
    table, _, left_out = boxed(answer.schema, answer.slice(0, _SHOWN_ROWS).to_batches(), console.width)
    console.print(table)
    if left_out:
        print(f"and the columns {', '.join(left_out)}")
