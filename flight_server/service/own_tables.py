"""The server's own tables as Arrow, as they are when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from flight_server.datasets.registry import Registry
from flight_server.service.admission import Rate
from flight_server.service.spending import Spending
from flight_server.service.submissions import Submissions
from flight_server.telemetry.records import BUDGETS, CALLS, COSTS, DATASETS, QUERIES, TABLES, Records, Row


def table(
    name: str,
    records: Records,
    registry: Registry,
    submissions: Submissions,
    spending: Spending,
    statements: Rate,
) -> pa.Table:
    """The rows of one of `TABLES`. They hold no values of parameters."""
    makers: dict[str, Callable[[], list[Row]]] = {
        CALLS: records.calls,
        QUERIES: lambda: [*records.queries(), *submissions.queries()],
        DATASETS: lambda: list(_datasets(records, registry)),
        COSTS: records.costs,
        BUDGETS: lambda: list(_budgets(spending, statements)),
    }
    return pa.Table.from_pylist(makers[name](), TABLES[name])


def _budgets(spending: Spending, statements: Rate) -> Iterator[Row]:
    accounts = {account.caller: account for account in spending.accounts()}
    rates = statements.callers()
    for caller in sorted({*accounts, *rates}):
        account = accounts.get(caller)
        yield {
            "caller": caller,
            "day": account and account.day,
            "usd_per_day": account and account.usd_per_day,
            "spent_usd": account and account.spent_usd,
            "left_usd": account and account.left_usd,
            "statements_left": rates.get(caller),
        }


def _datasets(records: Records, registry: Registry) -> Iterator[Row]:
    for dataset in registry.all():
        use = records.use(dataset.name, dataset.version)
        yield {
            "name": dataset.name,
            "version": dataset.version,
            "title": dataset.title,
            "owner": dataset.owner,
            "roles": " ".join(sorted(dataset.roles)),
            "engine": dataset.engine,
            "deprecated": dataset.deprecated,
            "calls": use.calls,
            "errors": use.errors,
            "rows": use.rows,
            "bytes": use.bytes,
            "last_call": use.last_call,
        }
