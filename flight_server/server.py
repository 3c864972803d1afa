"""The composition root: builds everything from Config, starts it, drains it. No logic of its own."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import boto3
import pyarrow as pa
import s3fs
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError
from pyarrow import fs as pafs
from pyiceberg.catalog import Catalog

from flight_server import preconditions, scratch
from flight_server.config import Config
from flight_server.datasets import registry, system
from flight_server.datasets.policies import FILE
from flight_server.datasets.registry import Registry
from flight_server.engines.athena.engine import AthenaEngine
from flight_server.engines.duckdb import DuckDBEngine
from flight_server.engines.result_types import ResultTypes
from flight_server.engines.system import SystemEngine
from flight_server.errors import ConfigError, DatasetError, EngineFailed, SetupError, TableError
from flight_server.health.listener import HealthListener
from flight_server.health.readiness import Check, Readiness
from flight_server.http.app import build_app
from flight_server.http.listener import HttpListener
from flight_server.model import Engine, EngineName
from flight_server.pipeline import Pipeline
from flight_server.plan import check, policies
from flight_server.plan.own import iceberg_schema
from flight_server.plan.planner import Planner
from flight_server.plan.scan import Tables
from flight_server.preconditions import athena_results, is_loopback, port_beside, region
from flight_server.results.local import LocalStore
from flight_server.results.parts import Budget, PartReader
from flight_server.results.store import Store
from flight_server.service import connections, own_tables, tls
from flight_server.service.audit import Audit
from flight_server.service.auth import Authentication
from flight_server.service.descriptors import Tickets
from flight_server.service.rpc import FlightService
from flight_server.statements import Statements
from flight_server.tables.catalog import open_catalog
from flight_server.tables.locate import locator
from flight_server.tables.missing import WAY_OUT, missing
from flight_server.tables.pins import Tags
from flight_server.tables.reachable import probe
from flight_server.telemetry import log, metrics, traces
from flight_server.telemetry.records import TABLES, Records

# Queries at once, and what probes ask beside; more connections are made when needed, and thrown away after use.
_ATHENA_CONNECTIONS = 32
# By s3fs, and each of those by botocore: each tries again after failures that the other takes for an answer.
_MANIFEST_TRIES = 2


@dataclass
class Server:
    """A built server. `serve` blocks; `stop` from another thread drains and ends it."""

    config: Config
    pipeline: Pipeline
    flight: FlightService
    http: HttpListener
    # None where `server.health` is off.
    health: HealthListener | None
    readiness: Readiness
    engines: dict[EngineName, Engine]
    catalog: Catalog
    # Sends the spans that wait, and ends tracing.
    stop_traces: Callable[[], None]

    @property
    def port(self) -> int:
        return int(self.flight.port)

    @property
    def addresses(self) -> dict[str, str]:
        """Where it listens, with the ports that it has."""
        host = self.config.server.host
        found = {"address": f"{_scheme(self.config)}://{host}:{self.port}", "http": f"http://{host}:{self.http.port}"}
        return found if self.health is None else found | {"health": f"grpc://{host}:{self.health.port}"}

    def serve(self) -> None:
        log.info("serving", **self.addresses)
        self.flight.serve()

    def stop(self, grace_s: float | None = None) -> None:
        """Refuse new calls, let the running ones finish within the grace period, then end."""
        grace_s = self.config.server.grace_s if grace_s is None else grace_s
        self.flight.calls.drain(grace_s)
        self.flight.submissions.close()
        self.flight.shutdown()
        # The probes' ports stay until here: while it drains, a replica must be able to say so.
        self.http.close()
        if self.health is not None:
            self.health.close()
        for engine in self.engines.values():
            engine.close()
        self.catalog.close()
        self.flight.audit.close()
        self.stop_traces()
        log.info("stopped")

    def reload(self) -> list[SetupError]:
        """Read datasets, policies, tokens, passwords and certificate names again.

        All or nothing: with any error everything stays as it was. TLS certificates are read at start only.
        """
        found, read = load_datasets(self.config.datasets.directory)
        errors: list[SetupError] = [*read]
        if self.pipeline.registry.policies.digest and not found.policies.digest and not errors:
            # An editor that is just saving, or a copy that is not complete, must not open every row.
            path = self.config.datasets.directory / FILE
            errors.append(DatasetError(path, 0, 0, "the file is gone; to have no policies any more, leave it empty"))
        try:
            found = system.served(found, system.load(self.config.system.roles))
            errors += self.pipeline.policy_problems(found)
        except SetupError as error:
            # The catalog that policies are held against can be out of reach for a while.
            errors.append(error)
        try:
            with self.flight.authentication.reading() as take:
                if not errors:
                    # One assignment for datasets and policies: no request sees the one without the other.
                    self.pipeline.registry = found
                    metrics.start_at_zero(found.datasets)
                    take()
        except DatasetError as error:
            errors.append(error)
        return errors


def build(config: Config) -> Server:
    """Everything that `config` describes, listening. Raises SetupError for what is wrong in files or settings."""
    # Pieces are made in one thread and freed in another. Arrow's own choice, mimalloc, keeps several times as much of
    # what was freed that way (docs/decisions.md), and is no faster here.
    pa.set_memory_pool(pa.system_memory_pool())
    for error in preconditions.problems(config):
        raise error
    found, errors = load_datasets(config.datasets.directory)
    if errors:
        raise errors[0]
    found = system.served(found, system.load(config.system.roles))
    secret = config.server.ticket_secret
    key = secret.get_secret_value().encode() if secret else secrets.token_bytes(32)
    authentication = Authentication(config, key)
    if not is_loopback(config.server.host) and not tls.enabled(config.tls):
        log.warning("no_tls", reason="credentials and rows travel in the clear, unless a proxy in front adds TLS")
    audit = Audit(config.audit)
    _check_port(config.server.host, config.server.port, "server.port", "another with --port")
    if config.server.health:
        _check_port(config.server.host, port_beside(config, "health_port"), "server.health_port", "another, or 0")
    if swept := scratch.sweep():
        log.info("scratch_swept", folders=len(swept), reason="processes that were killed left them")
    with ExitStack() as undo:
        stop_traces = start_traces(config)
        undo.callback(stop_traces)
        catalog = undo.enter_context(closing(open_catalog(config)))
        kept = LocalStore(config.duckdb.results_bytes_max) if config.duckdb.results_bytes_max else None
        engines = build_engines(config, catalog, kept)
        for engine in engines.values():
            undo.callback(engine.close)
        records = Records(config.system.calls_kept, config.system.costs_kept)
        own = SystemEngine(
            config.system,
            lambda name: own_tables.table(
                name, records, pipeline.registry, service.submissions, service.spending, service.statements
            ),
        )
        undo.callback(own.close)
        engines["system"] = own
        pipeline = build_pipeline(config, catalog, engines, found)
        for error in pipeline.policy_problems(found):
            raise error
        _tell_missing(catalog, found)
        location = f"{_scheme(config)}://{config.server.host}:{config.server.port}"
        tickets = Tickets(key, config.server.ticket_ttl_s)
        service = FlightService(location, pipeline, config, tickets, authentication, audit, records, Tags(catalog))
        undo.callback(service.shutdown)
        checks = build_checks(config, pipeline, engines, catalog)
        if config.audit.file is not None:
            # While a line cannot be written every call is refused here, so that none should be sent.
            checks["audit"] = audit.check
        readiness = Readiness(
            checks, lambda: service.calls.draining, config.server.ready_ttl_s, config.server.ready_wait_s
        )
        http = HttpListener(build_app(readiness.outcomes), config.server.host, port_beside(config, "http_port"))
        undo.callback(http.close)
        health = (
            HealthListener(readiness, config.server.host, port_beside(config, "health_port"))
            if config.server.health
            else None
        )
        beside = (http.port, health.port) if health is not None else (http.port,)
        service.beside(beside)
        connections.notice_the_gone((service.port, *beside), config.limits.gone_s)
        # All stands: from here on `Server.stop` closes it.
        undo.pop_all()
    _gauges(service, pipeline)
    metrics.start_at_zero(found.datasets)
    return Server(config, pipeline, service, http, health, readiness, engines, catalog, stop_traces)


def _gauges(service: FlightService, pipeline: Pipeline) -> None:
    """Metrics whose values are looked up when they are scraped."""
    metrics.CALLS_RUNNING.set_function(lambda: service.calls.count)
    metrics.CALLS_QUEUED.labels("call").set_function(lambda: service.calls.short.queued)
    metrics.CALLS_QUEUED.labels("stream").set_function(lambda: service.calls.streams.queued)
    metrics.CALLS_QUEUED.labels("backlog").set_function(service.calls.waiting)
    metrics.STREAMS_UNREAD.set_function(lambda: sum(call.unread for call in service.calls.present()))
    metrics.DATASETS.set_function(lambda: system.files(pipeline.registry))


def _tell_missing(catalog: Catalog, found: Registry) -> None:
    """A server starts without them: they may be loaded while it runs."""
    try:
        for name, readers in missing(catalog, found).items():
            log.warning("table_missing", table=name, datasets=readers, way_out=WAY_OUT)
    except TableError as error:
        log.warning("tables_not_looked_at", error=str(error))


def start_traces(config: Config) -> Callable[[], None]:
    """Begin tracing where it is configured; the answer ends it. Raises ConfigError without the extra `otlp`."""
    said = config.telemetry
    if said.endpoint is None:
        return lambda: None
    return traces.start(said.endpoint, said.service_name, said.sample_ratio, said.spans_max, said.send_s)


def _scheme(config: Config) -> str:
    return "grpc+tls" if tls.enabled(config.tls) else "grpc"


def build_checks(
    config: Config, pipeline: Pipeline, engines: dict[EngineName, Engine], catalog: Catalog
) -> dict[str, Check]:
    """What must be well for this replica to be asked."""
    reachable = probe(config.catalog, catalog, pipeline.tables_read)

    def room() -> None:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if free < config.limits.disk_free_min:
            wanted = f"{config.limits.disk_free_min:,} are wanted (limits.disk_free_min)"
            raise SetupError("disk-full", f"{free:,} bytes are free on the disk of {folder}, and {wanted}")

    def files() -> None:
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            raise SetupError("no-files", f"no file or connection can be opened any more: {error.strerror}") from error

    def valid() -> None:
        if not system.files(pipeline.registry):
            raise SetupError("no-dataset", f"no dataset of {config.datasets.directory} is in service")

    # Files first: others fail for want of them, and say so in words of their own.
    return {"files": files, "catalog": reachable, "datasets": valid, "disk": room} | {
        f"engine:{name}": engine.ping for name, engine in engines.items() if name != "system"
    }


def _check_port(host: str, port: int, setting: str, way_out: str) -> None:
    """Raise ConfigError when nothing can listen there: of gRPC's own failure no reason is left but in its log."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As gRPC does: connections of an earlier server that are still closing are no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            setting, way_out = "server.host", "an address of this machine with --host, or 0.0.0.0 for all of them"
        raise ConfigError(
            f"setting '{setting}': cannot listen on {host}:{port}: {error.strerror}; choose {way_out}"
        ) from error


def build_engines(config: Config, catalog: Catalog, kept: LocalStore | None = None) -> dict[EngineName, Engine]:
    """The engines that the configuration asks for, the default one first; `kept` is for what is asked again."""
    makers: dict[EngineName, Callable[[], Engine]] = {
        "duckdb": lambda: DuckDBEngine(config.duckdb, (catalog.properties["warehouse"],), duckdb_s3(config), kept),
        "athena": lambda: build_athena(config),
    }
    return {name: makers[name]() for name in config.server.engines}


def build_athena(config: Config) -> AthenaEngine:
    """The Athena engine with its result store. Raises ConfigError where a setting that it needs is missing."""
    session = boto3.Session(region_name=region(config, "the Athena engine"))
    # Broken connections are tried again by botocore; throttling is this engine's own business.
    client = session.client(
        "athena",
        endpoint_url=config.aws.athena_endpoint,
        config=BotoConfig(
            retries={"mode": "standard", "total_max_attempts": config.athena.tries_max},
            max_pool_connections=_ATHENA_CONNECTIONS,
            connect_timeout=config.aws.connect_s,
            read_timeout=config.athena.answer_s,
        ),
    )
    return AthenaEngine(client, build_store(config), config.athena, config.cost)


def build_store(config: Config) -> Store:
    """The result store in S3. Raises ConfigError when `athena.results` names no prefix."""
    root = athena_results(config)
    endpoint = config.aws.s3_endpoint
    files = s3fs.S3FileSystem(
        endpoint_url=endpoint,
        client_kwargs={"region_name": config.aws.region} if config.aws.region else {},
        config_kwargs={
            "connect_timeout": min(config.aws.connect_s, config.results.manifest_s),
            "read_timeout": config.results.manifest_s,
            "retries": {"mode": "standard", "total_max_attempts": _MANIFEST_TRIES},
        },
    )
    # Five by itself, with which a store that does not answer held up every plan for minutes.
    files.retries = _MANIFEST_TRIES
    data = pafs.S3FileSystem(
        region=config.aws.region,
        # pyarrow's own variable for this is not read by every release (docs/decisions.md).
        endpoint_override=endpoint,
        scheme="http" if endpoint and endpoint.startswith("http://") else "https",
        connect_timeout=config.aws.connect_s,
        request_timeout=config.results.request_s,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=config.results.tries_max),
    )
    budget = Budget(config.results.read_bytes_max)
    reader = PartReader(data, budget, config.results.parts_ahead, config.results.threads)
    return Store(files, root, reader, config.kept.results_max)


def duckdb_s3(config: Config) -> Callable[[], dict[str, str]] | None:
    """DuckDB's S3 secret for a warehouse in S3, from the usual AWS chain; None for a local warehouse.

    Each call gives the credentials as they are then; botocore renews those of a role ten minutes before their end.
    """
    if not config.catalog.warehouse.startswith("s3://"):
        return None
    session = boto3.Session(region_name=config.aws.region)
    credentials = session.get_credentials()
    fixed: dict[str, str | None] = {"REGION": session.region_name}
    if endpoint := config.aws.s3_endpoint:
        scheme, _, host = endpoint.partition("://")
        fixed |= {"ENDPOINT": host.rstrip("/"), "URL_STYLE": "path", "USE_SSL": str(scheme == "https").lower()}

    def secret() -> dict[str, str]:
        found = dict(fixed)
        if credentials is not None:
            try:
                frozen = credentials.get_frozen_credentials()
            except BotoCoreError as error:
                raise EngineFailed(f"AWS credentials cannot be renewed: {str(error).splitlines()[0][:200]}") from error
            found |= {"KEY_ID": frozen.access_key, "SECRET": frozen.secret_key, "SESSION_TOKEN": frozen.token}
        return {key: value for key, value in found.items() if value}

    return secret


def build_pipeline(config: Config, catalog: Catalog, engines: dict[EngineName, Engine], datasets: Registry) -> Pipeline:
    own = {name: iceberg_schema(schema) for name, schema in TABLES.items()}
    planner = Planner(Tables(catalog, locator(catalog), own, config.kept), config.cost, kept=config.kept)
    statements = Statements(planner, ResultTypes(), config.sql, config.kept)
    return Pipeline(datasets, planner, engines, config.limits, statements=statements)


def load_datasets(directory: Path) -> tuple[Registry, list[DatasetError]]:
    """The datasets of a folder, held against all that the text alone can tell."""
    found, errors = registry.load(directory)
    wrong = [*itertools.chain.from_iterable(map(check.problems, found.all())), *policies.problems(found.policies)]
    return found, [*errors, *wrong]


def start_in_thread(server: Server) -> threading.Thread:
    """Serve in a thread, for commands and tests that go on meanwhile."""
    thread = threading.Thread(target=server.serve, name="serve", daemon=True)
    thread.start()
    return thread
