"""Prepared statements without a session: a handle *is* the statement, its owner and the values bound to it, signed.

So any replica takes it, nothing is left over when a client forgets to close it, and nobody else can use it. Binding
answers a new handle with the values in it, which clients use from then on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from flight_server.datasets.types import arrow_of
from flight_server.errors import Denied, InvalidRequest
from flight_server.model import Caller, ParamType, Request, key_text, to_json
from flight_server.service.descriptors import Tickets

_PREFIX = b"afp1."


class Handles:
    """Makes and reads handles, which are good for `ttl_s` after they were made or bound last."""

    def __init__(self, tickets: Tickets, ttl_s: float) -> None:
        self._tickets = tickets
        self._ttl_s = ttl_s

    def make(self, sql: str, caller: Caller, params: dict[str, object] | None = None) -> bytes:
        """A handle of `caller` for a statement, with values bound by number or without."""
        sealed, _ = self._tickets.seal(_PREFIX, {"sql": sql, "owner": caller.name, "params": params or {}}, self._ttl_s)
        return sealed

    def read(self, handle: bytes, caller: Caller) -> Request:
        """The statement in a handle. Raises InvalidRequest (bad-ticket, expired-ticket), Denied for somebody else's."""
        try:
            found = self._tickets.unseal(_PREFIX, handle)
        except InvalidRequest as error:
            raise InvalidRequest(error.code, "the prepared statement is unknown or too old; prepare it again") from None
        if found["owner"] != caller.name:
            raise Denied("not-allowed", "the prepared statement is another caller's")
        return Request(dataset="", sql=found["sql"], params=found["params"])


def parameter_schema(types: Sequence[ParamType]) -> pa.Schema:
    """What a client binds by: one nullable field for each `?`, named by its number.

    A timestamp is declared in milliseconds: the JDBC driver (tried: 18.3.0) writes those whatever the unit says, so in
    microseconds every moment would be in 1970. What comes with more digits, as ADBC sends it, is taken with them.
    """
    return pa.schema([pa.field(str(number), _bound_as(arrow_of(kind))) for number, kind in enumerate(types, 1)])


def _bound_as(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("ms", kind.tz) if pa.types.is_timestamp(kind) else kind


def values(table: pa.Table, types: Sequence[ParamType]) -> dict[str, object]:
    """The one row of parameters that a client binds, as JSON values by number. Raises InvalidRequest."""
    count = len(types)
    if table.num_rows != 1:
        raise InvalidRequest("bad-parameter", f"{table.num_rows} rows of parameters are bound; one is taken")
    if table.num_columns != count:
        raise InvalidRequest(
            "bad-parameter", f"the statement has {count} parameters (?), and {table.num_columns} are bound"
        )
    bound = zip(types, table.columns, strict=True)
    return {str(number): _value(number, wanted, column) for number, (wanted, column) in enumerate(bound, 1)}


def _value(number: int, wanted: ParamType, column: pa.ChunkedArray) -> object:
    kind = column.type
    if pa.types.is_timestamp(kind):
        # Python's datetime has microseconds; what has more digits is refused rather than cut.
        kind = pa.timestamp("us", kind.tz)
    elif pa.types.is_date64(kind):
        kind = pa.date32()
    elif pa.types.is_dictionary(kind):
        kind = kind.value_type
    try:
        found = column.cast(kind)[0].as_py()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        # Arrow has days and moments that Python has not, and kinds that it does not cast.
        raise InvalidRequest("bad-parameter", f"parameter {number} (?): {str(error)[:200]}") from None
    if pa.types.is_map(kind) and found == []:
        return {}
    try:
        return _json(_fitted(wanted, found))
    except ValueError as error:
        raise InvalidRequest("bad-parameter", f"parameter {number} (?) {error}") from None


def _fitted(wanted: ParamType, found: Any) -> Any:
    """A value of Python as the parameter's type has it, where a driver sends the same value as another type.

    A pandas Timestamp is a midnight where a day is meant, a decimal a float, and a float that came from a column with
    nulls a whole number.
    """
    if isinstance(found, list) and wanted.item is not None:
        return [
            (each[0], _fitted(wanted.item, each[1])) if isinstance(each, tuple) else _fitted(wanted.item, each)
            for each in found
        ]
    if isinstance(found, datetime) and wanted.kind == "date" and found.tzinfo is None and found.time() == time():
        return found.date()
    if isinstance(found, Decimal) and wanted.kind in ("float32", "float64"):
        return float(found)
    if isinstance(found, float) and wanted.kind in ("int32", "int64") and found.is_integer():
        return int(found)
    return found


def _json(found: Any) -> object:
    if isinstance(found, list):
        if found and isinstance(found[0], tuple):
            return {key_text(key): _json(item) for key, item in found}
        return [_json(item) for item in found]
    if isinstance(found, bytes | timedelta | dict) or (isinstance(found, float) and not math.isfinite(found)):
        raise ValueError(f"is a {type(found).__name__} that no parameter takes")
    if isinstance(found, Decimal):
        # A number, not the text of one: what it is bound to may be a float or whole.
        return int(found) if found == found.to_integral_value() else found
    return None if found is None else to_json(found)
