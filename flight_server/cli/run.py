"""`athena-flight run` and `explain`: one request, answered in this process over the configured catalog."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import sqlglot
import typer
from rich.console import Console
from rich.syntax import Syntax

from flight_server import config as settings
from flight_server.authoring import export, local
from flight_server.cli import output
from flight_server.cli.auth import caller_named
from flight_server.cli.options import As, ConfigFile, Name, Pairs, request_of
from flight_server.model import ANONYMOUS, Plan, plan_json

Format = Literal["table", "csv", "parquet", "arrow"]
_SUFFIXES: dict[str, export.Format] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}


def run(
    name: Name,
    params: Pairs = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: by the suffix of --output, else table.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here; appears only when complete.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the numbers over the first date column.")] = False,
    as_: As = None,
    config: ConfigFile = None,
) -> None:
    """Run a dataset in this process and print its rows, or write them to a file, without holding them all in memory.

    On a terminal the table is cut; in a pipe it has all rows, tab-separated.

    Examples: athena-flight run daily_prices ticker=AAPL start_date=2010-01-04 end_date=2010-01-29

              athena-flight run returns meta_ids=1 meta_ids=4 start_date=2010-01-04 -o returns.parquet

              athena-flight run basket_value weights=1:0.6 weights=5:0.4 start_date=2012-01-03 --plot
    """
    form = form or _format(out)
    _check_usage(form, out, plot)
    found = settings.load(config)
    request = request_of(name, params, found)
    caller = caller_named(found, as_) if as_ else ANONYMOUS
    with local.opened(found) as pipeline:
        plan = local.plan(pipeline, request, caller)
        schema = plan.dataset.schema
        with local.answered(pipeline, plan) as batches:
            if plot:
                # Only --plot needs plotext, which is an optional extra.
                from flight_server.cli.plot import draw

                draw(plan.dataset, batches)
            elif form == "table":
                _print(plan, batches)
            elif out is None:
                export.to_pipe(sys.stdout.buffer, form, schema, batches)
            else:
                rows = export.to_file(out, form, schema, batches)
                print(f"{out}: {rows:,} rows", file=sys.stderr)


def explain(name: Name, params: Pairs = None, as_: As = None, config: ConfigFile = None) -> None:
    """Show the plan of a request, the SQL for Athena and for the engine, and the row policies in it. Runs nothing.

    In a pipe all of it is one JSON object.

    Examples: athena-flight explain daily_prices ticker=AAPL start_date=2010-01-04

              athena-flight explain daily_prices ticker=AAPL start_date=2010-01-04 | jq .estimate

              athena-flight explain portfolio_perf port_id=1 start_date=2010-01-04 --as alice
    """
    found = settings.load(config)
    request = request_of(name, params, found)
    caller = caller_named(found, as_) if as_ else ANONYMOUS
    with local.opened(found) as pipeline:
        plan = local.plan(pipeline, request, caller)
    policies = [asdict(each) for each in plan.policies]
    if not sys.stdout.isatty():
        shown = {"sql": plan.bound_sql, "engine_sql": plan.sql, "row_filters": policies}
        print(json.dumps({**plan_json(plan), **shown}, indent=2))
        return
    console = Console()
    console.print_json(json.dumps({**plan_json(plan), "row_filters": policies}))
    for title, sql, dialect in (("Athena", plan.bound_sql, "athena"), (plan.engine, plan.sql, plan.engine)):
        console.rule(title)
        pretty = sqlglot.parse_one(sql, read=dialect).sql(dialect, pretty=True)
        console.print(Syntax(pretty, "sql", word_wrap=True, background_color="default"))


def _format(out: Path | None) -> Format:
    if out is None:
        return "table"
    form = _SUFFIXES.get(out.suffix.lower())
    if form is None:
        raise typer.BadParameter(
            f"{str(out)!r} ends in none of {', '.join(_SUFFIXES)}; say --format", param_hint="--output"
        )
    return form


def _check_usage(form: Format, out: Path | None, plot: bool) -> None:
    if plot and (out is not None or form != "table"):
        raise typer.BadParameter("draws on the terminal; leave out --format and --output", param_hint="--plot")
    if form == "table" and out is not None:
        raise typer.BadParameter("a file is csv, parquet or arrow, not table", param_hint="--format")
    if form == "parquet" and out is None:
        raise typer.BadParameter("parquet needs --output: its index is written at the end", param_hint="--format")
    if form == "arrow" and out is None and sys.stdout.isatty():
        raise typer.BadParameter("arrow is not for terminals; pipe it or give --output", param_hint="--format")


def _print(plan: Plan, batches: Iterator[pa.RecordBatch]) -> None:
    schema = plan.dataset.schema
    if not sys.stdout.isatty():
        for line in output.lines(schema, batches):
            print(line)
        return
    console = Console()
    table, more, left_out = output.boxed(schema, batches, console.width)
    console.print(table)
    if left_out:
        print(f"without {', '.join(left_out)}: the terminal is too narrow", file=sys.stderr)
    if more:
        print(f"the first {output.SHOWN_ROWS} rows; all with --output FILE, or in a pipe", file=sys.stderr)
