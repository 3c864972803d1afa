"""How many bytes a query scans, as Athena bills them: the files that are left after pushing its filters, and of those
the columns it names. A query that cannot be analysed is billed for the whole of its tables.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyiceberg import expressions
from pyiceberg.expressions import BooleanExpression
from pyiceberg.schema import Schema, index_by_id
from pyiceberg.table import FileScanTask, StaticTable
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.pushdown_predicates import pushdown_predicates
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope

# Their constructors take positions, which mypy's pydantic plugin does not see.
ice: Any = expressions
_COMPARE: dict[type[exp.Expr], Any] = {
    exp.EQ: ice.EqualTo,
    exp.NEQ: ice.NotEqualTo,
    exp.GT: ice.GreaterThan,
    exp.GTE: ice.GreaterThanOrEqual,
    exp.LT: ice.LessThan,
    exp.LTE: ice.LessThanOrEqual,
}
_MIRROR: dict[type[exp.Expr], type[exp.Expr]] = {exp.GT: exp.LT, exp.GTE: exp.LTE, exp.LT: exp.GT, exp.LTE: exp.GTE}


@dataclass(frozen=True)
class Scanned:
    """One mention of an Iceberg table in a query: opened, and the snapshot that is read (None = the current one)."""

    table: StaticTable
    snapshot_id: int | None


def scanned_bytes(tree: exp.Expr, mentions: dict[int, Scanned]) -> int:
    """Bytes of all Iceberg tables in a query. `mentions` goes by `id()` of the table nodes of `tree`."""
    if not mentions:
        return 0
    copy = tree.copy()
    named: dict[str, Scanned] = {}
    schema: dict[str, object] = {}
    originals = list(tree.find_all(exp.Table))
    for original, node in zip(originals, list(copy.find_all(exp.Table)), strict=True):
        scanned = mentions.get(id(original))
        if scanned is None:
            continue
        name = f"scanned_{len(named)}"
        named[name] = scanned
        schema[name] = {f.name.lower(): "unknown" for f in scanned.table.schema().fields}
        alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(node.name))
        node.replace(exp.Table(this=exp.to_identifier(name), alias=alias, joins=node.args.get("joins")))
    for column in copy.find_all(exp.Column):
        column.set("db", None)
        column.set("catalog", None)
    try:
        logging.getLogger("sqlglot").setLevel(logging.ERROR)
        done = qualify(copy, schema=schema, dialect="athena", validate_qualify_columns=False, quote_identifiers=False)
        scopes = traverse_scope(pushdown_predicates(done, dialect="athena"))
        return sum(_bytes(named[t.name], _filters(s, a), _columns(s, a)) for s in scopes for a, t in _tables(s, named))
    except (SqlglotError, KeyError, ValueError, AttributeError, RecursionError):
        return sum(_bytes(s, [], None) for s in named.values())


def _tables(scope: Scope, named: dict[str, Scanned]) -> Iterable[tuple[str, exp.Table]]:
    return [(a, s) for a, s in scope.sources.items() if isinstance(s, exp.Table) and s.name in named]


def _columns(scope: Scope, alias: str) -> set[str]:
    return {c.name.lower() for c in scope.expression.find_all(exp.Column) if c.table == alias}


def _filters(scope: Scope, alias: str) -> list[exp.Expr]:
    """Conjuncts on one table that hold for every row that is read: of WHERE, and of inner joins' ON."""
    conditions: list[exp.Expr] = []
    if where := scope.expression.args.get("where"):
        conditions.append(where.this)
    for join in scope.expression.args.get("joins") or []:
        if on := join.args.get("on"):
            outer = join.side in ("LEFT", "FULL", "RIGHT")
            conditions += [] if outer and join.alias_or_name != alias else [on]
    terms = [t for c in conditions for t in (c.flatten() if isinstance(c, exp.And) else [c])]
    return [t for t in terms if isinstance(t, exp.Boolean) or {c.table for c in t.find_all(exp.Column)} == {alias}]


def _bytes(scanned: Scanned, filters: list[exp.Expr], columns: set[str] | None) -> int:
    if any(isinstance(term, exp.Boolean) and not term.this for term in filters):
        return 0
    schema = scanned.table.schema()
    row_filter: BooleanExpression = ice.AlwaysTrue()
    for term in filters:
        converted = convert(term, schema)
        if converted is not None:
            row_filter = ice.And(row_filter, converted)
    scan = scanned.table.scan(row_filter=row_filter, snapshot_id=scanned.snapshot_id, case_sensitive=False)
    ids = (
        None
        if columns is None
        else {i for f in schema.fields if f.name.lower() in columns for i in index_by_id(Schema(f))}
    )
    return sum(_task_bytes(task, ids) for task in scan.plan_files())


def _task_bytes(task: FileScanTask, ids: set[int] | None) -> int:
    sizes = task.file.column_sizes or {}
    deletes = sum(f.file_size_in_bytes for f in task.delete_files)
    if ids is None or not sizes:
        return int(task.file.file_size_in_bytes + deletes)
    return int(sum(size for column, size in sizes.items() if column in ids) + deletes)


def convert(node: exp.Expr, schema: Schema) -> BooleanExpression | None:
    """The Iceberg expression of a condition, exactly; None when it has no such form or does not fit the schema."""
    found = _convert(node)
    if found is None:
        return None
    with contextlib.suppress(Exception):
        ice.visitors.bind(schema, found, case_sensitive=False)
        return found
    return None


def _convert(node: exp.Expr) -> BooleanExpression | None:
    match node:
        case exp.Paren():
            return _convert(node.this)
        case exp.And() | exp.Or():
            left, right = _convert(node.left), _convert(node.right)
            if left is None or right is None:
                return None
            return _made(ice.And if isinstance(node, exp.And) else ice.Or, left, right)
        case exp.Not():
            inner = _convert(node.this)
            return None if inner is None else _made(ice.Not, inner)
        case exp.Is() if isinstance(node.this, exp.Column) and isinstance(node.expression, exp.Null):
            return _made(ice.IsNull, node.this.name)
        case exp.Between() if isinstance(node.this, exp.Column):
            low, high = _value(node.args["low"]), _value(node.args["high"])
            if low is None or high is None:
                return None
            name = node.this.name
            return _made(ice.And, ice.GreaterThanOrEqual(name, low), ice.LessThanOrEqual(name, high))
        case exp.In() if isinstance(node.this, exp.Column) and node.expressions:
            values = [_value(e) for e in node.expressions]
            return None if any(v is None for v in values) else _made(ice.In, node.this.name, values)
        case exp.EQ() | exp.NEQ() | exp.GT() | exp.GTE() | exp.LT() | exp.LTE():
            return _comparison(node)
    return None


def _made(kind: Any, *arguments: object) -> BooleanExpression:
    built: BooleanExpression = kind(*arguments)
    return built


def _comparison(node: exp.Expr) -> BooleanExpression | None:
    left, right, kind = node.args["this"], node.args["expression"], type(node)
    if isinstance(right, exp.Column):
        left, right, kind = right, left, _MIRROR.get(kind, kind)
    value = _value(right)
    if not isinstance(left, exp.Column) or value is None:
        return None
    built: BooleanExpression = _COMPARE[kind](left.name, value)
    return built


def _value(node: exp.Expr) -> str | int | float | bool | None:
    """A literal's value; dates and timestamps as ISO text, which pyiceberg parses to the column's type."""
    match node:
        case exp.Paren():
            return _value(node.this)
        case exp.Neg():
            inner = _value(node.this)
            return -inner if isinstance(inner, int | float) else None
        case exp.Boolean():
            return bool(node.this)
        case exp.Cast() if isinstance(node.this, exp.Literal) and node.this.is_string:
            text = node.this.name
            if node.to.this is exp.DType.DATE:
                return text
            return text.replace(" ", "T") if node.to.this is exp.DType.TIMESTAMP else None
        case exp.Literal():
            if node.is_string:
                return node.name
            return int(node.name) if node.name.isdigit() else float(node.name)
    return None
