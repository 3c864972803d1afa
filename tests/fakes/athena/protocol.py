"""The wire: `POST /` with X-Amz-Target for Athena, `/_faults` and `/_state` for tests. Loopback only, no signatures."""

from __future__ import annotations

import json
import logging
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.athena.errors import ApiError
from tests.fakes.athena.executions import Executions
from tests.fakes.athena.faults import Faults
from tests.fakes.athena.operations import Operations

_log = logging.getLogger(__name__)
_PREFIX = "AmazonAthena."


class Server(ThreadingHTTPServer):
    """One listening socket over the operations; `calls` counts them by name."""

    daemon_threads = True
    # The default backlog of 5 refuses connections of clients that start a hundred queries at once.
    request_queue_size = 256

    def __init__(self, operations: Operations, executions: Executions, faults: Faults, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.operations = operations
        self.executions = executions
        self.faults = faults
        self.calls: Counter[str] = Counter()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; BaseServer prints a traceback."""
        _log.debug("connection of %s broke off", client_address, exc_info=True)

    def state(self) -> dict[str, Any]:
        return {**self.executions.state(), "calls": dict(self.calls)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: with Nagle's algorithm the second waits 40 ms for the client's acknowledgement.
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        _log.debug(format, *args)

    def do_GET(self) -> None:
        if self.path == "/_state":
            self._send(200, self.server.state())
        elif self.path == "/_faults":
            self._send(200, self.server.faults.as_dict())
        else:
            self._send(404, {"message": f"no {self.path}"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            self._send(400, {"__type": "SerializationException", "Message": "the body is no JSON"})
            return
        if self.path == "/_faults":
            self._set_faults(request)
            return
        self._athena(self.headers.get("X-Amz-Target", "").removeprefix(_PREFIX), request)

    def _athena(self, operation: str, request: dict[str, Any]) -> None:
        faults = self.server.faults
        self.server.calls[operation] += 1
        if faults.over_rate(operation) or faults.take("throttle_next", operation):
            self._send(400, {"__type": "ThrottlingException", "Message": "Rate exceeded"})
            return
        if faults.take("broken_next", operation):
            self._send(500, {"__type": "InternalServerException", "Message": "Internal server error"})
            return
        if told := faults.take_error(operation):
            self._send(int(told.get("status", 400)), {"__type": told["type"], "Message": told.get("message", "")})
            return
        status: int
        answer: dict[str, Any]
        try:
            status, answer = 200, self.server.operations.call(operation, request)
        except ApiError as error:
            status, answer = error.status, {"__type": error.kind, "Message": error.message, **error.extra}
        except Exception as error:  # noqa: BLE001 - one call must not take the server down; the client sees what broke
            _log.exception("%s failed", operation)
            status, answer = 500, {"__type": "InternalServerException", "Message": f"{type(error).__name__}: {error}"}
        if faults.take("lost_next", operation):
            self.close_connection = True
            return
        self._send(status, answer)

    def _set_faults(self, request: dict[str, Any]) -> None:
        try:
            self.server.faults.update(request)
        except KeyError as error:
            self._send(400, {"message": str(error.args[0])})
            return
        self._send(200, self.server.faults.as_dict())

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        self.end_headers()
        self.wfile.write(body)
