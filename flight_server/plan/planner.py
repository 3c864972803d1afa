"""Making a plan: bind, pin, qualify, print, price, fingerprint. Nothing here runs a query."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

from flight_server.config import Cost
from flight_server.errors import InvalidRequest
from flight_server.model import Bounds, Dataset, EngineName, Estimate, Plan, TablePin, Value
from flight_server.plan import allowed, bind, dialect, scan
from flight_server.plan.scan import FileSet, PinnedTable, Tables

# Changes with every change of what a fingerprint means, so that no stored result of an older server is served.
_FINGERPRINT_VERSION = 1
# Qualified trees kept, one for each dataset and schema; a tree is some tens of kB.
_TREES_MAX = 500
# Plans kept for repeated questions; a plan is a few kB, its dataset is shared.
_PLANS_MAX = 2000


class Planner:
    """Turns a dataset and typed values into a Plan. Remembers plans and qualified trees, both bounded."""

    def __init__(self, tables: Tables, cost: Cost) -> None:
        self._tables = tables
        self._cost = cost
        self._lock = threading.Lock()
        self._plans: OrderedDict[object, Plan] = OrderedDict()
        self._trees: OrderedDict[tuple[str, tuple[tuple[str, int], ...]], exp.Query] = OrderedDict()

    def plan(
        self,
        dataset: Dataset,
        values: Mapping[str, Value],
        engine: EngineName,
        bounds: Bounds,
        as_of: datetime | None = None,
        snapshots: Mapping[str, int | None] | None = None,
    ) -> Plan:
        """The plan at the current snapshots, at the moment `as_of`, or at the given `snapshots`.

        Raises InvalidRequest (scan-limit, expired-ticket), NotFound (unknown-pin), ServerError for missing tables.
        """
        pinned = self._pin(dataset, as_of, snapshots)
        pins = {name: table.pin for name, table in pinned.items()}
        # Everything that the plan is made from: what is left out here would be served stale, or to the wrong caller.
        key = (dataset.digest, tuple(values.items()), engine, bounds, tuple(pins.values()))
        with self._lock:
            if key in self._plans:
                self._plans.move_to_end(key)
                return self._plans[key]
        plan = self._made(dataset, values, engine, bounds, pinned)
        with self._lock:
            self._plans[key] = plan
            while len(self._plans) > _PLANS_MAX:
                self._plans.popitem(last=False)
        return plan

    def columns(self, table: str, as_of: datetime | None = None) -> dict[str, str]:
        """Columns and Athena types of the table `database.table`. Raises ServerError where there is none."""
        return scan.sql_schema(self._tables.pin(table, as_of).schema)

    def _made(
        self,
        dataset: Dataset,
        values: Mapping[str, Value],
        engine: EngineName,
        bounds: Bounds,
        pinned: Mapping[str, PinnedTable],
    ) -> Plan:
        pins = {name: table.pin for name, table in pinned.items()}
        tree, dropped = bind.bind(self._qualified(dataset, pinned), dataset.params, values)
        scans: dict[str, list[FileSet]] = {}
        for node in allowed.tables(tree):
            name = allowed.table_name(node)
            scans.setdefault(name, []).append(self._tables.files(pinned[name], node))
        estimate = scan.estimate(scans, self._cost.usd_per_tb, self._cost.bytes_min)
        _check_cost(dataset, bounds, estimate)
        bound_sql = dialect.canonical(tree)
        return Plan(
            dataset=dataset,
            params=values,
            engine=engine,
            sql=dialect.to_duckdb(tree, pins) if engine == "duckdb" else dialect.to_athena(tree, pins, dataset),
            bound_sql=bound_sql,
            dropped=dropped,
            pins=tuple(pins[name] for name in sorted(pins)),
            fingerprint=_fingerprint(dataset, bound_sql, pins, scans),
            estimate=estimate,
            bounds=bounds,
        )

    def _pin(
        self, dataset: Dataset, as_of: datetime | None, snapshots: Mapping[str, int | None] | None
    ) -> dict[str, PinnedTable]:
        names = sorted({allowed.table_name(node) for node in allowed.tables(dataset.tree)})
        return {name: self._tables.pin(name, as_of, (snapshots or {}).get(name)) for name in names}

    def _qualified(self, dataset: Dataset, pinned: Mapping[str, PinnedTable]) -> exp.Query:
        key = (dataset.digest, tuple((name, table.pin.schema_id) for name, table in pinned.items()))
        with self._lock:
            tree = self._trees.get(key)
        if tree is None:
            schemas = {name: scan.sql_schema(table.schema) for name, table in pinned.items()}
            tree = qualified(dataset.tree, schemas)
            with self._lock:
                self._trees[key] = tree
                while len(self._trees) > _TREES_MAX:
                    self._trees.popitem(last=False)
        return tree


def qualified(tree: exp.Query, schemas: Mapping[str, Mapping[str, str]]) -> exp.Query:
    """A copy of `tree` in which every column names its table. `schemas`: database.table → column → Athena type.

    Raises InvalidRequest (sql-refused) that names a column which no table has.
    """
    nested: dict[str, object] = {}
    databases: dict[str, dict[str, Mapping[str, str]]] = {}
    for name, columns in schemas.items():
        database, _, table = name.partition(".")
        databases.setdefault(database, {})[table] = columns
    nested.update(databases)
    try:
        found = qualify(tree.copy(), schema=nested, dialect="athena", quote_identifiers=False)
    except SqlglotError as error:
        raise InvalidRequest("sql-refused", str(error).splitlines()[0]) from error
    assert isinstance(found, exp.Query)  # noqa: S101 - qualify keeps the kind of its input
    return found


def _check_cost(dataset: Dataset, bounds: Bounds, estimate: Estimate) -> None:
    if bounds.scan_bytes is not None and estimate.bytes > bounds.scan_bytes:
        raise InvalidRequest(
            "scan-limit",
            f"{dataset.name} would read {estimate.bytes:,} bytes and may read {bounds.scan_bytes:,}; ask for less",
        )
    if bounds.cost_usd is not None and estimate.usd > bounds.cost_usd:
        raise InvalidRequest(
            "scan-limit",
            f"{dataset.name} would cost ${estimate.usd:.4f} and may cost ${bounds.cost_usd:.4f}; ask for less",
        )


def _fingerprint(
    dataset: Dataset, bound_sql: str, pins: Mapping[str, TablePin], scans: Mapping[str, list[FileSet]]
) -> str:
    """What the result depends on and nothing else: equal fingerprints mean equal results."""
    read = {
        name: [pin.schema_id, sorted({path for files in scans.get(name, []) for path in files.paths})]
        for name, pin in pins.items()
    }
    contract = [[c.name, str(c.type), c.nullable] for c in dataset.columns]
    content = [_FINGERPRINT_VERSION, dataset.version, contract, [str(s) for s in dataset.sorted], bound_sql, read]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
