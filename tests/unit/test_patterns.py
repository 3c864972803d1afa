"""Patterns of names that clients send: LIKE in Flight SQL's metadata, globs in ListFlights. None takes long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flight_server.datasets.registry import GLOB_MAX, Registry
from flight_server.errors import InvalidRequest
from flight_server.model import ANONYMOUS
from flight_server.service.flight_sql import messages, metadata
from tests.fix_datasets import VALID, parse

# As a regular expression of `.*` each of these would take years on the long name.
SLOW = ("%_" * 40 + "!", "%a" * 40 + "!", "%" * 200 + "!", "%o_%o_%o_%" * 12 + "!")
LONG = "o_a" * 40


def like(pattern: str, name: str) -> bool:
    message = messages.new("CommandGetTables", table_name_filter_pattern=pattern)
    return bool(metadata._matcher(message, "table_name_filter_pattern")(name))


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("daily%", "daily_prices", True),
        ("daily_prices", "dailyxprices", True),
        (r"daily\_prices", "dailyxprices", False),
        (r"daily\_prices", "daily_prices", True),
        ("DAILY%", "daily_prices", True),
        ("%", "", True),
        ("", "x", False),
        ("a*", "ab", False),
        ("a*", "a*", True),
        ("a?", "ab", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("%\n%", "a\nb", True),
        (r"100\%", "100%", True),
    ],
)
def test_like_means_what_it_means_in_sql(pattern: str, name: str, matches: bool) -> None:
    assert like(pattern, name) is matches


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", SLOW)
def test_no_pattern_takes_long(pattern: str) -> None:
    assert not like(pattern, LONG)
    dataset = replace(parse(VALID), name=LONG)
    registry = Registry({LONG: {1: dataset}})
    assert list(registry.visible(ANONYMOUS, pattern.replace("%", "*").replace("_", "?"))) == []
    assert [each.name for each in registry.visible(ANONYMOUS, "o?a*")] == [LONG]


def test_a_pattern_longer_than_any_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no name is so long"):
        like("%" * (GLOB_MAX + 1), "x")
    with pytest.raises(InvalidRequest, match="no name is so long"):
        list(Registry({}).visible(ANONYMOUS, "*" * (GLOB_MAX + 1)))
