"""From what a caller wrote to typed values: parsing, bounds, defaults and rules of a dataset's parameters.

`resolve` is the only way in. It never guesses: an unknown, repeated, missing or unparsable parameter is an error,
because the alternative is a query that reads more than was asked for.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any

from flight_server.errors import InvalidRequest, nearest
from flight_server.model import Dataset, Entries, Parameter, ParamType, RelativeDate, Rule, Scalar, Text, Value

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
# Exponents are bounded so that no text of a few bytes becomes a number of a million digits.
_DECIMAL = re.compile(r"[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,3})?")
# Numbers of JSON are read as Decimal; who wrote 0.6 is to find 0.6.
_DECIMAL_REPR = re.compile(r"Decimal\('([^']*)'\)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)
_RANGES = {"int32": 2**31, "int64": 2**63}
_FLOAT32_MAX = 3.4028234663852886e38
# Enough of a value to recognise it in a message that travels as a header.
_SHOWN_MAX = 60
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def resolve(
    dataset: Dataset,
    raw: Mapping[str, object],
    today: date,
    written: Callable[[Dataset, list[Parameter]], str] | None = None,
) -> dict[str, Value]:
    """Typed values in the dataset's order, defaults filled in; absent optional parameters are left out.

    `raw` has `Text` or JSON values (`model.Request`). Raises InvalidRequest with unknown-parameter,
    missing-parameter, bad-parameter or rule-violated, each naming the parameter, the value and the way out.
    `written` shows how the examples of missing parameters are written where that is not as in the query form.
    """
    takes = f"It takes {', '.join(dataset.params)}" if dataset.params else "It takes none"
    for name in raw:
        if name not in dataset.params:
            raise InvalidRequest(
                "unknown-parameter",
                f"{dataset.name} has no parameter {shown(name)}{nearest(name, dataset.params, end='.')} {takes}",
            )
    missing = [each for each in dataset.params.values() if each.required and each.name not in raw]
    if missing:
        named = ", ".join(f"{each.name!r} ({each.type})" for each in missing)
        example = ""
        if all(each.example is not None for each in missing):
            example = f", for example {(written or _assignments)(dataset, missing)}"
        raise InvalidRequest("missing-parameter", f"{dataset.name} needs {named}{example}")
    values: dict[str, Value] = {}
    for name, parameter in dataset.params.items():
        value = _given(dataset.name, parameter, raw[name]) if name in raw else default_of(parameter, today)
        if value is not None:
            values[name] = value
    for rule in dataset.rules:
        _check_rule(dataset.name, rule, values)
    return values


def parse_text(kind: ParamType, text: str) -> Scalar:
    """The scalar that `text` writes. Raises ValueError that says how to write one."""
    return _PARSERS[kind.kind](kind, text)


def parse_json(kind: ParamType, value: object) -> Scalar:
    """The scalar that a JSON or TOML value stands for; numbers stay numbers, everything else is text."""
    if kind.kind == "bool":
        if not isinstance(value, bool):
            raise ValueError("is not true or false")
        return value
    if isinstance(value, bool):
        raise ValueError(f"is not {_HOW[kind.kind]}")
    if isinstance(value, datetime):
        return _from_datetime(kind, value)
    if isinstance(value, date) and kind.kind in ("date", "timestamp"):
        return value if kind.kind == "date" else datetime(value.year, value.month, value.day)
    if isinstance(value, (int, float, Decimal)):
        if kind.kind not in ("int32", "int64", "float32", "float64", "decimal"):
            raise ValueError(f"is not {_HOW[kind.kind]}")
        return parse_text(kind, str(value))
    if not isinstance(value, str):
        raise ValueError(f"is not {_HOW[kind.kind]}")
    if kind.kind in ("int32", "int64", "float32", "float64"):
        raise ValueError(f"is text, not {_HOW[kind.kind]}")
    return parse_text(kind, value)


def parse_value(parameter: Parameter, raw: object) -> Value:
    """The whole value of a parameter, bounds checked. Raises ValueError with the reason, for the caller to place."""
    kind = parameter.type
    if kind.kind == "list" and kind.item:
        return _list(parameter, kind.item, raw)
    if kind.kind == "map" and kind.item and kind.key:
        return _map(parameter, kind.key, kind.item, raw)
    if isinstance(raw, Text):
        if len(raw) != 1:
            raise ValueError(f"is given {len(raw)} times; it takes one value")
        return _bounded(parameter, parse_text(kind, raw[0]))
    return _bounded(parameter, parse_json(kind, raw))


def shown(value: object) -> str:
    """`value` for a message: its repr, cut; never more than a header can carry."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else _DECIMAL_REPR.sub(r"\1", repr(value))
    if isinstance(value, Text):
        text = repr(value[0]) if len(value) == 1 else repr(tuple(value))
    elif isinstance(value, date):
        text = str(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def default_of(parameter: Parameter, today: date) -> Value | None:
    """The value of a parameter that is not given on `today` (UTC): a relative default's day, or its midnight."""
    default = parameter.default
    if not isinstance(default, RelativeDate):
        return default
    anchor = {"today": today, "month_start": today.replace(day=1), "year_start": today.replace(month=1, day=1)}
    day = anchor[default.anchor] - timedelta(days=default.days)
    if parameter.type.kind == "date":
        return day
    return datetime(day.year, day.month, day.day, tzinfo=UTC if parameter.type.kind == "timestamptz" else None)


def _assignments(_: Dataset, parameters: list[Parameter]) -> str:
    return "&".join(map(_assignment, parameters))


def _assignment(parameter: Parameter) -> str:
    example = parameter.example
    if isinstance(example, tuple):
        parts = [f"{item[0]}:{item[1]}" if isinstance(item, tuple) else str(item) for item in example]
        return "&".join(f"{parameter.name}={part}" for part in parts)
    return f"{parameter.name}={example}"


def _given(dataset: str, parameter: Parameter, raw: object) -> Value | None:
    if raw is None:
        if parameter.optional:
            return None
        raise InvalidRequest("bad-parameter", f"{dataset}.{parameter.name} is null, and it is not optional")
    try:
        return parse_value(parameter, raw)
    except ValueError as error:
        said = f"{dataset}.{parameter.name} = {shown(raw)} {error}{_instead(parameter, raw)}"
        raise InvalidRequest("bad-parameter", said) from None


def _instead(parameter: Parameter, raw: object) -> str:
    """What to write in place of a wrong value, where its kind alone does not say it."""
    if raw in ("", Text([""])) and parameter.optional:
        return "; leave it out to have none"
    if isinstance(raw, Text) and len(raw) != 1:
        return ""
    if parameter.type.kind == "list" and isinstance(raw, Text) and raw[0].isprintable():
        items = [item.strip(" '\"") for item in raw[0].strip("[]()").split(",")]
        repeated = "&".join(f"{parameter.name}={item}" for item in items)
        return f"; a list repeats its name: {repeated}" if items != [raw[0]] and len(repeated) <= _SHOWN_MAX else ""
    if parameter.pattern is None or parameter.type.kind not in ("string", "enum"):
        return ""
    value = raw[0] if isinstance(raw, Text) else raw
    if isinstance(value, str):
        bare = value.strip(" '\"")
        for near in (bare, bare.upper(), bare.lower()):
            if near != value and len(near) <= parameter.max_length and re.fullmatch(parameter.pattern, near):
                return f"; did you mean {near!r}?"
    return "" if parameter.example is None else f"; it is written as {parameter.example!r}"


def _list(parameter: Parameter, item: ParamType, raw: object) -> Value:
    if not isinstance(raw, (list, Text)):
        raise ValueError("is not a list; write [value, …]")
    _check_count(parameter, len(raw), "items")
    parse = parse_text if isinstance(raw, Text) else parse_json
    items = [_bounded(parameter, parse(item, each)) for each in raw]
    # The same set of items is the same question and the same stored result; unless the order means something.
    return tuple(items) if parameter.ordered else tuple(sorted(set(items)))


def _map(parameter: Parameter, key: ParamType, item: ParamType, raw: object) -> Value:
    pairs: list[tuple[Scalar, Scalar]] = []
    if isinstance(raw, Text):
        _check_count(parameter, len(raw), "entries")
        for each in raw:
            left, colon, right = each.partition(":")
            if not colon:
                raise ValueError(f"has the entry {shown(each)}; write key:value, for example {parameter.name}=1:0.6")
            pairs.append((_key(key, left), _bounded(parameter, parse_text(item, right))))
    elif isinstance(raw, dict):
        _check_count(parameter, len(raw), "entries")
        pairs = [(_key(key, k), _bounded(parameter, parse_json(item, v))) for k, v in raw.items()]
    else:
        raise ValueError('is not a map; write {"key": value}')
    keys = [pair[0] for pair in pairs]
    if len(set(keys)) != len(keys):
        twice = next(k for k in keys if keys.count(k) > 1)
        raise ValueError(f"has the key {shown(twice)} more than once")
    return Entries(sorted(pairs, key=lambda pair: pair[0]))


def _key(kind: ParamType, text: str) -> Scalar:
    try:
        return parse_text(kind, text)
    except ValueError as error:
        raise ValueError(f"has the key {shown(text)}, which {error}") from None


def _check_count(parameter: Parameter, count: int, noun: str) -> None:
    if count < parameter.min_items:
        raise ValueError(f"has {count} {noun}; at least {parameter.min_items} are needed")
    if count > parameter.max_items:
        raise ValueError(f"has {count} {noun}; at most {parameter.max_items} are taken")


def _bounded(parameter: Parameter, value: Scalar) -> Scalar:
    if parameter.choices and value not in parameter.choices:
        near = nearest(value, [str(c) for c in parameter.choices]) if isinstance(value, str) else ""
        raise ValueError(f"is not one of {', '.join(map(str, parameter.choices))}{near}")
    if parameter.min is not None and value < parameter.min:  # type: ignore[operator]
        raise ValueError(f"is below the least allowed value, {shown(parameter.min)}")
    if parameter.max is not None and value > parameter.max:  # type: ignore[operator]
        raise ValueError(f"is above the greatest allowed value, {shown(parameter.max)}")
    if isinstance(value, str):
        if len(value) > parameter.max_length:
            raise ValueError(f"has {len(value)} characters; at most {parameter.max_length} are taken")
        if parameter.pattern is not None and not re.fullmatch(parameter.pattern, value):
            raise ValueError(f"does not match {parameter.pattern}")
    return value


def _check_rule(dataset: str, rule: Rule, values: Mapping[str, Value]) -> None:
    if rule.left not in values or rule.right not in values:
        return
    left, right = values[rule.left], values[rule.right]
    if not _COMPARE[rule.operator](left, right):
        raise InvalidRequest(
            "rule-violated",
            f"{dataset}: rule {rule.name!r} asks {rule}, and {rule.left} is {shown(left)}, "
            f"{rule.right} is {shown(right)}",
        )


def _bool(_: ParamType, text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("is not a bool; write true or false")
    return text == "true"


def _int(kind: ParamType, text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"is not {_HOW[kind.kind]}")
    value = int(text)
    bound = _RANGES[kind.kind]
    if not -bound <= value < bound:
        raise ValueError(f"does not fit {kind.kind}, which ends at {bound - 1}")
    return value


def _float(kind: ParamType, text: str) -> float:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"is not {_HOW[kind.kind]}")
    value = float(text)
    if not math.isfinite(value) or (kind.kind == "float32" and abs(value) > _FLOAT32_MAX):
        raise ValueError(f"does not fit {kind.kind}")
    # Minus zero equals zero in every comparison, and must not be another question.
    return value + 0.0


def _decimal(kind: ParamType, text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"is not {_HOW[kind.kind]}")
    try:
        with localcontext() as context:
            context.prec = 38 + 2
            value = Decimal(text)
            fitted = value.quantize(Decimal(1).scaleb(-kind.scale))
    except InvalidOperation:
        raise ValueError(f"does not fit {kind}") from None
    if fitted != value or len(fitted.as_tuple().digits) > kind.precision:
        raise ValueError(f"does not fit {kind} without rounding")
    return abs(fitted) if fitted == 0 else fitted


def _string(_: ParamType, text: str) -> str:
    if "\x00" in text:
        raise ValueError("has a NUL character, which no engine takes in a string")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("has a lone surrogate, which is not a character")
    return text


def _date(_: ParamType, text: str) -> date:
    if not _DATE.fullmatch(text):
        raise ValueError("is not a date; write it as 2010-01-04")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a day of the calendar") from None


def _timestamp(kind: ParamType, text: str) -> datetime:
    found = _TIMESTAMP.fullmatch(text)
    zoned = kind.kind == "timestamptz"
    how = f"write it as 2010-01-04T09:30:00{'Z' if zoned else ''}"
    if not found:
        raise ValueError(f"is not a timestamp; {how}")
    if bool(found[3]) != zoned:
        raise ValueError(f"{'needs' if zoned else 'must not have'} a time zone; {how}")
    try:
        return _from_datetime(kind, datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ValueError("is not a moment of the calendar") from None


def _from_datetime(kind: ParamType, value: datetime) -> datetime:
    if kind.kind not in ("timestamp", "timestamptz") or (value.tzinfo is not None) != (kind.kind == "timestamptz"):
        raise ValueError(f"is not {_HOW[kind.kind]}")
    return value if value.tzinfo is None else value.astimezone(UTC)


_PARSERS: dict[str, Callable[[ParamType, str], Scalar]] = {
    "bool": _bool,
    "int32": _int,
    "int64": _int,
    "float32": _float,
    "float64": _float,
    "decimal": _decimal,
    "string": _string,
    "enum": _string,
    "date": _date,
    "timestamp": _timestamp,
    "timestamptz": _timestamp,
}
_HOW = {
    "bool": "true or false",
    "int32": "a whole number",
    "int64": "a whole number",
    "float32": "a number",
    "float64": "a number",
    "decimal": "a decimal number",
    "string": "a string",
    "enum": "a string",
    "date": "a date; write it as 2010-01-04",
    "timestamp": "a timestamp; write it as 2010-01-04T09:30:00",
    "timestamptz": "a timestamp with a time zone; write it as 2010-01-04T09:30:00Z",
}
