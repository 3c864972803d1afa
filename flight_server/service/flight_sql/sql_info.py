"""What GetSqlInfo answers: the server's name and abilities, and the SQL that it takes.

Clients read the value by its place in a dense union, whose field names, order and nullability must be these exactly.
Numbers and value types are of the enumeration SqlInfo in Arrow's format/FlightSql.proto. Old JDBC drivers fail on
missing entries (SQL92 level, quote character, keywords), so all are answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

import pyarrow as pa

from flight_server.plan.allowed import FUNCTIONS

_FIELDS = (
    pa.field("string_value", pa.string()),
    pa.field("bool_value", pa.bool_()),
    pa.field("bigint_value", pa.int64()),
    pa.field("int32_bitmask", pa.int32()),
    pa.field("string_list", pa.list_(pa.string())),
    pa.field("int32_to_int32_list_map", pa.map_(pa.int32(), pa.list_(pa.int32()))),
)
_TEXT, _BOOL, _BIG, _INT, _LIST, _MAP = range(6)
SCHEMA = pa.schema(
    [pa.field("info_name", pa.uint32(), nullable=False), pa.field("value", pa.dense_union(_FIELDS), nullable=False)]
)

_NUMERIC = """
    abs acos asin atan atan2 cbrt ceil ceiling cos cosh degrees e exp floor ln log log10 log2 mod pi pow power radians
    round sign sin sinh sqrt tan tanh truncate width_bucket
"""
_STRING = """
    chr codepoint concat concat_ws ends_with from_utf8 hamming_distance length levenshtein_distance lower lpad ltrim
    normalize position regexp_count regexp_extract regexp_extract_all regexp_like regexp_replace regexp_split replace
    reverse rpad rtrim soundex split split_part starts_with strpos substr substring to_utf8 translate trim upper
"""
_SYSTEM = "coalesce if nullif try typeof"
_TIME = """
    date date_add date_diff date_format date_parse date_trunc day day_of_month day_of_week day_of_year extract
    format_datetime from_iso8601_date from_iso8601_timestamp from_unixtime hour last_day_of_month millisecond minute
    month parse_datetime quarter second to_iso8601 to_unixtime week week_of_year year year_of_week
"""
# Athena's reserved words of SELECT statements that are not SQL:2003's, which JDBC leaves out.
_KEYWORDS = ["CURRENT_CATALOG", "GROUPING", "JSON_ARRAY", "LISTAGG", "SKIP", "UESCAPE", "UNNEST"]
# Types that CAST takes each other's values of: SqlSupportsConvert's numbers.
_BIGINT, _VARCHAR, _DOUBLE_, _DATE_, _TIMESTAMP_ = 0, 19, 6, 4, 16
_CONVERT = {
    _BIGINT: [_BIGINT, 5, 6, 7, _VARCHAR],
    _DATE_: [_DATE_, _TIMESTAMP_, _VARCHAR],
    5: [_BIGINT, 5, 6, 7, _VARCHAR],
    _DOUBLE_: [_BIGINT, 5, 6, 7, _VARCHAR],
    7: [_BIGINT, 5, 6, 7, _VARCHAR],
    _TIMESTAMP_: [_DATE_, _TIMESTAMP_, _VARCHAR],
    _VARCHAR: [_BIGINT, _DATE_, 5, 6, 7, _TIMESTAMP_, _VARCHAR],
}
# A limit of nought means none, or none known.
_NO_LIMIT = 0


def table(wanted: Iterable[int], handle_ttl_s: float, statement_max: int) -> pa.Table:
    """The entries `wanted`, in their order of number; all without any. Numbers that nobody knows are left out."""
    known = _entries(handle_ttl_s, statement_max)
    numbers = [number for number in sorted(set(wanted) or known) if number in known]
    types, offsets = [], []
    values: list[list[object]] = [[] for _ in _FIELDS]
    for number in numbers:
        kind, value = known[number]
        types.append(kind)
        offsets.append(len(values[kind]))
        values[kind].append(list(value.items()) if isinstance(value, dict) else value)
    union = pa.UnionArray.from_dense(
        pa.array(types, pa.int8()),
        pa.array(offsets, pa.int32()),
        [pa.array(each, field.type) for each, field in zip(values, _FIELDS, strict=True)],
        [field.name for field in _FIELDS],
    )
    return pa.Table.from_arrays([pa.array(numbers, pa.uint32()), union], schema=SCHEMA)


def _entries(handle_ttl_s: float, statement_max: int) -> dict[int, tuple[int, object]]:
    return {
        **_server(handle_ttl_s),
        **_syntax(),
        **_limits(statement_max),
        **_transactions(),
    }


def _server(handle_ttl_s: float) -> dict[int, tuple[int, object]]:
    return {
        0: (_TEXT, "athena-flight"),
        1: (_TEXT, metadata.version("athena-flight")),
        2: (_TEXT, pa.__version__),
        # Read only; SQL; no Substrait, hence no versions of it.
        3: (_BOOL, True),
        4: (_BOOL, True),
        5: (_BOOL, False),
        6: (_TEXT, None),
        7: (_TEXT, None),
        # No transactions; CancelFlightInfo and CancelQuery; no bulk ingestion.
        8: (_INT, 0),
        9: (_BOOL, True),
        10: (_BOOL, False),
        11: (_BOOL, False),
        100: (_INT, int(handle_ttl_s * 1000)),
        101: (_INT, 0),
    }


def _syntax() -> dict[int, tuple[int, object]]:
    return {
        **dict.fromkeys((500, 501, 502), (_BOOL, False)),
        # Names are compared without regard to case, quoted ones too, as Athena does.
        503: (_INT, 1),
        504: (_TEXT, '"'),
        505: (_INT, 1),
        506: (_BOOL, False),
        # Nulls come last, whatever the direction.
        507: (_INT, 3),
        508: (_LIST, _KEYWORDS),
        509: (_LIST, _allowed(_NUMERIC)),
        510: (_LIST, _allowed(_STRING)),
        511: (_LIST, _allowed(_SYSTEM)),
        512: (_LIST, _allowed(_TIME)),
        513: (_TEXT, "\\"),
        514: (_TEXT, ""),
        515: (_BOOL, True),
        516: (_BOOL, True),
        517: (_MAP, _CONVERT),
        518: (_BOOL, True),
        519: (_BOOL, False),
        520: (_BOOL, True),
        521: (_BOOL, True),
        # GROUP BY of unrelated columns, and of more than is selected.
        522: (_INT, 0b11),
        523: (_BOOL, True),
        524: (_BOOL, True),
        # Minimum, core and extended grammar; SQL92 at entry level; full outer joins.
        525: (_INT, 0b111),
        526: (_INT, 0b1),
        527: (_BOOL, False),
        528: (_INT, 0b110),
        529: (_TEXT, "schema"),
        530: (_TEXT, "procedure"),
        531: (_TEXT, "catalog"),
        532: (_BOOL, True),
        533: (_INT, 0),
        534: (_INT, 0),
        535: (_INT, 0),
        536: (_BOOL, False),
        537: (_BOOL, False),
        # Subqueries everywhere, correlated too; UNION and UNION ALL.
        538: (_INT, 0b1111),
        539: (_BOOL, True),
        540: (_INT, 0b11),
        # Parameters by place only, nothing that is called.
        574: (_BOOL, False),
        575: (_BOOL, False),
        576: (_BOOL, False),
    }


def _allowed(names: str) -> list[str]:
    """Of these, what a statement may call."""
    return [name for name in names.split() if name in FUNCTIONS]


def _limits(statement_max: int) -> dict[int, tuple[int, object]]:
    return {
        **dict.fromkeys(range(541, 556), (_BIG, _NO_LIMIT)),
        556: (_BOOL, False),
        557: (_BIG, statement_max),
        558: (_BIG, _NO_LIMIT),
        559: (_BIG, _NO_LIMIT),
        560: (_BIG, _NO_LIMIT),
        561: (_BIG, _NO_LIMIT),
    }


def _transactions() -> dict[int, tuple[int, object]]:
    return {
        # TRANSACTION_NONE, and only that. The format says int32; drivers and servers have it as a bigint.
        562: (_BIG, 0),
        563: (_BOOL, False),
        564: (_INT, 0b1),
        565: (_BOOL, False),
        566: (_BOOL, True),
        # Results are read forward, and only read.
        567: (_INT, 0b10),
        568: (_INT, 0b10),
        569: (_INT, 0b10),
        570: (_INT, 0),
        571: (_INT, 0),
        572: (_BOOL, False),
        573: (_BOOL, False),
    }
