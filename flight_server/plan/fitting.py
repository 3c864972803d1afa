"""Which parameter value would make a plan that is over its limit fit: named in the error, so that nobody has to guess.

The only thing asked of the planner is whether some values fit. What is named has been planned and does fit; that it
is the earliest date, or the most items, holds where reading grows with the range, which is the usual case. At most
`PROBES_MAX` plans are made for one error, whatever the values.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlglot import exp

from flight_server.model import Dataset, Parameter, Rule, Value, to_json

# One look at the best case, then a bisection of 2,047 candidates; planning one reads the manifests of a table.
PROBES_MAX = 12
_CANDIDATES_MAX = 2 ** (PROBES_MAX - 1) - 1
# A date that is absent and has no `min`: before it few tables have rows.
_EARLIEST = date(1970, 1, 1)
_DATES = ("date", "timestamp", "timestamptz")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def advice(
    dataset: Dataset, values: Mapping[str, Value], today: date, fits: Callable[[Mapping[str, Value]], bool], limit: str
) -> str:
    """What to say after "it may read so much": a value that fits, or that `limit` would have to be raised.

    `fits` makes a plan with other values; it is called `PROBES_MAX` times at most.
    """
    starts = [p for p in dataset.params.values() if p.type.kind in _DATES and is_lower_bound(dataset.tree, p.name)]
    if starts:
        moments = _moments(dataset, starts[0], values, today)
        found = _first(moments, lambda value: fits({**values, starts[0].name: value}), PROBES_MAX)
        if found is not None:
            return f"with {starts[0].name}={to_json(found)} it would fit"
    lists = [p for p in dataset.params.values() if p.type.kind == "list" and p.name in values]
    if lists:
        name, items = lists[0].name, values[lists[0].name]
        assert isinstance(items, tuple)  # noqa: S101 - the value of a list
        counts = range(len(items) - 1, max(lists[0].min_items, 1) - 1, -1)
        # One probe went to the dates.
        count = _first(counts, lambda n: fits({**values, name: items[:n]}), PROBES_MAX - 1)
        if count is not None:
            return f"with {count:,} of the {len(items):,} items of {name} it would fit"
    start = f"no {starts[0].name} makes it fit" if starts else "ask for less"
    return f"{start}; the data owner can raise {limit} of {dataset.name}"


def is_lower_bound(tree: exp.Expr, name: str) -> bool:
    """Whether some comparison of `tree` has the parameter as the least value of something: `x >= :name`."""
    for node in tree.find_all(exp.Placeholder):
        if node.name != name:
            continue
        operand: exp.Expr = node
        while isinstance(operand.parent, (exp.Cast, exp.Paren, exp.DateAdd, exp.DateSub, exp.Add, exp.Sub)):
            operand = operand.parent
        term = operand.parent
        if isinstance(term, (exp.GTE, exp.GT)) and term.right is operand:
            return True
        if isinstance(term, (exp.LTE, exp.LT)) and term.left is operand:
            return True
        if isinstance(term, exp.Between) and term.args["low"] is operand:
            return True
    return False


def _first(candidates: Sequence[Any], fits: Callable[[Any], bool], probes_max: int) -> Any:
    """The first candidate that fits, the last of them being the likeliest; None when not even that does."""
    candidates = candidates[-(2 ** (probes_max - 1) - 1) :]
    if not candidates or not fits(candidates[-1]):
        return None
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if fits(candidates[middle]):
            high = middle
        else:
            low = middle + 1
    return candidates[high]


def _moments(dataset: Dataset, parameter: Parameter, values: Mapping[str, Value], today: date) -> list[Value]:
    """Later values that the contract allows: each day, or the first of each month where there are too many days."""
    if parameter.choices:
        return []
    given = values.get(parameter.name)
    start = _day(given) + timedelta(days=1) if given is not None else _day(parameter.min or _EARLIEST)
    end = max(today, start)
    days = (end - start).days + 1
    if days <= _CANDIDATES_MAX:
        candidates = [start + timedelta(days=n) for n in range(days)]
    else:
        first = start.year * 12 + start.month - (start.day == 1)
        last = end.year * 12 + end.month - 1
        candidates = [date(month // 12, month % 12 + 1, 1) for month in range(first, last + 1)]
    moments = [_moment(day, parameter) for day in candidates]
    maximum: Any = parameter.max
    rules = [rule for rule in dataset.rules if parameter.name in (rule.left, rule.right)]
    return [
        value
        for value in moments
        if (maximum is None or value <= maximum)
        and all(_holds(rule, {**values, parameter.name: value}) for rule in rules)
    ]


def _holds(rule: Rule, values: Mapping[str, Value]) -> bool:
    if rule.left not in values or rule.right not in values:
        return True
    return _OPERATORS[rule.operator](values[rule.left], values[rule.right])


def _day(value: object) -> date:
    return value.date() if isinstance(value, datetime) else value  # type: ignore[return-value]


def _moment(day: date, parameter: Parameter) -> Any:
    if parameter.type.kind == "date":
        return day
    return datetime.combine(day, time(), UTC if parameter.type.kind == "timestamptz" else None)
