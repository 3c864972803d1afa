"""The projection that gets every Arrow type through UNLOAD, which writes with a Hive writer and refuses some.

A refused type travels in a carrier that Hive can write: a timestamp as bigint microseconds since 1970, a time as
text, a uuid or json as text. `results/carriers.py` turns carriers back by the contract. The ORDER BY is repeated
outside, because Athena drops that of a subquery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from flight_server.model import Column, SortKey

# Exact for every microsecond from year 1 to 9999: whole seconds by date_diff, the rest as a double close to zero, where
# it has digits to spare. Trino has no microsecond unit, and to_unixtime() alone loses digits.
_SECONDS = "date_diff('second', TIMESTAMP '1970-01-01 00:00:00', date_trunc('second', {x}))"
_MICROS = "({s} * 1000000 + CAST(round(to_unixtime(date_add('second', -({s}), {x})) * 1000000) AS BIGINT))"


def project(query: str, columns: Sequence[Column], sql_types: Mapping[str, str], order: Sequence[SortKey]) -> str:
    """`query` (Athena SQL that gives `columns`) with carriers where UNLOAD needs them and the declared order outside.

    `sql_types`: the Athena type of a column where it is known; tells json and uuid from other text.
    """
    items = ", ".join(f"{_carrier_of(column, sql_types)} AS {quoted(column.name)}" for column in columns)
    terms = ", ".join(_order(key) for key in order)
    return f"SELECT {items} FROM ({query}) AS result" + (f" ORDER BY {terms}" if terms else "")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _carrier_of(column: Column, sql_types: Mapping[str, str]) -> str:
    source = f"result.{quoted(column.name)}"
    known = sql_types.get(column.name, "").upper()
    if known.startswith("JSON"):
        return f"json_format({source})"
    if known.startswith(("UUID", "CHAR(", "IPADDRESS")):
        return f"CAST({source} AS VARCHAR)"
    return carrier(source, column.type)


def carrier(x: str, kind: pa.DataType, depth: int = 0) -> str:
    """The expression that carries the value of expression `x` with the Arrow type `kind`; `x` itself where it can."""
    if not _needs_carrier(kind):
        return x
    if pa.types.is_timestamp(kind):
        plain = f"CAST({x} AT TIME ZONE 'UTC' AS TIMESTAMP(6))" if kind.tz else x
        return _MICROS.format(s=_SECONDS.format(x=plain), x=plain)
    if pa.types.is_time(kind):
        return f"CAST({x} AS VARCHAR)"
    # Lambda variables of nested types must not hide one another.
    v = f"v{depth}"
    if pa.types.is_list(kind):
        return f"transform({x}, {v} -> {carrier(v, kind.value_type, depth + 1)})"
    if pa.types.is_map(kind):
        if _needs_carrier(kind.key_type):
            k = f"k{depth}"
            x = f"transform_keys({x}, ({k}, {v}) -> {carrier(k, kind.key_type, depth + 1)})"
        if not _needs_carrier(kind.item_type):
            return x
        return f"transform_values({x}, (k{depth}, {v}) -> {carrier(v, kind.item_type, depth + 1)})"
    fields = [(f.name, carrier(f"{x}.{quoted(f.name)}", f.type, depth + 1), f.type) for f in kind]
    row = ", ".join(value for _, value, _ in fields)
    types = ", ".join(f"{quoted(name)} {_carrier_type(t)}" for name, _, t in fields)
    # A ROW of nulls is not a null ROW.
    return f"IF({x} IS NULL, NULL, CAST(ROW({row}) AS ROW({types})))"


def _needs_carrier(kind: pa.DataType) -> bool:
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return True
    if pa.types.is_list(kind):
        return _needs_carrier(kind.value_type)
    if pa.types.is_map(kind):
        return _needs_carrier(kind.key_type) or _needs_carrier(kind.item_type)
    return pa.types.is_struct(kind) and any(_needs_carrier(f.type) for f in kind)


def _carrier_type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_list(kind):
        return f"ARRAY({_carrier_type(kind.value_type)})"
    if pa.types.is_map(kind):
        return f"MAP({_carrier_type(kind.key_type)}, {_carrier_type(kind.item_type)})"
    if pa.types.is_struct(kind):
        return f"ROW({', '.join(f'{quoted(f.name)} {_carrier_type(f.type)}' for f in kind)})"
    if pa.types.is_timestamp(kind):
        return "BIGINT"
    return _CARRIER_TYPES.get(str(kind), "VARCHAR")


def _order(key: SortKey) -> str:
    direction = " DESC" if key.descending else ""
    return f"{quoted(key.column)}{direction} NULLS {'FIRST' if key.nulls_first else 'LAST'}"


_CARRIER_TYPES = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float": "REAL",
    "double": "DOUBLE",
    "binary": "VARBINARY",
    "date32[day]": "DATE",
}
