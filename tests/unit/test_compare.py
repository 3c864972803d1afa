"""Results against expected rows and against the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flight_server.authoring.compare import broken_promises, differences
from flight_server.datasets import contract
from flight_server.model import Dataset, SortKey


@pytest.fixture
def closes(folder: Path) -> Dataset:
    path = folder / "closes.sql"
    return contract.parse(path, path.read_text())


FIRST, SECOND = date(2024, 1, 2), date(2024, 1, 3)


def _table(dataset: Dataset, *rows: tuple[object, ...]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[]] * len(dataset.schema)
    arrays = [pa.array(values, field.type) for field, values in zip(dataset.schema, columns, strict=True)]
    return pa.Table.from_arrays(arrays, schema=dataset.schema)


@pytest.mark.parametrize(
    ("rows", "approx", "expected"),
    [
        ([{"day": FIRST, "close": 2.28}, {"day": SECOND, "close": 3, "shares": 7}], None, []),
        ([{"close": 2.28}, {"close": 3.0}], None, []),
        ([{}, {}], None, []),
        ([{"close": 2.2800001}, {"close": 3.0}], None, ["row 1: close is 2.28, expected 2.2800002"]),
        ([{"close": 2.2800001}, {"close": 3.0}], 1e-6, []),
        ([{"close": 2.2}, {"close": 3.0}], 1e-6, ["row 1: close is 2.28, expected 2.2"]),
        ([{"shares": 1}, {}], None, ["row 1: shares is null, expected 1", "row 2: shares is 7, expected null"]),
        ([{"day": FIRST}], None, ["expected 1 rows, got 2", "row 2 is not expected: day = 2024-01-03"]),
        (
            [{"day": FIRST}, {"day": SECOND}, {"day": SECOND}],
            None,
            ["expected 3 rows, got 2", "row 3 is missing: day = 2024-01-03"],
        ),
        (
            [{"dya": FIRST}, {}],
            None,
            ["the case expects the column 'dya', which is none of closes's; did you mean 'day'?"],
        ),
        ([{"shares": 1.5}, {}], None, ["the case's rows: row 1: shares = 1.5 is no int64"]),
        ([{"day": "x"}, {}], None, ["the case's rows: row 1: day = 'x' is no date32[day]"]),
    ],
)
def test_what_differs_is_said(
    closes: Dataset, rows: list[dict[str, Any]], approx: float | None, expected: list[str]
) -> None:
    table = _table(closes, (FIRST, 2.28, None), (SECOND, 3.0, 7))
    assert differences(closes, table, rows, approx) == expected


def test_many_differences_are_cut(closes: Dataset) -> None:
    table = _table(closes, *[(FIRST, float(n), n) for n in range(30)])
    found = differences(closes, table, [{"shares": -1}] * 30, None)
    assert len(found) == 11
    assert found[-1] == "and 20 more"


def test_order_counts_only_where_it_is_promised(closes: Dataset) -> None:
    table = _table(closes, (SECOND, 1.0, 1), (FIRST, 2.0, 2))
    rows = [{"day": FIRST, "shares": 2}, {"day": SECOND, "shares": 1}]
    assert len(differences(closes, table, rows, None)) == 4
    assert differences(replace(closes, sorted=()), table, rows, None) == []


def test_nan_equals_only_nan(closes: Dataset) -> None:
    table = _table(closes, (FIRST, float("nan"), None))
    assert differences(closes, table, [{"close": float("nan")}], None) == []
    assert differences(closes, table, [{"close": 1.0}], 1e9) == ["row 1: close is nan, expected 1"]


def test_a_key_that_comes_twice_is_a_broken_promise(closes: Dataset) -> None:
    twice = _table(closes, (FIRST, 1.0, 1), (FIRST, 2.0, 2))
    assert broken_promises(closes, twice) == ["key: more than one row has day = 2024-01-02"]
    assert broken_promises(closes, _table(closes)) == []


@pytest.mark.parametrize(
    ("key", "shares", "said"),
    [
        (SortKey("shares"), [1, 2, None], []),
        (SortKey("shares"), [2, 1, None], ["sorted: row 2 belongs before row 1"]),
        (SortKey("shares"), [None, 1, 2], ["sorted: row 2 belongs before row 1"]),
        (SortKey("shares", nulls_first=True), [None, 1, 2], []),
        (SortKey("shares", descending=True), [2, 1, None], []),
        (SortKey("shares", descending=True), [1, 2, None], ["sorted: row 2 belongs before row 1"]),
        (SortKey("shares", descending=True, nulls_first=True), [1, None, 0], ["sorted: row 2 belongs before row 1"]),
    ],
)
def test_rows_out_of_order_are_a_broken_promise(
    closes: Dataset, key: SortKey, shares: list[int | None], said: list[str]
) -> None:
    table = _table(closes, *[(FIRST, 1.0, share) for share in shares])
    assert broken_promises(replace(closes, key=(), sorted=(key,)), table) == said
