"""Optional parameters: which terms may be removed, what is left of the query, and what is refused."""

from __future__ import annotations

import itertools
from datetime import date

import pytest
import sqlglot

from flight_server.datasets.types import param_type
from flight_server.model import Parameter, Value
from flight_server.plan import bind
from tests.fix_engine import tree

O = Parameter("o", param_type("int32"), optional=True)  # noqa: E741 - the SQL below says :o
PARAMS = {
    "o": O,
    "l": Parameter("l", param_type("list<int32>"), optional=True),
    "r": Parameter("r", param_type("int32")),
    "o2": Parameter("o2", param_type("int32"), optional=True),
}

# A query, and what is left of it without :o, :l and :o2.
REMOVED = [
    ("SELECT x FROM t WHERE x = :o", "SELECT x FROM t"),
    ("SELECT x FROM t WHERE :o = x", "SELECT x FROM t"),
    ("SELECT x FROM t WHERE x = :o AND y = 1", "SELECT x FROM t WHERE y = 1"),
    ("SELECT x FROM t WHERE y = 1 AND x >= :o AND z = 2", "SELECT x FROM t WHERE y = 1 AND z = 2"),
    ("SELECT x FROM t WHERE y = 1 AND (x < :o AND z = 2)", "SELECT x FROM t WHERE y = 1 AND (z = 2)"),
    ("SELECT x FROM t WHERE y = 1 AND ((x <> :o))", "SELECT x FROM t WHERE y = 1"),
    ("SELECT x FROM t WHERE x = CAST(:o AS BIGINT) AND y = 1", "SELECT x FROM t WHERE y = 1"),
    ("SELECT x FROM t WHERE x = (:o)", "SELECT x FROM t"),
    ("SELECT x FROM t WHERE x BETWEEN :o AND 10", "SELECT x FROM t"),
    ("SELECT x FROM t WHERE :o BETWEEN x AND y", "SELECT x FROM t"),
    ("SELECT x FROM t WHERE x IN (:l) AND y = 1", "SELECT x FROM t WHERE y = 1"),
    ("SELECT x FROM t WHERE x IN (:o, :o)", "SELECT x FROM t"),
    ("SELECT x FROM t WHERE x LIKE :o", "SELECT x FROM t"),
    ("SELECT x FROM t WHERE x + 1 > :o", "SELECT x FROM t"),
    ("SELECT x FROM t WHERE x >= :o AND x <= :o2", "SELECT x FROM t"),
    ("SELECT x FROM t GROUP BY x HAVING COUNT(*) > :o", "SELECT x FROM t GROUP BY x"),
    ("SELECT x FROM t JOIN u ON u.k = t.k AND u.y = :o", "SELECT x FROM t JOIN u ON u.k = t.k"),
    ("SELECT x FROM t LEFT JOIN u ON u.y = :o", "SELECT x FROM t LEFT JOIN u ON TRUE"),
    ("SELECT x FROM (SELECT x FROM t WHERE x = :o AND y = 1) AS s WHERE x > 0 OR FALSE",
     "SELECT x FROM (SELECT x FROM t WHERE y = 1) AS s WHERE x > 0 OR FALSE"),
    ("WITH a AS (SELECT x FROM t WHERE x = :o) SELECT x FROM a WHERE x <= :o",
     "WITH a AS (SELECT x FROM t) SELECT x FROM a"),
    ("SELECT x FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.y = :o)", "SELECT x FROM t WHERE EXISTS(SELECT 1 FROM u)"),
    ("SELECT x FROM t WHERE x = :o UNION ALL SELECT x FROM u WHERE x = :o",
     "SELECT x FROM t UNION ALL SELECT x FROM u"),
]  # fmt: skip
REFUSED = [
    ("WHERE x = :o OR y = 1", "stands under OR"),
    ("WHERE y = 1 AND (x = :o OR z = 2)", "stands under OR"),
    ("WHERE y = 1 OR (x = :o AND z = 2)", "stands under OR"),
    ("WHERE NOT x = :o", "stands under NOT"),
    ("WHERE NOT (y = 1 AND x = :o)", "stands under NOT"),
    ("WHERE x NOT IN (:o)", "stands under NOT"),
    ("WHERE x NOT LIKE :o", "stands under NOT"),
    ("WHERE x NOT BETWEEN :o AND 3", "stands under NOT"),
    ("WHERE (x = :o) = TRUE", "stands under EQ"),
    ("WHERE (x = :o) IS TRUE", "stands under IS"),
    ("WHERE CASE WHEN x = :o THEN TRUE ELSE FALSE END", "stands under IF"),
    ("WHERE COALESCE(x = :o, TRUE)", "stands under COALESCE"),
    ("WHERE IF(x = :o, TRUE, FALSE)", "stands under IF"),
    ("WHERE x = :o + 1", "is not a direct operand"),
    ("WHERE x = -:o", "is not a direct operand"),
    ("WHERE x = COALESCE(:o, 1)", "is not a direct operand"),
    ("WHERE :o IS NULL", "is not a direct operand"),
    ("WHERE x IS DISTINCT FROM :o", "is not a direct operand"),
    ("WHERE :o", "is not a direct operand"),
    ("WHERE x = ANY (VALUES :o)", "is not a direct operand"),
    ("WHERE x = :o + :r", "is not a direct operand"),
    ("WHERE x BETWEEN :r AND :o", "shares a term with :r"),
    ("WHERE x BETWEEN :o AND :o2", "shares a term with :o2"),
    ("WHERE :o = :r", "shares a term with :r"),
    ("WHERE x IN (:r, :o)", "shares a term with :r"),
    ("WHERE x + :r = :o", "shares a term with :r"),
    ("WHERE (SELECT MAX(y) FROM u) > :o", "shares a term with a subquery"),
    ("WHERE :o IN (SELECT y FROM u WHERE y > 2)", "shares a term with a subquery"),
    ("WHERE x = (SELECT :o)", "is not a direct operand"),
    ("WHERE x = (SELECT y FROM u WHERE z = 1 OR y = :o)", "stands under OR"),
    ("GROUP BY x HAVING COUNT(*) > 1 OR SUM(x) > :o", "stands under OR"),
    ("JOIN u ON u.k = t.k OR u.y = :o", "stands under OR"),
    ("CROSS JOIN UNNEST(ARRAY[:o]) AS u (y)", "is not a direct operand"),
    ("ORDER BY x = :o", "must be one of the AND-terms"),
    ("LIMIT :o", "is not a direct operand"),
]  # fmt: skip
IN_SELECT = [
    ("SELECT :o AS x FROM t", "is not a direct operand"),
    ("SELECT x = :o AS x FROM t", "stands under"),
    ("SELECT CASE WHEN x = :o THEN 1 END AS x FROM t", "stands under"),
    ("SELECT COUNT(*) FILTER (WHERE x = :o) AS x FROM t", "stands under FILTER"),
    ("SELECT COUNT(*) FILTER (WHERE x = :o AND y = 1) AS x FROM t", "stands under FILTER"),
    ("SELECT FILTER(a, e -> e = :o) AS x FROM t", "stands under"),
    ("SELECT SUM(x) OVER (ORDER BY x = :o) AS x FROM t", "stands under"),
]


@pytest.mark.parametrize(("sql", "left"), REMOVED)
def test_an_absent_parameter_takes_its_term_with_it_and_nothing_else(sql: str, left: str) -> None:
    bind.check(tree(sql), PARAMS)
    bound, dropped = bind.bind(tree(sql), PARAMS, {"r": 1})
    assert bound == tree(left)
    assert set(dropped) == {"o", "l", "o2"}


@pytest.mark.parametrize(("sql", "said"), [*((f"SELECT x FROM t {rest}", said) for rest, said in REFUSED), *IN_SELECT])
def test_a_term_that_cannot_be_removed_safely_is_refused(sql: str, said: str) -> None:
    with pytest.raises(bind.NotRemovable) as caught:
        bind.check(tree(sql), PARAMS)
    assert said in str(caught.value)
    assert "the optional parameter :o" in str(caught.value)


@pytest.mark.parametrize("sql", [f"SELECT x FROM t {rest}" for rest, _ in REFUSED])
def test_a_required_parameter_may_stand_anywhere(sql: str) -> None:
    required = {name: Parameter(name, parameter.type) for name, parameter in PARAMS.items()}
    bind.check(tree(sql), required)
    bound, dropped = bind.bind(tree(sql), required, {"o": 1, "o2": 2, "r": 3, "l": (4,)})
    assert ":" not in bound.sql("athena")
    assert dropped == ()


def test_every_combination_of_set_and_unset_parses_and_keeps_the_other_terms() -> None:
    sql = "SELECT x FROM t WHERE a = :o AND b IN (:l) AND c = :r AND d <= :o2 AND e = 5 ORDER BY x"
    values: dict[str, Value] = {"o": 1, "l": (2, 3), "o2": 4}
    for count in range(4):
        for names in itertools.combinations(values, count):
            bound, dropped = bind.bind(tree(sql), PARAMS, {"r": 0, **{name: values[name] for name in names}})
            text = bound.sql("athena")
            assert sqlglot.parse_one(text, read="athena") == bound
            assert "c = 0" in text
            assert "e = 5" in text
            assert ("a = 1" in text, "b IN (2, 3)" in text, "d <= 4" in text) == tuple(n in names for n in values)
            assert set(dropped) == values.keys() - set(names)


def test_the_tree_of_the_dataset_is_never_changed() -> None:
    original = tree("SELECT x FROM t WHERE x = :o AND y = :r AND z IN (:l)")
    before = original.sql("athena")
    bind.bind(original, PARAMS, {"r": 1})
    bind.bind(original, PARAMS, {"r": 1, "o": 2, "l": (1,)})
    assert original.sql("athena") == before


def test_a_list_stands_beside_other_items_and_inside_functions() -> None:
    bound, _ = bind.bind(tree("SELECT x FROM t WHERE x IN (7, :l) AND CONTAINS(:l, y)"), PARAMS, {"l": (1, 2)})
    assert bound == tree("SELECT x FROM t WHERE x IN (7, 1, 2) AND CONTAINS(ARRAY[1, 2], y)")


def test_an_empty_list_matches_nothing() -> None:
    bound, _ = bind.bind(tree("SELECT x FROM t WHERE x IN (:l) AND y = 1"), PARAMS, {"l": ()})
    assert bound == tree("SELECT x FROM t WHERE FALSE AND y = 1")


def test_a_date_is_bound_with_its_type() -> None:
    day = {"d": Parameter("d", param_type("date"))}
    bound, _ = bind.bind(tree("SELECT x FROM t WHERE x = :d"), day, {"d": date(2024, 1, 2)})
    assert bound.sql("athena") == "SELECT x FROM t WHERE x = CAST('2024-01-02' AS DATE)"
