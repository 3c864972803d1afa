"""Values as Athena writes them in CSV and in GetQueryResults: text, None for null."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tests.fakes.athena.athena_types import AthenaType


def java_double(value: float | None) -> str | None:
    """As Java's Double.toString: 1.0E10 from ten million on, 1.0E-4 below a thousandth."""
    if value is None:
        return None
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    power = len(digits) - 1 + int(exponent)
    return f"{'-' if sign else ''}{text[0]}.{text[1:] or '0'}E{power}"


def text_column(column: pa.Array, kind: AthenaType) -> pa.Array:
    """One column of a batch as strings."""
    if kind.name in ("varchar", "json", "uuid"):
        return column.cast(pa.string())
    if kind.name in ("tinyint", "smallint", "integer", "bigint", "boolean", "date", "decimal"):
        return column.cast(pa.string())
    if kind.name in ("timestamp(0)", "timestamp(3)", "timestamp(6)"):
        digits = int(kind.name[10])
        unit = {0: "s", 3: "ms", 6: "us"}[digits]
        return pc.strftime(column.cast(pa.timestamp(unit)), format="%Y-%m-%d %H:%M:%S")
    if kind.name in ("double", "real"):
        return _floats(column, kind.name == "real")
    return pa.array([_text(v, kind) for v in column.to_pylist()], pa.string())


def _floats(column: pa.Array, narrow: bool) -> pa.Array:
    """Arrow's shortest digits, with `.0` where it has none; one by one only where Java writes an exponent or a word."""
    size = pc.abs(column)
    plain = pc.or_(pc.equal(column, 0), pc.and_(pc.greater_equal(size, 1e-3), pc.less(size, 1e7)))
    text = column.cast(pa.string())
    text = pc.if_else(pc.match_substring(text, "."), text, pc.binary_join_element_wise(text, ".0", ""))
    odd = pc.filter(column, pc.fill_null(pc.invert(plain), False))
    if not len(odd):
        return text
    spelled = [java_double(_shortest(v) if narrow else v) for v in odd.to_pylist()]
    return pc.replace_with_mask(text, pc.fill_null(pc.invert(plain), False), pa.array(spelled, pa.string()))


def _shortest(value: float | None) -> float | None:
    """A float32's own shortest decimal digits, as Java's Float.toString has them."""
    import numpy as np

    return None if value is None else float(str(np.float32(value)))


def _text(value: Any, kind: AthenaType) -> str | None:
    """One value, nested as in `[1, 2]`, `{k=v}`, `{field=1}`."""
    if value is None:
        return None
    inner = kind.children
    match kind.name, value:
        case "array", _:
            return "[" + ", ".join(_nested(v, inner[0][1]) for v in value) + "]"
        case "map", _:
            pairs = value.items() if isinstance(value, dict) else value
            return "{" + ", ".join(f"{_nested(k, inner[0][1])}={_nested(v, inner[1][1])}" for k, v in pairs) + "}"
        case "row", dict():
            values = zip(inner, value.values(), strict=True)
            return "{" + ", ".join(f"{n or f'field{i}'}={_nested(v, t)}" for i, ((n, t), v) in enumerate(values)) + "}"
        case _, bool():
            return str(value).lower()
        case "real", float():
            return java_double(_shortest(value))
        case _, float():
            return java_double(value)
        case _, bytes():
            return value.hex(" ")
        case _, datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
        case _, datetime():
            text = value.isoformat(" ", "microseconds")
            return text[:-3] if kind.name == "timestamp(3)" else text
        case _, date() | Decimal():
            return str(value)
        case _, time():
            return value.isoformat("milliseconds")
    return str(value)


def _nested(value: Any, kind: AthenaType) -> str:
    text = _text(value, kind)
    return "null" if text is None else text
