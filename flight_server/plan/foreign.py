"""What the parser takes for Athena's and is not: the embedded engine would answer, and Athena would not.

Apart from `allowed.py`, which says what may be named: nothing here is dangerous. A dataset that only works on the
engine on which it was written is found by its author, and not by the first caller after a move to Athena.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

_T = exp.DataType.Type
# Types of which Athena's values have a size, which no engine guesses alike: DECIMAL '2.05' is parsed as
# CAST('2.05' AS DECIMAL), which is 2 on Athena and 2.050 in DuckDB.
_SIZED = {_T.DECIMAL: "DECIMAL(10, 2)", _T.CHAR: "CHAR(3)"}
_TYPES = exp.DataType.INTEGER_TYPES - {_T.TINYINT, _T.SMALLINT, _T.INT, _T.BIGINT}


def reason(node: exp.Expr) -> str | None:
    """Why Athena does not take `node`, with what to write instead; None where it does."""
    said = _REASONS.get(type(node))
    return said(node) if said else None


def _group(node: Any) -> str | None:
    return "GROUP BY ALL is not Athena's; name the columns" if node.args.get("all") else None


def _set(node: Any) -> str | None:
    if node.args.get("by_name"):
        return "UNION BY NAME is not Athena's; write the columns of both in the same order"
    return None


def _limit(node: Any) -> str | None:
    return "LIMIT takes a number of rows; Athena has no PERCENT" if node.args.get("percent") else None


def _join(node: Any) -> str | None:
    if node.args.get("method") == "ASOF":
        return "ASOF JOIN is not Athena's; join on <= and take the latest row with row_number()"
    return None


def _is(node: Any) -> str | None:
    # sqlglot prints `a IS TRUE` as `a`, which is another thing where a is null.
    if isinstance(node.expression, exp.Boolean):
        return "IS TRUE and IS FALSE are not Athena's; write COALESCE(…, FALSE)"
    return None


def _type(node: Any) -> str | None:
    if node.this in _SIZED and not node.expressions:
        return f"{node.this.value} needs its digits: CAST(… AS {_SIZED[node.this]})"
    return f"the type {node.this.value} is not Athena's" if node.this in _TYPES else None


def _no_such(node: exp.Expr) -> str:
    return f"{node.key.upper()} is not allowed: Athena does not have it"


_REASONS: dict[type[exp.Expr], Callable[[Any], str | None]] = {
    exp.Pivot: _no_such,
    exp.Connect: _no_such,
    exp.Glob: lambda _: "GLOB is not Athena's; write LIKE or regexp_like(…)",
    exp.SimilarTo: lambda _: "SIMILAR TO is not Athena's; write regexp_like(…)",
    exp.Group: _group,
    exp.Union: _set,
    exp.LimitOptions: _limit,
    exp.Join: _join,
    exp.Is: _is,
    exp.DataType: _type,
}
