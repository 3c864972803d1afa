"""The words for types in a contract, with Arrow's names: `decimal(12,2)`, `list<int32>`, `struct<a: int32, b: string>`.

One small grammar serves parameters and columns. A parameter may have fewer types than a column: what a person can type
and an engine can take as a literal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

from flight_server.errors import nearest
from flight_server.model import ParamType

_COLUMN_WORDS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    # Iceberg's and Athena's timestamps have microseconds; nanoseconds would not reach the years 1 and 9999.
    "timestamp": pa.timestamp("us"),
    "timestamp(tz)": pa.timestamp("us", "UTC"),
}
_PARAM_WORDS = frozenset(
    {"bool", "int32", "int64", "float32", "float64", "string", "enum", "date", "timestamp", "timestamp(tz)"}
)
_NESTED = ("decimal", "list", "map", "struct")
_TOKEN = re.compile(r"\s*(timestamp\(tz\)|[A-Za-z_][A-Za-z_0-9]*|[0-9]+|[<>(),:])")


@dataclass(frozen=True, slots=True)
class _Node:
    word: str
    numbers: tuple[int, ...] = ()
    items: tuple[_Node, ...] = ()
    names: tuple[str, ...] = ()


def column_type(text: str) -> pa.DataType:
    """The Arrow type that `text` declares for a column. Raises ValueError with the way out."""
    return _arrow(_parse(text))


def param_type(text: str) -> ParamType:
    """The parameter type that `text` declares. Raises ValueError with the way out."""
    return _param(_parse(text))


def arrow_of(kind: ParamType) -> pa.DataType:
    """The Arrow type of a parameter's value (an enum is a string)."""
    if kind.kind == "decimal":
        return pa.decimal128(kind.precision, kind.scale)
    if kind.kind == "list" and kind.item:
        return pa.list_(arrow_of(kind.item))
    if kind.kind == "map" and kind.item and kind.key:
        return pa.map_(arrow_of(kind.key), arrow_of(kind.item))
    return _COLUMN_WORDS[{"enum": "string", "timestamptz": "timestamp(tz)"}.get(kind.kind, kind.kind)]


def type_text(kind: pa.DataType) -> str:
    """How a contract would write `kind`: the inverse of `column_type`."""
    for word, known in _COLUMN_WORDS.items():
        if kind == known:
            return word
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_map(kind):
        return f"map<{type_text(kind.key_type)}, {type_text(kind.item_type)}>"
    if pa.types.is_list(kind):
        return f"list<{type_text(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{f.name}: {type_text(f.type)}' for f in kind)}>"
    return str(kind)


def _parse(text: str) -> _Node:
    tokens = []
    position = 0
    while position < len(text.rstrip()):
        found = _TOKEN.match(text, position)
        if not found:
            raise ValueError(f"{text!r} is not a type: nothing is known that starts with {text[position:]!r}")
        tokens.append(found.group(1))
        position = found.end()
    node, rest = _node(tokens, text)
    if rest:
        raise ValueError(f"{text!r} is not a type: {''.join(rest)!r} is left over")
    return node


def _node(tokens: list[str], text: str) -> tuple[_Node, list[str]]:
    if not tokens or not (tokens[0][0].isalpha() or tokens[0][0] == "_"):
        raise ValueError(f"{text!r} is not a type: a type's name is missing")
    word, rest = tokens[0], tokens[1:]
    if word == "decimal":
        if len(rest) < 5 or [rest[0], rest[2], rest[4]] != ["(", ",", ")"] or not (rest[1] + rest[3]).isdigit():
            raise ValueError(f"{text!r} is not a type: write decimal(precision, scale), for example decimal(12, 2)")
        return _Node(word, (int(rest[1]), int(rest[3]))), rest[5:]
    if word not in _NESTED:
        return _Node(word), rest
    if not rest or rest[0] != "<":
        raise ValueError(f"{text!r} is not a type: {word} needs its parts in angle brackets, as in {_example(word)}")
    rest = rest[1:]
    items: list[_Node] = []
    names: list[str] = []
    while True:
        if word == "struct":
            if len(rest) < 2 or rest[1] != ":":
                raise ValueError(f"{text!r} is not a type: write {_example(word)}")
            names.append(rest[0])
            rest = rest[2:]
        item, rest = _node(rest, text)
        items.append(item)
        if not rest or rest[0] not in ",>":
            raise ValueError(f"{text!r} is not a type: a '>' is missing")
        closing, rest = rest[0], rest[1:]
        if closing == ">":
            break
    if word != "struct" and len(items) != {"list": 1, "map": 2}[word]:
        raise ValueError(f"{text!r} is not a type: write {_example(word)}")
    return _Node(word, (), tuple(items), tuple(names)), rest


def _example(word: str) -> str:
    return {"list": "list<int32>", "map": "map<int32, float64>", "struct": "struct<a: int32, b: string>"}[word]


def _decimal(node: _Node) -> tuple[int, int]:
    precision, scale = node.numbers
    # Athena's and Iceberg's widest decimal.
    if not 1 <= precision <= 38 or not 0 <= scale <= precision:
        raise ValueError(f"decimal({precision},{scale}) is out of range: 1 to 38 digits, of which 0 to all decimals")
    return precision, scale


def _arrow(node: _Node) -> pa.DataType:
    if node.word == "decimal":
        return pa.decimal128(*_decimal(node))
    if node.word == "list":
        return pa.list_(_arrow(node.items[0]))
    if node.word == "map":
        return pa.map_(*map(_arrow, node.items))
    if node.word == "struct":
        return pa.struct([(name, _arrow(item)) for name, item in zip(node.names, node.items, strict=True)])
    if node.word not in _COLUMN_WORDS:
        raise ValueError(
            f"there is no column type {node.word!r}{nearest(node.word, (*_COLUMN_WORDS, *_NESTED), end='.')} "
            f"There are {', '.join(_COLUMN_WORDS)}, decimal(p,s), list<T>, map<K,V>, struct<name: T>"
        )
    return _COLUMN_WORDS[node.word]


def _param(node: _Node) -> ParamType:
    if node.word == "decimal":
        precision, scale = _decimal(node)
        return ParamType("decimal", precision, scale)
    if node.word in ("list", "map"):
        parts = [_param(item) for item in node.items]
        if any(part.kind in ("list", "map") for part in parts):
            raise ValueError(f"a parameter's {node.word} holds single values, not lists or maps")
        return ParamType(node.word, item=parts[-1], key=parts[0] if node.word == "map" else None)
    if node.word not in _PARAM_WORDS:
        known = (*sorted(_PARAM_WORDS), "decimal", "list", "map")
        raise ValueError(
            f"there is no parameter type {node.word!r}{nearest(node.word, known, end='.')} "
            "There are bool, int32, int64, float32, float64, decimal(p,s), string, enum, date, timestamp, "
            "timestamp(tz), list<T>, map<K,V>"
        )
    return ParamType("timestamptz" if node.word == "timestamp(tz)" else node.word)
