"""The bytes that are told of a batch are those of its client's copy, whatever it is a slice of."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from flight_server.results.received import Sizes, received_bytes

COLUMNS: dict[str, tuple[pa.DataType, list[object]]] = {
    "bool": (pa.bool_(), [True, False, None]),
    "int8": (pa.int8(), [1, None, 3]),
    "float64": (pa.float64(), [0.5, 1.5, 2.5]),
    "decimal": (pa.decimal128(10, 2), [Decimal("1.50"), None, Decimal("2.50")]),
    "date": (pa.date32(), [date(2024, 2, 29), None, date(2024, 3, 1)]),
    "moment": (pa.timestamp("us", "UTC"), [datetime(2024, 2, 29, tzinfo=UTC), None, None]),
    "string": (pa.string(), ["", "abc", None]),
    "binary": (pa.binary(), [b"a", b"bc", b""]),
    "list": (pa.list_(pa.string()), [["a", None], [], None]),
    "lists": (pa.list_(pa.list_(pa.bool_())), [[[True, False]], [[]], [None]]),
    "map": (pa.map_(pa.int32(), pa.float64()), [[(1, 0.5), (2, None)], [], None]),
    "struct": (
        pa.struct([("a", pa.int16()), ("b", pa.list_(pa.string()))]),
        [{"a": 1, "b": ["x"]}, {"a": None, "b": None}, None],
    ),
}


def arrived(batch: pa.RecordBatch) -> pa.RecordBatch:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return pa.ipc.open_stream(sink.getvalue()).read_next_batch()


@pytest.mark.parametrize("name", COLUMNS)
def test_every_type_and_slice_takes_what_its_copy_takes(name: str) -> None:
    kind, values = COLUMNS[name]
    whole = pa.record_batch([pa.array(values * 9, kind)], ["x"])
    for start in range(20):
        for rows in (1, 2, 5, 7):
            batch = whole.slice(start, rows)
            assert received_bytes(batch) == arrived(batch).nbytes


def test_a_bitmap_of_no_nulls_does_not_arrive() -> None:
    column = pa.Array.from_buffers(pa.int32(), 8, [pa.py_buffer(b"\xff"), pa.py_buffer(bytes(32))])
    batch = pa.record_batch([column], ["x"])
    assert batch.nbytes == 33
    assert received_bytes(batch) == arrived(batch).nbytes == 32


def test_a_size_is_of_one_engine_and_one_result() -> None:
    sizes = Sizes()
    sizes.note("duckdb", "a", 1)
    sizes.note("athena", "a", 2)
    assert [sizes.find("duckdb", "a"), sizes.find("athena", "a"), sizes.find("duckdb", "b")] == [1, 2, -1]
    for number in range(10_000):
        sizes.note("duckdb", str(number), number)
    assert (sizes.find("duckdb", "a"), sizes.find("duckdb", "9999")) == (-1, 9999)
