"""Running the HTTP face in a thread of its own, beside the Flight server."""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import Any

import uvicorn
from fastapi import FastAPI

from flight_server.errors import ConfigError

# uvicorn sets up its loop in milliseconds; this long only on a machine that is starved.
_START_S = 10.0
# How long nobody is let in when files have run out; those of connections that ended meanwhile are closed after it.
_FULL_S = 0.01


class _Listening(socket.socket):
    """Takes being out of files for nobody waiting. asyncio would report it 2,048 times in a row and do nothing else."""

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            time.sleep(_FULL_S)
            raise BlockingIOError from error


class HttpListener:
    """Serves `app` on host and port (0 = a free one) from construction until `close`."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = _Listening(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"the HTTP port {host}:{port} cannot be used: {error.strerror}") from error
        self.port = int(self._socket.getsockname()[1])
        # Lines of its own would double the server's log; keep-alive short, as probes come and go.
        # No limit of connections here: uvicorn's counts those that say nothing as well, and answers 503 to every probe
        # while it is reached. What bounds them is `limits.connections_max`.
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=5, loop="asyncio"
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
