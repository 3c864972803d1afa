"""Making a plan: bind, pin, qualify, print, price, fingerprint. Nothing here runs a query."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime

from sqlglot import exp

from flight_server.config import Cost, Keeping
from flight_server.errors import DatasetError, Error, InvalidRequest, ServerError
from flight_server.model import (
    ANONYMOUS,
    Bounds,
    Caller,
    Dataset,
    EngineName,
    Estimate,
    Plan,
    Policies,
    TablePin,
    Value,
)
from flight_server.plan import allowed, bind, dialect, fitting, policies, pushdown, scan
from flight_server.plan.as_of import AsOf
from flight_server.plan.barrier import Barrier
from flight_server.plan.dialect import Schemas
from flight_server.plan.kept import Kept, tree_bytes
from flight_server.plan.qualify import qualified, sql_schema
from flight_server.plan.scan import FileSet, PinnedTable, Tables

# Changes with every change of what a fingerprint means, so that no stored result of an older server is served.
_FINGERPRINT_VERSION = 2


class Planner:
    """Turns a dataset and typed values into a Plan. Remembers plans and qualified trees, both bounded."""

    def __init__(
        self,
        tables: Tables,
        cost: Cost,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        kept: Keeping = Keeping(),  # noqa: B008 - frozen
    ) -> None:
        self._tables = tables
        self._cost = cost
        self._today = today
        self._plans: Kept[Plan] = Kept(kept.plans_max, kept.bytes_max)
        self._trees: Kept[exp.Query] = Kept(kept.trees_max, kept.bytes_max)

    def plan(
        self,
        dataset: Dataset,
        values: Mapping[str, Value],
        engine: EngineName,
        bounds: Bounds,
        as_of: AsOf | None = None,
        snapshots: Mapping[str, int | None] | None = None,
        caller: Caller = ANONYMOUS,
        in_force: Policies = Policies(),  # noqa: B008 - frozen
    ) -> Plan:
        """The plan at the current snapshots, at those that `as_of` names, or at the given `snapshots`.

        The policies `in_force` are put around every scan, with the claims of `caller`, after optional terms have been
        removed, so that no request can drop them. Files are counted from the dataset's own terms.

        Raises InvalidRequest (scan-limit, expired-ticket), NotFound (unknown-pin), ServerError for missing tables.
        """
        pinned = self._pin(dataset, as_of, snapshots)
        pins = {name: table.pin for name, table in pinned.items()}
        held = _held(in_force, caller, pins)
        # Everything that the plan is made from: what is left out here would be served stale, or to the wrong caller.
        guard = policies.guard(in_force, held, caller)
        key = (dataset.digest, tuple(values.items()), engine, bounds, tuple(pins.values()), guard)
        plan = self._plans.get(key)
        if plan is None:
            reading = policies.reading(dataset.called, pins, held, _schemas(pinned), caller)
            try:
                made = self._made(dataset, values, engine, bounds, pinned, held, caller)
            except Error as error:
                # Who asked in vain for which rows is the audit log's business too.
                error.reading = reading
                raise
            plan = replace(made, guard=guard, reading=reading)
            self._plans.put(key, plan, _size(plan))
        return plan

    def columns(self, table: str, as_of: AsOf | None = None) -> dict[str, str]:
        """Columns and Athena types of the table `database.table`. Raises ServerError where there is none."""
        return sql_schema(self._tables.pin(table, as_of).schema)

    def tables(self) -> list[str]:
        """All tables of the catalog as `database.table`, sorted."""
        return self._tables.names()

    def pins(self, tables: Iterable[str]) -> dict[str, dict[str, int]]:
        """The pins of these tables, each with the snapshots of those that are in it."""
        return self._tables.pins(tables)

    def snapshots(self, tables: Iterable[str]) -> dict[str, int | None]:
        """What a plan would read now of those of these tables that are there; None of an empty one."""
        found: dict[str, int | None] = {}
        for name in tables:
            with suppress(ServerError):
                found[name] = self._tables.pin(name).pin.snapshot_id
        return found

    def notes(self, table: str) -> dict[str, tuple[bool, str]]:
        """Of each column of `database.table`: whether it may be null, and its doc."""
        fields = self._tables.pin(table).schema.fields
        return {field.name.lower(): (not field.required, field.doc or "") for field in fields}

    def guard(self, plan: Plan, in_force: Policies, caller: Caller) -> str:
        """What `plan.guard` would be under these policies for this caller."""
        held = _held(in_force, caller, {pin.table: pin for pin in plan.pins})
        return policies.guard(in_force, held, caller)

    def policy_problems(self, in_force: Policies) -> list[DatasetError]:
        """What is wrong with policies, held against the tables as they are now."""

        def columns_of(name: str) -> Mapping[str, str] | None:
            try:
                return sql_schema(self._tables.pin(name).schema)
            except ServerError:
                return None

        return policies.problems(in_force, columns_of)

    def _made(
        self,
        dataset: Dataset,
        values: Mapping[str, Value],
        engine: EngineName,
        bounds: Bounds,
        pinned: Mapping[str, PinnedTable],
        held: Mapping[str, policies.TablePolicies],
        caller: Caller,
    ) -> Plan:
        pins = {name: table.pin for name, table in pinned.items()}
        tree, dropped = bind.bind(self._qualified(dataset, pinned), dataset.params, values)
        scans = self._scans(tree, pinned, held)
        estimate = self._estimate(scans) if engine != "system" else Estimate(0, 0, 0.0)
        hides = any(table.row_filters for table in held.values())
        over = _over(bounds, estimate, figures=not hides)
        if over is not None:
            said, limit = over
            hint = fitting.advice(
                dataset, values, self._today(), lambda other: self._fits(dataset, other, bounds, pinned, held), limit
            )
            raise InvalidRequest("scan-limit", f"{dataset.name} {said}; {hint}")
        schemas = _schemas(pinned)
        read = _columns_read(tree)
        asked_sql = dialect.canonical(tree)
        barrier = Barrier(tree, schemas) if hides else None
        applied, places = policies.put_around_scans(tree, held, schemas, caller)
        # Before the query's own terms are repeated within a policy's subquery.
        told = self._told(tree, scans, pinned, held, read) if hides else estimate
        if barrier is not None and barrier.needed:
            for place, guard in places:
                if guard.row_filters:
                    barrier.put(place, guard.masked)
        bound_sql = dialect.canonical(tree)
        if engine != "athena":
            sql = dialect.to_duckdb(tree, pins, schemas)
        else:
            sql = dialect.to_athena(tree, pins, schemas, dataset)
        return Plan(
            dataset=dataset,
            params=values,
            engine=engine,
            sql=sql,
            bound_sql=bound_sql,
            asked_sql=asked_sql,
            dropped=dropped,
            pins=tuple(pins[name] for name in sorted(pins)),
            fingerprint=_fingerprint(dataset, bound_sql, pins, scans),
            estimate=estimate,
            told=told,
            bounds=bounds,
            policies=applied,
        )

    def _told(
        self,
        guarded: exp.Query,
        scans: Mapping[str, list[FileSet]],
        pinned: Mapping[str, PinnedTable],
        held: Mapping[str, policies.TablePolicies],
        read: Mapping[str, frozenset[str]],
    ) -> Estimate:
        """What a caller of whom rows are hidden is told: at most what its policies admit.

        Files left by the query's own terms would tell whether rows are there that the caller may not see, and between
        which values they lie.
        """
        told = {name: sets for name, sets in scans.items() if name not in held or not held[name].row_filters}
        for node in allowed.tables(guarded):
            name = allowed.table_name(node)
            if name in held and held[name].row_filters:
                columns = (read[name] - held[name].masked) | held[name].reads
                told.setdefault(name, []).append(self._tables.admitted(pinned[name], node, columns))
        return self._estimate(told)

    def _scans(
        self, tree: exp.Query, pinned: Mapping[str, PinnedTable], held: Mapping[str, policies.TablePolicies]
    ) -> dict[str, list[FileSet]]:
        scans: dict[str, list[FileSet]] = {}
        for node in allowed.tables(tree):
            name = allowed.table_name(node)
            guard = held.get(name, policies.TablePolicies())
            scans.setdefault(name, []).append(self._tables.files(pinned[name], node, guard.masked, guard.reads))
        return scans

    def _estimate(self, scans: Mapping[str, list[FileSet]]) -> Estimate:
        return scan.estimate(scans, self._cost)

    def _fits(
        self,
        dataset: Dataset,
        values: Mapping[str, Value],
        bounds: Bounds,
        pinned: Mapping[str, PinnedTable],
        held: Mapping[str, policies.TablePolicies],
    ) -> bool:
        tree, _ = bind.bind(self._qualified(dataset, pinned), dataset.params, values)
        return _over(bounds, self._estimate(self._scans(tree, pinned, held))) is None

    def _pin(
        self, dataset: Dataset, as_of: AsOf | None, snapshots: Mapping[str, int | None] | None
    ) -> dict[str, PinnedTable]:
        names = allowed.table_names(dataset.tree)
        pinned = {name: self._tables.pin(name, as_of, (snapshots or {}).get(name)) for name in names}
        for name, snapshot in (snapshots or {}).items():
            # No snapshot is one too: that of a table before its first commit, which cannot be read any more.
            if snapshot is None and name in pinned and pinned[name].pin.snapshot_id is not None:
                raise InvalidRequest("expired-ticket", f"{name} was empty when the ticket was issued; ask again")
        return pinned

    def _qualified(self, dataset: Dataset, pinned: Mapping[str, PinnedTable]) -> exp.Query:
        key = (dataset.digest, tuple((name, table.pin.schema_id) for name, table in pinned.items()))
        tree = self._trees.get(key)
        if tree is None:
            tree = qualified(dataset.tree, _schemas(pinned))
            self._trees.put(key, tree, tree_bytes(tree))
        return tree


def _size(plan: Plan) -> int:
    """About the bytes of a plan: its SQL, values that are at most ten times as long, and the tree of a statement."""
    texts = len(plan.sql) + len(plan.asked_sql) + 10 * len(plan.bound_sql)
    return texts + (tree_bytes(plan.dataset.tree) if plan.dataset.unnamed else 0)


def _schemas(pinned: Mapping[str, PinnedTable]) -> Schemas:
    return {name: sql_schema(table.schema) for name, table in pinned.items()}


def _held(in_force: Policies, caller: Caller, pins: Mapping[str, TablePin]) -> dict[str, policies.TablePolicies]:
    """The policies that hold for the caller over the tables of a plan."""
    return {name: each for name, each in policies.holding(in_force, caller).items() if name in pins}


def _columns_read(tree: exp.Query) -> dict[str, frozenset[str]]:
    """For each table the columns that its scans in a qualified tree read."""
    found: dict[str, frozenset[str]] = {}
    for node in allowed.tables(tree):
        name = allowed.table_name(node)
        found[name] = found.get(name, frozenset()) | pushdown.columns(node)
    return found


def _over(bounds: Bounds, estimate: Estimate, *, figures: bool = True) -> tuple[str, str] | None:
    """What the plan exceeds, with or without its own figures, and the name of that limit; None when it may run."""
    if bounds.scan_bytes is not None and estimate.bytes > bounds.scan_bytes:
        said = f"{estimate.bytes:,} bytes and may read {bounds.scan_bytes:,}"
        return f"would read {said if figures else f'more than the {bounds.scan_bytes:,} bytes that it may'}", "max_scan"
    if bounds.cost_usd is not None and estimate.usd > bounds.cost_usd:
        said = f"${estimate.usd:.4f} and may cost ${bounds.cost_usd:.4f}"
        return f"would cost {said if figures else f'more than the ${bounds.cost_usd:.4f} that it may'}", "max_cost"
    return None


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
