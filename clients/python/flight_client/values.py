"""Python values as the JSON form of the protocol writes them: dates ISO 8601, decimals as text.

Taken are Python's own values, and whatever numpy, pandas, polars and pyarrow make of them, found by what they can do
and not by their class, so that none of these libraries is imported. The server checks the values; only what cannot be
written as JSON is refused here.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from flight_client.errors import InvalidRequest

# The kind of a parameter that only the server knows.
ANY = "text, numbers, bools, dates, lists and maps"


def to_json(value: object, kind: str, name: str) -> object:
    """`value` of the parameter `name`, which is declared as `kind`. Raises InvalidRequest (bad-parameter)."""
    value = _plain(value)
    word, _, rest = kind.partition("<")
    if isinstance(value, Mapping):
        key, _, item = rest[:-1].partition(", ") if rest else (kind, "", kind)
        return {_key(to_json(k, key, name)): to_json(v, item, name) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return [to_json(item, rest[:-1] if word == "list" else kind, name) for item in value]
    if isinstance(value, dt.datetime):
        return _moment(value, kind)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _number(value, kind)
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest("bad-parameter", f"{name}: {value!r} is no value to ask for")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InvalidRequest("bad-parameter", f"{name}: a {type(value).__name__} cannot be sent; it takes {kind}")


def _plain(value: Any) -> object:
    """Python's own value behind an enum's member, a scalar of pyarrow or numpy, an array, series or column."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bytes, dt.date, Mapping)):
        return value
    if hasattr(value, "as_py"):
        return value.as_py()
    if getattr(getattr(value, "dtype", None), "kind", "") == "M" and hasattr(value, "astype"):
        return _datetimes(value)
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(value, method):
            return getattr(value, method)()
    return value


def _datetimes(value: Any) -> object:
    array = value.to_numpy() if hasattr(value, "to_numpy") else value
    # datetime64[ns] would come out as integers; a pandas series with a zone as objects that know it.
    return (array.astype("datetime64[us]") if array.dtype.kind == "M" else array).tolist()


def _moment(value: dt.datetime, kind: str) -> str:
    # Libraries hand out midnights where a day is meant: a pandas Timestamp is a datetime. A timestamp takes a day, too.
    if kind in ("date", ANY) and value.time() == dt.time() and value.tzinfo is None:
        return value.date().isoformat()
    return value.isoformat()


def _number(value: Decimal, kind: str) -> object:
    """Text, as decimals go; a number where a float may be wanted, unless that would lose digits."""
    near = float(value)
    exact = math.isfinite(near) and Decimal(repr(near)) == value
    return near if kind.startswith("float") or (kind == ANY and exact) else str(value)


def _key(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
