"""Routes of the HTTP face: /livez, /readyz, /metrics, /version. All are open: they carry no data and name no caller.

/livez    200 while the process runs; what restarts a container
/readyz   200 when every check passes, else 503 with the failing ones; what takes a replica out of rotation
/metrics  Prometheus text
/version  versions of the server and of what it is built on
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping

import duckdb
import pyarrow as pa
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from flight_server import __version__
from flight_server.errors import Error
from flight_server.telemetry import log

# A check returns nothing, or raises an Error that says what is wrong.
Check = Callable[[], None]


def build_app(checks: Mapping[str, Check], draining: Callable[[], bool]) -> FastAPI:
    """The application. `checks` are run one after the other at each /readyz, in worker threads."""
    app = FastAPI(title="athena-flight", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    def livez() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        found = {name: _outcome(name, check) for name, check in checks.items()}
        if draining():
            found["draining"] = "the server is stopping"
        failing = [name for name, said in found.items() if said != "ok"]
        return JSONResponse({"ready": not failing, "checks": found}, 503 if failing else 200)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/version")
    def version() -> dict[str, str]:
        return {
            "athena-flight": __version__,
            "pyarrow": pa.__version__,
            "duckdb": duckdb.__version__,
            "python": platform.python_version(),
        }

    return app


def _outcome(name: str, check: Check) -> str:
    try:
        check()
    except Error as error:
        log.warning("not_ready", check=name, code=error.code, message=error.message)
        # The reason is in the log: this page is open to whoever reaches the port.
        return error.code
    except Exception as error:  # noqa: BLE001 - a probe must answer, whatever is broken
        log.error("not_ready", check=name, exc_info=error)
        return "internal"
    return "ok"
