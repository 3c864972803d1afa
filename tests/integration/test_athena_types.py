"""Columns of every Athena type, through UNLOAD and back: the values that went into the table, and on DuckDB the same."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from flight_server.datasets.types import column_type, type_text
from tests.fakes.aws import LocalAws
from tests.fix_served import Lab, Labs, dataset

pytestmark = pytest.mark.timeout(240)
FIRST_US, LAST_US = -62_135_596_800_000_000 + 1, 253_402_300_799_999_999
TS, TZ = pa.timestamp("us"), pa.timestamp("us", "UTC")
BIG = Decimal("99999999999999999999.999999999999999999")
NESTED = pa.struct(
    [("at", TS), ("tags", pa.list_(pa.string())), ("inner", pa.struct([("zone", TZ), ("n", pa.int32())]))]
)
# Five rows: ordinary, least, greatest, nulls, empty. Times are integers, since Python's have no year 1 in all zones.
VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "flag": (pa.bool_(), [True, False, True, None, False]),
    "small": (pa.int32(), [7, -(2**31), 2**31 - 1, None, 0]),
    "big": (pa.int64(), [7, -(2**63), 2**63 - 1, None, 0]),
    "single": (pa.float32(), [0.5, -math.inf, math.nan, None, -0.0]),
    "double": (pa.float64(), [0.1, -math.inf, math.nan, None, 5e-324]),
    "amount": (pa.decimal128(38, 18), [Decimal("1.5"), BIG.copy_negate(), BIG, None, Decimal("0.000000000000000001")]),
    "money": (pa.decimal128(9, 2), [Decimal("1.50"), Decimal("-9999999.99"), Decimal("9999999.99"), None, Decimal(0)]),
    "text": (pa.string(), ['it\'s "q", \n ü \U0001f600', " ", "\x00\t", None, ""]),
    "raw": (pa.binary(), [b"\x00\xff", b"\x00", bytes(range(256)), None, b""]),
    "day": (pa.date32(), [19_000, -719_162, 2_932_896, None, 0]),
    "ts": (TS, [1_700_000_000_123_456, FIRST_US, LAST_US, None, -1]),
    "tz": (TZ, [1_700_000_000_123_456, FIRST_US, LAST_US, None, -1]),
    "words": (pa.list_(pa.string()), [["a", "b"], [""], ["x", None, "z"], None, []]),
    "moments": (pa.list_(TS), [[0, 1], [FIRST_US], [LAST_US, None], None, []]),
    "counts": (pa.map_(pa.string(), pa.int64()), [[("a", 1)], [("", -(2**63))], [("b", None), ("c", 0)], None, []]),
    "times": (pa.map_(pa.string(), TS), [[("a", 1)], [("b", FIRST_US)], [("c", None), ("d", LAST_US)], None, []]),
    "point": (
        pa.struct([("x", pa.float64()), ("y", pa.string())]),
        [(1.5, "a"), (None, ""), (-0.0, None), None, (0.0, "")],
    ),
    "nested": (
        NESTED,
        [
            (5, ["a"], (6, 7)),
            (FIRST_US, [], (FIRST_US, -1)),
            (LAST_US, [None, ""], (LAST_US, None)),
            None,
            (None, None, None),
        ],
    ),
    "deep": (
        pa.list_(pa.list_(pa.struct([("at", TS)]))),
        [[[(1,)], []], [[(FIRST_US,)]], [None, [(None,), (LAST_US,)]], None, []],
    ),
}


def plain(kind: pa.DataType) -> pa.DataType:
    """The type with integers in place of dates and times."""
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    if pa.types.is_list(kind):
        return pa.list_(plain(kind.value_type))
    if pa.types.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain(field.type)) for field in kind])
    return kind


def built(values: list[Any], kind: pa.DataType) -> pa.Array:
    array = pa.array([_named(value, kind) for value in values], plain(kind))
    return array.view(kind) if pa.types.is_temporal(kind) else array.cast(kind)


def _named(value: Any, kind: pa.DataType) -> Any:
    """Tuples to structs, at any depth."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [_named(item, kind.value_type) for item in value]
    if pa.types.is_map(kind):
        return [(key, _named(item, kind.item_type)) for key, item in value]
    if pa.types.is_struct(kind):
        return {field.name: _named(item, field.type) for field, item in zip(kind, value, strict=True)}
    return value


def shown(column: pa.ChunkedArray) -> list[str]:
    """Values as text that tells NaN, -0.0 and 0.0 apart."""
    array = column.combine_chunks()
    array = array.view(plain(array.type)) if pa.types.is_temporal(array.type) else array.cast(plain(array.type))
    return [repr(value) for value in array.to_pylist()]


@pytest.fixture(scope="module")
def every_type(aws_session: LocalAws, lake_session: Catalog) -> pa.Table:
    """What is in `lake.every_type`, by `n`."""
    arrays = {name: built(values, kind) for name, (kind, values) in VALUES.items()}
    rows = pa.table({"n": pa.array(range(5), pa.int32()), **arrays})
    location = f"{aws_session.warehouse}/every_type"
    lake_session.create_table(("lake", "every_type"), rows.schema, location=location).append(rows)
    return rows


@pytest.fixture
def lab(labs: Labs, every_type: pa.Table) -> Lab:
    columns = {"n": "int32"} | {name: type_text(kind) for name, (kind, _) in VALUES.items()}
    picked = ", ".join(f't.{name} AS "{name}"' for name in columns)
    return labs.open(
        {
            "every_type": dataset(columns, f"SELECT {picked} FROM lake.every_type AS t ORDER BY t.n", ("n",)),
            "no_rows": dataset(
                columns, f"SELECT {picked} FROM lake.every_type AS t WHERE t.n < 0 ORDER BY t.n", ("n",)
            ),
        }
    )


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
def test_every_type_comes_back_exactly(lab: Lab, every_type: pa.Table, engine: str) -> None:
    found = lab.ask("every_type", engine)
    assert found.schema.types == every_type.schema.types
    for name in every_type.column_names:
        assert shown(found.column(name)) == shown(every_type.column(name)), name


def test_no_rows_have_the_declared_types(lab: Lab, every_type: pa.Table) -> None:
    found = lab.ask("no_rows")
    assert found.num_rows == 0
    assert found.schema.types == every_type.schema.types


UUID = "12345678-9abc-def0-1234-56789abcdef0"
# Name: type of the contract, SQL, and the values of the five rows.
EXPRESSIONS: dict[str, tuple[str, str, list[Any]]] = {
    "n": ("int32", "t.n", list(range(5))),
    "id": ("string", f"CAST(IF(t.n = 3, NULL, '{UUID}') AS UUID)", [UUID, UUID, UUID, None, UUID]),
    "doc": ("string", """json_parse('{"a": [1, null]}')""", ['{"a":[1,null]}'] * 5),
    "clock": (
        "time",
        "CAST(IF(t.n = 3, NULL, '23:59:59.000001') AS TIME(6))",
        [86_399_000_001] * 3 + [None, 86_399_000_001],
    ),
    "tiny": ("int8", "CAST(t.n - 3 AS TINYINT)", [-3, -2, -1, 0, 1]),
    "short": ("int16", "CAST(t.n * 1000 AS SMALLINT)", [0, 1000, 2000, 3000, 4000]),
    "milli": (
        "timestamp",
        "CAST(TIMESTAMP '2024-02-29 12:34:56.789400' AS TIMESTAMP(3))",
        [1_709_210_096_789_000] * 5,
    ),
    "nothing": ("string", "CAST(NULL AS VARCHAR)", [None] * 5),
    "midnight": ("timestamp", "date_trunc('day', TIMESTAMP '2024-02-29 12:34:56.789012')", [1_709_164_800_000_000] * 5),
    "constant": ("timestamp(tz)", "TIMESTAMP '2024-02-29 12:00:00 UTC'", [1_709_208_000_000_000] * 5),
    "pair": ("list<int32>", "ARRAY[t.n, NULL]", [[n, None] for n in range(5)]),
}


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
@pytest.mark.parametrize("name", list(EXPRESSIONS))
def test_types_that_only_expressions_have(labs: Labs, every_type: pa.Table, name: str, engine: str) -> None:
    kind, _, values = EXPRESSIONS[name]
    sql = EXPRESSIONS[name][1]
    text = dataset(
        {"n": "int32", "x": kind}, f"SELECT t.n AS n, {sql} AS x FROM lake.every_type AS t ORDER BY t.n", ("n",)
    )
    found = labs.open({"one": text}).ask("one", engine).column("x")
    assert found.type == column_type(kind)
    if name == "doc":
        assert [text.replace(" ", "") for text in found.to_pylist()] == values
    else:
        assert found.cast(plain(found.type)).to_pylist() == values


def test_a_column_that_is_not_of_its_contract_is_an_error_on_both_engines(labs: Labs, every_type: pa.Table) -> None:
    lab = labs.open(
        {"wrong": dataset({"n": "int32", "b": "string"}, "SELECT t.n AS n, t.big AS b FROM lake.every_type AS t")}
    )
    for engine in ("athena", "duckdb"):
        with pytest.raises(Exception, match="contract-violated|promises string"):
            lab.ask("wrong", engine)
