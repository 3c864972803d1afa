"""A connection and its datasets, as a person at a prompt meets them."""

from __future__ import annotations

import datetime as dt
import inspect
import pydoc
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

import flight_client
from flight_client import Connection, InvalidRequest, NotFound, Query


def completions(namespace: dict[str, object], text: str) -> list[str]:
    """What a press of the tab key offers after `text`, in IPython and Jupyter."""
    shell = InteractiveShell.instance()
    shell.user_ns.update(namespace)
    with provisionalcompleter():
        found = shell.Completer.completions(text, len(text))
        return [each.text for each in found]


def test_print_shows_datasets_with_parameters_and_titles(db: Connection) -> None:
    lines = repr(db).splitlines()
    assert lines[0].endswith(f"{len(db)} datasets")
    assert "daily_prices" in repr(db)
    assert any(re.fullmatch(r"daily_prices +Daily prices +\(ticker, start_date, end_date\?\)", line) for line in lines)


def test_the_server_says_who_asks(db: Connection) -> None:
    assert db.whoami() == {"name": "anonymous", "roles": ["*"], "budget": None, "statements": None}


def test_notebook_shows_a_table(db: Connection) -> None:
    html = db._repr_html_()
    assert "<td>daily_prices</td><td>ticker, start_date, end_date?</td><td>Daily prices</td>" in html
    assert "Performance of a portfolio&#x27;s NAV" in html


def test_signature_says_what_the_contract_says(db: Connection) -> None:
    assert inspect.signature(db.daily_prices) == inspect.Signature(
        [
            inspect.Parameter("ticker", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str),
            inspect.Parameter("start_date", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=dt.date),
            inspect.Parameter(
                "end_date", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=dt.date | None
            ),
        ],
        return_annotation=Query,
    )


def test_every_type_has_its_python_annotation(db: Connection) -> None:
    found = {name: each.annotation for name, each in inspect.signature(db.every_type).parameters.items()}
    assert found == {
        "flag": bool,
        "small": int,
        "large": int,
        "ratio": float,
        "amount": Decimal,
        "word": str,
        "side": str,
        "day": dt.date,
        "moment": dt.datetime,
        "instant": dt.datetime,
        "numbers": Sequence[int],
        "weights": Mapping[int, float],
        "class_": str | None,
    }
    assert inspect.signature(db.every_type).parameters["class_"].default == "none"


def test_help_has_parameters_columns_and_units(db: Connection) -> None:
    text = pydoc.plain(pydoc.render_doc(db.daily_prices))
    for expected in (
        "One row per trading day of one US stock",
        "ticker: string. Exchange ticker of a US stock; max_length 12",
        "end_date: date (optional). Last day, inclusive; absent = latest",
        "rule: start_date <= end_date",
        "close: float32 (USD). Close as quoted that day",
    ):
        assert expected in text
    assert "makes a Query and asks nothing" in pydoc.render_doc(flight_client.Dataset)


def test_tab_completes_datasets_and_keys_and_parameters(db: Connection) -> None:
    assert ".daily_prices" in completions({"db": db}, "db.daily_p") or "daily_prices" in completions(
        {"db": db}, "db.daily_p"
    )
    assert any("daily_prices" in each for each in completions({"db": db}, 'db["daily_p'))
    assert "start_date=" in completions({"db": db}, "db.daily_prices(sta")
    assert "start_date=" in completions({"prices": db.daily_prices}, "prices(sta")


def test_dir_has_datasets_and_methods(db: Connection) -> None:
    assert {"daily_prices", "every_type", "datasets", "close"} <= set(dir(db))


def test_datasets_are_items_and_a_collection(db: Connection) -> None:
    assert db["daily_prices"]("AAPL", "2010-01-04").request == db.daily_prices("AAPL", "2010-01-04").request
    assert "daily_prices" in db
    assert list(db) == db.datasets() == sorted(db.datasets())


def test_unknown_dataset_names_the_nearest(db: Connection) -> None:
    with pytest.raises(AttributeError, match="did you mean 'daily_prices'"):
        _ = db.daily_price
    with pytest.raises(KeyError) as caught:
        _ = db["daily_price"]
    assert isinstance(caught.value, NotFound)
    assert str(caught.value).startswith(
        "[unknown-dataset] there is no dataset 'daily_price'; did you mean 'daily_prices'?"
    )


def test_unknown_version_is_the_servers_answer(db: Connection) -> None:
    with pytest.raises(NotFound, match=r"^\[unknown-version\] daily_prices has no version 7; it has 1$"):
        db.dataset("daily_prices", version=7)("AAPL", "2010-01-04")


def test_call_asks_nothing(db: Connection) -> None:
    query = db.daily_prices("no ticker at all", start_date="no date")
    assert repr(query) == "<daily_prices(ticker='no ticker at all', start_date='no date') version=1>"


def test_unknown_parameter_names_the_nearest(db: Connection) -> None:
    with pytest.raises(InvalidRequest) as caught:
        db.daily_prices(tiker="AAPL", start_date="2010-01-04")
    assert caught.value.code == "unknown-parameter"
    assert caught.value.message == (
        "daily_prices has no parameter 'tiker'; did you mean 'ticker'? It takes ticker, start_date, end_date"
    )


def test_all_that_is_missing_is_named_with_a_call_that_has_it(db: Connection) -> None:
    with pytest.raises(InvalidRequest) as caught:
        db.daily_prices()
    assert caught.value.message == (
        "daily_prices needs 'ticker' (string), 'start_date' (date), "
        "for example daily_prices(ticker='AAPL', start_date='2010-01-04')"
    )


@pytest.mark.parametrize(
    ("args", "given", "code"),
    [
        (("AAPL",), {}, "missing-parameter"),
        (("AAPL", "2010-01-04"), {"ticker": "IBM"}, "bad-parameter"),
        (("AAPL", "2010-01-04", "2010-02-01", 4), {}, "bad-request"),
    ],
)
def test_wrong_calls_fail_at_once(
    db: Connection, args: tuple[object, ...], given: dict[str, object], code: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        db.daily_prices(*args, **given)
    assert caught.value.code == code


def test_none_leaves_an_optional_parameter_out(db: Connection) -> None:
    query = db.daily_prices("AAPL", "2010-01-04", end_date=None)
    assert query.request["params"] == {"ticker": "AAPL", "start_date": "2010-01-04"}
    assert query.plan().dropped == ("end_date",)


def test_a_name_that_python_keeps_gets_an_underscore(db: Connection) -> None:
    contract = db.every_type.contract
    examples = {each.python_name: each.example for each in contract.params if each.required}
    query = db.every_type(**examples, class_="first")
    assert query.arrow()["class"].to_pylist() == ["first"]
    assert db.every_type(**examples).plan().params["class"] == "none"
