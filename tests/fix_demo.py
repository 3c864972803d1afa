"""A Flight server over the demo tables, as `athena-flight demo` starts one, on a free port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from flight_server import config, server

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def demo_address(demo_catalog: Catalog) -> Iterator[str]:
    """`grpc://…` of a running demo server."""
    properties = demo_catalog.properties
    settings = config.load(
        server={"port": 0},
        datasets={"directory": ROOT / "sql"},
        sql={"ad_hoc_roles": ("*",)},
        catalog={"uri": properties["uri"].partition("?")[0], "warehouse": properties["warehouse"]},
    )
    running = server.build(settings)
    server.start_in_thread(running)
    yield f"grpc://localhost:{running.port}"
    running.stop(0)
