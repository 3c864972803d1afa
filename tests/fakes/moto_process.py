"""moto's S3 and Glue in a process of its own, so that big objects do not hold the tests' interpreter lock.

Prints its port, serves until standard input ends: it cannot outlive the process that started it.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import suppress
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import FakeKey
from werkzeug.serving import make_server

from tests.fakes.s3_faults import FaultyStore


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    FakeKey.value = _kept_value(FakeKey.value)  # type: ignore[assignment, method-assign]
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    application = FaultyStore(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=_Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    server.shutdown()


class _Handler(MotoRequestHandler):
    """A connection that was broken on purpose is not worth a traceback and a second answer."""

    def run_wsgi(self) -> None:
        with suppress(ConnectionError, OSError):
            super().run_wsgi()


def _kept_value(plain: Any) -> property:
    """moto copies the whole object out of its buffer for every range that is read of it.

    Parquet is read in hundreds of ranges: 53 ms for each one of a 64 MiB object, 8 ms with the bytes kept.
    """

    def get(key: Any) -> bytes:
        kept: bytes | None = key.__dict__.get("_kept_value")
        if kept is None:
            kept = key.__dict__["_kept_value"] = plain.fget(key)
        return kept

    def put(key: Any, value: bytes) -> None:
        key.__dict__.pop("_kept_value", None)
        plain.fset(key, value)

    return property(get, put)


if __name__ == "__main__":
    main()
