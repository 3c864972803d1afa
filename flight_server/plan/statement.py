"""A SELECT that a client wrote: parsed, its names resolved, every dataset call in FROM set aside.

A call such as `daily_prices(ticker => 'AAPL')` becomes a scan of a stand-in table, whose columns are those of the
dataset's contract; so whatever looks at the tree (what it names, which types it gives) sees tables only. What is not a
dataset, a table of the catalog or a CTE in scope is refused. Nothing here knows which datasets there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

from flight_server.errors import InvalidRequest, not_sql
from flight_server.plan import allowed

# The catalog that clients see; its name may stand before a schema's, as tools write it.
CATALOG = "athena_flight"
# The schema of the datasets beside the catalog's databases; it may stand before a dataset's name.
SCHEMA = "datasets"
# The database of the stand-ins. No name that a client writes may have a dollar sign.
_STAND_INS = "$call"
# Placeholders are numbered by their place in the text, which the tree no longer knows.
_PARAMETER = "p"
# What a scan may carry; DuckDB's scan would drop everything else in silence.
_SCAN_PARTS = frozenset({"this", "db", "catalog", "alias", "joins"})
# A list of some thousand values fits. Planning takes time by the square of the depth: two seconds at this one.
_TOKENS_MAX = 10_000
_DEPTH_MAX = 150
_STARTS = (TokenType.SELECT, TokenType.WITH, TokenType.L_PAREN)
_BY_THE_DRIVER = "; the driver says which tables and columns there are (getTables, adbc_get_objects)"
# What people write to look around, and how it is done here.
_INSTEAD = {
    "SHOW": _BY_THE_DRIVER,
    "DESCRIBE": _BY_THE_DRIVER,
    "DESC": _BY_THE_DRIVER,
    "EXPLAIN": "; the action explain shows the plan of a statement",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One dataset in FROM: its name, and what stands in its parentheses. A plain name has no arguments."""

    dataset: str
    arguments: tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed SELECT. `tree` scans stand-ins (`stand_in`) in place of `calls`; it must be copied before a change."""

    text: str
    tree: exp.Query
    calls: tuple[Call, ...]
    # How many `?` it has.
    parameters: int
    # Whether it is `SELECT * FROM <one dataset>` and nothing else.
    whole: bool
    # The catalog's tables that it names itself, as database.table.
    tables: tuple[str, ...]


def parse(text: str) -> Statement:
    """The one SELECT of `text`. Raises InvalidRequest (sql-refused) for everything else."""
    numbered, parameters = _numbered(text)
    try:
        trees = [tree for tree in sqlglot.parse(numbered, read="athena") if tree is not None]
    except (SqlglotError, RecursionError) as error:
        formatted = "; a parameter is written as ?" if "%s" in text else ""
        raise _refused(_reason(error) + formatted) from None
    if len(trees) != 1:
        raise _refused(f"one SELECT is run at a time, and there are {len(trees)} statements")
    tree = trees[0]
    if isinstance(tree, exp.Subquery):
        tree = tree.unnest()
    if not isinstance(tree, exp.Query):
        raise _refused(f"only a SELECT is run, not {tree.key.upper()}")
    if _depth(tree) > _DEPTH_MAX:
        raise _refused(f"nested more than {_DEPTH_MAX} deep; write a long OR as IN, and a long list as VALUES")
    for node in tree.find_all(exp.Placeholder):
        if parameter_number(node) is None:
            raise _refused("a parameter is written as ? and bound by its place, and a cast as CAST(x AS type)")
    calls: list[Call] = []
    for table in list(tree.find_all(exp.Table)):
        _resolve(table, calls)
    allowed.check(tree)
    tables = {allowed.table_name(node) for node in allowed.tables(tree) if stand_in(node) is None}
    return Statement(text, tree, tuple(calls), parameters, _is_whole(tree), tuple(sorted(tables)))


def stand_in(node: exp.Table) -> int | None:
    """The number of the call that a scan stands for; None for a table of the catalog."""
    return int(node.name[1:]) if node.db == _STAND_INS else None


def stand_in_name(number: int) -> str:
    """The name of a stand-in, as the planner's schemas have it."""
    return f"{_STAND_INS}.c{number}"


def parameter_number(node: exp.Placeholder) -> int | None:
    """The number of a `?`, from 1; None for any other placeholder."""
    name = node.name
    return int(name[1:]) if name.startswith(_PARAMETER) and name[1:].isdigit() else None


def _numbered(text: str) -> tuple[str, int]:
    """The text with its n-th `?` as `:pn`, and how many there are. Strings and comments are left alone."""
    try:
        tokens = sqlglot.tokenize(text, read="athena")
    except SqlglotError as error:
        raise _refused(_reason(error)) from None
    if len(tokens) > _TOKENS_MAX:
        raise _refused(f"the statement has {len(tokens):,} words; at most {_TOKENS_MAX:,} are read")
    while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
        tokens.pop()
    if not tokens or tokens[0].token_type not in _STARTS:
        first = text[tokens[0].start :].split()[0].upper()[:40] if tokens else "nothing"
        raise _refused(f"only a SELECT is run, not {first}{_INSTEAD.get(first, '')}")
    text = text[: tokens[-1].end + 1]
    parts: list[str] = []
    end = count = 0
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            raise _refused("one SELECT is run at a time, and there is more after a semicolon")
        if token.token_type in (TokenType.PARAMETER, TokenType.COLON):
            # So that every placeholder in the tree is one of ours. SQL of Athena has no other use for a colon.
            raise _refused("variables and named parameters are not taken; write ? and bind by place")
        if token.token_type == TokenType.PLACEHOLDER:
            count += 1
            parts += [text[end : token.start], f":{_PARAMETER}{count} "]
            end = token.end + 1
    return "".join([*parts, text[end:]]), count


def _depth(tree: exp.Expr) -> int:
    depths = {id(tree): 1}
    for node in tree.walk():
        depths[id(node)] = 1 + (depths[id(node.parent)] if node is not tree and node.parent else 0)
    return max(depths.values())


def _resolve(table: exp.Table, calls: list[Call]) -> None:
    """Refuse what the name must not be, and put a stand-in where it is a dataset's."""
    for part, value in table.args.items():
        if value and part not in _SCAN_PARTS:
            raise _refused(f"{part.upper()} of a table is not allowed")
    if table.catalog.lower() == CATALOG:
        table.set("catalog", None)
    inner = _unwrapped(table.this)
    if not isinstance(inner, exp.Identifier | exp.Anonymous):
        # A function that the parser knows by name, such as read_csv.
        raise _refused(f"FROM takes datasets and tables, not the function {inner.key}()")
    name = inner.name
    if table.catalog or any(sign in part for sign in "$." for part in (table.db, name)):
        raise _refused(f"there is no table {table.sql('athena')[:80]!r}")
    is_call = isinstance(inner, exp.Anonymous)
    if not is_call and not table.db and name.lower() in _ctes_in_scope(table):
        return
    if table.db and table.db.lower() != SCHEMA:
        if is_call:
            raise _refused(f"there is no function {table.db[:40]}.{name[:40]}() to read from")
        return
    arguments = tuple(inner.expressions) if is_call else ()
    for argument in arguments:
        allowed.check_argument(argument)
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(name, quoted=True))
    calls.append(Call(name, arguments))
    table.set("this", exp.to_identifier(f"c{len(calls) - 1}", quoted=True))
    table.set("db", exp.to_identifier(_STAND_INS, quoted=True))
    table.set("alias", alias)


def _unwrapped(node: exp.Expr) -> exp.Expr:
    """`f(…)` of `TABLE(f(…))`, which is how Trino writes it."""
    if isinstance(node, exp.Anonymous) and node.name.upper() == "TABLE" and len(node.expressions) == 1:
        return node.expressions[0] if isinstance(node.expressions[0], exp.Anonymous) else node
    return node


def _ctes_in_scope(table: exp.Table) -> Iterator[str]:
    """Names of the CTEs that a scan at this place can mean: an engine's own tables must not hide behind others."""
    node: exp.Expr = table
    while node.parent is not None:
        parent = node.parent
        if isinstance(parent, exp.With):
            for cte in parent.expressions:
                if cte is not node or parent.recursive:
                    yield cte.alias.lower()
                if cte is node:
                    break
        elif (ctes := parent.args.get("with_")) is not None and ctes is not node:
            yield from (cte.alias.lower() for cte in ctes.expressions)
        node = parent


def _is_whole(tree: exp.Query) -> bool:
    source = tree.args.get("from_")
    return (
        isinstance(tree, exp.Select)
        and source is not None
        and {name for name, value in tree.args.items() if value} == {"expressions", "from_"}
        and [type(item) for item in tree.expressions] == [exp.Star]
        and not any(tree.expressions[0].args.values())
        and isinstance(source.this, exp.Table)
        and stand_in(source.this) is not None
        and not source.this.args.get("joins")
        and not source.this.args["alias"].args.get("columns")
    )


def _reason(error: Exception) -> str:
    found = getattr(error, "errors", None)
    if found:
        first = found[0]
        said = not_sql(first["description"], first.get("highlight") or "")
        return f"{said} at line {first['line']}, column {first['col']}"
    return f"not SQL: {str(error).splitlines()[0][:200]}" if str(error) else "not SQL: nested too deeply"


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest("sql-refused", message)
