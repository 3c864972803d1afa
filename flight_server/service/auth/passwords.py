"""Passwords against argon2 hashes, with bounded work: a check is expensive on purpose, for attackers and for us."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import Argon2Error, InvalidHashError

from flight_server.config import Auth
from flight_server.errors import Unavailable
from flight_server.service.admission import Places
from flight_server.service.auth.identities import Holder, Identities
from flight_server.service.auth.tokens import refused

# Nobody's password is longer, and hashing text takes time by its length.
_PASSWORD_MAX = 1024
# The minute of `auth.password_failures_max`.
_WINDOW_S = 60.0
# Names whose failures are remembered; a name takes some hundred bytes, and whoever tries more names tries each rarely.
_NAMES_MAX = 10_000


class Passwords:
    """Checks passwords within the bounds of the settings, for one server.

    Names take turns, and one name is checked once at a time: many guesses at once would all be made before the first
    of them has failed.
    """

    def __init__(self, settings: Auth) -> None:
        self._turns = Places(
            "password checks",
            settings.password_checks_max,
            1,
            settings.password_queue_max,
            settings.password_wait_s,
        )
        self._failures_max = settings.password_failures_max
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._decoys: dict[str, str] = {}

    def check(self, identities: Identities, name: str, password: str) -> Holder:
        """The user with this password. Raises Unauthenticated (bad-credential), Unavailable (busy)."""
        if len(password) > _PASSWORD_MAX or len(name) > _PASSWORD_MAX:
            raise refused("name or password too long")
        self._check_rate(name)
        done = self._turns.take(name)
        try:
            # Again: others with this name have been checked meanwhile.
            self._check_rate(name)
            holder = identities.users.get(name)
            if not _matches(holder.hash if holder else self._decoy(identities), password) or holder is None:
                self._failed(name)
                raise refused("wrong user or password")
        finally:
            done()
        return holder

    def _decoy(self, identities: Identities) -> str:
        """A hash that costs as much to check as a user's: the time of an answer must not tell which names exist."""
        model = next(iter(identities.users.values())).hash if identities.users else ""
        parameters = model.rpartition("$")[0].rpartition("$")[0]
        if parameters not in self._decoys:
            hasher = PasswordHasher.from_parameters(extract_parameters(model)) if model else PasswordHasher()
            self._decoys[parameters] = hasher.hash("nobody's password")
        return self._decoys[parameters]

    def _check_rate(self, name: str) -> None:
        with self._lock:
            since, count = self._failures.get(name, (0.0, 0))
        if count >= self._failures_max and time.monotonic() - since < _WINDOW_S:
            raise Unavailable("busy", "too many wrong passwords for this user; try again in a minute")

    def _failed(self, name: str) -> None:
        now = time.monotonic()
        with self._lock:
            since, count = self._failures.pop(name, (now, 0))
            self._failures[name] = (since, count + 1) if now - since < _WINDOW_S else (now, 1)
            while len(self._failures) > _NAMES_MAX:
                self._failures.popitem(last=False)


def _matches(hash_: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(hash_, password)
    except (Argon2Error, InvalidHashError):
        return False
