"""Tokens of this server: static ones, stored as hashes, and the short-lived ones that answer a password.

A static token has 256 random bits, so one SHA-256 is enough to store it; argon2 is for what people choose. A session
token is signed and names the user only: roles and claims are the file's when it is used, and it ends with the password
that it was given for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from datetime import UTC, datetime

from flight_server.errors import Unauthenticated
from flight_server.model import Caller
from flight_server.service.auth.identities import Identities

# Says what it is to secret scanners, people and `authentication.py`.
STATIC_PREFIX = "af_"
SESSION_PREFIX = "afs1."
# Separates this use of the server's secret from that for tickets.
_LABEL = b"athena-flight session tokens 1"


def refused(reason: str = "") -> Unauthenticated:
    """The one answer to every credential that is wrong: it does not say in which way. `reason` is for the log."""
    error = Unauthenticated(
        "bad-credential", "the credential is not accepted; ask the operator for another one (`athena-flight auth`)"
    )
    error.add_note(reason)
    return error


def expired() -> Unauthenticated:
    return Unauthenticated("expired-credential", "the credential has expired; get a new one")


def new_token() -> str:
    return STATIC_PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored of a static token."""
    return hashlib.sha256(token.encode()).hexdigest()


def static_caller(identities: Identities, token: str) -> Caller:
    """The caller of a static token. Raises Unauthenticated (bad-credential, expired-credential)."""
    # Found by the hash: how long the search takes tells about hashes, from which no token can be made.
    holder = identities.tokens.get(digest(token))
    if holder is None:
        raise refused("unknown token")
    if holder.expires is not None and holder.expires <= datetime.now(UTC):
        raise expired()
    return holder.caller


class Sessions:
    """Makes and opens session tokens. `secret` is the ticket secret of all replicas."""

    def __init__(self, secret: bytes, ttl_s: float) -> None:
        self._key = hmac.new(secret, _LABEL, hashlib.sha256).digest()
        self._ttl_s = ttl_s

    def issue(self, user: str, password_hash: str) -> str:
        payload = {"name": user, "password": self._mark(password_hash), "expires": int(time.time() + self._ttl_s)}
        body = base64.urlsafe_b64encode(json.dumps(payload, separators=(",", ":")).encode()).decode()
        return f"{SESSION_PREFIX}{body}.{self._sign(body)}"

    def caller(self, identities: Identities, token: str) -> Caller:
        """The caller of a session token. Raises Unauthenticated (bad-credential, expired-credential)."""
        body, _, signature = token.removeprefix(SESSION_PREFIX).partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(body).encode()):
            raise refused("session token not signed by this server")
        try:
            payload = json.loads(base64.urlsafe_b64decode(body))
        except (ValueError, binascii.Error):
            raise refused("session token is not readable") from None
        if payload["expires"] <= time.time():
            raise expired()
        holder = identities.users.get(payload["name"])
        if holder is None or not hmac.compare_digest(self._mark(holder.hash), payload["password"]):
            raise refused("the user is gone, or has another password")
        return holder.caller

    def _mark(self, password_hash: str) -> str:
        """Changes with the password, and tells nothing of it without the key."""
        return hmac.new(self._key, b"password " + password_hash.encode(), hashlib.sha256).hexdigest()[:32]

    def _sign(self, body: str) -> str:
        return hmac.new(self._key, b"session " + body.encode(), hashlib.sha256).hexdigest()
