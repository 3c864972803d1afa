"""Flight SQL's commands and actions, turned into requests that the rest of the service answers, or into metadata.

Holds no state of a client: a statement is a request, a prepared one is in its handle, and a ticket of metadata is the
command itself.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from flight_server.errors import InvalidRequest, Unsupported
from flight_server.model import Caller, Request
from flight_server.pipeline import Pipeline
from flight_server.service.descriptors import Tickets
from flight_server.service.flight_sql import messages, prepared
from flight_server.service.flight_sql.prepared import Handles

# What a command may weigh beyond a request: a handle holds the statement in base64 with its values.
BODY_FACTOR = 3


class FlightSql:
    """The Flight SQL face of a pipeline."""

    def __init__(self, pipeline: Pipeline, tickets: Tickets, handle_ttl_s: float, body_max: int) -> None:
        self._pipeline = pipeline
        self._tickets = tickets
        self._handles = Handles(tickets, handle_ttl_s)
        self._body_max = body_max

    def request(self, command: bytes, caller: Caller) -> Request:
        """The request in a command that runs a statement. Raises Unsupported for other commands."""
        name, message = self._unpack(command)
        if name == "CommandStatementQuery":
            return self._statement(message.query)
        if name == "CommandPreparedStatementQuery":
            return self._handles.read(message.prepared_statement_handle, caller)
        raise _unsupported(name)

    def put(
        self,
        command: bytes,
        caller: Caller,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        """Bind the parameters that a client puts to a prepared statement; answer the handle with them."""
        name, message = self._unpack(command)
        if name != "CommandPreparedStatementQuery":
            raise _unsupported(name)
        request = self._handles.read(message.prepared_statement_handle, caller)
        types = self._pipeline.prepare(request, caller).parameters
        bound = prepared.values(reader.read_all(), len(types))
        handle = self._handles.make(request.sql or "", caller, bound)
        answer = messages.new("DoPutPreparedStatementResult", prepared_statement_handle=handle)
        writer.write(pa.py_buffer(answer.SerializeToString()))

    def act(self, action: str, body: bytes, caller: Caller) -> list[bytes] | None:
        """The results of an action; None when it is none of Flight SQL's."""
        if action == "CreatePreparedStatement":
            return [self._create(self._message(action, "ActionCreatePreparedStatementRequest", body), caller)]
        if action == "ClosePreparedStatement":
            # There is nothing to close; a handle that is no handle is still told.
            message = self._message(action, "ActionClosePreparedStatementRequest", body)
            self._handles.read(message.prepared_statement_handle, caller)
            return []
        return None

    def _create(self, message: Any, caller: Caller) -> bytes:
        request = self._statement(message.query)
        found = self._pipeline.prepare(request, caller)
        return messages.pack(
            "ActionCreatePreparedStatementResult",
            prepared_statement_handle=self._handles.make(message.query, caller),
            dataset_schema=found.dataset.schema.serialize().to_pybytes(),
            parameter_schema=prepared.parameter_schema(found.parameters).serialize().to_pybytes(),
        )

    def _statement(self, sql: str) -> Request:
        if len(sql.encode()) > self._body_max:
            raise InvalidRequest("bad-request", f"the statement is longer than {self._body_max:,} bytes")
        return Request(dataset="", sql=sql)

    def _unpack(self, body: bytes) -> tuple[str, Any]:
        if len(body) > BODY_FACTOR * self._body_max:
            raise InvalidRequest("bad-request", f"the command has {len(body):,} bytes; it is too long")
        return messages.unpack(body)

    def _message(self, action: str, wanted: str, body: bytes) -> Any:
        name, message = self._unpack(body)
        if name != wanted:
            raise InvalidRequest("bad-request", f"the body of {action} is a {name}")
        return message


def _unsupported(name: str) -> Unsupported:
    return Unsupported("unsupported", f"{name} is not served: nothing can be written here, only SELECT is run")
