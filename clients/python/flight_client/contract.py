"""A dataset's contract as the `describe` action gives it, and the Python signature and documentation made from it."""

from __future__ import annotations

import datetime as dt
import difflib
import inspect
import keyword
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

_SCALARS: dict[str, Any] = {
    "bool": bool,
    "int32": int,
    "int64": int,
    "float32": float,
    "float64": float,
    "decimal": Decimal,
    "string": str,
    "enum": str,
    "date": dt.date,
    "timestamp": dt.datetime,
    "timestamp(tz)": dt.datetime,
}

_BOUNDS = ("min", "max", "min_items", "max_items", "max_length")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared parameter. `type` is the contract's word, `name` the wire's, `python_name` what a call writes."""

    name: str
    type: str
    required: bool
    default: object
    doc: str
    bounds: str
    example: object

    @property
    def python_name(self) -> str:
        return self.name + "_" if keyword.iskeyword(self.name) else self.name

    @property
    def annotation(self) -> Any:
        """The Python type that reads best; `values.py` says what else is taken."""
        word, _, rest = self.type.partition("<")
        if word == "list":
            found: Any = Sequence[_scalar(rest[:-1])]  # type: ignore[misc]
        elif word == "map":
            key, _, item = rest[:-1].partition(", ")
            found = Mapping[_scalar(key), _scalar(item)]  # type: ignore[misc]
        else:
            found = _scalar(self.type)
        return found if self.required else found | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the result."""

    name: str
    type: str
    null: bool
    unit: str
    doc: str


@dataclass(frozen=True, slots=True)
class Contract:
    """What a dataset takes and gives."""

    name: str
    version: int
    title: str
    doc: str
    owner: str
    tags: tuple[str, ...]
    key: tuple[str, ...]
    sorted: tuple[str, ...]
    params: tuple[Parameter, ...]
    rules: tuple[str, ...]
    columns: tuple[Column, ...]
    limits: Mapping[str, object]
    deprecated: str | None

    def signature(self, returns: type) -> inspect.Signature:
        """The signature of a call. Required parameters come first: Python has no other way to say it."""
        empty = inspect.Parameter.empty
        return inspect.Signature(
            [
                inspect.Parameter(
                    each.python_name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=empty if each.required else each.default,
                    annotation=each.annotation,
                )
                for each in sorted(self.params, key=lambda each: not each.required)
            ],
            return_annotation=returns,
        )

    def documentation(self) -> str:
        """The docstring of a call: texts, parameters with types and bounds, columns with units."""
        lines = [f"{self.title}. {self.doc}" if self.doc else self.title]
        if self.deprecated:
            lines += ["", f"Deprecated: {self.deprecated}"]
        lines += ["", "Parameters"] if self.params else []
        for each in self.params:
            given = "" if each.required else " (optional)" if each.default is None else f" (default {each.default})"
            lines.append(f"    {each.python_name}: {each.type}{given}{_after(each.doc)}{_after(each.bounds, '; ')}")
        lines += [f"    rule: {rule}" for rule in self.rules]
        lines += ["", f"Columns (sorted by {', '.join(self.sorted)})" if self.sorted else "Columns"]
        for column in self.columns:
            notes = ", ".join(filter(None, [column.unit, "" if column.null else "never null"]))
            lines.append(f"    {column.name}: {column.type}{f' ({notes})' if notes else ''}{_after(column.doc)}")
        lines += ["", f"Owner {self.owner}; version {self.version}"]
        return "\n".join(lines)


def contract_of(found: Mapping[str, Any]) -> Contract:
    """The contract in a `describe` answer. Keys that this release does not know are left alone."""
    return Contract(
        name=found["dataset"],
        version=found["version"],
        title=found["title"],
        doc=found["doc"],
        owner=found["owner"],
        tags=tuple(found["tags"]),
        key=tuple(found["key"]),
        sorted=tuple(found["sorted"]),
        params=tuple(_parameter(each) for each in found["params"]),
        rules=tuple(found["rules"].values()),
        columns=tuple(
            Column(each["name"], each["type"], each.get("null", True), each.get("unit", ""), each.get("doc", ""))
            for each in found["columns"]
        ),
        limits=dict(found["limits"]),
        deprecated=found.get("deprecated"),
    )


def did_you_mean(name: str, known: Iterable[str], end: str = "") -> str:
    """`"; did you mean 'x'?"` for the known name closest to `name`, or `end`. Worded as the server does."""
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else end


def _parameter(found: Mapping[str, Any]) -> Parameter:
    bounds = [f"{name} {found[name]}" for name in _BOUNDS if name in found]
    if "choices" in found:
        bounds.append("one of " + ", ".join(map(str, found["choices"])))
    if "unit" in found:
        bounds.append(f"in {found['unit']}")
    if "pattern" in found:
        bounds.append(f"matches {found['pattern']}")
    return Parameter(
        name=found["name"],
        type=found["type"],
        required=found["required"],
        default=found.get("default"),
        doc=found.get("doc", ""),
        bounds=", ".join(bounds),
        example=found.get("example"),
    )


def _scalar(word: str) -> Any:
    return _SCALARS.get(word.partition("(")[0] if word.startswith("decimal") else word, object)


def _after(text: str, mark: str = ". ") -> str:
    return f"{mark}{text}" if text else ""
