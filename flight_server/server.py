"""The composition root: builds everything from Config, starts it, drains it. No logic of its own."""

from __future__ import annotations

import itertools
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.catalog import Catalog

from flight_server.config import Config
from flight_server.datasets import registry
from flight_server.datasets.registry import Registry
from flight_server.engines.duckdb import DuckDBEngine
from flight_server.errors import DatasetError
from flight_server.model import Engine, EngineName
from flight_server.pipeline import Pipeline
from flight_server.plan import check
from flight_server.plan.planner import Planner
from flight_server.plan.scan import Tables
from flight_server.service.descriptors import Tickets
from flight_server.service.rpc import FlightService
from flight_server.tables.catalog import open_catalog
from flight_server.telemetry import log


@dataclass
class Server:
    """A built server. `serve` blocks; `stop` from another thread drains and ends it."""

    config: Config
    pipeline: Pipeline
    flight: FlightService
    engines: dict[EngineName, Engine]
    catalog: Catalog

    @property
    def port(self) -> int:
        return int(self.flight.port)

    def serve(self) -> None:
        log.info("serving", address=f"grpc://{self.config.server.host}:{self.port}")
        self.flight.serve()

    def stop(self, grace_s: float | None = None) -> None:
        """Refuse new calls, let the running ones finish within the grace period, then end."""
        grace_s = self.config.server.grace_s if grace_s is None else grace_s
        self.flight.calls.drain(grace_s)
        self.flight.shutdown()
        for engine in self.engines.values():
            engine.close()
        self.catalog.close()
        log.info("stopped")

    def reload(self) -> list[DatasetError]:
        """Read the datasets again. With any error the last good ones stay in service."""
        found, errors = load_datasets(self.config.datasets.directory)
        if not errors:
            self.pipeline.registry = found
        return errors


def build(config: Config) -> Server:
    """Everything that `config` describes, listening. Raises SetupError for what is wrong in files or settings."""
    found, errors = load_datasets(config.datasets.directory)
    if errors:
        raise errors[0]
    catalog = open_catalog(config)
    engines = build_engines(config, catalog)
    pipeline = build_pipeline(config, catalog, engines, found)
    secret = config.server.ticket_secret
    key = secret.get_secret_value().encode() if secret else secrets.token_bytes(32)
    location = f"grpc://{config.server.host}:{config.server.port}"
    service = FlightService(location, pipeline, config, Tickets(key, config.server.ticket_ttl_s))
    return Server(config, pipeline, service, engines, catalog)


def build_engines(config: Config, catalog: Catalog) -> dict[EngineName, Engine]:
    """The engines that the configuration asks for, the default one first."""
    return {"duckdb": DuckDBEngine(config.duckdb, (catalog.properties["warehouse"],))}


def build_pipeline(config: Config, catalog: Catalog, engines: dict[EngineName, Engine], datasets: Registry) -> Pipeline:
    return Pipeline(datasets, Planner(Tables(catalog), config.cost), engines, config.limits)


def load_datasets(directory: Path) -> tuple[Registry, list[DatasetError]]:
    """The datasets of a folder, held against all that the text alone can tell."""
    found, errors = registry.load(directory)
    return found, [*errors, *itertools.chain.from_iterable(map(check.problems, found.all()))]


def start_in_thread(server: Server) -> threading.Thread:
    """Serve in a thread, for commands and tests that go on meanwhile."""
    thread = threading.Thread(target=server.serve, name="serve", daemon=True)
    thread.start()
    return thread
