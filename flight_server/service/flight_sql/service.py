"""Flight SQL's commands and actions, turned into requests that the rest of the service answers, or into metadata.

Holds no state of a client: a statement is a request, a prepared one is in its handle, and a ticket of metadata is the
command itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from flight_server.errors import InvalidRequest, Unsupported
from flight_server.model import Caller, Request
from flight_server.pipeline import Pipeline
from flight_server.service.descriptors import Tickets
from flight_server.service.flight_sql import messages, metadata, prepared, sessions, sql_info
from flight_server.service.flight_sql.prepared import Handles
from flight_server.service.flight_sql.sessions import Cancel

# What a command may weigh beyond a request: a handle holds the statement in base64 with its values.
BODY_FACTOR = 3
# The number of CancelResult.
_CANCELLED = 1
ACTIONS = {
    "CreatePreparedStatement": "Flight SQL: a handle of a SELECT, with the schemas of its result and parameters",
    "ClosePreparedStatement": "Flight SQL: forget a handle",
    "CancelQuery": "Flight SQL: as CancelFlightInfo",
    **sessions.ACTIONS,
}
# Takes the request that a body turns out to be.
Asked = Callable[[Request], None]
# Known and refused: a driver gets the reason and not a lack of the action.
REFUSED = frozenset(
    {
        "BeginTransaction",
        "EndTransaction",
        "BeginSavepoint",
        "EndSavepoint",
        "CreatePreparedSubstraitPlan",
    }
)


class FlightSql:
    """The Flight SQL face of a pipeline."""

    def __init__(self, pipeline: Pipeline, tickets: Tickets, handle_ttl_s: float, body_max: int) -> None:
        self._pipeline = pipeline
        self._tickets = tickets
        self._handles = Handles(tickets, handle_ttl_s)
        self._handle_ttl_s = handle_ttl_s
        self._body_max = body_max

    def schema(self, command: bytes) -> pa.Schema | None:
        """The schema of what a metadata command answers; None when the command is no such."""
        return metadata.schema_of(*self._unpack(command))

    def table(self, command: bytes, caller: Caller) -> pa.Table:
        """What a metadata command answers. Raises Unsupported for other commands."""
        name, message = self._unpack(command)
        schema = metadata.schema_of(name, message)
        if schema is None:
            raise _unsupported(name)
        if name == "CommandGetSqlInfo":
            return sql_info.table(message.info, self._handle_ttl_s, self._body_max)
        return pa.Table.from_pylist(metadata.rows(name, message, self._pipeline, caller), schema=schema)

    def ticket(self, ticket: bytes) -> bytes:
        """The ticket in a TicketStatementQuery, where a client has wrapped one; others as they are."""
        if not messages.is_command(ticket):
            return ticket
        name, message = self._unpack(ticket)
        return bytes(message.statement_handle) if name == "TicketStatementQuery" else ticket

    def request(self, command: bytes, caller: Caller) -> Request:
        """The request in a command that runs a statement. Raises Unsupported for other commands."""
        name, message = self._unpack(command)
        if name == "CommandStatementQuery":
            return self._statement(message)
        if name == "CommandPreparedStatementQuery":
            return self._handles.read(message.prepared_statement_handle, caller)
        raise _unsupported(name)

    def put(
        self,
        command: bytes,
        caller: Caller,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
        asked: Asked,
    ) -> None:
        """Bind the parameters that a client puts to a prepared statement; answer the handle with them.

        `asked` is told the statement.
        """
        name, message = self._unpack(command)
        if name != "CommandPreparedStatementQuery":
            raise _unsupported(name)
        request = self._handles.read(message.prepared_statement_handle, caller)
        asked(request)
        types = self._pipeline.prepare(request, caller).parameters
        bound = prepared.values(self._read(reader), types)
        handle = self._handles.make(request.sql or "", caller, bound)
        answer = messages.new("DoPutPreparedStatementResult", prepared_statement_handle=handle)
        writer.write(pa.py_buffer(answer.SerializeToString()))

    def _read(self, reader: flight.MetadataRecordBatchReader) -> pa.Table:
        """The parameters that a client puts, no more of them than the longest request. Raises InvalidRequest."""
        batches, size = [], 0
        for batch in _batches(reader):
            size += batch.nbytes
            if size > self._body_max:
                raise InvalidRequest("bad-request", f"the parameters have more than {self._body_max:,} bytes")
            batches.append(batch)
        return pa.Table.from_batches(batches, reader.schema)

    def act(self, action: str, body: bytes, caller: Caller, cancel: Cancel, asked: Asked) -> list[bytes]:
        """The results of one of `ACTIONS`. `cancel` stops the streams of a ticket, `asked` is told a statement."""
        if len(body) > BODY_FACTOR * self._body_max:
            raise InvalidRequest("bad-request", f"the body has {len(body):,} bytes; it is too long")
        if action in sessions.ACTIONS:
            return [sessions.act(action, body, self._tickets, cancel)]
        if action == "CancelQuery":
            message = self._message(action, "ActionCancelQueryRequest", body)
            sessions.cancel_info(message.info, self._tickets, cancel)
            return [messages.pack("ActionCancelQueryResult", result=_CANCELLED)]
        if action == "CreatePreparedStatement":
            return [self._create(self._message(action, "ActionCreatePreparedStatementRequest", body), caller, asked)]
        if action == "ClosePreparedStatement":
            # There is nothing to close; a handle that is no handle is still told.
            message = self._message(action, "ActionClosePreparedStatementRequest", body)
            self._handles.read(message.prepared_statement_handle, caller)
            return []
        raise Unsupported("unsupported", f"{action}: there are no transactions and no Substrait here, only SELECT")

    def _create(self, message: Any, caller: Caller, asked: Asked) -> bytes:
        request = self._statement(message)
        asked(request)
        found = self._pipeline.prepare(request, caller)
        return messages.pack(
            "ActionCreatePreparedStatementResult",
            prepared_statement_handle=self._handles.make(message.query, caller),
            dataset_schema=found.dataset.schema.serialize().to_pybytes(),
            parameter_schema=prepared.parameter_schema(found.parameters).serialize().to_pybytes(),
        )

    def _statement(self, message: Any) -> Request:
        """The SELECT in a message. Who believes to be in a transaction is told that there is none."""
        if message.transaction_id:
            raise Unsupported(
                "unsupported", "there are no transactions here; send the statement without transaction_id"
            )
        if len(message.query.encode()) > self._body_max:
            raise InvalidRequest("bad-request", f"the statement is longer than {self._body_max:,} bytes")
        return Request(dataset="", sql=message.query)

    def _unpack(self, body: bytes) -> tuple[str, Any]:
        if len(body) > BODY_FACTOR * self._body_max:
            raise InvalidRequest("bad-request", f"the command has {len(body):,} bytes; it is too long")
        return messages.unpack(body)

    def _message(self, action: str, wanted: str, body: bytes) -> Any:
        name, message = self._unpack(body)
        if name != wanted:
            raise InvalidRequest("bad-request", f"the body of {action} is a {name}")
        return message


def _batches(reader: flight.MetadataRecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches that a client puts, but those without rows. Raises InvalidRequest (bad-request) for what is none.

    Arrow takes offsets and indices as they come over the wire: one below zero reads this process's memory, which the
    handle would then hand out, and one far off ends the process.
    """
    try:
        for chunk in reader:
            if chunk.data is not None and chunk.data.num_rows:
                chunk.data.validate(full=True)
                yield chunk.data
    except flight.FlightError:
        # The client has gone.
        raise
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InvalidRequest("bad-request", f"the parameters are no valid record batch: {reason}") from None


def _unsupported(name: str) -> Unsupported:
    return Unsupported("unsupported", f"{name} is not served: nothing can be written here, only SELECT is run")
