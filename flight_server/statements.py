"""SQL of a client's own: a SELECT over dataset calls, and over tables where the caller may, as an unnamed dataset.

A statement is a second way to write a request. Every call in it goes through the same registry, parameters and binding
as a request by name, for the same caller, and the whole is planned like any dataset: pinned, priced, under the same
row policies. A statement that is one call and nothing else *is* the request by name.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from sqlglot import exp

from flight_server.config import Keeping, Sql
from flight_server.datasets.params import parse_json, resolve
from flight_server.datasets.registry import Registry
from flight_server.engines.result_types import ResultTypes
from flight_server.errors import InvalidRequest, NotFound, ServerError, nearest
from flight_server.model import CachePolicy, Caller, Dataset, Limits, ParamType, Request, Value
from flight_server.plan import allowed, arguments, bind, dialect, literals
from flight_server.plan.as_of import AsOf
from flight_server.plan.kept import Kept, tree_bytes
from flight_server.plan.planner import Planner
from flight_server.plan.shape import Shape, parameter_types, shape
from flight_server.plan.statement import Call, Statement, parameter_number, parse, stand_in

# The name of what has none, in plans, logs and metrics.
NAME = "sql"
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement as a dataset and its values. Of a plain call that is the dataset called, and its own values."""

    dataset: Dataset
    values: Mapping[str, Value]
    # The types of the `?`, in their order.
    parameters: tuple[ParamType, ...]


class Statements:
    """Compiles statements. Remembers what it parsed, bounded; whom a statement is for is asked each time."""

    def __init__(self, planner: Planner, types: ResultTypes, settings: Sql, kept: Keeping) -> None:
        self._planner = planner
        self._types = types
        self._settings = settings
        self._parsed: Kept[Statement] = Kept(kept.statements_max, kept.bytes_max)
        self._shapes: Kept[Shape] = Kept(kept.statements_max, kept.bytes_max)
        self._compiled: Kept[Compiled] = Kept(kept.statements_max, kept.bytes_max)

    def ad_hoc(self, caller: Caller) -> bool:
        """Whether the caller may name tables of the catalog."""
        return _is_one_of(caller, self._settings.ad_hoc_roles)

    def tables(self, caller: Caller) -> list[str]:
        """The tables of the catalog that the caller may name, as database.table, sorted."""
        return self._planner.tables() if self.ad_hoc(caller) else []

    def table_schema(self, table: str, caller: Caller) -> pa.Schema:
        """The Arrow schema of a table that the caller may name, docs in its metadata."""
        if not self.ad_hoc(caller):
            raise _no_tables(table)
        columns, notes = self._columns(table, None), self._planner.notes(table)
        scan = exp.select(*[exp.column(name, quoted=True) for name in columns]).from_(exp.to_table(table))
        kinds = self._types.of(dialect.to_duckdb_typed(scan, {table: columns}))
        fields = []
        for name, kind in zip(columns, kinds, strict=True):
            nullable, doc = notes[name]
            fields.append(pa.field(name, kind, nullable, {"doc": doc} if doc else None))
        return pa.schema(fields)

    def prepare(self, request: Request, registry: Registry, caller: Caller) -> Compiled:
        """The statement with its result and parameters known; its dataset has no values yet and cannot be run."""
        statement, datasets = self._asked(request, registry, caller)
        if statement.whole:
            types = parameter_types(statement, datasets, statement.tree, {})
            return Compiled(datasets[0], {}, types)
        found = self._shape(statement, datasets, self._tables(statement, None))
        return Compiled(_unnamed(statement, found, found.tree, datasets), {}, found.parameters)

    def compile(
        self, request: Request, registry: Registry, caller: Caller, today: date, as_of: AsOf | None
    ) -> Compiled:
        """The statement with the request's values bound: `params` has those of the `?`, by number.

        Raises InvalidRequest: sql-refused, or what a request by name would get for its parameters.
        """
        statement, datasets = self._asked(request, registry, caller)
        given = _given(statement, request.params)
        if statement.whole:
            types = parameter_types(statement, datasets, statement.tree, {})
            return Compiled(datasets[0], _values(statement.calls[0], datasets[0], given, today), types)
        tables = self._tables(statement, as_of)
        # All that the answer is made from. Tools ask the same again for every page of rows.
        key = (statement.text, _digests(datasets), repr(tables), repr(given), today)
        known = self._compiled.get(key)
        if known is None:
            found = self._shape(statement, datasets, tables)
            known = _compiled(statement, datasets, found, given, today)
            self._compiled.put(key, known, tree_bytes(known.dataset.tree) + len(key[3]))
        return known

    def _asked(self, request: Request, registry: Registry, caller: Caller) -> tuple[Statement, list[Dataset]]:
        """The parsed statement, and the datasets that it calls: only those that exist for the caller."""
        text = request.sql or ""
        statement = self._parsed.get(text)
        if statement is None:
            statement = parse(text)
            arguments_of = [argument for call in statement.calls for argument in call.arguments]
            self._parsed.put(text, statement, len(text) + sum(map(tree_bytes, [statement.tree, *arguments_of])))
        if not statement.whole and not _is_one_of(caller, self._settings.roles):
            raise InvalidRequest("sql-refused", "SQL of your own is not open to you here; ask for a dataset")
        if statement.tables and not self.ad_hoc(caller):
            raise _no_tables(statement.tables[0])
        return statement, [_called(call, registry, caller, self.ad_hoc(caller)) for call in statement.calls]

    def _tables(self, statement: Statement, as_of: AsOf | None) -> dict[str, dict[str, str]]:
        """The columns of the tables that the statement names itself."""
        return {name: self._columns(name, as_of) for name in statement.tables}

    def _shape(self, statement: Statement, datasets: Sequence[Dataset], tables: Mapping[str, dict[str, str]]) -> Shape:
        key = (statement.text, _digests(datasets), repr(tables))
        found = self._shapes.get(key)
        if found is None:
            found = shape(statement, datasets, tables, self._types.of)
            self._shapes.put(key, found, len(statement.text) + tree_bytes(found.tree))
        return found

    def _columns(self, table: str, as_of: AsOf | None) -> dict[str, str]:
        try:
            return self._planner.columns(table, as_of)
        except ServerError:
            driver = "; the driver says which there are" if table.startswith("information_schema.") else ""
            raise InvalidRequest("sql-refused", f"there is no table {table[:80]!r}{driver}") from None


def _is_one_of(caller: Caller, roles: Sequence[str]) -> bool:
    return bool(roles) and bool({"*"} & (set(roles) | caller.roles) or set(roles) & caller.roles)


def _digests(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    return tuple(dataset.digest for dataset in datasets)


def _compiled(
    statement: Statement, datasets: Sequence[Dataset], found: Shape, given: Mapping[int, object], today: date
) -> Compiled:
    """The statement with its parameters as literals and the queries of its datasets in place of their stand-ins."""
    tree = _bound(found, given)
    for table in list(allowed.tables(tree)):
        number = stand_in(table)
        if number is not None:
            values = _values(statement.calls[number], datasets[number], given, today)
            table.replace(_query(table, datasets[number], values))
    return Compiled(_unnamed(statement, found, tree, datasets), {}, found.parameters)


def _no_tables(table: str) -> InvalidRequest:
    return InvalidRequest(
        "sql-refused", f"{table[:80]}: tables of the catalog are not open to SQL here; ask for a dataset"
    )


def _called(call: Call, registry: Registry, caller: Caller, ad_hoc: bool) -> Dataset:
    name = call.dataset if call.dataset in registry.datasets else call.dataset.lower()
    try:
        return registry.get(name, None, caller)
    except NotFound:
        otherwise = "; a table is written database.table" if ad_hoc else ""
        near = nearest(call.dataset, [dataset.name for dataset in registry.visible(caller)], end=otherwise)
        raise InvalidRequest(
            "sql-refused", f"FROM takes datasets, and there is none named {call.dataset[:80]!r}{near}"
        ) from None


def _given(statement: Statement, params: Mapping[str, object]) -> dict[int, object]:
    """The values of the `?` by number; all of them, and no others."""
    wanted = {str(number): number for number in range(1, statement.parameters + 1)}
    for name in params:
        if name not in wanted:
            raise InvalidRequest(
                "unknown-parameter",
                f"the statement has {len(wanted)} parameters (?), and {name[:40]!r} is none of them",
            )
    for name in wanted:
        if name not in params:
            raise InvalidRequest("missing-parameter", f"parameter {name} of {len(wanted)} (?) has no value")
    return {number: params[name] for name, number in wanted.items()}


def _values(call: Call, dataset: Dataset, given: Mapping[int, object], today: date) -> dict[str, Value]:
    raw: dict[str, object] = {}
    for name, node in arguments.named(call, dataset).items():
        try:
            raw[name] = arguments.value(node, given)
        except ValueError as error:
            raise InvalidRequest("bad-parameter", f"{dataset.name}.{name} {error}") from None
    return resolve(dataset, raw, today, functools.partial(arguments.example, call))


def _bound(found: Shape, given: Mapping[int, object]) -> exp.Query:
    """A copy of the shape's tree with the parameters outside of calls as typed literals."""
    tree = found.tree.copy()
    for node in list(tree.find_all(exp.Placeholder)):
        number = parameter_number(node) or 0
        node.replace(_literal(node, number, found.parameters[number - 1], given[number]))
    return tree


def _literal(node: exp.Placeholder, number: int, kind: ParamType, raw: object) -> exp.Expr:
    if raw is None:
        return exp.cast(exp.null(), literals.sql_type(kind))
    try:
        value = parse_json(kind, raw)
    except ValueError as error:
        raise InvalidRequest("bad-parameter", f"parameter {number} (?) {error}") from None
    if isinstance(node.parent, exp.Limit | exp.Offset | exp.Fetch):
        if not isinstance(value, int) or value < 0:
            raise InvalidRequest("bad-parameter", f"parameter {number} (?) is no number of rows")
        # Neither engine takes an expression there.
        return exp.Literal.number(value)
    return literals.scalar(kind, value)


def _query(table: exp.Table, dataset: Dataset, values: Mapping[str, Value]) -> exp.Subquery:
    """The dataset's bound query in place of its stand-in."""
    tree, _ = bind.bind(dataset.tree, dataset.params, values)
    if not tree.args.get("limit") and not tree.args.get("offset"):
        # The order of a subquery means nothing, and costs.
        tree.set("order", None)
    return exp.Subquery(this=tree, alias=table.args["alias"].copy(), joins=table.args.get("joins"))


def _unnamed(statement: Statement, found: Shape, tree: exp.Query, datasets: Sequence[Dataset]) -> Dataset:
    called = tuple(sorted({dataset.name for dataset in datasets}))
    # The datasets too: the plan of a statement that reads the same without calling them is not this one's.
    content = repr((dialect.canonical(tree), found.columns, found.sorted, found.hidden, called))
    engines = {dataset.engine for dataset in datasets} - {"auto"}
    if "system" in engines and (statement.tables or any(dataset.engine != "system" for dataset in datasets)):
        raise InvalidRequest("sql-refused", "the server's own datasets are joined with each other only")
    if len(engines) > 1:
        raise InvalidRequest("sql-refused", "the datasets of the statement are bound to different engines")
    return Dataset(
        name=NAME,
        version=0,
        title="",
        doc="",
        owner="",
        tags=(),
        key=(),
        sorted=found.sorted,
        params={},
        rules=(),
        columns=found.columns,
        limits=_limits([dataset.limits for dataset in datasets]),
        cache=_cache([dataset.cache for dataset in datasets]),
        roles=frozenset(),
        engine=next(iter(engines), "auto"),
        materialize=None,
        deprecated=None,
        path=Path(NAME),
        sql_line=1,
        sql=statement.text,
        tree=tree,
        digest=hashlib.sha256(content.encode()).hexdigest(),
        hidden=found.hidden,
        called=called,
    )


def _limits(all_of: Sequence[Limits]) -> Limits:
    """What the datasets together may cost; without any, or where one has no limit, the server's."""

    return Limits(
        max_scan_bytes=_total([limits.max_scan_bytes for limits in all_of]),
        max_rows=_total([limits.max_rows for limits in all_of]),
        max_bytes=_total([limits.max_bytes for limits in all_of]),
        max_cost_usd=_total([limits.max_cost_usd for limits in all_of]),
        timeout_s=_total([limits.timeout_s for limits in all_of]),
    )


def _total(values: Sequence[_Number | None]) -> _Number | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(values) else None


def _cache(all_of: Sequence[CachePolicy]) -> CachePolicy:
    """The strictest of the datasets' policies."""
    if any(policy.mode == "off" for policy in all_of):
        return CachePolicy("off")
    lives = [policy.ttl_s for policy in all_of if policy.mode == "ttl" and policy.ttl_s is not None]
    return CachePolicy("ttl", min(lives)) if lives else CachePolicy()
