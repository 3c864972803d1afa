"""A collector of traces: a real HTTP server that takes OTLP, as protobuf, and keeps the spans."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.waiting import until


@dataclass(frozen=True)
class Received:
    """One span as it came over the wire."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    attributes: dict[str, Any]
    events: tuple[str, ...]
    seconds: float
    service: str


@dataclass
class Collector:
    """Where spans are sent, and those that came."""

    endpoint: str
    paths: list[str] = field(default_factory=list)
    spans: list[Received] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    def of(self, trace: str, wanted: int) -> list[Received]:
        """The spans of a trace, once there are so many."""
        until(lambda: sum(span.trace == trace for span in self.spans) >= wanted, timeout_s=60)
        return [span for span in self.spans if span.trace == trace]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector on a free port. Spans are sent soon, instead of every five seconds."""
    made = Collector("")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            made.paths.append(self.path)
            made.raw.append(body)
            made.spans.extend(_decoded(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            """Which spans have come, for tests in other languages."""
            told = json.dumps([{"name": each.name, "trace": each.trace, "parent": each.parent} for each in made.spans])
            self.send_response(200)
            self.send_header("content-length", str(len(told.encode())))
            self.end_headers()
            self.wfile.write(told.encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()


def _decoded(body: bytes) -> Iterator[Received]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.status.code == 2,
                    {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes},
                    tuple(event.name for event in span.events),
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    service,
                )
