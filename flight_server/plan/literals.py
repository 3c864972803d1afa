"""The one encoder from typed values to SQL literals, as nodes of the tree: text is never spliced into text.

Every literal carries its type, so that neither engine has to guess: Athena reads a bare `1.5` as a decimal and a bare
`5` as an integer. What cannot be written as a literal (a NUL, a NaN) is refused where parameters are parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlglot import exp

from flight_server.model import ParamType, Scalar, Value

# Integers beyond this are written through text: Trino negates after reading, so -2^63 as a number overflows.
_PLAIN_INT_MAX = 2**31 - 1


def literal(kind: ParamType, value: Value) -> exp.Expr:
    """The node for a whole parameter value: a scalar, `ARRAY[…]` of a list, `MAP(ARRAY[…], ARRAY[…])` of a map."""
    if kind.kind == "list" and kind.item and isinstance(value, tuple):
        return _array(kind.item, value)
    if kind.kind == "map" and kind.item and kind.key and isinstance(value, tuple):
        keys, values = zip(*value, strict=True) if value else ((), ())
        return exp.Map(keys=_array(kind.key, keys), values=_array(kind.item, values))
    return scalar(kind, value)  # type: ignore[arg-type]


def scalar(kind: ParamType, value: Scalar) -> exp.Expr:
    """The node for one value of a scalar type."""
    return _ENCODERS[kind.kind](kind, value)


def sql_type(kind: ParamType) -> exp.DataType:
    """The SQL type of a scalar parameter."""
    if kind.kind == "decimal":
        return exp.DataType.build(f"DECIMAL({kind.precision}, {kind.scale})", dialect="athena")
    return exp.DataType.build(_TYPES[kind.kind], dialect="athena")


def _array(kind: ParamType, values: tuple[Any, ...]) -> exp.Expr:
    array = exp.Array(expressions=[scalar(kind, value) for value in values])
    if values:
        return array
    # An empty array has no type of its own.
    return exp.cast(array, exp.DataType(this=exp.DataType.Type.ARRAY, expressions=[sql_type(kind)], nested=True))


def _text_as(kind: ParamType, text: str) -> exp.Expr:
    return exp.Cast(this=exp.Literal.string(text), to=sql_type(kind))


def _bool(_: ParamType, value: Any) -> exp.Expr:
    return exp.Boolean(this=bool(value))


def _int(kind: ParamType, value: Any) -> exp.Expr:
    if abs(value) > _PLAIN_INT_MAX:
        return _text_as(kind, str(value))
    number: exp.Expr = exp.Literal.number(abs(value))
    if value < 0:
        number = exp.Neg(this=number)
    return number if kind.kind == "int32" else exp.Cast(this=number, to=sql_type(kind))


def _float(kind: ParamType, value: Any) -> exp.Expr:
    # repr() is the shortest text that reads back as the same double.
    return _text_as(kind, repr(float(value)))


def _decimal(kind: ParamType, value: Any) -> exp.Expr:
    assert isinstance(value, Decimal)  # noqa: S101 - tells the type checker what params.py made
    return _text_as(kind, f"{value:f}")


def _string(_: ParamType, value: Any) -> exp.Expr:
    return exp.Literal.string(str(value))


def _date(kind: ParamType, value: Any) -> exp.Expr:
    assert isinstance(value, date)  # noqa: S101 - as above
    return _text_as(kind, value.isoformat())


def _timestamp(kind: ParamType, value: Any) -> exp.Expr:
    assert isinstance(value, datetime)  # noqa: S101 - as above
    text = value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return _text_as(kind, text + ("+00:00" if value.tzinfo else ""))


_ENCODERS: dict[str, Callable[[ParamType, Any], exp.Expr]] = {
    "bool": _bool,
    "int32": _int,
    "int64": _int,
    "float32": _float,
    "float64": _float,
    "decimal": _decimal,
    "string": _string,
    "enum": _string,
    "date": _date,
    "timestamp": _timestamp,
    "timestamptz": _timestamp,
}
_TYPES = {
    "bool": "BOOLEAN",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "REAL",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "enum": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMP(6)",
    "timestamptz": "TIMESTAMP(6) WITH TIME ZONE",
}
