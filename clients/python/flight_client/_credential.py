"""Who asks: nobody, the owner of a token, or a user whose password was answered by a session."""

from __future__ import annotations

import threading
from collections.abc import Callable

from flight_client.errors import InvalidRequest

Headers = list[tuple[bytes, bytes]]
# A session that ran out, and one that the server no longer takes: it was started anew with another secret.
_ENDED = ("expired-credential", "bad-credential")


class Credential:
    """The headers of all calls of a connection. Thread-safe."""

    def __init__(self, token: str | None, log_in: Callable[[], Headers] | None) -> None:
        self._log_in = log_in
        self._renewing = threading.Lock()
        self.headers: Headers = [] if token is None else [(b"authorization", b"Bearer " + _checked(token))]
        if log_in is not None:
            self.headers = log_in()

    def renewed(self, used: Headers, code: str) -> bool:
        """Whether there are other headers now than `used`, with which a call came to `code`. Raises what a login does.

        Of many threads that meet the end of a session one logs in, and the others wait for it: each check of a password
        takes a core of the server.
        """
        if self._log_in is None or code not in _ENDED:
            return False
        with self._renewing:
            if self.headers is used:
                self.headers = self._log_in()
        return True


def _checked(token: str) -> bytes:
    # Files of tokens end with a line end, which no header may hold.
    token = token.strip()
    if not token:
        raise InvalidRequest("bad-request", "the token is empty; leave it out to send none")
    if not (token.isascii() and token.isprintable()):
        raise InvalidRequest("bad-request", "the token has signs that no header can hold; it is not a whole token")
    return token.encode()
