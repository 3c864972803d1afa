"""The Flight service: one short method for each RPC, over the pipeline. Decides nothing that protocol.md does not."""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.flight as flight

from flight_server.config import Config
from flight_server.datasets.describe import contract_json
from flight_server.errors import Error, InvalidRequest, ServerError, Unsupported, nearest
from flight_server.model import Dataset, Plan, Request, plan_json
from flight_server.pipeline import Answer, Pipeline
from flight_server.service import calls, descriptors, status
from flight_server.service.auth import caller_of
from flight_server.service.calls import Call, CallFactory, Calls
from flight_server.service.descriptors import Tickets
from flight_server.service.flight_sql import messages
from flight_server.service.flight_sql.service import FlightSql
from flight_server.service.streams import Prefetch, stream
from flight_server.telemetry import log

_P = ParamSpec("_P")
_R = TypeVar("_R")
_ACTIONS = {
    "describe": 'The contract of a dataset as JSON. Body: {"dataset": "daily_prices"}',
    "explain": "The plan of a request and the SQL that the engine would run, as JSON. Body: a request in JSON form",
}


def _rpc(
    method: Callable[Concatenate[FlightService, flight.ServerCallContext, _P], _R],
) -> Callable[Concatenate[FlightService, flight.ServerCallContext, _P], _R]:
    """Gives the call its place, and turns whatever is raised into the wire's errors."""

    @functools.wraps(method)
    def wrapped(self: FlightService, context: flight.ServerCallContext, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        call = _call(context)
        try:
            self.calls.enter(call)
            result = method(self, context, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - the RPC wrapper: everything is reported, nothing leaks
            raise _wire(error, call) from None
        # A stream ends after its method: `_batches` says how.
        if call.outcome.method != "DoGet":
            call.outcome.code = "ok"
        return result

    return wrapped


class FlightService(flight.FlightServerBase):
    """Serves a Pipeline over Arrow Flight. Listens from construction on; `serve` blocks until `shutdown`."""

    def __init__(self, location: str, pipeline: Pipeline, config: Config, tickets: Tickets) -> None:
        self.calls = Calls(config.limits)
        self._pipeline = pipeline
        self._tickets = tickets
        self._body_max = config.limits.request_bytes_max
        self._heartbeat_s = config.server.heartbeat_s
        self._sql = FlightSql(pipeline, tickets, config.sql.handle_ttl_s, self._body_max)
        super().__init__(location, middleware={calls.NAME: CallFactory(self.calls)})

    @_rpc
    def list_flights(self, context: flight.ServerCallContext, criteria: bytes) -> Iterator[flight.FlightInfo]:
        glob = criteria.decode(errors="replace") or "*"
        found = [self._listed(dataset) for dataset in self._pipeline.registry.visible(caller_of(context), glob)]
        return iter(found)

    @_rpc
    def get_schema(self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor) -> flight.SchemaResult:
        request = self._asked(context, descriptor)
        dataset = self._pipeline.describe(request, caller_of(context))
        _call(context).outcome.dataset = dataset.name
        return flight.SchemaResult(dataset.schema)

    @_rpc
    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        request = self._asked(context, descriptor)
        plan = self._plan(context, request)
        ticket, expires = self._tickets.issue(plan, request)
        # No location: the ticket is good wherever the client is connected.
        endpoint = flight.FlightEndpoint(
            ticket, [], pa.scalar(datetime.fromtimestamp(expires, UTC), pa.timestamp("ns", "UTC"))
        )
        stored = self._pipeline.stored(plan)
        return flight.FlightInfo(
            plan.dataset.schema,
            descriptor,
            [endpoint],
            stored.rows if stored else -1,
            stored.bytes if stored else -1,
            ordered=bool(plan.dataset.sorted),
            app_metadata=json.dumps(plan_json(plan)),
        )

    @_rpc
    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        plan = self._plan(context, descriptors.decode_ticket(ticket.ticket, self._tickets, self._body_max))
        answer = self._pipeline.answer(plan)
        call = _call(context)
        # Run last: after the engine has ended, its figures are known, whatever the end was.
        call.on_end(lambda: _account(call.outcome, answer))
        call.on_end(answer.execution.close)
        return flight.GeneratorStream(plan.dataset.schema, self._batches(context, call, answer))

    @_rpc
    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:  # noqa: ARG002
        return list(_ACTIONS.items())

    @_rpc
    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[flight.Result]:
        body = action.body.to_pybytes()
        if action.type == "describe":
            found = self._describe(context, body)
        elif action.type == "explain":
            found = self._explain(context, body)
        elif (results := self._sql.act(action.type, body, caller_of(context))) is not None:
            return iter([flight.Result(result) for result in results])
        else:
            raise Unsupported("unsupported", f"there is no action {action.type[:60]!r}{nearest(action.type, _ACTIONS)}")
        return iter([flight.Result(json.dumps(found).encode())])

    @_rpc
    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        if messages.is_command(descriptor.command or b""):
            return self._sql.put(descriptor.command, caller_of(context), reader, writer)
        raise Unsupported("unsupported", "nothing can be written here; tables are loaded with `athena-flight tables`")

    @_rpc
    def do_exchange(self, context: flight.ServerCallContext, *_: Any) -> None:  # noqa: ARG002
        raise Unsupported("unsupported", "DoExchange has no use here; ask with DoGet")

    def _asked(self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor) -> Request:
        if descriptor.descriptor_type == flight.DescriptorType.PATH:
            return descriptors.decode_path(descriptor.path, self._body_max)
        if messages.is_command(descriptor.command or b""):
            return self._sql.request(descriptor.command, caller_of(context))
        return descriptors.decode(descriptor.command or b"", self._body_max)

    def _plan(self, context: flight.ServerCallContext, request: Request) -> Plan:
        caller = caller_of(context)
        outcome = _call(context).outcome
        outcome.caller, outcome.dataset = caller.name, request.dataset[:80]
        plan = self._pipeline.plan(request, caller)
        outcome.known, outcome.fingerprint = plan.dataset.name, plan.fingerprint
        outcome.engine, outcome.cache = plan.engine, plan.cache
        return plan

    def _batches(self, context: flight.ServerCallContext, call: Call, answer: Answer) -> Iterator[pa.RecordBatch]:
        plan, outcome = answer.plan, call.outcome
        prefetch = Prefetch(answer.batches)
        # Runs before the execution is closed: last registered, first released; so it is told to stop first.
        call.on_end(prefetch.close)
        call.on_end(answer.execution.cancel)
        try:
            for batch in stream(
                prefetch,
                plan.dataset.schema,
                batch_rows=plan.bounds.batch_rows,
                batch_bytes=plan.bounds.batch_bytes,
                timeout_s=plan.bounds.timeout_s,
                heartbeat_s=self._heartbeat_s,
                is_cancelled=context.is_cancelled,
                stopped=call.stop,
            ):
                if outcome.first_batch_s is None and batch.num_rows:
                    outcome.first_batch_s = round(time.monotonic() - call.started, 4)
                outcome.rows += batch.num_rows
                outcome.bytes += batch.nbytes
                yield batch
            if prefetch.finished:
                outcome.code = "ok"
                _add_trailers(context, answer, outcome)
        except Exception as error:  # noqa: BLE001 - the RPC wrapper's other half: a stream outlives its method
            raise _wire(error, call) from None

    def _describe(self, context: flight.ServerCallContext, body: bytes) -> dict[str, object]:
        found = descriptors.decode_object(body, self._body_max, ["dataset", "version"])
        name, version = found.get("dataset"), found.get("version")
        if not isinstance(name, str) or not isinstance(version, int | None):
            raise InvalidRequest("bad-request", 'write {"dataset": "daily_prices"}')
        dataset = self._pipeline.describe(Request(name, version=version), caller_of(context))
        _call(context).outcome.dataset = dataset.name
        return contract_json(dataset)

    def _explain(self, context: flight.ServerCallContext, body: bytes) -> dict[str, object]:
        plan = self._plan(context, descriptors.decode(body, self._body_max))
        return {**plan_json(plan), "sql": plan.bound_sql, "row_filters": []}

    @staticmethod
    def _listed(dataset: Dataset) -> flight.FlightInfo:
        descriptor = flight.FlightDescriptor.for_path(dataset.name)
        return flight.FlightInfo(dataset.schema, descriptor, [], -1, -1, ordered=bool(dataset.sorted))


def _call(context: flight.ServerCallContext) -> Call:
    call = context.get_middleware(calls.NAME)
    assert isinstance(call, Call)  # noqa: S101 - CallFactory puts one on every RPC
    return call


def _account(outcome: calls.Outcome, answer: Answer) -> None:
    stats = answer.execution.stats
    outcome.query_id, outcome.scanned_bytes, outcome.usd = stats.query_id, stats.scanned_bytes, stats.usd


def _add_trailers(context: flight.ServerCallContext, answer: Answer, outcome: calls.Outcome) -> None:
    stats, plan = answer.execution.stats, answer.plan
    trailers = {
        "rows": outcome.rows,
        "bytes": outcome.bytes,
        "cache": plan.cache,
        "engine": plan.engine,
        "query-id": stats.query_id,
        "scanned-bytes": stats.scanned_bytes,
        "usd": f"{stats.usd:.6f}",
    }
    for name, value in trailers.items():
        context.add_trailer(f"x-athena-flight-{name}", str(value))


def _wire(error: BaseException, call: Call) -> Exception:
    if isinstance(error, Error):
        call.outcome.code = error.code
        if isinstance(error, ServerError):
            log.error("request_failed", code=error.code, message=error.message, dataset=call.outcome.dataset)
        return status.to_wire(error)
    # Nobody expected this: the client gets an id, the log what happened.
    incident = uuid.uuid4().hex[:12]
    call.outcome.code = "internal"
    log.error("internal_error", incident=incident, method=call.outcome.method, exc_info=error)
    return status.to_wire(ServerError("internal", f"the server failed; its log has the incident {incident}"))
