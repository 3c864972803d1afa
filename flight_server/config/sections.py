"""Every setting but those of bounds.py with its bounds, its default and its reason, section by section."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from flight_server.config.section import Section

# What DuckDB reads as a size.
_SIZE = re.compile(r"\d+(\.\d+)?\s*[KMGT]i?B", re.IGNORECASE)


def _size(text: str) -> str:
    if not _SIZE.fullmatch(text.strip()):
        raise ValueError("a size is written as 2GB or 512MiB")
    return text


Size = Annotated[str, AfterValidator(_size)]


class Server(Section):
    """Where the server listens."""

    host: str = Field("127.0.0.1", description="Address to listen on. Beyond loopback only with authentication.")
    insecure_allow_remote: bool = Field(
        False, description="Listen beyond loopback without authentication: whoever reaches the port reads everything."
    )
    port: int = Field(8815, ge=0, le=65535, description="Flight port; 0 picks a free one.")
    engines: tuple[Literal["duckdb", "athena"], ...] = Field(
        ("duckdb",), min_length=1, description="Engines in service; the first one answers unless a dataset says else."
    )
    http_port: int = Field(
        8816, ge=0, le=65535, description="HTTP port; 0 picks a free one, as an unset one does beside port 0."
    )
    health: bool = Field(True, description="Answer gRPC health checks, for probes, on a port of their own.")
    health_port: int = Field(
        8817, ge=0, le=65535, description="Port of the gRPC health service, never with TLS; 0 as for `http_port`."
    )
    ready_ttl_s: float = Field(
        1.0, ge=0, description="How long outcomes of readiness checks are kept: probes must not use up AWS's quotas."
    )
    ready_wait_s: float = Field(
        4.0,
        gt=0,
        description="How long readiness checks are waited for; past it they fail, before probes give up after 5 s.",
    )
    grace_s: float = Field(
        20.0, ge=0, description="Time that running streams get at stop; container schedulers kill after 30 s."
    )
    ticket_secret: SecretStr | None = Field(
        None, description="Signs tickets; give all replicas the same one. Absent: random at each start."
    )
    ticket_ttl_s: float = Field(
        3600.0, gt=0, description="How long an issued ticket is good: a notebook left over lunch still works."
    )
    heartbeat_s: float = Field(
        2.0, gt=0, description="Pause between zero-row batches while the engine works; keepalives give up after 6 s."
    )


class Datasets(Section):
    """What is served."""

    directory: Path = Field(Path("sql"), description="Folder of the dataset files.")


class Auth(Section):
    """Who may ask. With none of `tokens`, `passwords`, `jwt_keys` and `tls.client = "identity"` all are anonymous."""

    tokens: Path | None = Field(None, description="File of bearer tokens, hashed; `athena-flight auth token` adds one.")
    passwords: Path | None = Field(
        None, description="File of users with argon2 hashes; `athena-flight auth password` adds one."
    )
    certificates: Path | None = Field(
        None, description='File of roles and claims by certificate name, for `tls.client = "identity"`.'
    )
    jwt_keys: str | None = Field(None, description="JWKS of the token issuer: a file, or an https:// URL.")
    jwt_issuer: str | None = Field(None, description="The `iss` that a JWT must have; needed with `jwt_keys`.")
    jwt_audience: str | None = Field(
        None, description="The `aud` that a JWT must have, so that tokens for other services are refused; needed too."
    )
    jwt_algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1, description="Signatures accepted: public keys only."
    )
    jwt_leeway_s: float = Field(30.0, ge=0, le=300, description="How far the clocks of issuer and server may differ.")
    jwt_name_claim: str = Field("sub", description="Claim that names the caller.")
    jwt_roles_claim: str = Field("roles", description="Claim with the roles; dots lead into objects.")
    jwt_keys_ttl_s: float = Field(
        300.0, gt=0, description="How long keys are used before they are read again; a withdrawn one lives as long."
    )
    jwt_fetch_s: float = Field(
        5.0, gt=0, description="How long the issuer may take to send its keys; calls with a key not known yet wait."
    )
    jwt_refetch_s: float = Field(
        10.0, ge=0, description="Least pause between two fetches: tokens with invented key names must not cause more."
    )
    jwt_stale_s: float = Field(
        86_400.0,
        gt=0,
        description="How long the last keys are good while none can be fetched: an outage over night locks nobody out.",
    )
    session_ttl_s: float = Field(
        3600.0, gt=0, description="How long the token is good that answers a password; then clients log in again."
    )
    password_checks_max: int = Field(
        2, ge=1, description="Password checks at once: each takes a core for 50 ms and 64 MiB."
    )
    password_queue_max: int = Field(
        32, ge=0, description="Checks that wait for their turn, each with a thread, for nobody knows whom yet."
    )
    password_wait_s: float = Field(
        5.0, ge=0, description="How long a check waits for its turn before `busy`: a hundred go before it."
    )
    password_failures_max: int = Field(
        10, ge=1, description="Wrong passwords for one user in a minute before further ones are refused unseen."
    )


class Tls(Section):
    """Encryption of the Flight port; TLS 1.2 at least. Certificates are read at start only."""

    certificate: Path | None = Field(
        None, description="PEM certificate chain of the server; with `key` it turns TLS on."
    )
    key: Path | None = Field(None, description="PEM private key of the certificate.")
    client_ca: Path | None = Field(None, description="PEM certificates of those who sign client certificates.")
    client: Literal["none", "gate", "identity"] = Field(
        "none",
        description="Client certificates: not asked for; needed besides a credential; or they are the credential.",
    )


class Audit(Section):
    """One line for every call: who, what, how much, under which policies."""

    file: str | None = Field(None, description="File that lines are appended to, or `-` for standard output.")
    waiting_max: int = Field(
        10_000, ge=1, description="Lines kept while the file cannot be written, some 3 MB; past it calls are counted."
    )


class Catalog(Section):
    """Where the Iceberg tables are registered and stored."""

    kind: Literal["sql", "glue"] = Field("sql", description="SQLite catalog on this machine, or AWS Glue.")
    uri: str = Field("sqlite:///.demo/catalog.db", description="Database of a `sql` catalog.")
    warehouse: str = Field(".demo/warehouse", description="Folder or s3:// URI under which new tables are stored.")
    answer_s: float = Field(
        5.0, gt=0, description="How long Glue may take for one answer; it takes less than a second, and plans wait."
    )
    tries_max: int = Field(
        2, ge=1, description="Tries of a call of Glue: with `answer_s`, a plan without an answer fails after 10 s."
    )
    metadata_s: float = Field(
        3.0,
        gt=0,
        description="How long S3 may take for a piece of a table's metadata or data files; tried three times.",
    )
    busy_s: float = Field(
        30.0,
        ge=0,
        description="How long a writer waits for SQLite's lock, held for milliseconds, or while a disk stalls.",
    )


class Aws(Section):
    """How AWS is reached. Credentials come from the usual AWS chain, never from here."""

    region: str | None = Field(None, description="AWS region; absent = the chain's.")
    athena_endpoint: str | None = Field(None, description="Athena endpoint, for a local or private one.")
    glue_endpoint: str | None = Field(None, description="Glue endpoint, for a local or private one.")
    s3_endpoint: str | None = Field(None, description="S3 endpoint, for a local or private one.")
    connect_s: float = Field(
        5.0,
        gt=0,
        description="How long a connection to an address of Athena, Glue or S3 may take: usual are milliseconds.",
    )


class DuckDB(Section):
    """The embedded engine."""

    threads: int = Field(2, ge=1, description="Worker threads of all queries together; the cores of a small task.")
    memory: Size = Field("2GB", description="Memory of all queries together, before DuckDB spills or refuses.")
    temp_bytes_max: Size = Field("10GB", description="Disk that spilling may use.")
    results_bytes_max: int = Field(
        1_000_000_000, ge=0, description="Disk for results that are kept, least recently used out first; 0 keeps none."
    )


class Athena(Section):
    """The Athena engine. What the work group enforces wins over what is said here."""

    work_group: str = Field("primary", description="Work group that runs the queries.")
    catalog: str = Field("AwsDataCatalog", description="Data catalog of the tables.")
    results: str = Field("", description="s3:// prefix for results, a bucket of one's own; needed for this engine.")
    output_location: str | None = Field(
        None, description="s3:// prefix for Athena's own manifests; absent = the work group's."
    )
    encryption: Literal["SSE_S3", "SSE_KMS"] | None = Field(
        None,
        description="Encryption of Athena's own output; objects under CSE_KMS could not be read directly.",
    )
    kms_key: str | None = Field(None, description="KMS key for SSE_KMS.")
    expected_bucket_owner: str | None = Field(None, description="Account that must own the output bucket.")
    coordinator_dpu: int | None = Field(None, ge=1, description="DPUs of the coordinator, with a capacity reservation.")
    max_concurrent_dpu: int | None = Field(None, ge=1, description="Most DPUs of one query, with a reservation.")
    queries_max: int = Field(
        15, ge=1, description="Queries at once; below the account's quota of 20 DML queries, leaving room for others."
    )
    queue_max: int = Field(200, ge=0, description="Queries that wait for a place; past it `busy`, as waiting is a lie.")
    attempts_max: int = Field(3, ge=1, description="Runs of one query when Athena says that it is retryable.")
    attempts_per_day: int = Field(
        50,
        ge=1,
        description="Attempts of one query in a day, of all replicas; who needs more has a query that never works.",
    )
    answer_s: float = Field(
        10.0, gt=0, description="How long Athena may take for one answer; usual is a second, and the one poller waits."
    )
    tries_max: int = Field(
        3, ge=1, description="Tries of a call of Athena whose connection breaks or that has no answer."
    )
    throttle_wait_s: float = Field(
        60.0, gt=0, description="How long a throttled call is tried again before `engine-throttled`."
    )
    poll_min_s: float = Field(0.075, gt=0, description="First look at a query; small ones take a few hundred ms.")
    poll_max_s: float = Field(1.0, gt=0, description="Longest pause between two looks at a query.")


class Results(Section):
    """Reading stored results."""

    read_bytes_max: int = Field(
        128 << 20,
        ge=16 << 20,
        description="Bytes that reading holds, of all streams together; for a 1 GB task.",
    )
    parts_ahead: int = Field(4, ge=1, description="Parts of an unordered result read at once; hides the latency of S3.")
    threads: int = Field(
        16,
        ge=1,
        description="Threads that fetch, and as many that decode, for all streams; more use more of a fast network.",
    )
    request_s: float = Field(
        30.0, gt=0, description="How long S3 may take for one piece of a part: some MiB, later is a broken connection."
    )
    tries_max: int = Field(5, ge=1, description="Tries of such a piece; a stream waits meanwhile, with signs of life.")
    manifest_s: float = Field(
        2.5, gt=0, description="How long S3 may take for a manifest of some kB, four times in all: plans wait for it."
    )
    orphan_age_s: float = Field(
        86_400.0, gt=0, description="Age at which files that no result names are swept; no query runs a day."
    )


class Keeping(Section):
    """What is kept in memory to answer the same question sooner; what was not used for the longest time goes first."""

    bytes_max: int = Field(
        32 << 20,
        ge=1 << 20,
        description="Memory of each kind: plans, trees, file lists, and statements parsed, as shapes and with values.",
    )
    plans_max: int = Field(2000, ge=1, description="Plans, of some kB each.")
    trees_max: int = Field(
        500, ge=1, description="Queries with their columns looked up, some tens of kB: one for each dataset and schema."
    )
    statements_max: int = Field(
        300,
        ge=1,
        description="Statements as parsed, as shapes and with their values: drivers ask at least three times.",
    )
    tables_max: int = Field(
        200,
        ge=1,
        description="Tables with their metadata, some tens of kB, more with many snapshots: each by itself unbounded.",
    )
    file_lists_max: int = Field(
        1000, ge=1, description="Lists of the files that a snapshot and a filter leave; most are a few hundred paths."
    )
    results_max: int = Field(
        1000, ge=1, description="Manifests of stored results, of some kB: each spares a look into S3."
    )


class Lock(Section):
    """The lock that keeps two jobs off the same table."""

    age_s: float = Field(
        14_400.0, gt=0, description="Age at which a lock is taken over; Athena's longest DML time-out is 240 min."
    )


class Sql(Section):
    """SQL of a client's own: SELECTs over datasets, and over tables, for some."""

    roles: tuple[str, ...] = Field(
        ("*",),
        description='Roles that may write SELECTs of their own; "*" = everybody. Calls of one dataset are for all.',
    )
    ad_hoc_roles: tuple[str, ...] = Field(
        (), description='Roles that may name tables of the catalog in SQL; "*" = everybody. None by default.'
    )
    handle_ttl_s: float = Field(
        3600.0, gt=0, description="How long a prepared statement is good; tools keep them over a coffee break."
    )


class Telemetry(Section):
    """Traces, sent to an OpenTelemetry collector; off without an endpoint. They need the extra `otlp`."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Collector that takes OTLP over HTTP, as http://collector:4318; absent = no traces.",
    )
    service_name: str = Field("athena-flight", description="Name of this service in the traces.")
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of the traces that begin here; who sends `traceparent` decides for theirs."
    )
    spans_max: int = Field(
        2048, ge=1, description="Spans that wait to be sent, 2 kB each; past it they are dropped, and no call waits."
    )
    send_s: float = Field(
        2.0, gt=0, description="How long one attempt to send may take in all; the end of the server waits for the last."
    )


class System(Section):
    """The server's own datasets, `sys_calls` and the like, for operators."""

    roles: tuple[str, ...] = Field(
        ("operator",),
        min_length=1,
        description='Roles for which they exist, also without authentication; "*" = everybody.',
    )
    calls_kept: int = Field(
        10_000, ge=1, description="Ended calls, and queries, kept in memory: some 15 MB; the audit log keeps all."
    )
    costs_kept: int = Field(
        10_000, ge=1, description="Sums by day, caller and dataset kept in memory; past it the oldest are forgotten."
    )
    memory: Size = Field("128MB", description="Memory of all queries over these tables, which are small.")


class Log(Section):
    """What is written to standard error."""

    format: Literal["console", "json"] = Field("console", description="Lines for people or for machines.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level written.")
