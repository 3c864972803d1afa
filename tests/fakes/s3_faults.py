"""Faults of S3, in front of moto: errors, lost connections, short and damaged objects, on demand.

`POST /_faults` takes a JSON list of rules and replaces those there are. A rule is
`{"kind": …, "method": "GET", "match": "part of the path", "count": 1, "delay_s": 0}`; it is used up by the requests
that it fits; calls of Glue have their operation in the path, as `/AWSGlue.GetTable`. Kinds: `slow_down` (503), `expired` (400 ExpiredToken), `denied` (403), `signature` (403, and as S3 does it
repeats what was signed: the session token among it), `missing` (404), `reset` (the connection breaks before an answer), `truncate` (it breaks in the middle of the body), `corrupt` (bytes in the middle
are others), `delay` (the answer comes late).
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ERRORS = {
    "slow_down": ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
    "expired": ("400 Bad Request", "ExpiredToken", "The provided token has expired."),
    "denied": ("403 Forbidden", "AccessDenied", "Access Denied"),
    "missing": ("404 Not Found", "NoSuchKey", "The specified key does not exist."),
}


class FaultyStore:
    """A WSGI application around another one."""

    def __init__(self, application: WsgiApp) -> None:
        self._application = application
        self._rules: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_faults":
            return self._set(environ, start_response)
        operation = environ.get("HTTP_X_AMZ_TARGET", "")
        rule = self._take(environ["REQUEST_METHOD"], environ["PATH_INFO"] + operation)
        if rule is None:
            return self._application(environ, start_response)
        time.sleep(float(rule.get("delay_s", 0)))
        kind = rule["kind"]
        if kind == "denied" and operation:
            return _refusal(start_response, operation)
        if kind in ERRORS:
            answer = _error(start_response, *ERRORS[kind])
            # An answer to HEAD has no body: it would be taken for the next answer of the connection.
            return [] if environ["REQUEST_METHOD"] == "HEAD" else answer
        if kind == "signature":
            return _signature(start_response, environ)
        if kind == "reset":
            _break(environ)
            return []
        if kind in ("truncate", "corrupt"):
            body = b"".join(self._application(environ, start_response))
            return _half(environ, body) if kind == "truncate" else [_damaged(body)]
        return self._application(environ, start_response)

    def _set(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        rules = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"[]")
        with self._lock:
            self._rules = [{"method": "GET", "match": "", "count": 1, **rule} for rule in rules]
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
        return [b"{}"]

    def _take(self, method: str, path: str) -> dict[str, Any] | None:
        with self._lock:
            for rule in self._rules:
                if rule["count"] > 0 and rule["method"] in ("*", method) and rule["match"] in path:
                    rule["count"] -= 1
                    return rule
        return None


def _error(start_response: Callable[..., Any], status: str, code: str, message: str, more: str = "") -> list[bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>".encode()
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def _refusal(start_response: Callable[..., Any], operation: str) -> list[bytes]:
    """As Glue refuses what no policy allows."""
    message = f"User: arn:aws:sts::1:assumed-role/server is not authorized to perform: {operation}"
    body = json.dumps({"__type": "AccessDeniedException", "Message": message}).encode()
    headers = [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))]
    start_response("400 Bad Request", headers)
    return [body]


def _signature(start_response: Callable[..., Any], environ: dict[str, Any]) -> list[bytes]:
    names = sorted(name for name in environ if name.startswith("HTTP_"))
    headers = "".join(f"{name[5:].lower().replace('_', '-')}:{environ[name]}\n" for name in names)
    signed = f"{environ['REQUEST_METHOD']}\n{environ['PATH_INFO']}\n\n{headers}"
    said = "The request signature we calculated does not match the signature you provided."
    body = _error(
        start_response, "403 Forbidden", "SignatureDoesNotMatch", said, f"<CanonicalRequest>{signed}</CanonicalRequest>"
    )
    return [] if environ["REQUEST_METHOD"] == "HEAD" else body


def _half(environ: dict[str, Any], body: bytes) -> Iterator[bytes]:
    """Half of what the headers promise, then the end of the connection."""
    yield body[: len(body) // 2]
    _break(environ)


def _damaged(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes(b ^ 0xFF for b in body[middle : middle + 64]) + body[middle + 64 :]


def _break(environ: dict[str, Any]) -> None:
    """Reset the connection: closing with a linger time of zero."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError("told to")
