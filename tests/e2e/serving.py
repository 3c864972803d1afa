"""A server in its own process: `python -m tests.e2e.serving URI WAREHOUSE DATASETS`. Ends with its standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from flight_server import config, server, telemetry


def main(uri: str, warehouse: str, datasets: str) -> None:
    telemetry.configure("console", "warning")
    running = server.build(
        config.load(
            None,
            server={"port": 0},
            datasets={"directory": Path(datasets)},
            catalog={"uri": uri, "warehouse": warehouse},
            duckdb={"memory": "512MB"},
        )
    )
    server.start_in_thread(running)
    print(running.port, flush=True)
    sys.stdin.read()
    running.stop(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
