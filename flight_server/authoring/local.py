"""The pipeline without a server: what `run`, `explain` and `test` ask, on the same path as every Flight call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pyarrow as pa

from flight_server import server
from flight_server.config import Config
from flight_server.datasets.registry import LISTED, Registry
from flight_server.errors import NotFound, ServerError
from flight_server.model import ANONYMOUS, Caller, Plan, Request
from flight_server.pipeline import Pipeline
from flight_server.service.streams import Prefetch, stream
from flight_server.tables.catalog import open_catalog
from flight_server.tables.missing import WAY_OUT, missing


def datasets(config: Config) -> Registry:
    """The datasets of the configured folder. Raises DatasetError for the first wrong file."""
    found, errors = server.load_datasets(config.datasets.directory)
    if errors:
        raise errors[0]
    return found


@contextmanager
def opened(config: Config) -> Iterator[Pipeline]:
    """A pipeline over the configured catalog, for the time of the context."""
    found = datasets(config)
    with ExitStack() as stack:
        catalog = stack.enter_context(closing(open_catalog(config)))
        engines = server.build_engines(config, catalog)
        for engine in engines.values():
            stack.callback(engine.close)
        try:
            yield server.build_pipeline(config, catalog, engines, found)
        except NotFound as error:
            # There is no server to ask for its list.
            message = error.message.replace(LISTED, "`athena-flight datasets` names those there are")
            raise NotFound(error.code, message) from None
        except ServerError as error:
            if error.code != "internal" or not any(name in error.message for name in missing(catalog, found)):
                raise
            raise ServerError(error.code, f"{error.message}; {WAY_OUT}") from None


def plan(pipeline: Pipeline, request: Request, caller: Caller = ANONYMOUS) -> Plan:
    """How the request will be answered, unless said otherwise to a caller whom no role keeps out.

    Row policies hold here as on a server: without claims no row of their tables is seen.
    """
    return pipeline.plan(request, caller)


@contextmanager
def answered(pipeline: Pipeline, asked: Plan) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches of a plan's answer, at most two ahead of the reader. Raises what the stream of a server would.

    The engine works in a thread of its own, so that its time limit holds and Ctrl-C is seen while it does.
    """
    answer = pipeline.answer(asked)
    with ExitStack() as stack:
        stack.callback(answer.execution.close)
        prefetch = Prefetch(answer.batches)
        stack.callback(prefetch.close, answer.execution.cancel)
        yield stream(
            prefetch,
            asked.dataset.schema,
            batch_rows=asked.bounds.batch_rows,
            batch_bytes=asked.bounds.batch_bytes,
            timeout_s=asked.bounds.timeout_s,
            # Nobody is at the other end of a wire: no sign of life is needed.
            heartbeat_s=float("inf"),
            is_cancelled=lambda: False,
            stopped=threading.Event(),
        )
