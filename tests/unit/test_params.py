"""Parameters: every type in text and JSON, bounds, lists, maps, defaults, rules, and hostile text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_server.datasets.params import parse_json, parse_text, parse_value, resolve
from flight_server.datasets.types import param_type
from flight_server.errors import InvalidRequest
from flight_server.model import Dataset, Scalar, to_json
from tests.fix_datasets import message, text, with_params

TODAY = date(2024, 3, 15)


def values(dataset: Dataset, **raw: object) -> dict[str, Any]:
    return dict(resolve(dataset, raw, TODAY))


def refusal(dataset: Dataset, raw: Mapping[str, object]) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        resolve(dataset, raw, TODAY)
    return caught.value.code, caught.value.message


GOOD = [
    ("bool", "true", True, True),
    ("bool", "false", False, False),
    ("int32", "-2147483648", -(2**31), -(2**31)),
    ("int32", "+7", 7, 7),
    ("int64", "9223372036854775807", 2**63 - 1, 2**63 - 1),
    ("float32", "1e-3", 0.001, 0.001),
    ("float64", ".5", 0.5, 0.5),
    ("float64", "1.7976931348623157e308", 1.7976931348623157e308, 1.7976931348623157e308),
    ("decimal(5,2)", "1.5", "1.50", Decimal("1.50")),
    ("decimal(38,0)", "9" * 38, "9" * 38, Decimal("9" * 38)),
    ("decimal(38,38)", "-0." + "9" * 38, "-0." + "9" * 38, Decimal("-0." + "9" * 38)),
    ("string", "", "", ""),
    ("string", "삼성전자 𝔸", "삼성전자 𝔸", "삼성전자 𝔸"),
    ("date", "0001-01-01", "0001-01-01", date(1, 1, 1)),
    ("date", "2024-02-29", date(2024, 2, 29), date(2024, 2, 29)),
    ("timestamp", "2024-02-29", "2024-02-29", datetime(2024, 2, 29)),
    ("timestamp", "2024-02-29 23:59", "2024-02-29T23:59", datetime(2024, 2, 29, 23, 59)),
    ("timestamp", "2024-02-29T23:59:59.999999", datetime(2024, 2, 29, 23, 59, 59, 999999), None),
    ("timestamp(tz)", "2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
    (
        "timestamp(tz)",
        "2024-01-01T00:30:00+09:00",
        "2024-01-01T00:30:00+09:00",
        datetime(2023, 12, 31, 15, 30, tzinfo=UTC),
    ),
]


@pytest.mark.parametrize(("kind", "written", "json", "value"), GOOD)
def test_text_and_json_mean_the_same_value(kind: str, written: str, json: object, value: Scalar | None) -> None:
    parsed = parse_text(param_type(kind), written)
    assert parsed == parse_json(param_type(kind), json)
    assert value is None or parsed == value


BAD_TEXT = {
    "bool": ["True", "1", "yes", "", "TRUE "],
    "int32": [
        "",
        "1.0",
        "2147483648",
        "-2147483649",
        " 1",
        "1\n",
        "1_000",
        "0x10",
        "٣",
        "１",
        "1e3",
        "9" * 5000,
        "--1",
    ],
    "int64": ["9223372036854775808", "-9223372036854775809", "9" * 20],
    "float32": [
        "3.5e38",
        "-1e39",
        "nan",
        "inf",
        "Infinity",
        "1e999999999",
        "1e-9999",
        "٣.٥",
        "1,5",
        ".",
        "e5",
        "",
        "0x1p3",
    ],
    "float64": ["1e309", "1e999999999", "NaN", "-inf", "1_0.0", " 1.0", "1.0 ", "9" * 1000],
    "decimal(5,2)": [
        "1000.00",
        "0.001",
        "1e999999999",
        "1e999",
        "nan",
        "Infinity",
        "sNaN",
        "",
        "1.2.3",
        "１.5",
        "9" * 400,
    ],
    "date": [
        "2024-02-30",
        "2023-02-29",
        "0000-01-01",
        "10000-01-01",
        "20240101",
        "2024-W01-1",
        "2024-1-1",
        "",
        "٢٠٢٤-٠١-٠١",
        "2024-01-01T00:00",
    ],
    "timestamp": [
        "2024-01-01T24:00:00",
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00.1234567",
        "now",
        "2024-01-01T25:00",
        "",
    ],
    "timestamp(tz)": [
        "2024-01-01T00:00:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2024-01-01T00:00:00+24:00",
    ],
    "string": ["a\x00b", "\ud800", "ok\udfff"],
    "enum": ["a\x00b", "\ud800"],
}
BAD_JSON: dict[str, list[object]] = {
    "bool": [0, 1, "true", None, [], 1.0],
    "int32": [True, "1", 1.5, Decimal("1.0"), Decimal("1E+999999999"), [], {}, 2**31, 10**4000],
    "float64": [True, "1.0", [], {}, Decimal("1E+999999999"), math.nan, math.inf, 10**400],
    "decimal(5,2)": [True, 1000, Decimal("0.001"), Decimal("1E+999999999"), [], math.nan],
    "string": [1, 1.5, True, [], {}, date(2024, 1, 1), "\x00"],
    "date": [20240101, 1.5, True, datetime(2024, 1, 1), []],
    "timestamp": [1704067200, True, datetime(2024, 1, 1, tzinfo=UTC)],
    "timestamp(tz)": [1704067200, datetime(2024, 1, 1), date(2024, 1, 1)],
}


@pytest.mark.parametrize(("kind", "written"), [(kind, each) for kind, many in BAD_TEXT.items() for each in many])
def test_text_that_is_not_of_the_type_is_refused(kind: str, written: str) -> None:
    with pytest.raises(ValueError):
        parse_text(param_type(kind), written)


@pytest.mark.parametrize(("kind", "json"), [(kind, each) for kind, many in BAD_JSON.items() for each in many])
def test_json_that_is_not_of_the_type_is_refused(kind: str, json: object) -> None:
    with pytest.raises(ValueError):
        parse_json(param_type(kind), json)


@given(st.text(max_size=30), st.sampled_from(sorted(BAD_TEXT)))
def test_any_text_is_a_value_or_a_value_error(written: str, kind: str) -> None:
    said = message(lambda: parse_text(param_type(kind), written))
    assert said is None or said.startswith(("is ", "has ", "does ", "needs ", "must "))


clean = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False, allow_infinity=False),
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "decimal(12,4)": st.decimals(-99999999, 99999999, places=4),
    "string": clean,
    "date": st.dates(),
    "timestamp": moments,
    "timestamp(tz)": moments.map(lambda value: value.replace(tzinfo=UTC)),
}


def written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(to_json(value))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SCALARS)
@given(data=st.data())
def test_a_value_that_is_written_is_read_back(kind: str, data: st.DataObject) -> None:
    value = data.draw(SCALARS[kind])
    assert parse_text(param_type(kind), written(value)) == value
    assert parse_json(param_type(kind), to_json(value)) == value


@given(st.lists(clean, min_size=1, max_size=8))
def test_a_list_is_sorted_and_without_repeats_unless_ordered(items: list[str]) -> None:
    loose = with_params('a = { type = "list<string>" }').params["a"]
    ordered = with_params('a = { type = "list<string>", ordered = true }').params["a"]
    assert parse_value(loose, text(*items)) == parse_value(loose, items) == tuple(sorted(set(items)))
    assert parse_value(ordered, text(*items)) == parse_value(ordered, items) == tuple(items)


@given(st.dictionaries(clean.filter(lambda key: ":" not in key), st.floats(-1e9, 1e9), min_size=1, max_size=8))
def test_a_map_is_in_key_order_in_both_forms(entries: dict[str, float]) -> None:
    parameter = with_params('w = { type = "map<string, float64>" }').params["w"]
    pairs = tuple(sorted(entries.items()))
    assert parse_value(parameter, entries) == pairs
    assert parse_value(parameter, text(*(f"{key}:{value!r}" for key, value in entries.items()))) == pairs


def test_minus_zero_is_zero() -> None:
    for kind in ("float64", "decimal(5,2)"):
        assert written(parse_text(param_type(kind), "-0.0")).startswith("0")


def test_moments_of_one_instant_are_one_value() -> None:
    kind = param_type("timestamp(tz)")
    tokyo = parse_json(kind, datetime(2024, 1, 1, 9, tzinfo=timezone(timedelta(hours=9))))
    assert tokyo == parse_text(kind, "2024-01-01T00:00:00Z")
    assert isinstance(tokyo, datetime)
    assert tokyo.tzinfo is UTC


ASKED = with_params(
    'ticker = { type = "string", max_length = 5, pattern = "[A-Z]+", example = "AAPL" }',
    'day    = { type = "date", min = 2000-01-01, max = 2030-12-31, optional = true }',
    'side   = { type = "enum", choices = ["buy", "sell"], default = "buy" }',
    'ids    = { type = "list<int32>", min = 1, max_items = 3, optional = true }',
    'loose  = { type = "list<int32>", min_items = 0, optional = true }',
    'w      = { type = "map<int32, float64>", max = 1, max_items = 2, optional = true }',
)


@pytest.mark.parametrize(
    ("raw", "code", "said"),
    [
        (
            {"tiker": text("A")},
            "unknown-parameter",
            "has no parameter 'tiker'; did you mean 'ticker'? It takes ticker, day,",
        ),
        ({"TICKER": text("A")}, "unknown-parameter", "did you mean 'ticker'?"),
        ({"тикер": text("A")}, "unknown-parameter", "has no parameter 'тикер'. It takes ticker"),
        ({"\ud800": "A"}, "unknown-parameter", r"has no parameter '\ud800'"),
        ({}, "missing-parameter", "sample needs 'ticker' (string), for example ticker=AAPL"),
        ({"ticker": "aapl"}, "bad-parameter", "does not match [A-Z]+; did you mean 'AAPL'?"),
        ({"ticker": text("'A' ")}, "bad-parameter", "does not match [A-Z]+; did you mean 'A'?"),
        ({"ticker": text("A-1")}, "bad-parameter", "does not match [A-Z]+; it is written as 'AAPL'"),
        ({"ticker": text("")}, "bad-parameter", "it is written as 'AAPL'"),
        ({"ticker": "A", "day": text("")}, "bad-parameter", "write it as 2010-01-04; leave it out to have none"),
        ({"ticker": "A", "ids": text("1,2")}, "bad-parameter", "; a list repeats its name: ids=1&ids=2"),
        ({"ticker": "A", "ids": text("[3]")}, "bad-parameter", "; a list repeats its name: ids=3"),
        ({"ticker": "A", "ids": text("x")}, "bad-parameter", "'x' is not a whole number"),
        ({"ticker": "A", "w": text("AAPL:0.5")}, "bad-parameter", "has the key 'AAPL', which is not a whole number"),
        ({"ticker": None}, "bad-parameter", "sample.ticker is null, and it is not optional"),
        ({"ticker": "A", "side": None}, "bad-parameter", "sample.side is null"),
        ({"ticker": text("A", "B")}, "bad-parameter", "is given 2 times; it takes one value"),
        ({"ticker": ["A"]}, "bad-parameter", "sample.ticker = ['A'] is not a string"),
        ({"ticker": "TOOLONG"}, "bad-parameter", "has 7 characters; at most 5 are taken"),
        ({"ticker": "aapl"}, "bad-parameter", "does not match [A-Z]+"),
        ({"ticker": "A\n"}, "bad-parameter", "does not match [A-Z]+"),
        ({"ticker": "A' OR"}, "bad-parameter", "does not match"),
        ({"ticker": "A\x00"}, "bad-parameter", "has a NUL character"),
        ({"ticker": "\udc80"}, "bad-parameter", "has a lone surrogate"),
        ({"ticker": "A", "day": "1999-12-31"}, "bad-parameter", "is below the least allowed value, 2000-01-01"),
        ({"ticker": "A", "day": "2031-01-01"}, "bad-parameter", "is above the greatest allowed value, 2030-12-31"),
        ({"ticker": "A", "day": text("")}, "bad-parameter", "is not a date; write it as 2010-01-04"),
        ({"ticker": "A", "side": "bye"}, "bad-parameter", "is not one of buy, sell; did you mean 'buy'?"),
        ({"ticker": "A", "ids": []}, "bad-parameter", "has 0 items; at least 1 are needed"),
        ({"ticker": "A", "ids": [1, 2, 3, 4]}, "bad-parameter", "has 4 items; at most 3 are taken"),
        ({"ticker": "A", "ids": [1, 0]}, "bad-parameter", "below the least allowed value, 1"),
        ({"ticker": "A", "ids": "1"}, "bad-parameter", "is not a list"),
        ({"ticker": "A", "ids": [1, [2]]}, "bad-parameter", "is not a whole number"),
        ({"ticker": "A", "ids": [1, None]}, "bad-parameter", "is not a whole number"),
        ({"ticker": "A", "w": text("1=0.5")}, "bad-parameter", "write key:value, for example w=1:0.6"),
        ({"ticker": "A", "w": text("1:0.5", "1:0.4")}, "bad-parameter", "has the key 1 more than once"),
        ({"ticker": "A", "w": {"1": 0.5, "01": 0.4}}, "bad-parameter", "has the key 1 more than once"),
        ({"ticker": "A", "w": {"1": 2}}, "bad-parameter", "is above the greatest allowed value, 1"),
        ({"ticker": "A", "w": {"a": 1}}, "bad-parameter", "is not a whole number"),
        ({"ticker": "A", "w": {}}, "bad-parameter", "has 0 entries; at least 1 are needed"),
        ({"ticker": "A", "w": [1]}, "bad-parameter", "is not a map"),
        (
            {"ticker": "A", "w": {"a": Decimal("0.6")}},
            "bad-parameter",
            "sample.w = {'a': 0.6} has the key 'a', which is",
        ),
    ],
)
def test_a_wrong_request_is_refused_with_code_and_way_out(raw: dict[str, object], code: str, said: str) -> None:
    assert said in refusal(ASKED, raw)[1]
    assert refusal(ASKED, raw)[0] == code


def test_all_missing_parameters_are_named_at_once_with_a_request_that_has_them() -> None:
    two = with_params('a = { type = "int32", example = 1 }', 'b = { type = "list<date>", example = [2010-01-04] }')
    assert refusal(two, {}) == (
        "missing-parameter",
        "sample needs 'a' (int32), 'b' (list<date>), for example a=1&b=2010-01-04",
    )
    no_example = with_params('a = { type = "int32", example = 1 }', 'b = { type = "bool" }')
    assert refusal(no_example, {})[1] == "sample needs 'a' (int32), 'b' (bool)"


@given(
    st.dictionaries(
        st.text(max_size=12), st.text(max_size=200) | st.integers() | st.lists(st.text(max_size=5)), max_size=4
    )
)
def test_any_request_is_answered_or_refused_in_a_short_line(raw: dict[str, object]) -> None:
    said = message(lambda: resolve(ASKED, raw, TODAY))
    assert said is None or len(said.encode()) < 1000


def test_absent_optional_parameters_are_left_out_and_defaults_are_filled_in() -> None:
    assert values(ASKED, ticker="A", day=None) == {"ticker": "A", "side": "buy"}
    assert values(ASKED, ticker="A", loose=[]) == {"ticker": "A", "side": "buy", "loose": ()}


def test_values_come_in_the_order_of_the_contract() -> None:
    assert list(values(ASKED, w={"2": 1, "1": 0.5}, ids=[3, 1], side="sell", day="2024-01-01", ticker="A")) == [
        "ticker", "day", "side", "ids", "w",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("default", "day"),
    [
        ("today", date(2024, 3, 15)),
        ("today - 30d", date(2024, 2, 14)),
        ("month_start", date(2024, 3, 1)),
        ("month_start - 1d", date(2024, 2, 29)),
        ("year_start", date(2024, 1, 1)),
    ],
)
def test_a_relative_default_is_resolved_on_the_day_of_the_request(default: str, day: date) -> None:
    kinds = {"day": "date", "at": "timestamp", "utc": "timestamp(tz)"}
    dataset = with_params(*(f'{name} = {{ type = "{kind}", default = "{default}" }}' for name, kind in kinds.items()))
    midnight = datetime(day.year, day.month, day.day)
    assert values(dataset) == {"day": day, "at": midnight, "utc": midnight.replace(tzinfo=UTC)}
    assert values(dataset, day="2020-01-01")["day"] == date(2020, 1, 1)


RULES = with_params(
    'a = { type = "date" }',
    'b = { type = "date", optional = true }',
    'c = { type = "date", default = "today" }',
    rules=('range = "a <= b"', 'past = "a < c"'),
)


def test_rules_hold_between_given_values_and_defaults() -> None:
    assert refusal(RULES, {"a": "2024-02-01", "b": "2024-01-31"}) == (
        "rule-violated",
        "sample: rule 'range' asks a <= b, and a is 2024-02-01, b is 2024-01-31",
    )
    assert refusal(RULES, {"a": "2024-03-15"})[0] == "rule-violated"


def test_a_rule_with_an_absent_side_is_skipped() -> None:
    assert values(RULES, a="2024-02-01") == {"a": date(2024, 2, 1), "c": TODAY}
    assert values(RULES, a="2024-02-01", b="2024-02-01")["b"] == date(2024, 2, 1)


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refusal(ASKED, {"ticker": "A" * 60_000})[1]) < 200
    assert len(refusal(ASKED, {"ticker": text(*["A"] * 20_000)})[1]) < 200
