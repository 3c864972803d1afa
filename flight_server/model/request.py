"""Who asks and what: callers with their claims, undecoded requests, and the values that parameters take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

Scalar = bool | int | float | Decimal | str | date | datetime

# A list is a tuple of scalars, a map a tuple of (key, value) pairs in key order: hashable, so that a plan can be a key.
Value = Scalar | tuple[Scalar, ...] | tuple[tuple[Scalar, Scalar], ...]

Claim = str | int | float | bool | tuple[str | int, ...]

# `system` has the server's own tables; datasets and callers choose among the others.
EngineName = Literal["duckdb", "athena", "system"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the verified name, roles and claims of a credential."""

    name: str
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, Claim] = field(default_factory=dict)


# With authentication off everybody is this caller, whom no role keeps out. Row filters and masks hold for it too: a
# policy exempts the roles that it names, and nobody else.
ANONYMOUS = Caller("anonymous", frozenset({"*"}))


class Text(tuple[str, ...]):
    """All values that the query form gave for one parameter, still text: `a=1&a=2` is `Text(("1", "2"))`."""

    __slots__ = ()


class Entries(tuple[tuple[Scalar, Scalar], ...]):
    """The pairs of a map: without any it would be an empty list."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded question. Values in `params` are `Text` (query form) or JSON values; none is checked yet."""

    dataset: str
    params: Mapping[str, object] = field(default_factory=dict)
    version: int | None = None
    as_of: str | None = None
    engine: str | None = None
    sql: str | None = None
    # From a server-issued ticket: the snapshots to read, the contract and the engine that were promised.
    pins: Mapping[str, int | None] | None = None
    contract: str | None = None
    issued_engine: str | None = None
    # From the ticket of a submitted query's result: the query's id.
    submission: str | None = None


def to_json(value: Value) -> object:
    """A value as the JSON form of the protocol writes it: dates ISO 8601, decimals as strings, a map as an object."""
    if isinstance(value, Entries) or (isinstance(value, tuple) and value and isinstance(value[0], tuple)):
        return {key_text(pair[0]): to_json(pair[1]) for pair in value}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def key_text(key: Scalar) -> str:
    """A map's key as JSON's objects have it, and as it is read again."""
    return str(key).lower() if isinstance(key, bool) else str(to_json(key))
