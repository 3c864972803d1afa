"""Binding values into a query's tree, and removing the terms of optional parameters that are absent.

The rules of removal (docs/datasets.md) are enforced by `check`, once for each dataset: a term that may be removed
stands directly in an AND of WHERE, HAVING or ON, compares the parameter itself, and holds no other parameter. So
removing it can only drop that one comparison, and never another caller-given bound with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from flight_server.model import Parameter, Value
from flight_server.plan.literals import literal, scalar

_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.In, exp.Like)
_CLAUSES = (exp.Where, exp.Having, exp.Join)


class NotRemovable(ValueError):
    """An optional parameter stands where removing its term could change more than that one comparison."""

    def __init__(self, node: exp.Expr, reason: str) -> None:
        super().__init__(f"the optional parameter :{node.name} {reason}")
        self.node = node


def check(tree: exp.Query, params: Mapping[str, Parameter]) -> None:
    """Raise NotRemovable, naming the parameter and what to write, unless every optional parameter can be absent."""
    for name, parameter in params.items():
        if parameter.optional:
            for node in _placeholders(tree, name):
                _term(node)


def bind(
    tree: exp.Query, params: Mapping[str, Parameter], values: Mapping[str, Value]
) -> tuple[exp.Query, tuple[str, ...]]:
    """A copy of `tree` with all placeholders replaced, and the names of the parameters whose terms were removed."""
    bound = tree.copy()
    dropped = tuple(name for name in params if name not in values)
    for name in dropped:
        for node in _placeholders(bound, name):
            # Two absent placeholders can share a term (x IN (:a, :a)): the first removal took both.
            if node.root() is bound:
                _remove(_term(node))
    for node in list(bound.find_all(exp.Placeholder)):
        parameter = params[node.name]
        _replace(node, parameter, values[node.name])
    return bound, dropped


def _placeholders(tree: exp.Expr, name: str) -> list[exp.Placeholder]:
    return [node for node in tree.find_all(exp.Placeholder) if node.name == name]


def _replace(node: exp.Placeholder, parameter: Parameter, value: Value) -> None:
    parent = node.parent
    if not (isinstance(parent, exp.In) and parameter.type.kind == "list" and isinstance(value, tuple)):
        node.replace(literal(parameter.type, value))
        return
    item = parameter.type.item
    others = [other for other in parent.expressions if other is not node]
    items = [scalar(item, each) for each in value] if item else []  # type: ignore[arg-type]
    if items or others:
        parent.set("expressions", [*others, *items])
    else:
        # x IN () is no SQL; nothing is in an empty list.
        parent.replace(exp.false())


def _term(node: exp.Placeholder) -> exp.Expr:
    """The AND-term of the innermost query that holds `node`, when the rules allow to remove it."""
    operand: exp.Expr = node
    while isinstance(operand.parent, (exp.Cast, exp.Paren)):
        operand = operand.parent
    term = operand.parent
    if not isinstance(term, _COMPARISONS):
        raise NotRemovable(node, "is not a direct operand of a comparison, BETWEEN, IN or LIKE")
    others = {other.name for other in term.find_all(exp.Placeholder)} - {node.name}
    if others:
        raise NotRemovable(
            node, f"shares a term with :{sorted(others)[0]}, which would be dropped too; write two comparisons"
        )
    if term.find(exp.Query):
        raise NotRemovable(node, "shares a term with a subquery, which would be dropped too")
    above = _above(term)
    while isinstance(above, exp.And):
        above = _above(above)
    if isinstance(above, exp.Where) and isinstance(above.parent, exp.Filter):
        above = above.parent
    # NOT LIKE is no Not around a Like for the parser, as NOT IN is.
    negated = bool(term.args.get("negate"))
    if negated or not isinstance(above, _CLAUSES):
        what = "NOT" if negated else above.key.upper() if above else "nothing"
        raise NotRemovable(node, f"stands under {what}; its term must be one of the AND-terms of a WHERE")
    return term


def _above(node: exp.Expr) -> exp.Expr | None:
    parent = node.parent
    while isinstance(parent, exp.Paren):
        parent = parent.parent
    return parent


def _remove(term: exp.Expr) -> None:
    """Take an AND-term out of its clause; a clause left empty goes too."""
    while isinstance(term.parent, exp.Paren):
        term = term.parent
    parent = term.parent
    if isinstance(parent, exp.And):
        other = parent.right if parent.left is term else parent.left
        parent.replace(other)
    elif isinstance(parent, exp.Join):
        parent.set("on", exp.true())
    elif parent is not None:
        parent.pop()
