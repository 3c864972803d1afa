"""The arguments of a dataset call as JSON values, and the types of the `?` among them.

Arguments are constants: literals, negative numbers, CAST of a constant, ARRAY[…], MAP(ARRAY[…], ARRAY[…]), and `?`.
The values that come out are what a request in JSON form would have; `datasets/params.py` makes typed ones of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

from sqlglot import exp

from flight_server.errors import InvalidRequest, nearest
from flight_server.model import Dataset, Parameter, ParamType
from flight_server.plan.statement import Call, parameter_number

# A moment as SQL writes it: a space for the T, and UTC or an offset, after another space or not, for the Z.
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]"
    r"([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?) ?(UTC|Z|[+-][0-9]{2}(?::[0-9]{2})?)?"
)
# What a day without its quotes is read as.
_DAY = re.compile(r"[0-9]{4} - [0-9]{1,2} - [0-9]{1,2}")
_HOW = "write a constant, ARRAY[…], MAP(ARRAY[…], ARRAY[…]) or ?"


def named(call: Call, dataset: Dataset) -> dict[str, exp.Expr]:
    """The arguments by parameter; those without a name go by the contract's order. Raises InvalidRequest."""
    names = list(dataset.params)
    takes = f"It takes {', '.join(names)}" if names else "It takes none"
    found: dict[str, exp.Expr] = {}
    by_name = False
    for number, argument in enumerate(call.arguments):
        if isinstance(argument, exp.Kwarg | exp.PropertyEQ):
            by_name = True
            name, value = argument.this.name.lower(), argument.expression
            if name not in dataset.params:
                raise InvalidRequest(
                    "unknown-parameter",
                    f"{dataset.name} has no parameter {name[:60]!r}{nearest(name, names, end='.')} {takes}",
                )
        elif by_name:
            raise InvalidRequest("bad-request", f"{dataset.name}: a value without a name stands after named ones")
        elif number >= len(names):
            raise InvalidRequest("unknown-parameter", f"{dataset.name} is given {len(call.arguments)} values. {takes}")
        else:
            name, value = names[number], argument
        if name in found:
            raise InvalidRequest("bad-parameter", f"{dataset.name}.{name} is given more than once")
        found[name] = value
    return found


def example(call: Call, dataset: Dataset, parameters: Sequence[Parameter]) -> str:
    """What to write for `parameters`, by their examples: the whole call, or more arguments for one that has some."""
    given = ", ".join(f"{each.name} => {_written(each.example)}" for each in parameters)
    return given if call.arguments else f"{dataset.name}({given})"


def _written(example: object) -> str:
    if isinstance(example, tuple) and example and isinstance(example[0], tuple):
        return f"MAP({_written(tuple(k for k, _ in example))}, {_written(tuple(v for _, v in example))})"
    if isinstance(example, tuple):
        return f"ARRAY[{', '.join(map(_written, example))}]"
    if isinstance(example, datetime):
        return f"TIMESTAMP '{example:%Y-%m-%d %H:%M:%S}{' UTC' if example.tzinfo else ''}'"
    if isinstance(example, date):
        return f"DATE '{example}'"
    return str(example).lower() if isinstance(example, bool) else exp.convert(example).sql("athena")


def value(node: exp.Expr, given: Mapping[int, object]) -> object:
    """The JSON value of an argument; `given` has the bound parameters. Raises ValueError with the way out."""
    if isinstance(node, exp.Placeholder):
        return given[parameter_number(node) or 0]
    if isinstance(node, exp.Paren):
        return value(node.this, given)
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Literal):
        return str(node.this) if node.is_string else _number(str(node.this))
    if isinstance(node, exp.Neg):
        return _negated(value(node.this, given))
    if isinstance(node, exp.Cast):
        return _cast(value(node.this, given), node.to)
    if isinstance(node, exp.Array):
        return [value(item, given) for item in node.expressions]
    if isinstance(node, exp.Map):
        return _map(node, given)
    raise ValueError(f"is no constant: {node.sql('athena', comments=False)[:60]!r}; {_way(node)}")


def _way(node: exp.Expr) -> str:
    """What to write in place of what is no constant, for the slips of those who come from a query string."""
    if isinstance(node, exp.EQ) and isinstance(node.this, exp.Column):
        meant = node.expression
        said = _quoted(meant) if isinstance(meant, exp.Column) else meant.sql("athena", comments=False)
        return f"write {node.this.name[:60]} => {said[:60]}"
    if isinstance(node, exp.Column):
        return f"write text in single quotes, {_quoted(node)[:60]}"
    if _DAY.fullmatch(node.sql()):
        return "write a date as DATE '2010-01-04'"
    return _HOW


def _quoted(column: exp.Column) -> str:
    return exp.Literal.string(column.name).sql("athena")


def types(node: exp.Expr, kind: ParamType) -> dict[int, ParamType]:
    """The types of the parameters in an argument of type `kind`, by number."""
    if isinstance(node, exp.Placeholder):
        return {parameter_number(node) or 0: kind}
    if isinstance(node, exp.Array) and kind.item:
        return _types(node.expressions, kind.item)
    if isinstance(node, exp.Map) and kind.item and kind.key:
        keys, values = node.args.get("keys"), node.args.get("values")
        return _types(getattr(keys, "expressions", []), kind.key) | _types(
            getattr(values, "expressions", []), kind.item
        )
    return _types(list(node.iter_expressions()), kind)


def _types(nodes: Sequence[exp.Expr], kind: ParamType) -> dict[int, ParamType]:
    found: dict[int, ParamType] = {}
    for node in nodes:
        found |= types(node, kind)
    return found


def _number(text: str) -> object:
    return int(text) if text.isdigit() and len(text) < 40 else Decimal(text)


def _negated(found: object) -> object:
    if isinstance(found, bool) or not isinstance(found, int | Decimal):
        raise ValueError(f"has a minus before what is no number; {_HOW}")
    return -found


def _cast(found: object, kind: exp.DataType) -> object:
    """A constant cast to a type: of text, a number where the type is one, and a moment as the contract writes it.

    What fits is for the contract to say.
    """
    if isinstance(found, str) and kind.is_type("timestamptz"):
        return _zoned(found)
    if not isinstance(found, str) or not kind.is_type(*exp.DataType.NUMERIC_TYPES):
        return found
    try:
        return Decimal(found)
    except ArithmeticError:
        raise ValueError(f"casts text to {kind.sql('athena')} that is no number") from None


def _zoned(text: str) -> str:
    """A moment with its time zone in ISO form; what is none is left as it is. Without a zone it is in UTC."""
    found = _MOMENT.fullmatch(text)
    if not found:
        return text
    zone = found[3] or "Z"
    return f"{found[1]}T{found[2]}{'Z' if zone == 'UTC' else f'{zone}:00' if len(zone) == 3 else zone}"


def _map(node: exp.Map, given: Mapping[int, object]) -> dict[str, object]:
    keys, values = node.args.get("keys"), node.args.get("values")
    if keys is None and values is None:
        return {}
    if not isinstance(keys, exp.Array) or not isinstance(values, exp.Array):
        raise ValueError(f"is no map of constants; {_HOW}")
    if len(keys.expressions) != len(values.expressions):
        raise ValueError(f"has {len(keys.expressions)} keys and {len(values.expressions)} values")
    found: dict[str, object] = {}
    for key, item in zip(keys.expressions, values.expressions, strict=True):
        name = _key(value(key, given))
        if name in found:
            raise ValueError(f"has the key {name[:60]!r} more than once")
        found[name] = value(item, given)
    return found


def _key(found: object) -> str:
    if isinstance(found, bool):
        return str(found).lower()
    if found is None or isinstance(found, list | dict):
        raise ValueError("has a key that is no value")
    return f"{found:f}" if isinstance(found, Decimal) else str(found)
