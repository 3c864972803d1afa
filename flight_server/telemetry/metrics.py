"""Every Prometheus metric of the server, in one place; docs/operations.md lists them and is compared with this module.

Labels take only names that the server knows (methods, datasets in service, codes), so their number is bounded whatever
clients send.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

# From a stored small result to a long scan.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

CALLS = Counter("athena_flight_calls", "Finished calls.", ["method", "dataset", "code"])
CALL_SECONDS = Histogram("athena_flight_call_seconds", "Duration of calls.", ["method"], buckets=_SECONDS)
FIRST_BATCH_SECONDS = Histogram(
    "athena_flight_first_batch_seconds", "Time from a DoGet to its first rows.", ["engine", "cache"], buckets=_SECONDS
)
ROWS = Counter("athena_flight_rows", "Rows sent.", ["dataset"])
BYTES = Counter("athena_flight_bytes", "Arrow bytes sent, before any compression.", ["dataset"])
ANSWERS = Counter("athena_flight_answers", "Streams begun, by where their result came from.", ["engine", "cache"])
SCANNED_BYTES = Counter("athena_flight_scanned_bytes", "Bytes that engines say they scanned.", ["dataset"])
DOLLARS = Counter("athena_flight_usd", "Dollars that queries cost at the configured price.", ["dataset"])
ENGINE_QUERIES = Counter("athena_flight_engine_queries", "Query executions of Athena, by how they ended.", ["state"])
CALLS_RUNNING = Gauge("athena_flight_calls_running", "Calls that hold a place now.")
CALLS_QUEUED = Gauge(
    "athena_flight_calls_queued",
    "Calls that wait for a place, by the kind of place; `backlog`: for their first turn.",
    ["kind"],
)
STREAMS_UNREAD = Gauge("athena_flight_streams_unread", "Streams whose next batch their client has not taken yet.")
CONNECTIONS_CLOSED = Counter(
    "athena_flight_connections_closed", "Connections cut: nobody read on them, or there were too many.", ["reason"]
)
QUERIES_RUNNING = Gauge("athena_flight_queries_running", "Queries on an engine now, waiting ones included.", ["engine"])
QUERIES_QUEUED = Gauge("athena_flight_queries_queued", "Queries that wait for a place on an engine.", ["engine"])
POLL_LAG_SECONDS = Gauge("athena_flight_poll_lag_seconds", "How late the last look at running queries was.")
READ_BYTES = Gauge("athena_flight_read_bytes", "Bytes of the read budget in use.")
READ_BYTES_MAX = Gauge("athena_flight_read_bytes_max", "The whole read budget.")
DUCKDB_BYTES = Gauge("athena_flight_duckdb_bytes", "Memory that the embedded engine holds.")
LOCAL_BYTES = Gauge("athena_flight_local_result_bytes", "Disk that kept results of the embedded engine take.")
READY = Gauge("athena_flight_ready", "1 where a check of readiness passed when last asked, else 0.", ["check"])
DATASETS = Gauge("athena_flight_datasets", "Datasets in service.")
FILES_WRONG = Gauge(
    "athena_flight_files_wrong", "1 while files of this kind are wrong and the last good ones are in force.", ["kind"]
)


def start_at_zero(datasets: Iterable[str]) -> None:
    """The sums of these datasets are exported from now on, as 0 until something is added.

    Of a series that appears with its first query Prometheus counts no increase: that query's dollars were in no alert.
    """
    for kind in ("datasets", "identities", "keys"):
        FILES_WRONG.labels(kind)
    for name in ("", *datasets):
        for metric in (ROWS, BYTES, SCANNED_BYTES, DOLLARS):
            metric.labels(name)
