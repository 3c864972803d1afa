"""The SQL half of a dataset file: parsed once, held against the contract where the text alone can tell.

Whether tables exist, and which types come out, takes tables and an engine: `authoring/check.py` asks those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from flight_server.errors import nearest, not_sql
from flight_server.model import Column, Parameter, SortKey

# line, column (from 1, in the SQL) and message; the caller knows the file.
Fail = Callable[[int, int, str], Exception]


def parse(sql: str, fail: Fail) -> exp.Query:
    """The one SELECT of `sql` (a WITH or UNION is one too) as a tree in the Athena dialect."""
    try:
        statements = [tree for tree in sqlglot.parse(sql, read="athena") if tree is not None]
    except ParseError as error:
        first = error.errors[0]
        # sqlglot gives the column on which the unexpected word ends.
        column = (first.get("col") or 1) - max(len(first.get("highlight") or "") - 1, 0)
        raise fail(
            first.get("line") or 1, column, not_sql(first["description"], first.get("highlight") or "")
        ) from error
    except (SqlglotError, RecursionError) as error:
        raise fail(1, 1, f"not SQL: {str(error).splitlines()[0]}") from error
    if len(statements) != 1:
        raise fail(1, 1, f"a dataset is one SELECT; this file has {len(statements)} statements")
    tree = statements[0]
    if not isinstance(tree, exp.Query) or tree.find(exp.DML, exp.DDL, exp.Command, exp.Into) not in (None, tree):
        raise fail(1, 1, f"a dataset is one SELECT, not {tree.key.upper()}")
    return tree


def check(
    tree: exp.Query,
    sql: str,
    params: Iterable[Parameter],
    columns: tuple[Column, ...],
    order: tuple[SortKey, ...],
    fail: Fail,
) -> None:
    """Hold the parsed query against the contract: placeholders, output columns, ORDER BY."""
    _check_placeholders(tree, sql, [p.name for p in params], fail)
    _check_columns(tree, sql, columns, fail)
    _check_order(tree, sql, order, fail)


def place(sql: str, pattern: str) -> tuple[int, int]:
    """Line and column (from 1) of the first match of `pattern` in `sql`; (1, 1) without one."""
    found = re.search(pattern, sql)
    before = sql[: found.start()] if found else ""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _check_placeholders(tree: exp.Query, sql: str, names: list[str], fail: Fail) -> None:
    used = set()
    for node in tree.find_all(exp.Placeholder, exp.Parameter):
        name = node.name
        if isinstance(node, exp.Parameter) or not node.this:
            raise fail(*place(sql, r"[?@$]"), "write a parameter as :name")
        if name not in names:
            line, column = place(sql, rf":{re.escape(name)}\b")
            raise fail(line, column, f"[params] has no {name!r}{nearest(name, names)}")
        used.add(name)
    for name in names:
        if name not in used:
            # In quotes it is text, as it is for templates.
            line, column = place(sql, rf"'[^'\n]*(?::|\{{\{{\s*){re.escape(name)}\b")
            way = f"use :{name}" + (", without quotes," if (line, column) != (1, 1) else "")
            raise fail(line, column, f"the query never uses the parameter {name!r}; {way} or remove it from [params]")


def _check_columns(tree: exp.Query, sql: str, columns: tuple[Column, ...], fail: Fail) -> None:
    for select in tree.find_all(exp.Select):
        for item in select.expressions:
            if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
                raise fail(
                    *place(sql, r"(?<!\()\*"), "SELECT * changes its meaning when a table does; name the columns"
                )
    names = [item.alias_or_name for item in tree.selects]
    for number, name in enumerate(names, 1):
        if not name:
            raise fail(1, 1, f"result column {number} has no name; write AS name")
        if names.count(name) > 1:
            raise fail(1, 1, f"the query has two result columns named {name!r}")
    declared = [column.name for column in columns]
    for name in names:
        if name not in declared:
            line, column = place(sql, rf"\b{re.escape(name)}\b")
            raise fail(line, column, f"[columns] does not declare {name!r}{nearest(name, declared)}")
    for name in declared:
        if name not in names:
            raise fail(1, 1, f"[columns] declares {name!r}, and the query does not select it{nearest(name, names)}")
    if names != declared:
        raise fail(1, 1, f"[columns] has another order than the query: {', '.join(names)}")


def _check_order(tree: exp.Query, sql: str, order: tuple[SortKey, ...], fail: Fail) -> None:
    written = tuple(_sort_key(tree, term) for term in _order_terms(tree))
    if written == order:
        return
    line, column = place(sql, r"(?is)\border\s+by\b(?!.*\border\s+by\b)")
    said = ", ".join(map(str, written)) or "nothing"
    raise fail(line, column, f"sorted = [{', '.join(map(str, order))}] and the query's ORDER BY is {said}")


def _order_terms(tree: exp.Query) -> list[exp.Ordered]:
    clause = tree.args.get("order")
    return list(clause.expressions) if clause else []


def _sort_key(tree: exp.Query, term: exp.Ordered) -> SortKey:
    key = term.this
    name = key.name
    if isinstance(key, exp.Literal) and key.is_int and 0 < int(key.name) <= len(tree.selects):
        name = tree.selects[int(key.name) - 1].alias_or_name
    else:
        name = next((item.alias_or_name for item in tree.selects if item.unalias() == key), name) or key.sql("athena")
    return SortKey(name, bool(term.args.get("desc")), bool(term.args.get("nulls_first")))
