"""`policies.toml`: row filters and masks over the tables, parsed. Putting them around scans is plan/policies.py.

What the text alone can tell is checked here; functions, tables and columns there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from flight_server.datasets import entries
from flight_server.datasets.header import Section
from flight_server.model import Mask, Policies, RowFilter

FILE = "policies.toml"


def load(directory: Path) -> Policies:
    """The policies of a folder; none when it has no policies.toml. Raises DatasetError with the place of an error."""
    path = directory / FILE
    # A link that leads nowhere is a file that cannot be read, and not one that nobody wrote.
    if not path.is_symlink() and not path.exists():
        return Policies()
    filters: list[RowFilter] = []
    masks: list[Mask] = []
    numbers: Counter[str] = Counter()
    text = entries.text_of(path)
    for kind, entry in entries.read(path, text, ("row_filter", "mask")):
        table = _table(entry)
        if kind == "row_filter":
            numbers[table] += 1
            filters.append(_row_filter(entry, table, numbers[table]))
        else:
            masks.append(_mask(entry, table, masks))
    return Policies(tuple(filters), tuple(masks), hashlib.sha256(text.encode()).hexdigest())


def _row_filter(entry: Section, table: str, number: int) -> RowFilter:
    where = _expression(entry, "where")
    exempt = _roles(entry, "except")
    doc = entry.take("doc", str, "") or ""
    entry.done()
    error = entry.error("where", "")
    return RowFilter(f"{table}#{number}", table, where, exempt, _claims(where), doc, error.path, error.line)


def _mask(entry: Section, table: str, others: list[Mask]) -> Mask:
    column = entry.need("column", str).lower()
    value = _expression(entry, "as")
    exempt = _roles(entry, "unless")
    doc = entry.take("doc", str, "") or ""
    entry.done()
    name = f"{table}.{column}"
    if any(other.name == name for other in others):
        raise entry.error("column", f"{name} has two masks, and only one can be read instead of it; write one")
    error = entry.error("as", "")
    return Mask(name, table, column, value, exempt, _claims(value), doc, error.path, error.line)


def _claims(tree: exp.Expr) -> tuple[str, ...]:
    """The claims in `:caller.<claim>`, each once. Other placeholders are refused by plan/policies.py."""
    dots = [node.parent for node in tree.find_all(exp.Placeholder)]
    return tuple(dict.fromkeys(dot.expression.name for dot in dots if isinstance(dot, exp.Dot)))


def _table(entry: Section) -> str:
    table = entry.need("table", str)
    database, dot, name = table.partition(".")
    if not (database and dot and name) or "." in name or '"' in table:
        raise entry.error("table", f"{table!r} is no table; write database.table")
    return table.lower()


def _roles(entry: Section, key: str) -> frozenset[str]:
    roles = entry.names(key)
    if "*" in roles:
        raise entry.error(key, f"{key!r} names roles; '*' is none of them")
    return frozenset(roles)


def _expression(entry: Section, key: str) -> exp.Expr:
    text = entry.need(key, str)
    try:
        # In parentheses, so that nothing behind the expression (a LIMIT, a second condition) can belong to it.
        tree = sqlglot.parse_one(f"SELECT ({text}\n)", read="athena")
    except (SqlglotError, RecursionError) as error:
        raise entry.error(key, f"{key!r} is not an SQL expression") from error
    items = tree.args.get("expressions") or []
    others = any(value for name, value in tree.args.items() if name != "expressions")
    if others or not isinstance(tree, exp.Select) or len(items) != 1 or not isinstance(items[0], exp.Paren):
        raise entry.error(key, f"{key!r} is not one SQL expression")
    expression: exp.Expr = items[0].this.copy()
    return expression
