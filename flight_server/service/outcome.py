"""What is said of a call: noted while it goes on, and told once when it has ended.

The same values are the log line, the audit line, the metrics, the row of `sys_calls` and the attributes of the span. No
value of a parameter is among them; those of claims are in the audit line alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.trace import Span

from flight_server.errors import CODES, Error, ServerError
from flight_server.model import Dataset, ExecutionStats, Plan, Read, Reading, Request, to_json
from flight_server.service.audit import Audit
from flight_server.statements import NAME as SQL
from flight_server.telemetry import log, metrics, traces
from flight_server.telemetry.records import Records

# What a span says of a call. Not its caller: traces leave the house.
_TRACED = ("dataset", "version", "engine", "query_id", "rows", "bytes", "cache", "fingerprint", "scanned_bytes", "usd")


@dataclass
class Outcome:
    """What the log line of a call says; filled in as the call goes on."""

    method: str
    # Of a DoAction: which one, where there is such an action.
    action: str = ""
    caller: str = ""
    dataset: str = ""
    fingerprint: str = ""
    engine: str = ""
    query_id: str = ""
    rows: int = 0
    bytes: int = 0
    cache: str = ""
    scanned_bytes: int = 0
    usd: float = 0.0
    # The dataset's name once it is known to be one: labels take no text of a client.
    known: str = ""
    version: int = 0
    first_batch_s: float | None = None
    # SHA-256 of the parameters as canonical JSON, and the names of the policies that held.
    params: str = ""
    policies: tuple[str, ...] = ()
    # What was read, or was to be: tables, and the datasets that a statement called.
    reads: tuple[Read, ...] = ()
    datasets: tuple[str, ...] = ()
    code: str = "cancelled"

    def asked(self, request: Request) -> None:
        """What a client asks, before anything is known of it."""
        self.dataset, self.params = _as_text(request.dataset[:80]) or SQL, _asked(request)

    def found(self, dataset: Dataset) -> None:
        """There is such a dataset for the caller."""
        self.known, self.version = dataset.name, dataset.version

    def planned(self, plan: Plan) -> None:
        """What is answered."""
        self.dataset = self.known = plan.dataset.name
        self.version = plan.dataset.version
        self.fingerprint, self.engine, self.cache = plan.fingerprint, plan.engine, plan.cache
        values = {name: to_json(value) for name, value in plan.params.items()}
        self.params = _asked(plan.statement) if plan.statement else _digest(values)
        self.policies = tuple(each.name for each in plan.policies)
        self.read(plan.reading)

    def read(self, reading: Reading) -> None:
        """What an answer is made from."""
        self.reads, self.datasets = reading.tables, reading.datasets

    def ran(self, stats: ExecutionStats) -> None:
        """What running it cost."""
        self.query_id, self.scanned_bytes, self.usd = stats.query_id, stats.scanned_bytes, stats.usd


def tell(outcome: Outcome, seconds: float, span: Span, audit: Audit, records: Records) -> None:
    """Say everywhere how a call has ended, which took so long."""
    _measure(outcome, seconds)
    said = {name: value for name, value in vars(outcome).items() if value not in ("", 0, None, ()) and name != "known"}
    if outcome.reads:
        # Without filters, which have values of claims.
        said["reads"] = list(map(str, outcome.reads))
    log.info("rpc", ms=round(seconds * 1000, 1), **said)
    audit.write(vars(outcome))
    records.ended(vars(outcome), seconds, traces.trace_id(span))
    traces.note(span, {name: value for name, value in vars(outcome).items() if name in _TRACED and value})
    traces.end(span, outcome.code, failed=issubclass(CODES.get(outcome.code, Error), ServerError))


def _measure(outcome: Outcome, seconds: float) -> None:
    metrics.CALLS.labels(outcome.method, outcome.known, outcome.code).inc()
    metrics.CALL_SECONDS.labels(outcome.method).observe(seconds)
    if outcome.first_batch_s is not None:
        metrics.FIRST_BATCH_SECONDS.labels(outcome.engine, outcome.cache).observe(outcome.first_batch_s)
    if outcome.method == "DoGet" and outcome.engine:
        metrics.ANSWERS.labels(outcome.engine, outcome.cache).inc()
        metrics.ROWS.labels(outcome.known).inc(outcome.rows)
        metrics.BYTES.labels(outcome.known).inc(outcome.bytes)
        metrics.SCANNED_BYTES.labels(outcome.known).inc(outcome.scanned_bytes)
        metrics.DOLLARS.labels(outcome.known).inc(outcome.usd)


def _as_text(given: str) -> str:
    """A client's word as an outcome has it: JSON can write lone surrogates, which no span and no column takes."""
    return given.encode(errors="replace").decode()


def _asked(request: Request) -> str:
    """The hash of what was asked: of a statement, its text is a part."""
    return _digest(request.params if request.sql is None else {"sql": request.sql, "params": request.params})


def _digest(params: Mapping[str, object]) -> str:
    """SHA-256 of parameters as canonical JSON: equal ones have equal digests, and the log has no values."""
    text = json.dumps(params, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
