"""The server's own tables as Arrow, as they are when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from flight_server.datasets.registry import Registry
from flight_server.service.submissions import Submissions
from flight_server.telemetry.records import CALLS, COSTS, DATASETS, QUERIES, TABLES, Records, Row


def table(name: str, records: Records, registry: Registry, submissions: Submissions) -> pa.Table:
    """The rows of one of `TABLES`. They hold no values of parameters."""
    makers: dict[str, Callable[[], list[Row]]] = {
        CALLS: records.calls,
        QUERIES: lambda: [*records.queries(), *submissions.queries()],
        DATASETS: lambda: list(_datasets(records, registry)),
        COSTS: records.costs,
    }
    return pa.Table.from_pylist(makers[name](), TABLES[name])


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
