"""From Athena's SQL to DuckDB's: what sqlglot's own translation leaves, or gets wrong on types and rounding.

Rules are applied bottom-up to one node at a time. Precision of timestamps rides on DuckDB's TIMESTAMP_S, _MS and
TIMESTAMP; `cast_to_type(value, like)` keeps the type of an argument where Trino does and DuckDB does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from tests.fakes.athena.errors import QueryFailed

# Trino functions without a translation in sqlglot, as macros of the engine's database.
MACROS = """
CREATE MACRO athena_round_us(us) AS make_timestamp(us + 500 - (((us + 500) % 1000 + 1000) % 1000));
CREATE MACRO athena_ts3(x TIMESTAMP) AS CAST(athena_round_us(epoch_us(x)) AS TIMESTAMP_MS),
    (x TIMESTAMP_MS) AS x,
    (x TIMESTAMP_S) AS CAST(x AS TIMESTAMP_MS),
    (x DATE) AS CAST(x AS TIMESTAMP_MS),
    (x TIMESTAMPTZ) AS CAST(athena_round_us(epoch_us(x)) AS TIMESTAMP_MS),
    (x VARCHAR) AS CAST(athena_round_us(epoch_us(CAST(x AS TIMESTAMP))) AS TIMESTAMP_MS);
CREATE MACRO athena_fraction(s, n) AS CASE WHEN contains(s, '.') THEN rpad(s, CAST(19 + 1 + n AS INTEGER), '0')
    ELSE s || '.' || repeat('0', n) END;
CREATE MACRO athena_text(x) AS CASE typeof(x)
    WHEN 'DOUBLE' THEN athena_java_double(TRY_CAST(CAST(x AS VARCHAR) AS DOUBLE))
    WHEN 'FLOAT' THEN athena_java_double(TRY_CAST(CAST(x AS VARCHAR) AS DOUBLE))
    WHEN 'TIMESTAMP_MS' THEN athena_fraction(CAST(x AS VARCHAR), 3)
    WHEN 'TIMESTAMP' THEN athena_fraction(CAST(x AS VARCHAR), 6)
    WHEN 'TIMESTAMP WITH TIME ZONE' THEN
        athena_fraction(strftime(TRY_CAST(CAST(x AS VARCHAR) AS TIMESTAMP), '%Y-%m-%d %H:%M:%S.%g'), 3) || ' UTC'
    WHEN 'JSON' THEN CAST(x AS VARCHAR)
    ELSE CAST(x AS VARCHAR) END;
CREATE MACRO to_iso8601(x) AS CASE typeof(x)
    WHEN 'DATE' THEN CAST(x AS VARCHAR)
    WHEN 'TIMESTAMP WITH TIME ZONE' THEN
        strftime(TRY_CAST(CAST(x AS VARCHAR) AS TIMESTAMP), '%Y-%m-%dT%H:%M:%S.%g') || 'Z'
    ELSE replace(athena_text(x), ' ', 'T') END;
CREATE MACRO map_agg(k, v) AS map_from_entries(list(row(k, v)));
CREATE MACRO multimap_agg(k, v) AS map_from_entries(list(row(k, v)));
CREATE MACRO zip(a, b) AS list_zip(a, b);
CREATE MACRO at_timezone(x, z) AS x;
CREATE MACRO with_timezone(x, z) AS timezone(z, x);
CREATE MACRO from_iso8601_timestamp(x) AS CAST(x AS TIMESTAMPTZ);
CREATE MACRO from_iso8601_date(x) AS CAST(x AS DATE);
CREATE MACRO every(x) AS bool_and(x);
CREATE MACRO infinity() AS CAST('inf' AS DOUBLE);
CREATE MACRO nan() AS CAST('nan' AS DOUBLE);
CREATE MACRO is_nan(x) AS isnan(x);
CREATE MACRO is_finite(x) AS isfinite(x);
CREATE MACRO is_infinite(x) AS isinf(x);
CREATE MACRO from_unixtime_nanos(x) AS make_timestamptz(x // 1000);
CREATE MACRO truncate(x) AS trunc(x);
CREATE MACRO to_utf8(x) AS encode(x);
CREATE MACRO from_utf8(x) AS decode(x);
CREATE MACRO json_parse(x) AS CAST(x AS JSON);
CREATE MACRO codepoint(x) AS unicode(x);
CREATE MACRO array_max(x) AS list_max(x);
CREATE MACRO array_min(x) AS list_min(x);
CREATE MACRO arrays_overlap(a, b) AS list_has_any(a, b);
CREATE MACRO array_intersect(a, b) AS list_intersect(a, b);
"""

_TEXT = {exp.DType.VARCHAR, exp.DType.TEXT, exp.DType.CHAR, exp.DType.NVARCHAR, exp.DType.NCHAR}
# Joda letters of format_datetime to strftime; longest first.
_JODA = [("yyyy", "%Y"), ("yy", "%y"), ("MMMM", "%B"), ("MMM", "%b"), ("MM", "%m"), ("dd", "%d"), ("HH", "%H")]
_JODA += [("hh", "%I"), ("mm", "%M"), ("ss", "%S"), ("SSSSSS", "%f"), ("SSS", "%g"), ("EEEE", "%A"), ("EEE", "%a")]
_JODA += [("DDD", "%j"), ("a", "%p"), ("d", "%-d"), ("M", "%-m"), ("H", "%-H"), ("m", "%-M"), ("s", "%-S"), ("Z", "%z")]

# Units of date_trunc, date_add and date_diff.
_UNITS = {"millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"}
_MAP_LAMBDAS = {"transform_keys", "transform_values", "map_filter"}

Rows = Literal["map", "row"]


def translate(tree: exp.Expr, source: Callable[[exp.Table], str], rows: Rows = "map") -> str:
    """DuckDB's text of a query. `source` gives the FROM item of a table that is no CTE.

    UNNEST of one argument into two columns or more is a map's or an array of rows'; the text cannot tell, so `rows`
    says which to try.
    """
    tree = tree.copy()
    for node in reversed(list(tree.dfs())):
        new = _rewrite(node, source, rows)
        if new is not node:
            if node is tree:
                tree = new
            else:
                node.replace(new)
    return tree.sql(dialect="duckdb", unsupported_level=ErrorLevel.IGNORE)


def is_cte(table: exp.Table) -> bool:
    """Whether a name is one that a WITH around it defines."""
    if table.db:
        return False
    node: exp.Expr | None = table
    while node is not None:
        with_ = node.args.get("with_")
        if with_ is not None and table.name.lower() in {c.alias.lower() for c in with_.expressions}:
            return True
        node = node.parent
    return False


def _rewrite(node: exp.Expr, source: Callable[[exp.Table], str], rows: Rows) -> exp.Expr:
    match node:
        case exp.Table():
            return _table(node, source)
        case exp.Unnest() if isinstance(node.parent, exp.From | exp.Join):
            return _unnest(node, rows)
        case exp.Lateral() if isinstance(node.this, exp.Unnest):
            return _unnest(node.this, rows, node.args.get("alias"))
        case exp.DataType():
            return _type(node)
        case exp.Cast():
            return _cast(node)
        # Four parts without the catalog's name are a field of a field: table.column.field.field.
        case exp.Column() if node.args.get("db") and node.catalog.lower() in ("", "awsdatacatalog"):
            return exp.Column(this=node.this.copy(), table=node.args["table"].copy())
        case exp.Select() if _nested(node) and node.args.get("order") and not _limited(node):
            # Trino drops the ORDER BY of a subquery, which then comes in any order.
            node.set("order", None)
            return node
        case exp.TimestampTrunc() | exp.DateTrunc():
            unit = _unit(node)
            return _call("cast_to_type", _call("date_trunc", unit, node.this), node.this)
        case exp.DateAdd():
            _unit(node)
            step = exp.Interval(this=exp.Paren(this=node.expression.copy()), unit=node.args["unit"].copy())
            return _call("cast_to_type", exp.Add(this=exp.Paren(this=node.this.copy()), expression=step), node.this)
        case exp.Add() | exp.Sub() if isinstance(node.expression, exp.Interval) and not isinstance(
            node.this, exp.Interval
        ):
            return _call("cast_to_type", node, node.this)
        case exp.DateDiff():
            # Trino counts whole units; DuckDB's date_diff counts borders crossed and its date_sub whole units.
            unit = _unit(node)
            return _call("date_sub", unit, node.expression, node.this)
        case exp.StrToTime() | exp.Localtimestamp():
            return exp.Cast(this=node.copy(), to=exp.DataType(this=exp.DType.TIMESTAMP_MS))
        case exp.Struct() if not any(isinstance(e, exp.PropertyEQ) for e in node.expressions):
            return _call("row", *node.expressions)
        case exp.AtTimeZone():
            zoned = exp.Cast(this=node.this.copy(), to=exp.DataType(this=exp.DType.TIMESTAMPTZ))
            if isinstance(node.parent, exp.Cast):
                return exp.AtTimeZone(this=zoned, zone=node.args["zone"].copy())
            return zoned
        case exp.Anonymous() if node.name.lower() in _MAP_LAMBDAS:
            return _map_lambda(node)
        case exp.Anonymous() if node.name.lower() == "format_datetime":
            pattern = exp.Literal.string(_joda(node.expressions[1].name))
            return _call("strftime", node.expressions[0], pattern)
        case _:
            return node


def _nested(node: exp.Expr) -> bool:
    """Whether a query is inside another one; parentheses around the whole do not count."""
    parent = node.parent
    while isinstance(parent, exp.Subquery) and parent.parent is None:
        parent = parent.parent
    return parent is not None


def _limited(node: exp.Expr) -> bool:
    return any(node.args.get(part) for part in ("limit", "offset", "fetch"))


def _unit(node: exp.Expr) -> exp.Literal:
    """Trino knows no microseconds, decades or epochs here; DuckDB does."""
    unit = node.text("unit").lower()
    if unit not in _UNITS:
        raise QueryFailed("INVALID_FUNCTION_ARGUMENT", f"line 1:1: '{unit}' is not a valid TIMESTAMP field")
    return exp.Literal.string(unit)


def _map_lambda(node: exp.Anonymous) -> exp.Expr:
    """`transform_values(m, (k, v) -> …)` and its like, over the map's list of entries."""
    source, function = node.expressions
    key, value = (parameter.name for parameter in function.expressions)
    entry = exp.to_identifier(f"entry_of_{key}_{value}")
    parts = {
        name: _call("struct_extract", entry, exp.Literal.string(part))
        for name, part in ((key, "key"), (value, "value"))
    }
    body = exp.Paren(this=function.this.copy())
    for name in list(body.find_all(exp.Identifier)):
        field = isinstance(name.parent, exp.Dot) and name.arg_key == "expression"
        if name.name in parts and not field and not isinstance(name.parent, exp.Column | exp.Lambda | exp.ColumnDef):
            name.replace(parts[name.name].copy())
    kind = node.name.lower()
    if kind == "map_filter":
        kept = exp.Lambda(this=body, expressions=[entry])
        return _call("map_from_entries", _call("list_filter", _call("map_entries", source), kept))
    pair = [body, parts[value]] if kind == "transform_keys" else [parts[key], body]
    made = exp.Lambda(this=_call("row", *pair), expressions=[entry])
    return _call("map_from_entries", _call("list_transform", _call("map_entries", source), made))


def _call(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=[a.copy() for a in arguments])


def _table(node: exp.Table, source: Callable[[exp.Table], str]) -> exp.Expr:
    alias = node.args.get("alias")
    if isinstance(node.this, exp.Anonymous) and node.this.name.upper() == "TABLE":
        return _table_function(node)
    if not isinstance(node.this, exp.Identifier) or is_cte(node):
        return node
    name = alias.copy() if alias is not None else exp.TableAlias(this=exp.to_identifier(node.name, quoted=True))
    item = exp.Subquery(this=exp.Select(expressions=[exp.Star()]).from_(exp.Table(this=exp.Var(this=source(node)))))
    item.set("alias", name)
    for join in node.args.get("joins") or []:
        item.append("joins", join.copy())
    if sample := node.args.get("sample"):
        item.set("sample", sample.copy())
    return item


def _table_function(node: exp.Table) -> exp.Expr:
    """`TABLE(sequence(start => 1, stop => n))`, the one table function that tests need."""
    series = node.this.expressions[0]
    values = [series.args.get(key) for key in ("start", "end", "step")]
    plain = [(v.expression if isinstance(v, exp.Kwarg) else v).sql("duckdb") for v in values if v is not None]
    text = f"(SELECT generate_series AS sequential_number FROM generate_series({', '.join(plain)}))"
    alias = node.args.get("alias")
    return exp.Table(this=exp.Var(this=text), alias=alias.copy() if alias is not None else None)


def _unnest(node: exp.Unnest, rows: Rows, alias: exp.TableAlias | None = None) -> exp.Expr:
    """`UNNEST(a, b) [WITH ORDINALITY] AS t(x, y)` as a lateral subquery of DuckDB's UNNEST in the select list."""
    alias = alias or node.args.get("alias")
    columns = list(alias.args.get("columns") or []) if alias is not None else []
    arguments = [a.sql("duckdb") for a in node.expressions]
    spread = len(columns) > len(arguments)
    if spread and rows == "map":
        arguments = [f"map_entries({a})" for a in arguments]
    picked = [f"UNNEST({a}, max_depth := 2)" if spread else f"UNNEST({a})" for a in arguments]
    if offset := node.args.get("offset"):
        longest = f"greatest({', '.join(f'len({a})' for a in arguments)})" if arguments[1:] else f"len({arguments[0]})"
        picked.append(f"UNNEST(range(1, {longest} + 1))")
        if isinstance(offset, exp.Identifier):
            columns.append(offset)
    names = f"({', '.join(c.sql('duckdb', identify=True) for c in columns)})" if columns else ""
    name = alias.this.sql("duckdb", identify=True) if alias is not None and alias.this else "_unnest"
    lateral = "LATERAL " if isinstance(node.find_ancestor(exp.Join, exp.From), exp.Join) else ""
    return exp.Table(this=exp.Var(this=f"{lateral}(SELECT {', '.join(picked)}) AS {name}{names}"))


def _type(node: exp.DataType) -> exp.Expr:
    sizes = [int(p.this.name) for p in node.expressions if isinstance(p, exp.DataTypeParam) and p.this.name.isdigit()]
    if node.this is exp.DType.TIMESTAMP:
        digits = sizes[0] if sizes else 3
        kind = exp.DType.TIMESTAMP if digits > 3 else exp.DType.TIMESTAMP_MS if digits else exp.DType.TIMESTAMP_S
        return exp.DataType(this=kind)
    if node.this is exp.DType.DECIMAL and not sizes:
        return exp.DataType.build("DECIMAL(38, 0)", dialect="duckdb")
    if node.this in (exp.DType.TIMESTAMPTZ, exp.DType.TIME):
        return exp.DataType(this=node.this)
    return node


def _cast(node: exp.Cast) -> exp.Expr:
    to, value = node.to, node.this
    if isinstance(value, exp.Null):
        return node
    if to.this is exp.DType.TIMESTAMP_MS and not isinstance(value, exp.Literal) and not isinstance(node, exp.TryCast):
        return _call("athena_ts3", value)
    if to.this in _TEXT and not (isinstance(value, exp.Literal) and value.is_string):
        text = _call("athena_text", value)
        sizes = [p for p in to.expressions if isinstance(p, exp.DataTypeParam)]
        return _call("left", text, sizes[0].this) if sizes and to.this is not exp.DType.CHAR else text
    return node


def _joda(pattern: str) -> str:
    out, at = "", 0
    while at < len(pattern):
        if pattern[at] == "'":
            end = pattern.find("'", at + 1)
            out, at = out + pattern[at + 1 : end], end + 1
            continue
        for letters, code in sorted(_JODA, key=lambda pair: -len(pair[0])):
            if pattern.startswith(letters, at):
                out, at = out + code, at + len(letters)
                break
        else:
            out, at = out + pattern[at], at + 1
    return out
