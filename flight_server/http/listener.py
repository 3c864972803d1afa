"""Running the HTTP face in a thread of its own, beside the Flight server.

Whoever reaches the port can open connections and say nothing on them, and a probe that finds no place has its server
restarted. So the oldest connection makes room for a new one, and each has an end.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from flight_server.errors import ConfigError

# uvicorn sets up its loop in milliseconds; this long only on a machine that is starved.
_START_S = 10.0
# Probes and scrapes are a handful; a connection takes some 20 kB.
_CONNECTIONS_MAX = 64
# Probes give up after some seconds, and a scrape of metrics after ten.
_LIFE_S = 30.0


class _Connection(H11Protocol):
    """One connection, for `_LIFE_S` at most: uvicorn itself waits for ever for the end of a request's headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.made = self.loop.time()
        self._end = self.loop.call_later(_LIFE_S, transport.abort)
        if len(self.connections) > _CONNECTIONS_MAX:
            known = [each for each in self.connections if isinstance(each, _Connection)]
            min(known, key=lambda each: (each.busy, each.made)).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        answering: RequestResponseCycle | None = self.cycle
        return answering is not None and not answering.response_complete


class HttpListener:
    """Serves `app` on host and port (0 = a free one) from construction until `close`."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"the HTTP port {host}:{port} cannot be used: {error.strerror}") from error
        self.port = int(self._socket.getsockname()[1])
        # Lines of its own would double the server's log; keep-alive short, as probes come and go.
        config = uvicorn.Config(
            app, http=_Connection, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=5
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
