"""What is kept of statements and plans has a bound of memory, whatever clients send."""

from __future__ import annotations

import tracemalloc

import pytest

from flight_server.plan.kept import Kept, tree_bytes
from flight_server.plan.qualify import qualified
from tests.fix_engine import tree

LONG = [
    f"SELECT {', '.join(f'k + {number} AS c{number}' for number in range(300))} FROM d.t",
    f"SELECT k FROM d.t WHERE {' AND '.join(f'(k > {number} OR k = {number})' for number in range(200))}",
    f"SELECT k FROM d.t WHERE k IN ({', '.join(map(str, range(1500)))})",
]


def test_what_was_not_used_for_the_longest_time_goes_first() -> None:
    kept: Kept[str] = Kept(2, 1000)
    kept.put("a", "A", 1)
    kept.put("b", "B", 1)
    assert kept.get("a") == "A"
    kept.put("c", "C", 1)
    assert [kept.get(key) for key in "abc"] == ["A", None, "C"]


def test_all_of_them_together_have_a_bound_in_bytes() -> None:
    kept: Kept[str] = Kept(100, 10)
    for key in "abc":
        kept.put(key, key, 4)
    assert [kept.get(key) for key in "abc"] == [None, "b", "c"]
    kept.put("c", "C", 9)
    assert [kept.get(key) for key in "abc"] == [None, None, "C"]
    kept.put("c", "c", 1)
    kept.put("a", "a", 9)
    assert [kept.get(key) for key in "abc"] == ["a", None, "c"]


def test_what_is_over_the_bound_alone_is_not_kept_and_pushes_nothing_out() -> None:
    kept: Kept[str] = Kept(100, 10)
    kept.put("a", "a", 1)
    kept.put("b", "b", 11)
    assert (kept.get("a"), kept.get("b")) == ("a", None)


@pytest.mark.parametrize("sql", LONG, ids=["columns", "terms", "list"])
def test_a_tree_is_not_larger_than_it_is_counted(sql: str) -> None:
    parsed = tree(sql)
    tracemalloc.start()
    found = qualified(parsed, {"d.t": {"k": "BIGINT"}})
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tree_bytes(found) / 2 < taken < tree_bytes(found)
