"""The Flight service: one short method for each RPC, over the pipeline. Decides nothing that protocol.md does not."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.flight as flight
from opentelemetry.trace import Span

from flight_server.config import Config
from flight_server.errors import TimedOut, Unsupported, nearest
from flight_server.model import Request
from flight_server.pipeline import Answer, Pipeline
from flight_server.plan.as_of import receipt
from flight_server.results.received import received_bytes
from flight_server.service import descriptors, infos, middleware, tls
from flight_server.service.actions import ACTIONS, Actions
from flight_server.service.admission import Rate
from flight_server.service.audit import Audit
from flight_server.service.auth import Authentication
from flight_server.service.backlog import Backlog
from flight_server.service.call import Call
from flight_server.service.calls import Calls
from flight_server.service.descriptors import Tickets
from flight_server.service.flight_sql import messages
from flight_server.service.flight_sql import service as flight_sql
from flight_server.service.intake import Intake
from flight_server.service.middleware import CallFactory, HandshakeHandler, call_of
from flight_server.service.outcome import Outcome
from flight_server.service.pins import Keeper, Pins
from flight_server.service.plans import Plans
from flight_server.service.spending import Spending
from flight_server.service.streams import Prefetch, stream
from flight_server.service.submissions import Submissions
from flight_server.service.unread import Watch
from flight_server.telemetry import traces
from flight_server.telemetry.records import Records

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _rpc(
    method: Callable[Concatenate[FlightService, flight.ServerCallContext, _P], _R],
) -> Callable[Concatenate[FlightService, flight.ServerCallContext, _P], _R]:
    """Gives the call its place, and turns whatever is raised into the wire's errors."""

    @functools.wraps(method)
    def wrapped(self: FlightService, context: flight.ServerCallContext, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        call = call_of(context)
        try:
            if call.caller is None:
                # No header said it, so the client's certificate does; only here is its name known.
                call.identified(self.authentication.certificate(context.peer_identity().decode(errors="replace")))
                self.calls.named(call)
            call.peer = context.peer()
            self.intake.heard(call.peer)
            self.calls.enter(call, stream=any(isinstance(each, flight.Ticket) and self._runs(each) for each in args))
            with traces.current(call.span):
                result = method(self, context, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - the RPC wrapper: everything is reported, nothing leaks
            raise call.failed(error) from None
        # A stream ends after its method: `_batches` says how.
        if call.outcome.method != "DoGet":
            call.outcome.code = "ok"
        return result

    return wrapped


class FlightService(flight.FlightServerBase):
    """Serves a Pipeline over Arrow Flight. Listens from construction on; `serve` blocks until `shutdown`."""

    def __init__(
        self,
        location: str,
        pipeline: Pipeline,
        config: Config,
        tickets: Tickets,
        authentication: Authentication,
        audit: Audit,
        records: Records,
        keeper: Keeper,
    ) -> None:
        self.authentication = authentication
        self.audit = audit
        self.calls = Calls(config.limits)
        self._records = records
        self.spending = Spending(config.budget)
        self.submissions = Submissions(pipeline, config.submitted, self.spending, records)
        self._pipeline = pipeline
        self._tickets = tickets
        self._body_max = config.limits.request_bytes_max
        self._heartbeat_s = config.server.heartbeat_s
        self._life_s = config.limits.stream_life_s
        self._sql = flight_sql.FlightSql(pipeline, tickets, config.sql.handle_ttl_s, self._body_max)
        self.statements = Rate("statements", config.limits.statements_per_min, config.limits.statements_burst)
        self._plans = Plans(pipeline, self.statements)
        self._actions = Actions(
            pipeline,
            self._plans,
            self.submissions,
            self.spending,
            self.statements,
            tickets,
            Pins(pipeline, keeper),
            self._body_max,
        )
        super().__init__(
            location,
            # With a handler the certificate's name is lost, without one there is no Handshake (docs/security.md).
            auth_handler=None if authentication.by_certificate else HandshakeHandler(),
            middleware={middleware.NAME: CallFactory(self.calls, authentication, audit, records)},
            **tls.options(config.tls),
        )
        self.calls.port = self.port
        self._watch = Watch(self.calls, config.limits, self.port)
        self.intake = Intake(config.limits.received_bytes_max, self.port)
        self._backlog = Backlog(lambda: self.calls.known)
        self.calls.waiting = lambda: self._backlog.waiting

    def beside(self, ports: tuple[int, ...]) -> None:
        """Ports on which this process listens besides, whose connections are bounded with Flight's."""
        self._watch.beside = ports

    def shutdown(self) -> None:
        """Stop listening, and wait for the calls that gRPC is not done with."""
        self._watch.end()
        super().shutdown()
        self._watch.close()
        self._backlog.close()
        self.intake.close()
        self.spending.close()

    @_rpc
    def list_flights(self, context: flight.ServerCallContext, criteria: bytes) -> Iterator[flight.FlightInfo]:
        descriptors.check_size(criteria, self._body_max)
        glob = criteria.decode(errors="replace") or "*"
        found = [infos.listed(dataset) for dataset in self._pipeline.registry.visible(call_of(context).asker, glob)]
        return iter(found)

    @_rpc
    def get_schema(self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor) -> flight.SchemaResult:
        if (known := self._metadata(descriptor)) is not None:
            return flight.SchemaResult(known)
        call = call_of(context)
        request = self._asked(call, descriptor)
        call.outcome.asked(request)
        dataset = self._pipeline.describe(request, call.asker)
        call.outcome.dataset = dataset.name
        return flight.SchemaResult(dataset.schema)

    @_rpc
    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        if (known := self._metadata(descriptor)) is not None:
            # The command is its own ticket: it is answered from what is there when it is asked for.
            return flight.FlightInfo(known, descriptor, [flight.FlightEndpoint(descriptor.command, [])], -1, -1)
        call = call_of(context)
        plan = self._plans.of(call, self._asked(call, descriptor))
        return infos.planned(descriptor, plan, self._tickets.issue(plan), self._pipeline.size(plan))

    @_rpc
    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        call, asked = call_of(context), self._sql.ticket(ticket.ticket)
        if messages.is_command(asked):
            table = self._sql.table(asked, call.asker)
            call.outcome.code = "ok"
            return flight.GeneratorStream(table.schema, self._sent(call, iter([table])))
        request = descriptors.decode_ticket(asked, self._tickets, self._body_max)
        answer = self._answer(call, request)
        # Run last: after the engine has ended, its figures are known, whatever the end was.
        call.on_end(lambda: call.outcome.ran(answer.execution.stats))
        call.on_end(answer.execution.close)
        if request.submission is None:
            charge = self.spending.reserve(call.asker, answer.plan)
            call.on_end(lambda: charge.settle(answer.execution.stats))
        call.on_end(self._records.running(vars(call.outcome)))
        call.ticket, call.cancel = asked, answer.execution.cancel
        return flight.GeneratorStream(
            answer.plan.dataset.schema, self._sent(call, self._batches(context, call, answer))
        )

    @_rpc
    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:  # noqa: ARG002
        return [*ACTIONS.items(), *flight_sql.ACTIONS.items()]

    @_rpc
    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[flight.Result]:
        call, body = call_of(context), action.body.to_pybytes()
        if action.type in ACTIONS or action.type in flight_sql.ACTIONS:
            call.outcome.action = action.type
        if action.type in ACTIONS:
            results = [self._actions.act(action.type, call, body)]
        elif action.type in flight_sql.ACTIONS or action.type in flight_sql.REFUSED:
            results = self._sql.act(
                action.type, body, call.asker, lambda ticket: self.calls.cancel(ticket, call.asker), call.outcome.asked
            )
        else:
            raise Unsupported("unsupported", f"there is no action {action.type[:60]!r}{nearest(action.type, ACTIONS)}")
        return iter([flight.Result(result) for result in results])

    @_rpc
    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        if messages.is_command(descriptor.command or b""):
            call = call_of(context)
            call.waits()
            self._sql.put(descriptor.command, call.asker, reader, writer, call.outcome.asked)
            return call.goes_on()
        raise Unsupported("unsupported", "nothing can be written here; tables are loaded with `athena-flight tables`")

    @_rpc
    def do_exchange(self, context: flight.ServerCallContext, *_: Any) -> None:  # noqa: ARG002
        raise Unsupported("unsupported", "DoExchange has no use here; ask with DoGet")

    def _runs(self, ticket: flight.Ticket) -> bool:
        """Whether a ticket is for rows of an engine, and not for Flight SQL's metadata, which are there already."""
        return not messages.is_command(self._sql.ticket(ticket.ticket))

    def _metadata(self, descriptor: flight.FlightDescriptor) -> pa.Schema | None:
        """The schema of the metadata that is asked for; None when something else is."""
        command = descriptor.command or b""
        return self._sql.schema(command) if messages.is_command(command) else None

    def _asked(self, call: Call, descriptor: flight.FlightDescriptor) -> Request:
        if descriptor.descriptor_type == flight.DescriptorType.PATH:
            return descriptors.decode_path(descriptor.path, self._body_max)
        if messages.is_command(descriptor.command or b""):
            return self._sql.request(descriptor.command, call.asker)
        return descriptors.decode(descriptor.command or b"", self._body_max)

    def _answer(self, call: Call, request: Request) -> Answer:
        if request.submission is None:
            return self._pipeline.answer(self._plans.to_run(call, request))
        answer = self.submissions.answer(request.submission, call.asker)
        call.outcome.planned(answer.plan)
        return answer

    def _batches(self, context: flight.ServerCallContext, call: Call, answer: Answer) -> Iterator[pa.RecordBatch]:
        plan, outcome = answer.plan, call.outcome
        sending = traces.begin("stream", call.span)
        call.on_end(lambda: _end_stream(sending, outcome))
        with traces.current(call.span):
            prefetch = Prefetch(answer.batches)
        # Runs before the execution is closed: last registered, first released; so it is told to stop first.
        call.on_end(lambda: prefetch.close(answer.execution.cancel))
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
                sending.add_event("first rows")
            if batch.num_rows:
                outcome.rows += batch.num_rows
                outcome.bytes += received_bytes(batch)
            yield batch
        if prefetch.finished:
            outcome.code = "ok"
            self._pipeline.sent(plan, outcome.bytes)
            _add_trailers(context, answer, outcome)

    def _sent(self, call: Call, batches: Iterator[pa.RecordBatch | pa.Table]) -> Iterator[pa.RecordBatch | pa.Table]:
        """The batches as gRPC takes them, for the watch to see how long that takes."""
        try:
            for batch in batches:
                call.waits()
                yield batch
                call.goes_on()
                if time.monotonic() - call.started > self._life_s:
                    raise TimedOut("timeout", f"the stream was open for {self._life_s:g} s and was ended; ask for less")
            # The end is sent behind what the client has not read yet.
            call.waits()
        except Exception as error:  # noqa: BLE001 - the RPC wrapper's other half: a stream outlives its method
            raise call.failed(error) from None


def _end_stream(span: Span, outcome: Outcome) -> None:
    traces.note(span, {"rows": outcome.rows, "bytes": outcome.bytes})
    span.end()


def _add_trailers(context: flight.ServerCallContext, answer: Answer, outcome: Outcome) -> None:
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
    if plan.engine != "system" and (said := receipt(plan)):
        trailers["receipt"] = said
    for name, value in trailers.items():
        context.add_trailer(f"x-athena-flight-{name}", str(value))
