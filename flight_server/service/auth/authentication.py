"""Which credential a call has, and whose it is."""

from __future__ import annotations

import base64
import binascii
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from flight_server.config import Config
from flight_server.errors import ConfigError, DatasetError, Unauthenticated
from flight_server.model import ANONYMOUS, Caller
from flight_server.service.auth import identities
from flight_server.service.auth.jwt import JwtVerifier
from flight_server.service.auth.passwords import Passwords
from flight_server.service.auth.tokens import SESSION_PREFIX, Sessions, refused, static_caller
from flight_server.telemetry import log, metrics

HEADER = "authorization"
# gRPC refuses headers of more than 16 KiB in all; no credential needs half of that.
_CREDENTIAL_MAX = 8192
# How soon a changed file is noticed, and how long a call waits for another's look. Looking costs three stat() calls.
_LOOK_S = 1.0
# Most editors empty a file and write it then; in between it would be one without callers.
_SETTLED_S = 0.1
# A look that is older is not relied on: on a busy server the next one is under way by then.
_STALE_S = 2.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls. `caller` is None when the client's certificate says it. `bearer` is the token to use from now on."""

    caller: Caller | None
    bearer: str = field(default="", repr=False)
    # Whether `bearer` was made for this call, so that the client must be told.
    fresh: bool = False


class Authentication:
    """Checks credentials as the settings say. Thread-safe.

    Files are read again when they change; while one of them is wrong, what was read last stays in force.
    Raises ConfigError for settings that do not go together, DatasetError for wrong files.
    """

    def __init__(self, config: Config, secret: bytes) -> None:
        auth = config.auth
        self.by_certificate = config.tls.client == "identity"
        self.required = self.by_certificate or bool(auth.tokens or auth.passwords or auth.jwt_keys)
        if self.by_certificate and auth.passwords:
            # pyarrow gives either a Handshake or the certificate's name, not both (docs/security.md).
            raise ConfigError("setting 'auth.passwords': cannot be had with tls.client = \"identity\"; use a gate")
        if auth.certificates and not self.by_certificate:
            raise ConfigError("setting 'auth.certificates': is for tls.client = \"identity\" only")
        wants_jwt = auth.jwt_keys or auth.jwt_issuer or auth.jwt_audience
        self._jwt = JwtVerifier(auth) if wants_jwt else None
        self._settings = auth
        self._sessions = Sessions(secret, auth.session_ttl_s)
        self._passwords = Passwords(auth)
        self._stamps = identities.stamps(auth)
        self.identities = identities.load(auth)
        self._looking = threading.Lock()
        self._looked_at = time.monotonic()
        self._waited = False

    def identify(self, headers: Mapping[str, Sequence[str | bytes]]) -> Identity:
        """Who sends these headers. Raises Unauthenticated, Unavailable (busy), ServerError."""
        if not self.required:
            return Identity(ANONYMOUS, ANONYMOUS.name)
        self._look()
        given = [value for name, values in headers.items() if name.lower() == HEADER for value in values]
        if not given:
            if self.by_certificate:
                return Identity(None)
            raise Unauthenticated("no-credential", "send the header `authorization: Bearer <token>`, or log in")
        if len(given) > 1 or not isinstance(given[0], str) or len(given[0]) > _CREDENTIAL_MAX:
            raise refused("several credentials, or one that is no text or too long")
        scheme, _, value = given[0].partition(" ")
        value = value.strip()
        if scheme.lower() == "basic":
            return self._basic(value)
        if scheme.lower() != "bearer" or not value or not value.isascii():
            raise refused("neither Bearer nor Basic")
        return Identity(self._bearer(value), value)

    def read_keys(self) -> None:
        """Read the token issuer's keys before the first call that needs them; where that fails the log says why."""
        if self._jwt is not None:
            self._jwt.read_keys()

    def certificate(self, name: str) -> Caller:
        """The caller with a client certificate of this name, which TLS has verified; roles are the file's, if any."""
        if not name or len(name) > 200 or not name.isprintable() or name == ANONYMOUS.name:
            raise refused("the certificate has no usable name")
        return self.identities.certificates.get(name, Caller(name))

    def _bearer(self, token: str) -> Caller:
        if token.startswith(SESSION_PREFIX):
            return self._sessions.caller(self.identities, token)
        if self._jwt is not None and token.count(".") == 2:
            return self._jwt.caller(token)
        return static_caller(self.identities, token)

    def _basic(self, value: str) -> Identity:
        if not self._settings.passwords:
            raise refused("no passwords are in use")
        try:
            # Go clients leave the padding off.
            name, colon, password = (
                base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode().partition(":")
            )
        except (binascii.Error, ValueError):
            raise refused("Basic credential is not base64 of UTF-8") from None
        if not colon:
            raise refused("Basic credential has no colon")
        holder = self._passwords.check(self.identities, name, password)
        return Identity(holder.caller, self._sessions.issue(holder.caller.name, holder.hash), fresh=True)

    @contextmanager
    def reading(self) -> Iterator[Callable[[], None]]:
        """The files read anew, for a reload; what is yielded puts them in force. Raises DatasetError.

        No look comes in between, which could put back what was in the files before.
        """
        with self._looking:
            began, stamps = time.monotonic(), identities.stamps(self._settings)
            try:
                found = identities.load(self._settings)
            except DatasetError:
                # Told by who asked for the reload, and not once more by the next call.
                self._stamps = stamps
                raise

            def take() -> None:
                self.identities, self._stamps, self._looked_at = found, stamps, began

            yield take

    def _look(self) -> None:
        """Read the files again if they have changed.

        One thread does, and the others go on with what was read a moment ago. After a pause they wait for it: a token
        withdrawn an hour before must not be let in because it came a moment after another call.
        """
        age_s = time.monotonic() - self._looked_at
        if age_s < _LOOK_S or not self._looking.acquire(timeout=_LOOK_S if age_s > _STALE_S else 0):
            return
        try:
            if time.monotonic() - self._looked_at >= _LOOK_S:
                self._read_changed()
        finally:
            self._looking.release()

    def _read_changed(self) -> None:
        began, stamps = time.monotonic(), identities.stamps(self._settings)
        if not self._waited and identities.young(stamps, self._stamps, _SETTLED_S):
            # Once for each change: a file that is written all the time must not keep a withdrawn token good.
            self._waited, self._looked_at = True, began - _LOOK_S + _SETTLED_S
            return
        try:
            self._waited = False
            if stamps != self._stamps:
                self._stamps = stamps
                self.identities = identities.load(self._settings)
                metrics.FILES_WRONG.labels("identities").set(0)
                log.info("identities_reloaded", callers=len(self.identities.names))
        except DatasetError as error:
            metrics.FILES_WRONG.labels("identities").set(1)
            log.error("identities_wrong", error=str(error), reason="those read last stay in force")
        finally:
            # Only now: until the files have been read nobody goes on without waiting.
            self._looked_at = began
