"""The datasets as a typed Python module over `flight_client`: one function a dataset, for editors and type checkers.

The text needs `athena-flight-client` where it is imported; nothing here does.
"""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterable, Iterator

from flight_server.datasets.types import type_text
from flight_server.model import Dataset, Parameter, ParamType, RelativeDate, to_json

_HEAD = '''"""The datasets of this athena-flight server as typed functions over `flight_client`.

Written by `athena-flight client python`; write it again instead of changing it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

from flight_client import Connection, Query
'''
# Dates and decimals may be text, as JSON has them; the server checks it.
_SCALARS = {
    "bool": "bool",
    "int32": "int",
    "int64": "int",
    "float32": "float",
    "float64": "float",
    "decimal": "Decimal | int | str",
    "string": "str",
    "enum": "str",
    "date": "dt.date | str",
    "timestamp": "dt.datetime | str",
    "timestamptz": "dt.datetime | str",
}
# Of lines of documentation: inside of what most linters take.
_WIDTH = 112


def module(datasets: Iterable[Dataset]) -> str:
    """The text of the module. The newest version of a dataset has its name, an older one `name_v1`."""
    found = sorted(datasets, key=lambda each: (each.name, each.version))
    newest = {each.name: each.version for each in found}
    parts = []
    for each in found:
        name = python_name(each.name) if each.version == newest[each.name] else f"{each.name}_v{each.version}"
        parts.append(_function(name, each))
    everything = [_HEAD, *parts]
    return "\n\n".join(everything)


def python_name(name: str) -> str:
    """`name`, or `name_` where Python keeps the word for itself."""
    return f"{name}_" if keyword.iskeyword(name) else name


def _function(name: str, dataset: Dataset) -> str:
    params = sorted(dataset.params.values(), key=lambda each: not each.required)
    lines = [f"    {python_name(each.name)}: {_annotation(each)}," for each in params]
    values = ", ".join(f"{python_name(each.name)}={python_name(each.name)}" for each in params)
    return "\n".join(
        [
            f"def {name}(",
            "    db: Connection,",
            *lines,
            ") -> Query:",
            '    """'
            + "\n".join(_documentation(dataset)).replace("\\", "\\\\").replace('"""', r"\"\"\"")
            + '\n    """',
            f'    return db.dataset("{dataset.name}", version={dataset.version})({values})',
            "",
        ]
    )


def _escaped(lines: Iterable[str]) -> str:
    return "\n".join(lines).replace("\\", "\\\\").replace('"""', r"\"\"\"")


def _annotation(parameter: Parameter) -> str:
    kind = parameter.type
    if kind.kind == "list" and kind.item:
        word = _scalar(parameter, kind.item)
        # A text is a sequence of texts, and never what was meant.
        found = f"list[{word}] | tuple[{word}, ...]" if word == "str" else f"Sequence[{word}]"
    elif kind.kind == "map" and kind.item and kind.key:
        found = f"Mapping[{_SCALARS[kind.key.kind]}, {_scalar(parameter, kind.item)}]"
    else:
        found = _scalar(parameter, kind)
    return found if parameter.required else f"{found} | None = None"


def _scalar(parameter: Parameter, kind: ParamType) -> str:
    if kind.kind == "enum" and parameter.choices:
        return f"Literal[{', '.join(repr(str(each)) for each in parameter.choices)}]"
    return _SCALARS[kind.kind]


def _documentation(dataset: Dataset) -> Iterator[str]:
    yield dataset.title
    for text in filter(None, [dataset.doc, f"Deprecated: {dataset.deprecated}" if dataset.deprecated else ""]):
        yield ""
        yield from _wrapped(text, "    ")
    if dataset.params:
        yield ""
        yield "    Parameters:"
    for each in dataset.params.values():
        default = "optional" if each.default is None else f"default {_default(each)}"
        given = "" if each.required else f", {default}"
        yield from _wrapped(f"{python_name(each.name)} ({each.type}{given}): {each.doc}", "        ")
    yield ""
    order = f", sorted by {', '.join(map(str, dataset.sorted))}" if dataset.sorted else ""
    yield f"    Columns{order}:"
    for column in dataset.columns:
        notes = [type_text(column.type), column.unit or "", "" if column.nullable else "never null"]
        yield from _wrapped(f"{column.name} ({', '.join(filter(None, notes))}): {column.doc}", "        ")


def _default(parameter: Parameter) -> object:
    default = parameter.default
    return default if default is None or isinstance(default, RelativeDate) else to_json(default)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text.rstrip(": "), _WIDTH, initial_indent=indent, subsequent_indent=indent + "    ")
