"""The messages of Flight SQL, and of Flight's own actions, built from the names, numbers and types of their fields.

They live in a descriptor pool of their own: generated modules of other packages register the same names in the
process's default pool, and the second registration fails. Sources: Arrow's format/FlightSql.proto and Flight.proto.
Enumerations are plain integers here, which is the same on the wire.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from flight_server.errors import InvalidRequest

_PACKAGE = "arrow.flight.protocol.sql"
_URL = f"type.googleapis.com/{_PACKAGE}."
_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "sfixed64": _Field.TYPE_SFIXED64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
}
_NO_FIELDS = ""
_ONE_TABLE = "catalog?:string db_schema?:string table:string"
_HANDLE = "prepared_statement_handle:bytes"
# Fields in order of their numbers, from 1: `?` is optional (its absence is seen), `*` repeated.
_MESSAGES: dict[str, str] = {
    "Any": "type_url:string value:bytes",
    "CommandGetSqlInfo": "info*:uint32",
    "CommandGetXdbcTypeInfo": "data_type?:int32",
    "CommandGetCatalogs": _NO_FIELDS,
    "CommandGetDbSchemas": "catalog?:string db_schema_filter_pattern?:string",
    "CommandGetTables": (
        "catalog?:string db_schema_filter_pattern?:string table_name_filter_pattern?:string table_types*:string "
        "include_schema:bool"
    ),
    "CommandGetTableTypes": _NO_FIELDS,
    "CommandGetPrimaryKeys": _ONE_TABLE,
    "CommandGetExportedKeys": _ONE_TABLE,
    "CommandGetImportedKeys": _ONE_TABLE,
    "CommandGetCrossReference": (
        "pk_catalog?:string pk_db_schema?:string pk_table:string fk_catalog?:string fk_db_schema?:string "
        "fk_table:string"
    ),
    "CommandStatementQuery": "query:string transaction_id?:bytes",
    "CommandPreparedStatementQuery": _HANDLE,
    "CommandStatementUpdate": "query:string transaction_id?:bytes",
    "CommandPreparedStatementUpdate": _HANDLE,
    "CommandStatementSubstraitPlan": _NO_FIELDS,
    "CommandStatementIngest": _NO_FIELDS,
    "TicketStatementQuery": "statement_handle:bytes",
    "ActionCreatePreparedStatementRequest": "query:string transaction_id?:bytes",
    "ActionCreatePreparedStatementResult": f"{_HANDLE} dataset_schema:bytes parameter_schema:bytes",
    "ActionClosePreparedStatementRequest": _HANDLE,
    "ActionCancelQueryRequest": "info:bytes",
    "ActionCancelQueryResult": "result:int32",
    "DoPutPreparedStatementResult": "prepared_statement_handle?:bytes",
    # Of Flight itself; these travel without an Any around them. Messages inside are read as their bytes.
    "CancelFlightInfoRequest": "info:bytes",
    "CancelFlightInfoResult": "status:int32",
    "RenewFlightEndpointRequest": "endpoint:bytes",
    "CloseSessionResult": "status:int32",
    "SetSessionOptionsRequest": "session_options*:.SessionOption",
    "SetSessionOptionsResult": "errors*:.SessionError",
    "GetSessionOptionsResult": "session_options*:.SessionOption",
    # An entry of a map is a message of key and value.
    "SessionOption": "name:string value:bytes",
    # The first of its kinds; the others are left unread.
    "SessionOptionValue": "string_value?:string",
    "SessionError": "name:string value:.SessionErrorValue",
    "SessionErrorValue": "value:int32",
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="flight_sql", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, text in enumerate(fields.split(), 1):
            label, _, kind = text.partition(":")
            field = message.field.add(name=label.rstrip("?*"), number=number)
            field.label = _Field.LABEL_REPEATED if label.endswith("*") else _Field.LABEL_OPTIONAL
            if kind.startswith("."):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}{kind}"
            else:
                field.type = _TYPES[kind]
            if label.endswith("?"):
                # How proto3 keeps an absent field from an empty one: a oneof of its own.
                field.proto3_optional = True
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field.name}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _classes()


def is_command(body: bytes) -> bool:
    """Whether these bytes are a Flight SQL message in an Any: no request that a person writes starts so."""
    return body[:1] == b"\n" and _URL.encode() in body[: len(_URL) + 4]


def new(message: str, /, **fields: object) -> Message:
    """The message of this name with these fields."""
    found: Message = _CLASSES[message](**fields)
    return found


def pack(message: str, /, **fields: object) -> bytes:
    """The message of this name in an Any, as bytes."""
    body = new(message, **fields).SerializeToString(deterministic=True)
    return bytes(new("Any", type_url=_URL + message, value=body).SerializeToString(deterministic=True))


def unpack(body: bytes) -> tuple[str, Any]:
    """Name and message of an Any. Raises InvalidRequest (bad-request) for bytes that are none of Flight SQL's."""
    packed = parse("Any", body)
    name = packed.type_url.removeprefix(_URL)
    if packed.type_url != _URL + name or name not in _CLASSES:
        raise InvalidRequest("bad-request", f"there is no Flight SQL message {ascii(packed.type_url)[:120]} here")
    return name, parse(name, packed.value)


def parse(name: str, body: bytes) -> Any:
    """The message `name` from its bytes. Raises InvalidRequest (bad-request)."""
    try:
        return _CLASSES[name].FromString(body)
    except DecodeError:
        raise InvalidRequest("bad-request", f"these bytes are no {name}") from None
