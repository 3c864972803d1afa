"""A caller's claims as typed literals in a policy's expression. `:caller.name` is the verified name, never a claim.

A claim that is compared with a column takes the column's type; where it cannot be read as that type exactly, it is as
good as missing. Elsewhere it has its own type. Every doubt ends in "no value", which for a filter means no rows.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation

from sqlglot import exp

from flight_server.model import Caller, Claim, ParamType, Scalar
from flight_server.plan.literals import scalar

_NAME = "name"
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.In, exp.NullSafeEQ, exp.NullSafeNEQ)
# The greatest finite float of 32 bits, cut off: what is just above is none that a caller means.
_FLOAT32_MAX = 3.4028234e38


def bind_claims(tree: exp.Expr, caller: Caller, columns: Mapping[str, str]) -> exp.Expr | None:
    """`tree` (changed in place; not a placeholder itself) with literals for claims; None when one has no value."""
    for node in _references(tree):
        literals = _literals(node, caller, columns)
        if not literals:
            return None
        if isinstance(node.parent, exp.In) and node.arg_key == "expressions":
            others = [other for other in node.parent.expressions if other is not node]
            node.parent.set("expressions", [*others, *literals])
        else:
            node.replace(literals[0])
    return tree


def missing(tree: exp.Expr, caller: Caller, columns: Mapping[str, str]) -> str | None:
    """The first claim that the caller has no usable value for."""
    return next((_name(node) for node in _references(tree) if not _literals(node, caller, columns)), None)


def claim_of(caller: Caller, name: str) -> Claim | None:
    """The value of `:caller.<name>`, or None when the credential has none."""
    return caller.name if name == _NAME else caller.claims.get(name)


def _references(tree: exp.Expr) -> list[exp.Dot]:
    parents = [placeholder.parent for placeholder in tree.find_all(exp.Placeholder)]
    return [dot for dot in parents if isinstance(dot, exp.Dot)]


def _name(node: exp.Dot) -> str:
    return str(node.expression.name)


def _literals(node: exp.Dot, caller: Caller, columns: Mapping[str, str]) -> list[exp.Expr]:
    """The literals for one reference: several only in an IN list, none when there is no usable value."""
    claim = claim_of(caller, _name(node))
    if claim is None:
        return []
    if isinstance(claim, tuple) and not (isinstance(node.parent, exp.In) and node.arg_key == "expressions"):
        return []
    column = _compared_with(node)
    kind = _kind(columns.get(column, "")) if column else None
    found: list[exp.Expr] = []
    for value in claim if isinstance(claim, tuple) else (claim,):
        of_type = kind if column else _own_kind(value)
        converted = _converted(of_type, value) if of_type else None
        if of_type is None or converted is None:
            return []
        found.append(scalar(of_type, converted))
    return found


def _compared_with(node: exp.Dot) -> str | None:
    """The column that a reference is directly compared with."""
    parent = node.parent
    if not isinstance(parent, _COMPARISONS):
        return None
    other = parent.this if node.arg_key != "this" else parent.args.get("expression")
    return other.name.lower() if isinstance(other, exp.Column) else None


def _kind(sql_type: str) -> ParamType | None:
    """The parameter type that has the literals of a column type; None where there is none."""
    if found := re.fullmatch(r"DECIMAL\((\d+), (\d+)\)", sql_type):
        return ParamType("decimal", int(found[1]), int(found[2]))
    kind = _KINDS.get(sql_type)
    return ParamType(kind) if kind else None


def _own_kind(value: str | int | float | bool) -> ParamType:
    return ParamType(next(name for kind, name in _OWN.items() if isinstance(value, kind)))


def _converted(kind: ParamType, value: str | int | float | bool) -> Scalar | None:
    """The claim as a value of the type, when it is one exactly."""
    if isinstance(value, bool) or kind.kind == "bool":
        return value if isinstance(value, bool) and kind.kind == "bool" else None
    return _CONVERT[kind.kind](kind, value)


def _integer(kind: ParamType, value: str | int | float) -> int | None:
    if isinstance(value, str):
        # Identity providers often write numbers as text. Only their one plain spelling is a number here.
        if not re.fullmatch(r"0|-?[1-9][0-9]{0,18}", value):
            return None
        value = int(value)
    bits = 31 if kind.kind == "int32" else 63
    return value if isinstance(value, int) and -(2**bits) <= value < 2**bits else None


def _string(_: ParamType, value: str | int | float) -> str | None:
    if not isinstance(value, str) or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _float(kind: ParamType, value: str | int | float) -> float | None:
    if isinstance(value, str):
        return None
    # Not a number is not below anything, and an integer of a thousand digits is no float.
    return float(value) if abs(value) <= (_FLOAT32_MAX if kind.kind == "float32" else sys.float_info.max) else None


def _decimal(kind: ParamType, value: str | int | float) -> Decimal | None:
    if isinstance(value, float):
        return None
    try:
        found = Decimal(value)
    except InvalidOperation:
        return None
    if not found.is_finite() or len(str(value)) > 50:
        return None
    digits, exponent = found.as_tuple().digits, int(found.as_tuple().exponent)
    fits = -exponent <= kind.scale and len(digits) + exponent <= kind.precision - kind.scale
    return found if fits else None


def _date(_: ParamType, value: str | int | float) -> date | None:
    try:
        found = date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found and found.isoformat() == value else None


_CONVERT: dict[str, Callable[[ParamType, str | int | float], Scalar | None]] = {
    "int32": _integer,
    "int64": _integer,
    "float32": _float,
    "float64": _float,
    "string": _string,
    "decimal": _decimal,
    "date": _date,
}
_KINDS = {
    "BOOLEAN": "bool",
    "INTEGER": "int32",
    "BIGINT": "int64",
    "REAL": "float32",
    "DOUBLE": "float64",
    "VARCHAR": "string",
    "DATE": "date",
}
# A bool is an int to Python: it comes first.
_OWN: dict[type, str] = {bool: "bool", int: "int64", float: "float64", str: "string"}
