"""The local Athena as one object: `start` it over a store, set its `faults`, read its `state`, `close` it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from tests.fakes.athena.catalog import Catalog, Store
from tests.fakes.athena.engine import Engine
from tests.fakes.athena.executions import Executions
from tests.fakes.athena.faults import Faults
from tests.fakes.athena.operations import Operations
from tests.fakes.athena.protocol import Server


class LocalAthena:
    """An Athena endpoint on a free loopback port, executing over the Glue and S3 of `store`.

    `endpoint` is its URL. `work_group(name, **configuration)` is CreateWorkGroup without a client.
    """

    def __init__(self, store: Store, result_location: str = "", port: int = 0, memory: str = "2GB") -> None:
        self.faults = Faults()
        self._catalog = Catalog(store)
        self._engine = Engine(self._catalog, memory=memory)
        self._executions = Executions(self._engine, self._catalog, self.faults)
        self._operations = Operations(self._executions, self._catalog)
        if result_location:
            primary = self._operations.work_groups["primary"]
            primary.configuration["ResultConfiguration"] = {"OutputLocation": result_location}
        self._server = Server(self._operations, self._executions, self.faults, port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="local-athena", daemon=True
        )
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def state(self) -> dict[str, Any]:
        """Counters and SQL texts, as GET /_state."""
        return self._server.state()

    def work_group(self, name: str, **configuration: Any) -> None:
        self._operations.CreateWorkGroup({"Name": name, "Configuration": configuration})

    def set_cutoff(self, work_group: str, scanned: int) -> None:
        """BytesScannedCutoffPerQuery below the 10 MB that AWS asks for: tables of tests are small."""
        self._operations.work_groups[work_group].configuration["BytesScannedCutoffPerQuery"] = scanned

    def settle(self) -> list[str]:
        """Stop all queries and wait for their ends, so that no test meets those of the one before it; their SQL."""
        return self._executions.settle()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._executions.close()
        self._engine.close()
        self._thread.join(10)

    def __enter__(self) -> LocalAthena:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
