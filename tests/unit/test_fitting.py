"""What a scan-limit error suggests: a value that fits, found with few plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from flight_server.datasets import contract
from flight_server.model import Dataset, Value
from flight_server.plan.fitting import PROBES_MAX, advice

TODAY = date(2024, 6, 15)


def dataset(params: str, where: str, rules: str = "") -> Dataset:
    lines = ["/// dataset", 'title = "t"', 'doc = "d"', 'owner = "o"', "version = 1", "[params]", *params.splitlines()]
    lines += ["[rules]", rules, "[columns]", 'x = { type = "int32", doc = "x" }', "///"]
    text = "\n".join(f"-- {line}" for line in lines) + f"\nSELECT t.x FROM d.t AS t WHERE {where}\n"
    return contract.parse(Path("prices.sql"), text)


def asked(
    found: Dataset, values: Mapping[str, Value], fits: Callable[[Mapping[str, Any]], bool]
) -> tuple[str, list[Mapping[str, Any]]]:
    probes: list[Mapping[str, Any]] = []

    def counted(other: Mapping[str, Value]) -> bool:
        probes.append(other)
        return fits(other)

    return advice(found, values, TODAY, counted, "max_scan"), probes


START = 'start_date = { type = "date", example = 2020-01-01, doc = "d" }'
END = 'end_date = { type = "date", optional = true, example = 2020-01-01, doc = "d" }'
LIST = 'ids = { type = "list<int32>", example = [1], doc = "d" }'


def test_names_the_earliest_day_that_fits() -> None:
    said, probes = asked(
        dataset(START, "t.day >= :start_date"),
        {"start_date": date(2023, 1, 1)},
        lambda v: v["start_date"] >= date(2024, 3, 1),
    )
    assert said == "with start_date=2024-03-01 it would fit"
    assert len(probes) <= PROBES_MAX


def test_a_long_range_is_searched_by_months() -> None:
    said, probes = asked(
        dataset(START, "t.day >= :start_date"),
        {"start_date": date(1950, 5, 20)},
        lambda v: v["start_date"] >= date(2019, 2, 15),
    )
    assert said == "with start_date=2019-03-01 it would fit"
    assert len(probes) <= PROBES_MAX


@pytest.mark.parametrize("first", [date(1950, 5, 1), date(1950, 5, 20), date(1950, 12, 31), date(1950, 1, 1)])
def test_months_start_after_the_given_day(first: date) -> None:
    _, probes = asked(dataset(START, "t.day >= :start_date"), {"start_date": first}, lambda _: True)
    following = date(first.year + (first.month == 12), first.month % 12 + 1, 1)
    assert min(p["start_date"] for p in probes) == following
    assert {p["start_date"].day for p in probes} == {1}


def test_no_suggestion_passes_the_end_of_the_range() -> None:
    found = dataset(
        f"{START}\n{END}", "t.day >= :start_date AND t.day <= :end_date", 'range = "start_date <= end_date"'
    )
    said, probes = asked(found, {"start_date": date(2023, 1, 1), "end_date": date(2023, 2, 1)}, lambda _: False)
    assert said == "no start_date makes it fit; the data owner can raise max_scan of prices"
    assert [p["start_date"] for p in probes] == [date(2023, 2, 1)]


def test_an_absent_bound_is_suggested_from_its_minimum_on() -> None:
    found = dataset(
        'since = { type = "date", optional = true, min = 2024-01-01, example = 2024-01-01, doc = "d" }',
        "t.day >= :since",
    )
    said, probes = asked(found, {}, lambda v: v["since"] >= date(2024, 1, 1))
    assert said == "with since=2024-01-01 it would fit"
    assert all(p["since"] >= date(2024, 1, 1) for p in probes)


def test_a_suggestion_keeps_within_the_maximum() -> None:
    found = dataset('start = { type = "date", max = 2024-02-01, example = 2024-01-01, doc = "d" }', "t.day >= :start")
    said, _ = asked(found, {"start": date(2024, 1, 1)}, lambda v: v["start"] > date(2024, 2, 1))
    assert said.startswith("no start makes it fit")


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("timestamp", datetime(2024, 1, 1, 9, 30), "2024-03-01T00:00:00"),
        ("timestamp(tz)", datetime(2024, 1, 1, 9, 30, tzinfo=UTC), "2024-03-01T00:00:00Z"),
    ],
)
def test_a_moment_is_suggested_as_midnight(kind: str, given: datetime, text: str) -> None:
    found = dataset(
        f'since = {{ type = "{kind}", example = 2024-01-01T00:00:00Z, doc = "d" }}'.replace(
            "00Z", "00" if kind == "timestamp" else "00Z"
        ),
        "t.at >= :since",
    )
    limit = datetime(2024, 3, 1, tzinfo=given.tzinfo)
    said, _ = asked(found, {"since": given}, lambda v: v["since"] >= limit)
    assert said == f"with since={text} it would fit"


@pytest.mark.parametrize(
    "where",
    ["t.day >= :start_date", "t.day > CAST(:start_date AS DATE)", ":start_date <= t.day",
     "t.day BETWEEN :start_date AND DATE '2030-01-01'", "t.day >= date_add('day', -20, :start_date)"],
)  # fmt: skip
def test_every_spelling_of_a_lower_bound_counts(where: str) -> None:
    said, _ = asked(dataset(START, where), {"start_date": date(2024, 6, 1)}, lambda _: True)
    assert said == "with start_date=2024-06-02 it would fit"


def test_an_upper_bound_is_no_lower_bound() -> None:
    said, probes = asked(dataset(START, "t.day <= :start_date"), {"start_date": date(2024, 6, 1)}, lambda _: True)
    assert (said, probes) == ("ask for less; the data owner can raise max_scan of prices", [])


def test_a_list_is_cut_to_the_most_items_that_fit() -> None:
    values = {"ids": tuple(range(1000))}
    said, probes = asked(dataset(LIST, "t.id IN (:ids)"), values, lambda v: len(v["ids"]) <= 123)
    assert said == "with 123 of the 1,000 items of ids it would fit"
    assert len(probes) <= PROBES_MAX


def test_a_list_helps_where_no_date_does() -> None:
    found = dataset(f"{START}\n{LIST}", "t.id IN (:ids) AND t.day >= :start_date")
    values: dict[str, Value] = {"start_date": date(1950, 1, 1), "ids": tuple(range(1000))}
    said, probes = asked(found, values, lambda v: len(v["ids"]) <= 2)
    assert said == "with 2 of the 1,000 items of ids it would fit"
    assert len(probes) <= PROBES_MAX


def test_a_list_that_fits_at_no_length_names_the_limit() -> None:
    said, probes = asked(dataset(LIST, "t.id IN (:ids)"), {"ids": (1, 2, 3)}, lambda _: False)
    assert said == "ask for less; the data owner can raise max_scan of prices"
    assert len(probes) == 1
