"""Keeping a query's own terms off the rows that a policy hides.

An engine evaluates the terms of a query before those of a policy where that seems cheaper, and a term that fails at a
hidden row tells of it: one bit a query, which is enough to find any value. So where a query has a term that can fail,
in a place from which engines move it towards a scan, a guarded scan gives nulls in place of the rows that its filters
do not admit. That costs a scan its statistics, so plain comparisons of a column with a constant are repeated beside
the filter, as they cannot fail. What PostgreSQL calls a security barrier, and a leakproof function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sqlglot import exp

from flight_server.plan import dialect, pushdown
from flight_server.plan.dialect import Schemas

# Whether a row is admitted, inside of the subquery of a guarded scan. No column that a statement names has a `$`.
_ADMITTED = "$admitted"
# These fail only where something in them does.
_TRANSPARENT = (exp.And, exp.Or, exp.Not, exp.Paren, exp.Alias, exp.Is, exp.Tuple, exp.Ordered, exp.Distinct)
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Between, exp.In)
# Those among them that hold for no null, so that they can be repeated on either side of an outer join.
_NULL_REJECTING = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.In)
_OF_TEXT = (exp.Lower, exp.Upper)
# An integer beside a fraction becomes a decimal with as many places, which has room for every integer up to here.
_FRACTION_SIGNS_MAX = 12
_T = exp.DataType.Type
_KINDS = {
    **dict.fromkeys((_T.TINYINT, _T.SMALLINT, _T.INT, _T.BIGINT), "integer"),
    **dict.fromkeys((_T.FLOAT, _T.DOUBLE), "float"),
    **dict.fromkeys((_T.VARCHAR, _T.TEXT, _T.CHAR), "text"),
    _T.DATE: "date",
    _T.BOOLEAN: "boolean",
    _T.TIMESTAMP: "timestamp",
    _T.TIMESTAMPTZ: "timestamptz",
}
_NUMBERS = frozenset({"integer", "float"})
# The kind of each node by its id; None where a comparison with it could fail.
_Kinds = Mapping[int, str | None]


class Barrier:
    """What a qualified tree, before any policy is put into it, says about the terms in it."""

    def __init__(self, tree: exp.Query, schemas: Schemas) -> None:
        typed = dialect.typed(tree, schemas)
        pairs = zip(tree.walk(), typed.walk(), strict=True)
        self._kinds: _Kinds = {id(node): _kind(twin.type) for node, twin in pairs}
        self.needed = any(self._can_fail(node) for node in _moved(tree))

    def put(self, guarded: exp.Subquery, masked: frozenset[str]) -> None:
        """Change the subquery of a guarded scan so that hidden rows have no values. It stands in its query already."""
        inner = guarded.this
        where, alias = inner.args["where"], inner.args["from_"].this.alias
        terms = list(self._repeated(guarded, masked))
        names = [item.alias for item in inner.expressions]
        inner.select(exp.alias_(exp.Paren(this=where.this), _ADMITTED, quoted=True), copy=False)
        inner.set("where", exp.Where(this=exp.and_(*terms, copy=True)) if terms else None)
        admitted = exp.column(_ADMITTED, table=alias, quoted=True)
        items = [
            exp.alias_(exp.Case(ifs=[exp.If(this=admitted.copy(), true=exp.column(name, table=alias))]), name)
            for name in names
        ]
        source = exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        guarded.set("this", exp.Select(expressions=items).from_(source, copy=False).where(admitted, copy=False))

    def _repeated(self, guarded: exp.Subquery, masked: frozenset[str]) -> Iterator[exp.Expr]:
        """The terms of the query around a guarded scan that its rows can be held against at once."""
        select, alias = guarded.parent_select, guarded.args["alias"]
        if not isinstance(select, exp.Select) or alias.args.get("columns"):
            return
        for term in pushdown.terms(select, guarded):
            columns = list(term.find_all(exp.Column))
            own = all(column.table == guarded.alias and column.name.lower() not in masked for column in columns)
            if columns and own and _null_rejecting(term) and not self._can_fail(term):
                found = term.copy()
                inner = guarded.this.args["from_"].this.alias
                for column in found.find_all(exp.Column):
                    column.set("table", exp.to_identifier(inner, quoted=True))
                yield exp.Paren(this=found)

    def _can_fail(self, node: exp.Expr) -> bool:
        """Whether evaluating `node` for some row can raise an error that it does not raise for all."""
        # Sums and windows are above the filter of every scan; queries in it are looked at by themselves.
        if isinstance(node, exp.Column | exp.AggFunc | exp.Window | exp.Query) or not node.find(exp.Column):
            return False
        if isinstance(node, exp.Subquery | exp.Exists):
            return False
        if isinstance(node, _TRANSPARENT):
            pass
        elif isinstance(node, _COMPARISONS):
            if not self._alike(list(_operands(node))):
                return True
        elif isinstance(node, exp.Case | exp.Coalesce | exp.If):
            simple = isinstance(node, exp.Case) and node.this is not None
            return simple or not self._alike(list(_results(node))) or any(map(self._can_fail, _parts(node)))
        elif isinstance(node, exp.Like):
            if self._kind(node.this) != "text" or not isinstance(node.expression, exp.Literal):
                return True
        elif not (isinstance(node, _OF_TEXT) and self._kind(node.this) == "text"):
            return True
        return any(map(self._can_fail, node.iter_expressions()))

    def _kind(self, node: exp.Expr) -> str | None:
        return self._kinds.get(id(node))

    def _alike(self, nodes: Sequence[exp.Expr]) -> bool:
        """Whether the values of `nodes` are compared without a conversion that can fail for one of their rows."""
        # A text that is written out is read as what it is compared with, once.
        others = [node for node in nodes if not isinstance(node, exp.Null) and not _is_text(node)]
        kinds = {self._kind(node) for node in others}
        if None in kinds or not others:
            return not others
        fine = all(node.is_int or len(node.name) <= _FRACTION_SIGNS_MAX for node in others if _is_number(node))
        return len(kinds) == 1 or (kinds <= _NUMBERS and (fine or "float" in {self._kind(n) for n in _stored(others)}))


def _moved(tree: exp.Query) -> Iterator[exp.Expr]:
    """The expressions that an engine can evaluate further below than they stand."""
    for select in tree.find_all(exp.Select):
        parts = [select.args.get(name) for name in ("where", "having", "qualify")]
        parts += [join.args.get("on") for join in select.args.get("joins") or []]
        if not _outermost(select):
            # Of a subquery also its columns, as the queries around it have terms about them.
            parts += [*select.expressions, select.args.get("group"), select.args.get("distinct")]
        for part in parts:
            if isinstance(part, exp.Where | exp.Having | exp.Qualify):
                yield part.this
            elif isinstance(part, exp.Group):
                yield from part.expressions
            elif part is not None:
                yield part


def _outermost(select: exp.Select) -> bool:
    node = select.parent
    while isinstance(node, exp.SetOperation):
        node = node.parent
    return node is None


def _operands(node: exp.Expr) -> Iterator[exp.Expr]:
    query = node.args.get("query")
    if isinstance(query, exp.Subquery | exp.Query):
        yield node.this
        # Its type is not known here where it is an expression; then the comparison counts as one that can fail.
        yield query.selects[0].unalias()
    else:
        yield from node.iter_expressions()


def _results(node: exp.Expr) -> Iterator[exp.Expr]:
    """What a choice can give."""
    if isinstance(node, exp.Coalesce):
        yield from (node.this, *node.expressions)
        return
    for each in node.args.get("ifs") or [node]:
        yield each.args["true"]
    for name in ("default", "false"):
        if other := node.args.get(name):
            yield other


def _parts(node: exp.Expr) -> Iterator[exp.Expr]:
    for each in node.iter_expressions():
        if isinstance(node, exp.Case) and isinstance(each, exp.If):
            yield from each.iter_expressions()
        else:
            yield each


def _null_rejecting(term: exp.Expr) -> bool:
    if isinstance(term, exp.Paren):
        return _null_rejecting(term.this)
    if isinstance(term, exp.And | exp.Or):
        return _null_rejecting(term.left) and _null_rejecting(term.right)
    if not isinstance(term, _NULL_REJECTING) or term.args.get("query") or term.args.get("unnest"):
        return False
    return isinstance(term.this, exp.Column) and not any(
        each.find(exp.Column, exp.Query) for each in term.iter_expressions() if id(each) != id(term.this)
    )


def _is_text(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and node.is_string


def _is_number(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string


def _stored(nodes: Sequence[exp.Expr]) -> list[exp.Expr]:
    return [node for node in nodes if not _is_number(node)]


def _kind(found: exp.DataType | None) -> str | None:
    if found is None:
        return None
    return found.sql("athena") if found.this == _T.DECIMAL and found.expressions else _KINDS.get(found.this)
