"""Routes of the HTTP face: /livez, /readyz, /metrics, /version. All are open: they carry no data and name no caller.

/livez    200 while the process runs; what restarts a container
/readyz   200 when every check passes, else 503 with the failing ones; what takes a replica out of rotation
/metrics  Prometheus text
/version  versions of the server and of what it is built on
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Mapping

import duckdb
import pyarrow as pa
from fastapi import FastAPI, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from flight_server import __version__

# What each check says: `ok`, or what is wrong.
Outcomes = Callable[[], Mapping[str, str]]


def build_app(outcomes: Outcomes) -> FastAPI:
    """The application. `outcomes` is asked at each /readyz, in a worker thread, and may block."""
    # What worker threads need is imported at their first use. Where no file can be opened any more that fails, and the
    # first probe would get 500 just when it asks for the reason.
    asyncio.run(run_in_threadpool(_nothing))
    app = FastAPI(title="athena-flight", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/livez")
    async def livez() -> PlainTextResponse:
        # Not in a worker thread: those may all be waiting for a catalog that is down, which a restart does not mend.
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        found = outcomes()
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


def _nothing() -> None:
    pass
