"""`check`: what it finds, where it says it is, and that what is right passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flight_server.authoring.check import check
from flight_server.config import Config
from flight_server.errors import DatasetError
from flight_server.server import build, load_datasets

SQL = Path(__file__).parents[2] / "sql"
Edit = Callable[..., Path]


def test_the_repository_is_right_and_checked_in_under_a_second() -> None:
    assert check(SQL) == []
    started = time.thread_time()
    assert check(SQL) == []
    assert time.thread_time() - started < 1


def test_the_folder_of_these_tests_is_right(folder: Path) -> None:
    assert check(folder) == []


# Replacements in closes.sql, the expected place and the message.
WRONG: list[tuple[list[tuple[str, str]], str, str]] = [
    ([("market.prices", "market.price")], ":22:6", "there is no table 'market.price' in tables/; did you mean"),
    ([("p.close, p.shares", "p.clsoe AS close, p.shares")], ":21:15", "no column 'clsoe' here; did you mean 'close'?"),
    (
        [
            ("FROM market.prices AS p", "FROM market.prices AS p\nJOIN market.stocks AS s ON s.stock = p.stock"),
            ("WHERE p.stock", "WHERE stock"),
        ],
        ":24:7",
        "'stock' is in market.prices and market.stocks; write which, as in t.stock",
    ),
    (
        [
            ("FROM market.prices AS p", "FROM market.prices AS p\nJOIN market.prices AS s ON s.stock = p.stock"),
            ("WHERE p.stock", "WHERE stock"),
        ],
        ":24:7",
        "it is not clear which column 'stock' is meant; write its table",
    ),
    (
        [('close  = { type = "float32" }', 'close  = { type = "date" }')],
        ":18:15",
        "'close' is declared date and the query gives float32",
    ),
    ([("p.close, p.shares", "CAST(p.close AS DOUBLE) AS close, p.shares")], ":18:15", "declare float64, or CAST"),
    (
        [('shares = { type = "int64" }', 'shares = { type = "int32" }')],
        ":19:15",
        "'shares' is declared int32 and the query gives int64",
    ),
    ([("p.close, p.shares", "p.amount AS close, p.shares")], ":18:15", "the query gives decimal(10,2)"),
    (
        [("p.close <= :most", "(p.close <= :most OR p.close IS NULL)")],
        ":26:19",
        "optional parameter :most stands under OR",
    ),
    ([("p.close, p.shares", "p.close, read_text(p.stock) AS shares")], ":21:24", "function read_text() is not allowed"),
    ([("p.close, p.shares", "p.close, strpos(p.stock, 'A', 2) AS shares")], ":21:1", "DuckDB cannot say this: STRPOS"),
    ([("p.close, p.shares", "p.close, split(p.stock, 'A', 2) AS shares")], ":21:24", "split() with a limit is for"),
    (
        [("p.close, p.shares", "p.close, sum(p.shares) OVER (ORDER BY p.day ROWS 2 PRECEDING EXCLUDE TIES) AS shares")],
        ":21:1",
        "Athena cannot say this: EXCLUDE",
    ),
    (
        [("p.close <= :most", "p.close <= :most AND p.day < now()")],
        ":26:36",
        "current_timestamp changes from call to call",
    ),
    ([("p.day <= :last", "p.day <= :lats")], ":25:16", "[params] has no 'lats'; did you mean 'last'?"),
    ([("-- version = 1", "-- verison = 1")], ":3:4", "there is no key 'verison'; did you mean 'version'?"),
    ([("p.close <= :most", "abs(p.day) <= :most")], ":21:1", "the query does not compile: DuckDB: Binder Error"),
]


@pytest.mark.parametrize(("replacements", "place", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_what_is_wrong_is_named_with_its_place(
    folder: Path, edit: Edit, replacements: list[tuple[str, str]], place: str, message: str
) -> None:
    path = edit("closes.sql", *replacements)
    found = [str(error) for error in check(folder)]
    assert len(found) == 1
    assert found[0].startswith(f"{path}{place}: ")
    assert message in found[0]


def test_a_sum_of_integers_may_be_declared_bigint(folder: Path, edit: Edit) -> None:
    edit(
        "closes.sql",
        ("p.close, p.shares", "MAX(p.close) AS close, SUM(p.shares) AS shares"),
        ("ORDER BY", "GROUP BY p.day\nORDER BY"),
    )
    assert check(folder) == []


def test_an_integer_may_be_declared_a_float_that_holds_it(folder: Path, edit: Edit) -> None:
    edit("closes.sql", ("p.close, p.shares", "CAST(p.shares AS INTEGER) AS close, p.shares"))
    assert "declared float32 and the query gives int32" in check(folder)[0].message
    edit("closes.sql", ('close  = { type = "float32" }', 'close  = { type = "float64" }'))
    assert check(folder) == []


def test_one_name_checks_one_dataset(folder: Path, edit: Edit) -> None:
    (folder / "other.sql").write_text("SELECT 1")
    assert check(folder, "closes") == []
    assert [error.path.name for error in check(folder, "other")] == ["other.sql"]
    assert "there is no dataset 'close' in this folder; did you mean 'closes'?" in str(check(folder, "close")[0])


def test_a_wrong_ddl_file_is_named_with_its_place(folder: Path, edit: Edit) -> None:
    path = edit("tables/market.prices.sql", ("close float", "close time"))
    assert str(check(folder)[0]).startswith(f"{path}:4:53: column 'close': ")


def test_without_ddl_only_the_text_is_checked(folder: Path, edit: Edit) -> None:
    for path in (folder / "tables").iterdir():
        path.unlink()
    (folder / "tables").rmdir()
    assert check(folder) == []
    edit("closes.sql", ("p.shares\n", "uuid() AS shares\n"))
    assert "uuid changes" in check(folder)[0].message


def test_policies_are_held_against_the_tables(folder: Path) -> None:
    path = folder / "policies.toml"
    path.write_text('[[row_filter]]\ntable = "market.prices"\nwhere = "stcok IN (:caller.stocks)"\n')
    found = [str(error) for error in check(folder)]
    assert len(found) == 1
    assert found[0].startswith(f"{path}:3:")
    assert "stcok" in found[0]
    assert check(folder, "closes") == []
    path.write_text(path.read_text().replace("stcok", "stock"))
    assert check(folder) == []


def test_a_server_refuses_at_start_what_the_text_alone_tells(folder: Path, folder_config: Config, edit: Edit) -> None:
    assert load_datasets(folder)[1] == []
    edit("closes.sql", ("p.shares\n", "uuid() AS shares\n"), ("p.close <= :most", "NOT p.close <= :most"))
    found = [str(error) for error in load_datasets(folder)[1]]
    assert len(found) == 2
    assert ":21:24: uuid changes from call to call" in found[0]
    assert ":26:22: the optional parameter :most stands under NOT" in found[1]
    with pytest.raises(DatasetError, match="uuid changes"):
        build(folder_config)


MATERIALIZE = '--\n-- [materialize]\n-- table = "market.stocks"\n-- query = "fill/fill.sql"\n-- ///'


@pytest.mark.parametrize(
    ("section", "query", "place", "message"),
    [
        (MATERIALIZE, "SELECT p.stock, p.stock AS name FROM market.prices AS p", "", ""),
        (MATERIALIZE.replace("stocks", "stokcs"), "", "closes.sql:22:4", "did you mean 'market.stocks'?"),
        (MATERIALIZE.replace("fill.sql", "full.sql"), "", "closes.sql:23:4", "there is no file 'fill/full.sql'"),
        (
            MATERIALIZE.replace("-- ///", '-- partition = "day(day)"\n-- ///'),
            "SELECT p.stock, p.stock AS name FROM market.prices AS p",
            "closes.sql:24:4",
            "has no partitions, not day(day)",
        ),
        (
            MATERIALIZE,
            "SELECT p.stock AS name FROM market.prices AS p",
            "fill/fill.sql:1:1",
            "has the columns stock, name",
        ),
        (
            MATERIALIZE,
            "SELECT p.stock,\n p.close AS name\nFROM market.prices AS p",
            "fill/fill.sql:1:1",
            "market.stocks.name is string and the query gives float32",
        ),
        (
            MATERIALIZE,
            "SELECT p.stock,\n p.stock AS name FROM market.rpices AS p",
            "fill/fill.sql:2:23",
            "no table 'market.rpices'",
        ),
        (
            MATERIALIZE,
            "SELECT p.stock, p.stock AS name FROM market.prices AS p WHERE p.stock = :x",
            "fill/fill.sql:1:73",
            "nobody is asked for :x",
        ),
        (
            MATERIALIZE,
            "SELECT p.stock, p.nmae AS name FROM market.prices AS p",
            "fill/fill.sql:1:1",
            "does not compile",
        ),
    ],
)
def test_what_fills_a_table_is_checked_too(
    folder: Path, edit: Edit, section: str, query: str, place: str, message: str
) -> None:
    edit("closes.sql", ("-- ///\nSELECT", f"{section}\nSELECT"))
    (folder / "fill").mkdir()
    (folder / "fill" / "fill.sql").write_text(query)
    found = [str(error) for error in check(folder)]
    assert len(found) == bool(message)
    for error in found:
        assert error.startswith(f"{folder}/{place}: ")
        assert message in error


def test_the_name_of_a_dataset_of_the_servers_own_is_refused_before_a_server_does(folder: Path) -> None:
    (folder / "sys_calls.sql").write_text((folder / "closes.sql").read_text())
    (error,) = check(folder)
    assert str(error).startswith(f"{folder}/sys_calls.sql:1:1: sys_calls is a dataset of the server's own")
    assert [str(each) for each in check(folder, "sys_calls")] == [str(error)]
    assert check(folder, "closes") == []
