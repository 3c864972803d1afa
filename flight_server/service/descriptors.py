"""Bytes to Request and back: the query form, the JSON form, path descriptors, and the server's own signed tickets.

Decoding never executes anything and never trusts a length. A signed ticket is plain JSON under an HMAC: any replica
with the same secret can read it, and nobody without it can write one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from flight_server.errors import InvalidRequest, nearest
from flight_server.model import Plan, Request, Text, to_json

# Says what it is in a log or a debugger, and carries the version of the payload.
_PREFIX = b"aft1."
# A ticket holds what a request of the greatest size asks: a byte of text is up to six in JSON, and base64 adds a third.
_TICKET_GROWTH = 8
_RESERVED = ("_version", "_as_of", "_engine")
_KEYS = ("dataset", "params", "version", "as_of", "engine", "sql")
# No parameter takes so many; Python reads no more than 4,300, and its refusal is about Python.
_DIGITS_MAX = 1000
# What begins like this is no name that was mistyped.
_SQL = re.compile(r"\s*(select|with)\s", re.IGNORECASE)
_HOW = "write daily_prices?ticker=AAPL&start_date=2010-01-04, or JSON"


class Tickets:
    """Issues and opens signed tickets. `secret` is shared by all replicas; `ttl_s` is how long a ticket is good."""

    def __init__(self, secret: bytes, ttl_s: float) -> None:
        self._secret = secret
        self._ttl_s = ttl_s

    def issue(self, plan: Plan, submission: str | None = None) -> tuple[bytes, float]:
        """A ticket for exactly this plan (resolved values, pinned snapshots), and the epoch second it expires.

        With `submission`, for the kept result of that submitted query.
        """
        question: dict[str, object] = {
            "dataset": plan.dataset.name,
            "version": plan.dataset.version,
            "params": {name: to_json(value) for name, value in plan.params.items()},
        }
        if plan.statement is not None:
            question = {"sql": plan.statement.sql, "params": dict(plan.statement.params)}
        payload = {
            **question,
            "engine": plan.engine,
            "pins": {pin.table: pin.snapshot_id for pin in plan.pins},
            "contract": plan.dataset.digest,
        }
        if submission is not None:
            payload["submission"] = submission
        return self.seal(_PREFIX, payload, self._ttl_s)

    def open(self, ticket: bytes) -> Request:
        """The request in a ticket. Raises InvalidRequest: bad-ticket (not ours, changed) or expired-ticket."""
        payload = self.unseal(_PREFIX, ticket)
        return Request(
            dataset=payload.get("dataset", ""),
            params=payload["params"],
            version=payload.get("version"),
            sql=payload.get("sql"),
            # Chosen when the ticket was issued, so not a choice of its bearer.
            issued_engine=payload["engine"],
            pins=payload["pins"],
            contract=payload["contract"],
            submission=payload.get("submission"),
        )

    def renew(self, ticket: bytes) -> tuple[bytes, float]:
        """The same ticket with a new life, and the epoch second it expires. Raises as `open`."""
        return self.seal(_PREFIX, self.unseal(_PREFIX, ticket), self._ttl_s)

    def seal(self, prefix: bytes, payload: Mapping[str, object], ttl_s: float) -> tuple[bytes, float]:
        """`payload` as signed bytes under `prefix`, which says what it is, and the epoch second it expires."""
        # Whole seconds, rounded down, so that a ticket never says more than the endpoint's expiration.
        expires = float(int(time.time() + ttl_s))
        content = json.dumps({**payload, "expires": expires}, separators=(",", ":"), default=_decimal)
        body = base64.urlsafe_b64encode(content.encode())
        return prefix + body + b"." + self._sign(prefix, body), expires

    def unseal(self, prefix: bytes, sealed: bytes) -> dict[str, Any]:
        """What `seal` was given. Raises InvalidRequest: bad-ticket (not ours, changed) or expired-ticket."""
        body, _, signature = sealed[len(prefix) :].partition(b".")
        if not sealed.startswith(prefix) or not hmac.compare_digest(signature, self._sign(prefix, body)):
            raise InvalidRequest("bad-ticket", "the ticket was not issued by this server, or was changed; ask again")
        payload: dict[str, Any] = _load_json(base64.urlsafe_b64decode(body).decode())
        if payload["expires"] <= time.time():
            raise InvalidRequest("expired-ticket", "the ticket has expired; ask GetFlightInfo for a new one")
        return payload

    def _sign(self, prefix: bytes, body: bytes) -> bytes:
        digest = hmac.new(self._secret, prefix + body, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=")


def check_size(body: bytes, bytes_max: int) -> None:
    """Raise InvalidRequest (bad-request) for more bytes than are read from a client."""
    if len(body) > bytes_max:
        raise InvalidRequest("bad-request", f"the request has {len(body):,} bytes; at most {bytes_max:,} are read")


def _decimal(value: object) -> object:
    """A number that a request in JSON form had: as a float where that has all its digits, else as text."""
    if isinstance(value, Decimal):
        number = float(value)
        return number if math.isfinite(number) and Decimal(repr(number)) == value else str(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def decode_ticket(ticket: bytes, tickets: Tickets, bytes_max: int) -> Request:
    """What a DoGet asks: a signed ticket, or form 1 or 2 as a person or program wrote it."""
    if not ticket.startswith(_PREFIX):
        return decode(ticket, bytes_max)
    check_size(ticket, bytes_max * _TICKET_GROWTH)
    return tickets.open(ticket)


def decode(body: bytes, bytes_max: int) -> Request:
    """The request in `body`, in query form or JSON. Raises InvalidRequest (bad-request, bad-ticket)."""
    check_size(body, bytes_max)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("bad-ticket", f"these bytes are no request: they are not UTF-8; {_HOW}") from None
    return _from_json(text) if text.lstrip().startswith("{") else _from_query(text)


def decode_path(path: Sequence[bytes], bytes_max: int) -> Request:
    """The request of a path descriptor: the dataset's name, then elements such as `ticker=AAPL`."""
    body = b"&".join(path[1:])
    return decode((path[0] if path else b"") + (b"?" + body if body else b""), bytes_max)


def decode_object(body: bytes, bytes_max: int, known: Sequence[str]) -> dict[str, Any]:
    """The JSON object in an action's body; only `known` keys."""
    check_size(body, bytes_max)
    how = f'write {{"{known[0]}": "…"}}' if known else "write {} or nothing"
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("bad-request", f"the body is not UTF-8; {how}") from None
    found = _load_json(text) if text.lstrip().startswith("{") else None
    if not isinstance(found, dict):
        raise InvalidRequest("bad-request", f"the body must be a JSON object; {how}")
    _check_keys(found, known)
    return found


def _check_name(name: str) -> None:
    """Refuse what is meant as something else than a name, which no list of names would mend."""
    if not name:
        raise InvalidRequest("bad-request", f"the request names no dataset; {_HOW}")
    if _SQL.match(name):
        raise InvalidRequest("bad-request", 'SQL is asked as JSON, {"sql": "SELECT …"}, or over Flight SQL')
    if "(" in name:
        raise InvalidRequest("bad-request", f"parentheses are for SQL; {_HOW}")


def _from_query(text: str) -> Request:
    name, mark, query = text.partition("?")
    _check_name(name)
    pairs: list[tuple[str, str]] = []
    if mark and query:
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
        except UnicodeDecodeError:
            raise InvalidRequest("bad-request", "the part after '?' is not UTF-8 with %XX for other signs") from None
        except ValueError:
            raise InvalidRequest("bad-request", f"the part after '?' is not name=value&name=value; {_HOW}") from None
    values: dict[str, list[str]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    given = {key: Text(each) for key, each in values.items()}
    reserved = {key: _single(key, given.pop(key)) for key in _RESERVED if key in given}
    for key in given:
        if key.startswith("_"):
            raise InvalidRequest("unknown-parameter", f"there is no option {key[:60]!r}{nearest(key, _RESERVED)}")
    return Request(
        dataset=name,
        params=given,
        version=_version(reserved["_version"]) if "_version" in reserved else None,
        as_of=reserved.get("_as_of"),
        engine=reserved.get("_engine"),
    )


def _single(key: str, values: Text) -> str:
    if len(values) != 1:
        raise InvalidRequest("bad-parameter", f"{key} is given {len(values)} times; it takes one value")
    return values[0]


def _version(text: object) -> int:
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 5:
        return int(text)
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    raise InvalidRequest("bad-request", f"version {str(text)[:40]!r} is not a whole number")


def _from_json(text: str) -> Request:
    found = _load_json(text)
    _check_keys(found, _KEYS, '; parameters stand in "params": {"name": value}')
    if ("dataset" in found) == ("sql" in found):
        raise InvalidRequest("bad-request", 'write {"dataset": "…", "params": {…}} or {"sql": "SELECT …"}')
    params = {} if found.get("params") is None else found["params"]
    if not isinstance(params, dict):
        raise InvalidRequest("bad-request", '"params" must be an object of name: value')
    for key in ("dataset", "sql", "as_of", "engine"):
        absent = key not in found or (key in ("as_of", "engine") and found[key] is None)
        if not absent and not isinstance(found[key], str):
            raise InvalidRequest("bad-request", f'"{key}" must be a string')
    if "sql" in found and found.get("version") is not None:
        raise InvalidRequest(
            "bad-request", '"version" is for a dataset; datasets in "sql" are those of the newest version'
        )
    if any("\ud800" <= sign <= "\udfff" for sign in found.get("sql", "")):
        raise InvalidRequest("bad-request", '"sql" has a lone surrogate, which is not a character')
    return Request(
        dataset=found.get("dataset", ""),
        params=params,
        version=None if found.get("version") is None else _version(found["version"]),
        as_of=found.get("as_of"),
        engine=found.get("engine"),
        sql=found.get("sql"),
    )


def _check_keys(found: Mapping[str, object], known: Sequence[str], besides: str = "") -> None:
    for key in found:
        if key not in known:
            names = ", ".join(known) or "none: leave the body empty"
            near = nearest(key, known, end=".")
            raise InvalidRequest("bad-request", f"there is no key {ascii(key)[:60]}{near} Known are {names}{besides}")


def _load_json(text: str) -> Any:
    try:
        # Decimal keeps 0.10 what it is; the bound on digits and exponents is in datasets/params.py.
        return json.loads(
            text, parse_int=_integer, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_unique
        )
    except RecursionError:
        raise InvalidRequest("bad-request", "the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            "bad-request", f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except ValueError as error:
        raise InvalidRequest("bad-request", f"not JSON that is read here: {str(error).splitlines()[0][:120]}") from None


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS_MAX:
        raise ValueError(f"a number has {len(digits):,} digits")
    return int(digits)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {ascii(key)[:60]} is given twice")
        found[key] = value
    return found
