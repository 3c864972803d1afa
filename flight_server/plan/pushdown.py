"""From the WHERE and ON of a query to Iceberg expressions, for counting the files that a plan will read.

The answer decides what a stored result depends on, so it may only ever be too wide, never too narrow: a term is
used only when rows that fail it cannot reach the result through that scan, and when both sides mean the same to
Iceberg as to the engines. Everything else is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from pyiceberg import expressions as ice
from pyiceberg import types as ice_types
from pyiceberg.schema import Schema
from sqlglot import exp

_FLIPPED = {exp.LT: exp.GT, exp.LTE: exp.GTE, exp.GT: exp.LT, exp.GTE: exp.LTE, exp.EQ: exp.EQ}
_ICEBERG: dict[type[exp.Expr], type[ice.LiteralPredicate]] = {
    exp.EQ: ice.EqualTo,
    exp.LT: ice.LessThan,
    exp.LTE: ice.LessThanOrEqual,
    exp.GT: ice.GreaterThan,
    exp.GTE: ice.GreaterThanOrEqual,
}
# What the type checker makes of its constructor depends on which modules it has seen before.
_IN: Any = ice.In


def row_filter(table: exp.Table, schema: Schema, masked: frozenset[str] = frozenset()) -> ice.BooleanExpression:
    """What every row of this scan must satisfy to matter: the terms of its own SELECT that are about this table.

    Terms about `masked` columns are left out: they hold for other values than the stored ones.
    """
    select = table.parent_select
    if not isinstance(select, exp.Select) or _renames(table):
        return ice.AlwaysTrue()
    schema = Schema(*(field for field in schema.fields if field.name.lower() not in masked))
    found: ice.BooleanExpression = ice.AlwaysTrue()
    for term in terms(select, table):
        converted = _convert(term, table.alias_or_name, schema)
        if converted is not None:
            found = ice.And(found, converted)
    return found


def _renames(table: exp.Table) -> bool:
    """Whether the alias gives the columns other names, `t AS x(a, b)`: then a name says nothing about the table's."""
    alias = table.args.get("alias")
    return bool(alias and alias.args.get("columns"))


def columns(table: exp.Table) -> set[str]:
    """The columns that the query reads from this scan. The tree must be qualified."""
    select = table.parent_select
    name = table.alias_or_name
    return {c.name for c in select.find_all(exp.Column) if c.table == name} if select else set()


def terms(select: exp.Select, table: exp.Table | exp.Subquery) -> Iterator[exp.Expr]:
    """The AND-terms of a SELECT that can be used for a scan in its FROM, where they hold for no null."""
    # All that is converted is null-rejecting, so WHERE holds for the optional side of an outer join as well.
    where = select.args.get("where")
    if where:
        yield from _conjuncts(where.this)
    for join in select.args.get("joins") or []:
        side = (join.side or "").upper()
        on = join.args.get("on")
        if not on or side in ("FULL", "RIGHT") or (join.kind or "").upper() not in ("", "INNER", "CROSS", "OUTER"):
            continue
        # An ON of a LEFT JOIN says nothing about the rows of the left side, which stay whether it holds or not.
        if side == "" or join.this is table:
            # A term that names a column is used for that column's table only. A constant names none, and says nothing
            # about a table that a later RIGHT or FULL JOIN adds.
            yield from (term for term in _conjuncts(on) if not term.find(exp.Boolean))


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    if isinstance(node, exp.Paren):
        yield from _conjuncts(node.this)
    elif isinstance(node, exp.And):
        yield from _conjuncts(node.left)
        yield from _conjuncts(node.right)
    else:
        yield node


def _convert(term: exp.Expr, alias: str, schema: Schema) -> ice.BooleanExpression | None:
    if isinstance(term, exp.Paren):
        return _convert(term.this, alias, schema)
    if isinstance(term, exp.Boolean):
        return None if term.this else ice.AlwaysFalse()
    if isinstance(term, exp.Or):
        left, right = _convert(term.left, alias, schema), _convert(term.right, alias, schema)
        return ice.Or(left, right) if left and right else None
    if isinstance(term, exp.And):
        left, right = _convert(term.left, alias, schema), _convert(term.right, alias, schema)
        return ice.And(left, right) if left and right else left or right
    if isinstance(term, exp.Between) and not term.args.get("symmetric"):
        low = _comparison(exp.GTE, term.this, term.args["low"], alias, schema)
        high = _comparison(exp.LTE, term.this, term.args["high"], alias, schema)
        return ice.And(low, high) if low and high else low or high
    if isinstance(term, exp.In) and not term.args.get("query") and not term.args.get("unnest"):
        return _membership(term, alias, schema)
    if type(term) in _ICEBERG and isinstance(term, exp.Binary):
        if isinstance(term.left, exp.Column):
            return _comparison(type(term), term.left, term.right, alias, schema)
        return _comparison(_FLIPPED[type(term)], term.right, term.left, alias, schema)
    return None


def _comparison(
    operator: type[exp.Expr], column: exp.Expr, value: exp.Expr, alias: str, schema: Schema
) -> ice.BooleanExpression | None:
    field = _field(column, alias, schema)
    constant = _constant(value)
    if field is None or constant is None or not _comparable(field.field_type, constant):
        return None
    return _ICEBERG[operator](field.name, _for_iceberg(constant))


def _membership(term: exp.In, alias: str, schema: Schema) -> ice.BooleanExpression | None:
    field = _field(term.this, alias, schema)
    constants = [_constant(item) for item in term.expressions]
    if field is None or not constants or not all(_comparable(field.field_type, c) for c in constants):
        return None
    found: ice.BooleanExpression = _IN(field.name, [_for_iceberg(c) for c in constants])
    return found


def _field(column: exp.Expr, alias: str, schema: Schema) -> ice_types.NestedField | None:
    if not isinstance(column, exp.Column) or column.table != alias:
        return None
    try:
        return schema.find_field(column.name, case_sensitive=False)
    except ValueError:
        return None


def _for_iceberg(value: object) -> Any:
    """Dates and moments as ISO text, which Iceberg reads by the column's type."""
    return value.isoformat() if isinstance(value, date) else value


def _comparable(kind: ice_types.IcebergType, value: object) -> bool:
    """Whether Iceberg compares this column with this value as SQL would. Floats are left out: engines widen them."""
    if isinstance(value, bool):
        return False
    if isinstance(kind, ice_types.IntegerType):
        return isinstance(value, int) and -(2**31) <= value < 2**31
    if isinstance(kind, ice_types.LongType):
        return isinstance(value, int) and -(2**63) <= value < 2**63
    if isinstance(kind, ice_types.DateType):
        # Not the first and the last day: Iceberg steps one beyond a bound that is not inclusive.
        return isinstance(value, date) and not isinstance(value, datetime) and date.min < value < date.max
    if isinstance(kind, ice_types.TimestampType):
        return isinstance(value, datetime) and value.tzinfo is None and _inside(value)
    if isinstance(kind, ice_types.TimestamptzType):
        return isinstance(value, datetime) and value.tzinfo is not None and _inside(value)
    if isinstance(kind, ice_types.DecimalType):
        return isinstance(value, Decimal) and -int(value.as_tuple().exponent) == kind.scale
    return isinstance(kind, ice_types.StringType) and isinstance(value, str)


def _constant(node: exp.Expr) -> object | None:
    """The value that a literal of `literals.py` (or one like it in the file) stands for."""
    if isinstance(node, exp.Paren):
        return _constant(node.this)
    if isinstance(node, exp.Neg):
        value = _constant(node.this)
        return -value if isinstance(value, (int, Decimal)) else None
    if isinstance(node, exp.Literal):
        if node.is_string:
            return str(node.this)
        return int(node.this) if node.is_int else None
    if isinstance(node, exp.Cast):
        return _cast(_constant(node.this), node.to)
    return None


def _cast(value: object | None, kind: exp.DataType) -> object | None:
    """The constant that the cast gives, where it gives exactly the value that is written."""
    try:
        if kind.is_type("int", "bigint") and isinstance(value, (int, str)):
            return int(value)
        if not isinstance(value, str):
            return None
        if kind.is_type("date"):
            return date.fromisoformat(value)
        if kind.is_type("timestamp", "timestamptz", "timestampntz"):
            return datetime.fromisoformat(value) if _fraction_digits(value) <= _precision(kind) else None
        if kind.is_type("decimal") and len(kind.expressions) == 2:
            exact = Decimal(value)
            # A number with more decimals than the type would be rounded.
            rounded = exact.quantize(Decimal(1).scaleb(-int(kind.expressions[1].name)))
            return rounded if rounded == exact else None
    except (ValueError, InvalidOperation):
        return None
    return None


def _fraction_digits(moment: str) -> int:
    found = re.search(r"\.([0-9]+)", moment)
    return len(found[1]) if found else 0


def _precision(kind: exp.DataType) -> int:
    # Trino's TIMESTAMP without a number has milliseconds; Iceberg's has microseconds.
    return min(int(kind.expressions[0].name), 6) if kind.expressions else 3


def _inside(moment: datetime) -> bool:
    return datetime.min < moment.replace(tzinfo=None) < datetime.max
