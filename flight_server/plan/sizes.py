"""Bounds on values that a few words of a query make large, for the engine that shares this process's memory.

DuckDB's `memory_limit` counts the texts that `||` makes, but not those of padding nor lists: `lpad(t.c, 30000000)` for
a hundred rows took 3 GB beside a limit of 512 MB. So what has its size as an argument gets no larger than here. What
`replace` makes of a long text, and lists that are put together again and again, are not bounded.
"""

from __future__ import annotations

from sqlglot import exp

from flight_server.errors import InvalidRequest

# Athena makes no longer sequence than 10,000; 100,000 for each of DuckDB's 2,048 rows at once are 1.6 GB.
SEQUENCE_MAX = 100_000
_DAY_S = 86_400


def bound(tree: exp.Query) -> None:
    """Make padding and sequences in a tree for DuckDB (typed; changed in place) fail where they get too long.

    Raises InvalidRequest (sql-refused) for sequences in the bounds of sequences.
    """
    for pad in list(tree.find_all(exp.Pad)):
        # 32,767 signs. As a cast, because it needs the length only once: twice in each of a nest doubles it each time.
        short = exp.cast(pad.expression.copy(), exp.DataType.Type.SMALLINT)
        pad.set("expression", exp.cast(short, exp.DataType.Type.INT))
    for series in list(tree.find_all(exp.GenerateSeries)):
        if next(series.find_all(exp.GenerateSeries), series) is not series or series.find_ancestor(exp.GenerateSeries):
            raise InvalidRequest("sql-refused", "a sequence in the bounds of another is not taken")
        message = f"a sequence has more than {SEQUENCE_MAX:,} values"
        fails = exp.Anonymous(this="error", expressions=[exp.Literal.string(message)])
        series.replace(exp.Case(ifs=[exp.If(this=_too_long(series), true=fails)], default=series.copy()))


def _too_long(series: exp.GenerateSeries) -> exp.Expr:
    start, end, step = (series.args.get(name) for name in ("start", "end", "step"))
    assert start is not None and end is not None  # noqa: S101, PT018 - the parser asks for both
    if start.is_type(*exp.DataType.TEMPORAL_TYPES):
        start, end = _seconds(start), _seconds(end)
        step = _seconds(step) if step else exp.Literal.number(_DAY_S)
    # Numbers so wide that no difference is beyond them.
    first, last, each = (_wide(part) for part in (start, end, step or exp.Literal.number(1)))
    length = exp.Abs(this=exp.Paren(this=exp.Sub(this=last, expression=first)))
    return exp.GTE(
        this=length, expression=exp.Mul(this=exp.Abs(this=each), expression=exp.Literal.number(SEQUENCE_MAX))
    )


def _seconds(part: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="epoch", expressions=[part.copy()])


def _wide(part: exp.Expr) -> exp.Expr:
    return exp.cast(part.copy(), exp.DataType.Type.DOUBLE)
