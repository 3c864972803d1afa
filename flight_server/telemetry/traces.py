"""Traces: spans of a call, in the trace that its client began, sent to an OpenTelemetry collector.

Off unless `start` was called, and then every function here is one look at a variable. Spans go with a thread's context,
so whoever hands work to another thread hands the context on with `carried`. Values of parameters, SQL and names of
callers are in no span.
"""

from __future__ import annotations

import contextvars
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flight_server.errors import ConfigError, Error, ServerError, to_install
from flight_server.telemetry.logs import log

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")
Attributes = Mapping[str, str | int | float | bool]
_W3C = TraceContextTextMapPropagator()
# Messages of exceptions quote what callers sent: spans have codes instead.
_QUIET: dict[str, Any] = {"record_exception": False, "set_status_on_exception": False}
_OFF: AbstractContextManager[Span] = nullcontext(trace.INVALID_SPAN)

# One for the process, like the log and the metrics; None = off.
_tracer: Tracer | None = None


def check() -> None:
    """Raise ConfigError where the extra `otlp` is not installed."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export  # noqa: F401 - whether they are there is all that is asked
    except ImportError as error:
        raise ConfigError(
            f"setting 'telemetry.endpoint': traces need OpenTelemetry's exporter; {to_install('otlp')}"
        ) from error


def start(endpoint: str, service: str, sample_ratio: float, spans_max: int, send_s: float) -> Callable[[], None]:
    """Send spans to the OTLP/HTTP collector at `endpoint` from now on; the answer ends it and sends what waits.

    Raises ConfigError where the extra `otlp` is not installed.
    """
    global _tracer
    check()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    _log_failures()
    url = endpoint.rstrip("/") + ("" if "/v1/" in endpoint else "/v1/traces")
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create({"service.name": service}),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=url, timeout=send_s)
    # 512 is the library's own batch, which may not be larger than what waits.
    batch = min(512, spans_max)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=spans_max, max_export_batch_size=batch))
    mine = _tracer = provider.get_tracer("athena-flight")

    def stop() -> None:
        global _tracer
        if _tracer is mine:
            _tracer = None
        provider.shutdown()

    return stop


def call(method: str, headers: Mapping[str, list[str]]) -> Span:
    """The span of an RPC, under the client's `traceparent` where there is one. Ended by its caller."""
    if _tracer is None:
        return trace.INVALID_SPAN
    attributes = {
        "rpc.system": "grpc",
        "rpc.service": "arrow.flight.protocol.FlightService",
        "rpc.method": method,
    }
    # The default getter takes lists, and a header that is no traceparent begins a new trace.
    return _tracer.start_span(method, _W3C.extract(headers, context.Context()), SpanKind.SERVER, attributes)


def current(span: Span) -> AbstractContextManager[Span]:
    """`span` as the parent of what begins inside; it goes on after."""
    return _OFF if _tracer is None else trace.use_span(span, **_QUIET)


def span(name: str, attributes: Attributes | None = None) -> AbstractContextManager[Span]:
    """A span under the current one, ended with the block."""
    return _OFF if _tracer is None else _spanned(_tracer, name, _named(attributes))


def begin(name: str, parent: Span) -> Span:
    """A span under `parent`, which its caller ends."""
    return trace.INVALID_SPAN if _tracer is None else _tracer.start_span(name, trace.set_span_in_context(parent))


def note(span: Span, attributes: Attributes) -> None:
    """Add attributes, where somebody is told."""
    if span.is_recording():
        span.set_attributes(_named(attributes))


def end(span: Span, code: str, *, failed: bool) -> None:
    """End a span with a code of docs/protocol.md. `failed`: the server's fault and not the caller's."""
    _ended_as(span, code, failed=failed)
    span.end()


def trace_id(span: Span) -> str | None:
    """The trace that somebody can look up; None where the span is not sent."""
    return trace.format_trace_id(span.get_span_context().trace_id) if span.is_recording() else None


def iterated(
    name: str, items: Iterator[_T], attributes: Attributes | None = None, last: Callable[[], Attributes] = dict
) -> Iterator[_T]:
    """The items, under a span from the first one that is asked for to the end, which is current while one is made.

    Its parent is what is current now, whichever thread asks for the items. `last` gives attributes for its end.
    """
    return (
        items if _tracer is None else _iterated(_tracer, name, items, _named(attributes), last, context.get_current())
    )


def _iterated(
    tracer: Tracer,
    name: str,
    items: Iterator[_T],
    attributes: Attributes,
    last: Callable[[], Attributes],
    parent: context.Context,
) -> Iterator[_T]:
    made = tracer.start_span(name, parent, attributes=attributes)
    try:
        while True:
            with trace.use_span(made, **_QUIET):
                item = next(items, _END)
            if item is _END:
                return
            yield item
    except Error as error:
        _ended_as(made, error.code, failed=isinstance(error, ServerError))
        raise
    finally:
        note(made, last())
        made.end()


def stepped(
    name: str, attributes: Callable[..., Attributes]
) -> Callable[[Callable[_P, Iterator[_R]]], Callable[_P, Iterator[_R]]]:
    """Makes `iterated` of what a function answers; `attributes` are made of its arguments."""

    def decorate(function: Callable[_P, Iterator[_R]]) -> Callable[_P, Iterator[_R]]:
        @functools.wraps(function)
        def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> Iterator[_R]:
            items = function(*args, **kwargs)
            return items if _tracer is None else iterated(name, items, attributes(*args, **kwargs))

        return wrapped

    return decorate


def carried(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """`function` for another thread, with what is current here as its context."""
    if _tracer is None:
        return function
    return functools.partial(contextvars.copy_context().run, function)


_END: Any = object()


@contextmanager
def _spanned(tracer: Tracer, name: str, attributes: Attributes) -> Iterator[Span]:
    with tracer.start_as_current_span(name, attributes=attributes, **_QUIET) as made:
        try:
            yield made
        except Error as error:
            _ended_as(made, error.code, failed=isinstance(error, ServerError))
            raise


def _ended_as(span: Span, code: str, *, failed: bool) -> None:
    if span.is_recording():
        span.set_attribute("athena_flight.code", code)
        if failed:
            span.set_status(Status(StatusCode.ERROR, code))


def _named(attributes: Attributes | None) -> dict[str, str | int | float | bool]:
    return {f"athena_flight.{name}": value for name, value in (attributes or {}).items()}


class _ToLog(logging.Handler):
    """OpenTelemetry's own lines as events of our log: a collector that is down, spans that were dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        log.warning("traces_not_sent", reason=record.getMessage().splitlines()[0][:300])


def _log_failures() -> None:
    library = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _ToLog) for handler in library.handlers):
        library.addHandler(_ToLog(logging.WARNING))
    library.propagate = False
