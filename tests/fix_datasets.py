"""Dataset files made in tests: a small valid one, and variations of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flight_server.datasets import contract
from flight_server.errors import DatasetError, Error
from flight_server.model import Dataset, Text

NAME = "sample.sql"

VALID = """\
-- /// dataset
-- title = "Sample"
-- owner = "tests"
-- key = ["day"]
-- sorted = ["day"]
--
-- [params]
-- ticker = { type = "string", max_length = 8, doc = "Ticker" }
-- day = { type = "date", optional = true }
--
-- [rules]
--
-- [columns]
-- day = { type = "date", null = false }
-- close = { type = "float32", unit = "USD" }
-- ///
SELECT p.day, p.close
FROM market.prices AS p
WHERE p.ticker = :ticker
  AND p.day >= :day
ORDER BY p.day
"""


def parse(text: str, name: str = NAME) -> Dataset:
    return contract.parse(Path(name), text)


def changed(old: str, new: str) -> str:
    """`VALID` with one text replaced, which must be in it."""
    assert old in VALID
    return VALID.replace(old, new)


def problem(text: str, name: str = NAME) -> DatasetError:
    """What is wrong with a file."""
    try:
        parse(text, name)
    except DatasetError as error:
        return error
    raise AssertionError("the file was accepted")


def with_params(*params: str, rules: tuple[str, ...] = ()) -> Dataset:
    """A dataset of the given parameters, each a TOML line such as `n = { type = "int32" }`."""
    names = [line.split("=")[0].strip() for line in params]
    lines = [
        "/// dataset",
        'title = "Sample"',
        "[params]",
        *params,
        "[rules]",
        *rules,
        "[columns]",
        'x = { type = "int32" }',
        "///",
    ]
    terms = "".join(f" AND p.{name} = :{name}" for name in names)
    return parse("\n".join(f"-- {line}" for line in lines) + f"\nSELECT p.x FROM d.t AS p WHERE p.x = 1{terms}\n")


def with_columns(*columns: str) -> Dataset:
    """A dataset of the given result columns, each a TOML line such as `x = { type = "int32" }`."""
    names = [line.split("=")[0].strip() for line in columns]
    lines = ["/// dataset", 'title = "Sample"', "[columns]", *columns, "///"]
    items = ", ".join(f"p.{name}" for name in names)
    return parse("\n".join(f"-- {line}" for line in lines) + f"\nSELECT {items} FROM d.t AS p\n")


def text(*values: str) -> Text:
    """Values as the query form gives them."""
    return Text(values)


def message(call: Callable[[], object]) -> str | None:
    """What `call` says when it refuses with one of our errors or a ValueError; None when it does not."""
    try:
        call()
    except (Error, ValueError) as error:
        return str(error)
    return None
