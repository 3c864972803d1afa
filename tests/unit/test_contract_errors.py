"""Every mistake in a dataset file is found at its line and column, with the nearest known name."""

from __future__ import annotations

from pathlib import Path

import pytest

from flight_server.datasets import registry
from tests.fix_datasets import VALID, changed, parse, problem

TICKER = '-- ticker = { type = "string", max_length = 8, doc = "Ticker" }'

# Each: what is replaced in the valid file, by what, the text at which the error is placed, and a part of its message.
BLOCK = [
    ("-- /// dataset", "-- /// datasets", "-- /// datasets", "starts with the line '-- /// dataset'"),
    ("-- ///\nSELECT", "SELECT", "SELECT", "a line of the contract starts with '-- '"),
    ('-- owner = "tests"', '--owner = "tests"', "--owner", "a line of the contract starts with '-- '"),
    ('-- owner = "tests"', "-- owner = tests", "tests", "not TOML: Invalid value"),
    ('-- owner = "tests"', '-- title = "Again"', '\n-- key = ["day"]', "not TOML: Cannot overwrite a value"),
]
KEYS = [
    ('-- owner = "tests"', '-- ownr = "tests"', "ownr", "there is no key 'ownr'; did you mean 'owner'?"),
    ('-- title = "Sample"\n', "", "owner", "'title' is missing"),
    ("-- [rules]", "-- [rulez]", "[rulez]", "there is no key 'rulez'; did you mean 'rules'?"),
    ('-- key = ["day"]', '-- key = "day"', "key", "'key' must be a list, not 'day'"),
    ('-- key = ["day"]', "-- key = [1]", "key", "'key' must be a list of strings"),
    ('-- key = ["day"]', '-- key = ["dya"]', "key", "names 'dya', which is no column; did you mean 'day'?"),
    ('-- sorted = ["day"]', '-- sorted = ["day downwards"]', "sorted", "'day downwards' is no order"),
    ('-- sorted = ["day"]', '-- sorted = ["close"]', "ORDER BY", "the query's ORDER BY is day"),
    ('-- owner = "tests"', "-- version = 2", "version", "version = 2 belongs in sample.v2.sql"),
    ('-- owner = "tests"', "-- version = true", "version", "'version' must be a whole number, not True"),
    ("-- [rules]", '-- [limits]\n-- max_scan = "2 GBB"', "max_scan", "write a number and a unit of B, KB, MB"),
    (
        "-- [rules]",
        "-- [limits]\n-- timeout = 60",
        "timeout",
        "timeout = 60: write a number and a unit of ms, s, m, h, d, as in '60s'",
    ),
    ("-- [rules]", "-- [limits]\n-- max_rows = 0", "max_rows", "max_rows must be at least 1"),
    ("-- [rules]", "-- [limits]\n-- max_csot = 1", "max_csot", "did you mean 'max_cost'?"),
    ("-- [rules]", '-- [cache]\n-- mode = "ttl"', "[cache]", "ttl belongs to mode"),
    ("-- [rules]", '-- [cache]\n-- mode = "snapshots"', "mode", "did you mean 'snapshot'?"),
    ("-- [rules]", '-- [route]\n-- engine = "athna"', "engine", "did you mean 'athena'?"),
    ("-- [rules]", '-- [access]\n-- roles = "pm"', "roles", "'roles' must be a list"),
    ("-- [rules]", "-- [access]\n-- roles = []", "roles", "roles = [] names nobody"),
    ("-- [rules]", '-- [limits]\n-- max_scan = "0 B"', "max_scan", "max_scan = '0 B' must be more than nothing"),
    ("-- [rules]", '-- [limits]\n-- timeout = "0s"', "timeout", "must be more than nothing"),
    ("-- [rules]", "-- [limits]\n-- max_cost = -1", "max_cost", "max_cost = -1.0: write dollars, more than 0"),
    ("-- [rules]", "-- [limits]\n-- max_cost = nan", "max_cost", "max_cost = nan: write dollars"),
    ("-- [rules]", '-- [materialize]\n-- partition = "day"', "[materialize]", "'table' is missing"),
]
PARAMS = [
    ("max_length = 8", "max_lenght = 8", "max_lenght", "did you mean 'max_length'?"),
    ('"string"', '"strng"', "type", "did you mean 'string'?"),
    (TICKER, "-- ticker = { max_length = 8 }", "ticker", "'type' is missing in [params.ticker]"),
    (TICKER, '-- ticker = "string"', "ticker", "'ticker' must be a table"),
    ("-- ticker", "-- Ticker", "Ticker", "'Ticker' is no parameter name"),
    ("max_length = 8", "max_length = 0", "max_length", "max_length must be at least 1, not 0"),
    ("max_length = 8", 'pattern = "["', "pattern", "pattern is no regular expression"),
    ("max_length = 8", 'default = "A", optional = true', "default", "not two at once"),
    ("max_length = 8", 'default = "A", optional = "yes"', "optional", "must be a true or false, not 'yes'"),
    ('"string", max_length = 8', '"enum"', "type", "an enum needs choices"),
    ('"string", max_length = 8', '"enum", choices = ["a", 1]', "choices", "choices = 1 is not a string"),
    ('"string", max_length = 8', '"int32", min = 1.5', "min", "min = 1.5 is not a whole number"),
    ('"string", max_length = 8', '"int32", max = 10, default = 11', "default", "above the greatest allowed value"),
    ('"string", max_length = 8', '"int32", example = 2147483648', "example", "does not fit int32"),
    ('"string", max_length = 8', '"date", default = "yesterday"', "default", "or today, today - 30d"),
    ('"string", max_length = 8', '"list<int32>", default = []', "default", "at least 1 are needed"),
    ('"string", max_length = 8', '"list<int32>", max_items = 0', "max_items", "max_items must be at least 1"),
    ('"string", max_length = 8', '"int32", min = 5, max = 3', "max", "max is below min"),
    ('"string", max_length = 8', '"int32", choices = [1, 9], max = 5', "choices", "choices = 9 is above the greatest"),
    ('"string", max_length = 8', '"list<int32>", min_items = 2, max_items = 1', "max_items", "below min_items"),
    (
        "-- [rules]",
        '-- [rules]\n-- kinds = "day <= ticker"',
        "kinds",
        "day is date and ticker is string: they cannot be compared",
    ),
    ("-- [rules]", '-- [rules]\n-- range = "1 < day < 2"', "range", "is no rule; write: start_date <= end_date"),
    (
        "-- [rules]",
        '-- [rules]\n-- range = "dya <= ticker"',
        "range",
        "'dya', which is no parameter; did you mean 'day'?",
    ),
]
QUERY = [
    ('close = { type = "float32"', 'close = { type = "float23"', 'type = "float23"', "did you mean 'float32'?"),
    ('-- close = { type = "float32", unit = "USD" }\n', "", "close\nFROM", "[columns] does not declare 'close'"),
    ("-- close =", "-- clsoe =", "close\nFROM", "[columns] does not declare 'close'; did you mean 'clsoe'?"),
    ("WHERE p.ticker", "WEHRE p.ticker", "WEHRE", "not SQL: 'WEHRE' is not expected here"),
    ("p.ticker = :ticker", "p.ticker = %(x)s", "s\n  AND", "not SQL: MOD lacks what belongs to it"),
    ("p.ticker = :ticker", "p.ticker = ':ticker'", "':ticker'", "use :ticker, without quotes, or remove it"),
    ("p.ticker = :ticker", "p.ticker = '{{ ticker }}'", "'{{", "use :ticker, without quotes, or remove it"),
    ("ORDER BY p.day\n", "ORDER BY p.day; SELECT 1\n", "SELECT", "this file has 2 statements"),
    ("p.ticker = :ticker", "p.ticker = :tickr", ":tickr", "[params] has no 'tickr'; did you mean 'ticker'?"),
    ("p.ticker = :ticker", "p.ticker = ?", "?", "write a parameter as :name"),
    ("p.ticker = :ticker", "p.ticker = @ticker", "@ticker", "write a parameter as :name"),
    ("  AND p.day >= :day\n", "", "SELECT", "the query never uses the parameter 'day'"),
    ("SELECT p.day, p.close", "SELECT *", "*", "SELECT * changes its meaning"),
    ("SELECT p.day, p.close", "SELECT p.day, p.close + 1", "SELECT", "result column 2 has no name"),
    ("SELECT p.day, p.close", "SELECT p.close, p.day", "SELECT", "[columns] has another order than the query"),
    ("SELECT p.day, p.close", "SELECT p.day, p.close, p.close", "SELECT", "two result columns named 'close'"),
    ("ORDER BY p.day", "ORDER BY p.day DESC", "ORDER BY", "sorted = [day] and the query's ORDER BY is day desc"),
    ("ORDER BY p.day", "ORDER BY p.day NULLS FIRST", "ORDER BY", "ORDER BY is day nulls first"),
    ("ORDER BY p.day", "ORDER BY p.day + 1", "ORDER BY", "the query's ORDER BY is p.day + 1"),
    ("ORDER BY p.day\n", "\n", "SELECT", "the query's ORDER BY is nothing"),
]


def test_the_valid_file_is_valid() -> None:
    assert parse(VALID).name == "sample"


@pytest.mark.parametrize(("old", "new", "at", "said"), [*BLOCK, *KEYS, *PARAMS, *QUERY])
def test_a_mistake_is_placed(old: str, new: str, at: str, said: str) -> None:
    text = changed(old, new)
    found = problem(text)
    before = text[: text.index(at)]
    assert said in found.message
    assert (found.line, found.column) == (before.count("\n") + 1, len(before) - before.rfind("\n"))


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE a.b",
        "DELETE FROM a.b",
        "INSERT INTO a.b SELECT 1 AS x",
        "CREATE TABLE a.b AS SELECT 1 AS x",
        "SHOW TABLES",
    ],
)
def test_only_a_select_is_a_dataset(statement: str) -> None:
    assert "one SELECT, not" in problem(VALID[: VALID.index("SELECT")] + statement).message


def test_the_message_starts_with_file_line_and_column() -> None:
    assert str(problem(changed("owner", "ownr"))).startswith("sample.sql:3:4: there is no key 'ownr'")


@pytest.mark.parametrize("name", ["Daily.sql", "daily-prices.sql", "daily.v0.sql", "daily.v2.txt", "1a.sql", "é.sql"])
def test_a_file_name_that_is_no_dataset_name_is_refused(name: str) -> None:
    assert "a dataset file is named" in problem(VALID, name).message


def test_windows_line_ends_and_its_byte_order_mark_are_read() -> None:
    assert parse(VALID.replace("\n", "\r\n")).columns == parse(VALID).columns
    assert parse("\ufeff" + VALID).columns == parse(VALID).columns


def test_the_known_keys_are_named_once() -> None:
    said = problem(changed("owner", "ownr")).message
    assert said.count("params") == 1


def test_toml_that_lacks_quotes_says_where_they_stand() -> None:
    assert "a text stands in straight double quotes" in problem(changed('"tests"', "tests")).message
    assert "other signs than A-Z" in problem(changed("close = {", "종가 = {")).message


def test_a_folder_reports_each_wrong_file_and_keeps_the_right_ones(tmp_path: Path) -> None:
    (tmp_path / "good.sql").write_text(VALID)
    (tmp_path / "bad.sql").write_text(changed("owner", "ownr"))
    (tmp_path / "binary.sql").write_bytes(b"-- /// dataset\n\xff")
    (tmp_path / "notes.txt").write_text("not a dataset")
    found, errors = registry.load(tmp_path)
    assert list(found.datasets) == ["good"]
    assert [(error.path.name, error.line) for error in errors] == [("bad.sql", 3), ("binary.sql", 2)]


def test_a_missing_folder_is_an_error_and_not_an_empty_registry(tmp_path: Path) -> None:
    found, errors = registry.load(tmp_path / "nothing")
    assert not found.datasets
    assert "no such folder" in str(errors[0])
