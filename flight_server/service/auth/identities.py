"""The files that name callers: hashed tokens, users with password hashes, certificates. `athena-flight auth` writes.

[[token]]                       [[user]]                        [[certificate]]
name   = "notebooks"            name   = "alice"                name   = "pricing.example.com"
sha256 = "9f86d0…"              argon2 = "$argon2id$…"          roles  = ["pm"]
roles  = ["pm"]                 claims = { portfolios = [1] }
expires = 2027-01-01
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from time import time_ns

from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError
from argon2.low_level import Type

from flight_server.config import Auth
from flight_server.datasets import entries
from flight_server.datasets.header import Section
from flight_server.model import ANONYMOUS, Caller, Claim

# Longer names are refused: they go into every log line.
_NAME_MAX = 200


@dataclass(frozen=True, slots=True)
class Holder:
    """A caller with the hash of its secret. `expires` is None for ever."""

    caller: Caller
    hash: str = field(repr=False)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Identities:
    """All callers of the files. Tokens by the SHA-256 of the token, users and certificates by name."""

    tokens: Mapping[str, Holder] = field(default_factory=dict)
    users: Mapping[str, Holder] = field(default_factory=dict)
    certificates: Mapping[str, Caller] = field(default_factory=dict)

    def named(self, name: str) -> Caller | None:
        """A caller by name: a user, else a certificate, else the first token of that name."""
        if name in self.users:
            return self.users[name].caller
        if name in self.certificates:
            return self.certificates[name]
        return next((each.caller for each in self.tokens.values() if each.caller.name == name), None)

    @property
    def names(self) -> list[str]:
        tokens = {each.caller.name for each in self.tokens.values()}
        return sorted({*self.users, *self.certificates, *tokens})


def load(settings: Auth) -> Identities:
    """Read the files that are set. Raises DatasetError with file and line; no message has a hash or a secret in it."""
    tokens: dict[str, Holder] = {}
    users: dict[str, Holder] = {}
    certificates: dict[str, Caller] = {}
    for entry in _entries(settings.tokens, "token"):
        holder = _token(entry)
        if holder.hash in tokens:
            raise entry.error("sha256", "this token is in the file twice")
        tokens[holder.hash] = holder
    for entry in _entries(settings.passwords, "user"):
        holder = _user(entry)
        if holder.caller.name in users:
            raise entry.error("name", f"the user {holder.caller.name!r} is in the file twice")
        users[holder.caller.name] = holder
    for entry in _entries(settings.certificates, "certificate"):
        caller = _caller(entry)
        entry.done()
        if caller.name in certificates:
            raise entry.error("name", f"the certificate {caller.name!r} is in the file twice")
        certificates[caller.name] = caller
    return Identities(tokens, users, certificates)


# Time of the last change in nanoseconds, size and inode of each file; None of one that is not there.
Stamps = tuple[tuple[int, int, int] | None, ...]


def stamps(settings: Auth) -> Stamps:
    """What changes when one of the files does."""
    found: list[tuple[int, int, int] | None] = []
    for path in (settings.tokens, settings.passwords, settings.certificates):
        try:
            status = path.stat() if path else None
        except OSError:
            status = None
        found.append((status.st_mtime_ns, status.st_size, status.st_ino) if status else None)
    return tuple(found)


def young(now: Stamps, before: Stamps, age_s: float) -> bool:
    """Whether a file that has changed did less than so long ago; never of clocks that are ahead of this one."""
    changed = (new for new, old in zip(now, before, strict=True) if new and new != old)
    return any(0 <= time_ns() - written < age_s * 1e9 for written, _, _ in changed)


def claims_of(values: Mapping[str, object]) -> dict[str, Claim]:
    """The values that can be claims: scalars, and lists of strings and whole numbers. Others are left out."""
    found: dict[str, Claim] = {}
    for name, value in values.items():
        if isinstance(value, str | int | float):
            found[name] = value
        elif isinstance(value, list) and all(isinstance(i, str | int) and not isinstance(i, bool) for i in value):
            found[name] = tuple(value)
    return found


def _entries(path: Path | None, kind: str) -> list[Section]:
    return [entry for _, entry in entries.read(path, entries.text_of(path), (kind,))] if path else []


def _token(entry: Section) -> Holder:
    caller = _caller(entry)
    digest, expires = entry.raw("sha256"), entry.raw("expires")
    # First: a name that is written wrongly is the reason why another one is missing.
    entry.done()
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise entry.error("sha256", "'sha256' must be the 64 hex digits that `athena-flight auth token` writes")
    if expires is not None and not isinstance(expires, date):
        raise entry.error("expires", "'expires' must be a date or a date with a time")
    return Holder(caller, digest, _moment(expires))


def _user(entry: Section) -> Holder:
    caller = _caller(entry)
    text = entry.raw("argon2")
    entry.done()
    try:
        good = isinstance(text, str) and extract_parameters(text).type is Type.ID
    except InvalidHashError:
        good = False
    if not good:
        raise entry.error("argon2", "'argon2' must be the argon2id hash that `athena-flight auth password` writes")
    return Holder(caller, str(text))


def _caller(entry: Section) -> Caller:
    name = entry.need("name", str)
    if not name or len(name) > _NAME_MAX or not name.isprintable() or name == ANONYMOUS.name:
        raise entry.error("name", f"{name[:40]!r} cannot be a caller's name")
    roles = entry.names("roles")
    if "*" in roles:
        raise entry.error("roles", "roles are named one by one; '*' is none")
    given = entry.take("claims", dict, {}) or {}
    claims = claims_of(given)
    for claim in given:
        if claim not in claims:
            raise entry.error("claims", f"the claim {claim!r} must be a string, a number, true or false, or a list")
    return Caller(name, frozenset(roles), claims)


def _moment(expires: date | None) -> datetime | None:
    if expires is None:
        return None
    found = expires if isinstance(expires, datetime) else datetime.combine(expires, time())
    return found if found.tzinfo else found.replace(tzinfo=UTC)
