"""Values made up for a dataset, and which combinations of optional parameters are tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from flight_server.authoring.samples import combinations, sample
from flight_server.datasets import contract
from flight_server.datasets.types import param_type
from flight_server.model import Dataset, Parameter, RelativeDate, Value


@pytest.fixture
def closes(folder: Path) -> Dataset:
    path = folder / "closes.sql"
    return contract.parse(path, path.read_text())


def _optionals(dataset: Dataset, count: int) -> Dataset:
    names = [f"p{n}" for n in range(count)]
    return replace(dataset, params={n: Parameter(n, param_type("int32"), optional=True) for n in names})


def test_few_optionals_are_tried_in_every_combination(closes: Dataset) -> None:
    assert list(combinations(closes)) == [("last", "most"), ("last",), ("most",), ()]
    assert len(set(combinations(_optionals(closes, 6)))) == 64


def test_many_optionals_are_tried_alone_and_left_out_alone(closes: Dataset) -> None:
    tried = list(combinations(_optionals(closes, 20)))
    assert len(tried) == len(set(tried)) == 42
    assert {len(present) for present in tried} == {0, 1, 19, 20}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"example": 7, "default": 8}, 7),
        ({"default": 8, "min": 5}, 8),
        ({"min": 5}, 5),
        ({"max": -5}, -5),
        ({"choices": (3, 4)}, 3),
        ({}, 1),
        ({"type": param_type("list<int32>")}, (1,)),
        ({"type": param_type("map<string, float64>")}, (("a", 1.0),)),
        ({"type": param_type("date"), "default": RelativeDate("month_start")}, date(2010, 1, 1)),
        ({"type": param_type("timestamp"), "default": RelativeDate("today")}, datetime(2010, 1, 4)),
        ({"type": param_type("timestamp(tz)"), "default": RelativeDate("today")}, datetime(2010, 1, 4, tzinfo=UTC)),
    ],
)
def test_a_sample_is_what_the_contract_suggests(change: dict[str, object], expected: Value) -> None:
    parameter = Parameter("p", param_type("int32"))
    make: Callable[..., Parameter] = replace
    assert sample(make(parameter, **change)) == expected
