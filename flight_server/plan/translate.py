"""What Athena and DuckDB both take, and answer differently: rewritten until DuckDB gives Athena's answer, or refused.

sqlglot translates how functions are written; here is what they mean. Each entry follows Trino's documentation of the
function (version 3 of Athena's engine is Trino). A difference that is not known here is a wrong answer without an
error, as datasets are tested on one engine and served by the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlglot import exp

from flight_server.plan.allowed import Refused

# Trino counts days of the week from Monday = 1 to Sunday = 7; DuckDB's DOW from Sunday = 0.
_EXTRACTED = {
    "DOW": "ISODOW",
    "DAYOFWEEK": "ISODOW",
    "DAY_OF_WEEK": "ISODOW",
    "DAY_OF_YEAR": "DOY",
    "YOW": "ISOYEAR",
    "YEAR_OF_WEEK": "ISOYEAR",
}
# What DuckDB answers in another way that no rewriting of a few words mends.
_REFUSED = {
    "skewness": "it corrects for the size of the sample there; compute it from avg() and stddev_pop()",
    "format": "it has other patterns there; use CAST, or date_format for dates",
}


def translate(tree: exp.Query) -> None:
    """Change a typed tree in place so that DuckDB means by it what Athena does.

    Raises Refused (sql-refused) for what only Athena can answer.
    """
    _bound(tree)
    # Children before their parents, which copy them.
    for node in reversed(list(tree.walk())):
        rewrite = _REWRITES.get(type(node))
        new = rewrite(node) if rewrite else _by_name(node)
        if new is not None:
            new.type = node.type
            node.replace(new)
    for average in list(tree.find_all(exp.Avg)):
        _average(average)


def _bound(tree: exp.Query) -> None:
    """Refuse nests of what is rewritten by repeating its arguments: each level makes all below it several times."""
    for node in tree.find_all(*_REPEATING):
        depth, parent = 1, node.find_ancestor(*_REPEATING)
        while parent is not None and depth <= _NEST_MAX:
            depth, parent = depth + 1, parent.find_ancestor(*_REPEATING)
        if depth > _NEST_MAX:
            said = f"{_NESTS} are in one another more than {_NEST_MAX} times; put the inner ones into a WITH"
            raise Refused(said, node)


def _by_name(node: exp.Expr) -> exp.Expr | None:
    if not isinstance(node, exp.Func):
        return None
    name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
    if name in _REFUSED:
        raise Refused(f"{name}() is for Athena only, not for DuckDB: {_REFUSED[name]}", node)
    return _call("lower", node.copy()) if name == "to_base" else None


def _date_diff(node: Any) -> exp.Expr:
    """Whole units that have passed; DuckDB's date_diff counts how often a calendar's page is turned."""
    return _call("date_sub", exp.Literal.string(node.text("unit").lower() or "day"), node.expression, node.this)


def _extract(node: Any) -> exp.Expr | None:
    part = _EXTRACTED.get(node.name.upper())
    return exp.Extract(this=exp.var(part), expression=node.expression.copy()) if part else None


def _reduce(node: Any) -> exp.Expr | None:
    """DuckDB's reduce has no last step, so it is put around what the other steps give."""
    finish = node.args.get("finish")
    if finish is None:
        return None
    steps = exp.Reduce(this=node.this.copy(), initial=node.args["initial"].copy(), merge=node.args["merge"].copy())
    # As the one element of an array: the last step may name it any number of times.
    return _call("list_extract", _call("list_transform", exp.array(steps), finish), exp.Literal.number(1))


def _split(node: Any) -> None:
    if node.args.get("limit"):
        raise Refused("split() with a limit is for Athena only: DuckDB has none; use split_part", node)


def _split_part(node: Any) -> exp.Expr:
    """Null past the last part, where DuckDB has an empty text."""
    parts = _call("len", _call("str_split", node.this, node.args["delimiter"]))
    there = exp.LTE(this=node.args["part_index"].copy(), expression=parts)
    return exp.Case(ifs=[exp.If(this=there, true=node.copy())])


def _regexp_extract(node: Any) -> exp.Expr:
    """Null where nothing matches, where DuckDB has an empty text."""
    matches = exp.RegexpLike(this=node.this.copy(), expression=node.expression.copy())
    return exp.Case(ifs=[exp.If(this=matches, true=node.copy())])


def _regexp_replace(node: Any) -> exp.Expr | None:
    """Groups are `$1` in Trino and `\\1` in DuckDB."""
    replacement = node.args.get("replacement")
    if replacement is None:
        return None
    if not replacement.is_string:
        raise Refused("the replacement of regexp_replace() must be a literal, for DuckDB", node)
    new: exp.Expr = node.copy()
    new.set("replacement", exp.Literal.string(_groups(node, replacement.name)))
    return new


def _groups(node: exp.Expr, replacement: str) -> str:
    def one(found: re.Match[str]) -> str:
        sign, digits = found[0], found[1]
        if digits:
            return f"\\{digits}"
        if sign == "\\\\":
            return sign
        if sign.startswith("\\"):
            return sign[1:]
        raise Refused(f"regexp_replace() with {replacement[:40]!r}: DuckDB knows $1 to $9 only", node)

    return re.sub(r"\$([0-9])(?![0-9])|\\.|\$", one, replacement)


def _position(node: Any) -> exp.Expr:
    """0 where it is not in the array, where DuckDB has null."""
    both = exp.and_(exp.Not(this=_is_null(node.this)), exp.Not(this=_is_null(node.expression)))
    absent = exp.Case(ifs=[exp.If(this=both, true=exp.Literal.number(0))])
    return exp.Coalesce(this=node.copy(), expressions=[absent])


def _extreme(node: Any) -> exp.Expr:
    """Null where a value is null, which DuckDB passes over."""
    whole = exp.EQ(this=_call("list_count", node.this), expression=_call("len", node.this))
    return exp.Case(ifs=[exp.If(this=whole, true=node.copy())])


def _slice(node: Any) -> exp.Expr:
    """The third argument is a length in Trino and the last position in DuckDB."""
    start, length = node.args["start"], node.args["end"]
    last = exp.Sub(this=exp.Add(this=_paren(start), expression=_paren(length)), expression=exp.Literal.number(1))
    # From the end, -1 is the last one; behind it there is nothing, where 0 would be before the first.
    from_end = exp.Least(this=last.copy(), expressions=[exp.Literal.number(-1)])
    negative = exp.LT(this=_paren(start), expression=exp.Literal.number(0))
    return _call("list_slice", node.this, start, exp.Case(ifs=[exp.If(this=negative, true=from_end)], default=last))


def _cast(node: Any) -> exp.Expr | None:
    """Halves go away from zero, where DuckDB takes the even one; VARCHAR(n) cuts, where DuckDB keeps all."""
    if node.to.is_type(*exp.DataType.INTEGER_TYPES) and node.this.is_type(exp.DataType.Type.FLOAT, "double"):
        new: exp.Expr = node.copy()
        new.set("this", exp.Round(this=node.this.copy()))
        return new
    if node.to.is_type("varchar") and node.to.expressions:
        new = node.copy()
        new.set("to", exp.DataType.build("varchar"))
        return exp.Left(this=new, expression=node.to.expressions[0].this.copy())
    return None


def _of_day(node: Any) -> exp.Expr | None:
    """What is made of a day and whole days is a day, where DuckDB makes a timestamp."""
    return exp.cast(node.copy(), exp.DataType.Type.DATE) if node.this.is_type(exp.DataType.Type.DATE) else None


def _moved(node: Any) -> exp.Expr | None:
    return _of_day(node) if isinstance(node.expression, exp.Interval) else None


def _divide(node: Any) -> exp.Expr | None:
    """Between whole numbers whole, between decimals with the digits of the longer one; DuckDB has doubles for both."""
    left, right = node.left, node.right
    if _is_integer(left) and _is_integer(right):
        return exp.IntDiv(this=left.copy(), expression=right.copy())
    scales = _scale(left), _scale(right)
    if scales[0] is None or scales[1] is None:
        return None
    scale = max(scales[0], scales[1])
    return _decimal(exp.Div(this=left.copy(), expression=right.copy()), 38, scale)


def _average(node: exp.Avg) -> None:
    """That of decimals is a decimal of their type in Trino, a double in DuckDB."""
    kind = node.this.to if isinstance(node.this, exp.Cast) else node.this.type
    if kind is None or not kind.is_type("decimal") or len(kind.expressions) != 2:
        return
    outer: exp.Expr = node
    while isinstance(outer.parent, exp.Filter | exp.Window) and outer.parent.this is outer:
        outer = outer.parent
    precision, scale = (int(part.name) for part in kind.expressions)
    outer.replace(_decimal(outer.copy(), precision, scale))


def _scale(node: Any) -> int | None:
    """Digits behind the point of a whole number or a decimal; None for what is neither, or not known."""
    if isinstance(node, exp.Paren | exp.Neg):
        return _scale(node.this)
    if isinstance(node, exp.Literal):
        text = node.name.lower()
        return None if node.is_string or "e" in text else len(text.partition(".")[2])
    if isinstance(node, exp.Add | exp.Sub | exp.Mul):
        left, right = _scale(node.left), _scale(node.right)
        if left is None or right is None:
            return None
        return left + right if isinstance(node, exp.Mul) else max(left, right)
    if _is_integer(node):
        return 0
    if node.type is not None and node.type.is_type("decimal") and len(node.type.expressions) == 2:
        return int(node.type.expressions[1].name)
    return None


def _decimal(value: exp.Expr, precision: int, scale: int) -> exp.Expr:
    rounded = exp.Round(this=value, decimals=exp.Literal.number(scale))
    return exp.cast(rounded, exp.DataType.build(f"DECIMAL({precision}, {scale})"))


def _call(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def _paren(node: exp.Expr) -> exp.Paren:
    return exp.Paren(this=node.copy())


def _is_null(node: exp.Expr) -> exp.Is:
    return exp.Is(this=_paren(node), expression=exp.null())


def _is_integer(node: exp.Expr) -> bool:
    return node.is_type(*exp.DataType.INTEGER_TYPES)


_REWRITES: dict[type[exp.Expr], Callable[[Any], exp.Expr | None]] = {
    exp.DateDiff: _date_diff,
    exp.Extract: _extract,
    exp.Reduce: _reduce,
    exp.Split: _split,
    exp.SplitPart: _split_part,
    exp.RegexpExtract: _regexp_extract,
    exp.RegexpReplace: _regexp_replace,
    exp.ArrayPosition: _position,
    exp.ArrayMax: _extreme,
    exp.ArrayMin: _extreme,
    exp.ArraySlice: _slice,
    exp.TimestampTrunc: _of_day,
    exp.DateTrunc: _of_day,
    exp.DateAdd: _of_day,
    exp.DateSub: _of_day,
    exp.Add: _moved,
    exp.Sub: _moved,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.Div: _divide,
}
# Those whose arguments stand in what they become more than once.
_REPEATING = (
    exp.ArrayMax,
    exp.ArrayMin,
    exp.ArrayPosition,
    exp.ArraySlice,
    exp.RegexpExtract,
    exp.SplitPart,
)
_NESTS = "split_part, regexp_extract, slice, array_position, array_max and array_min"
# Five of the one that repeats most, in one another, are some hundred times the text.
_NEST_MAX = 5
