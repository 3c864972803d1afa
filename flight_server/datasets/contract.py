"""What the TOML of a dataset file means: from a `header.Section` to a `model.Dataset`, every key checked."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from flight_server.datasets import header, params, query
from flight_server.datasets.header import Section
from flight_server.datasets.types import column_type, param_type
from flight_server.errors import DatasetError, nearest
from flight_server.model import (
    CachePolicy,
    Column,
    Dataset,
    Limits,
    Materialize,
    Parameter,
    ParamType,
    RelativeDate,
    Rule,
    Scalar,
    SortKey,
    Value,
)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FILE = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,62})(\.v(?P<version>[1-9][0-9]{0,3}))?\.sql")
_RELATIVE = re.compile(r"(today|month_start|year_start)(?: - ([0-9]{1,5})d)?")
_RULE = re.compile(r"\s*(\w+)\s*(<=|>=|==|!=|<|>)\s*(\w+)\s*")
_SORT = re.compile(r"(\w+)(?:\s+(asc|desc))?(?:\s+nulls\s+(first|last))?", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_SIZES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)")
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse(path: Path, text: str) -> Dataset:
    """The dataset in the file `path` with the content `text`. Raises DatasetError with line and column."""
    found = _FILE.fullmatch(path.name)
    if not found:
        raise DatasetError(
            path, 0, 0, "a dataset file is named name.sql or name.v2.sql, name in lower case, digits and underscores"
        )
    head = header.read(path, text)
    root = head.root()
    version = root.take("version", int, 1) or 1
    if version != int(found["version"] or 1):
        raise root.error("version", f"version = {version} belongs in {found['name']}.v{version}.sql")

    def fail(line: int, column: int, message: str) -> Exception:
        return DatasetError(path, head.sql_line + line - 1, column, message)

    tree = query.parse(head.sql, fail)
    parameters = {name: _parameter(name, section) for name, section in root.section("params").sections()}
    dataset = Dataset(
        name=found["name"],
        version=version,
        title=root.need("title", str),
        doc=root.take("doc", str, "") or "",
        owner=root.take("owner", str, "") or "",
        tags=root.names("tags"),
        key=root.names("key"),
        sorted=tuple(_sort_key(root, item) for item in root.names("sorted")),
        params=parameters,
        rules=tuple(_rules(root.section("rules"), parameters)),
        columns=tuple(_column(name, section) for name, section in root.section("columns").sections()),
        limits=_limits(root.section("limits")),
        cache=_cache(root.section("cache")),
        roles=_access(root.section("access")),
        engine=_route(root.section("route")),
        materialize=_materialize(root.section("materialize")) if "materialize" in root.values else None,
        deprecated=root.take("deprecated", str),
        path=path,
        sql_line=head.sql_line,
        sql=head.sql,
        tree=tree,
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )
    root.take("materialize", dict)
    root.done()
    _check_names(root, dataset)
    query.check(tree, head.sql, dataset.params.values(), dataset.columns, dataset.sorted, fail)
    return dataset


def _check_names(root: Section, dataset: Dataset) -> None:
    declared = [column.name for column in dataset.columns]
    if not declared:
        raise root.error("", "[columns] is missing: the result's columns are the contract")
    for key, names in (("key", dataset.key), ("sorted", tuple(s.column for s in dataset.sorted))):
        for name in names:
            if name not in declared:
                raise root.error(key, f"{key!r} names {name!r}, which is no column{nearest(name, declared)}")


def _parameter(name: str, section: Section) -> Parameter:
    if not _NAME.fullmatch(name):
        raise section.error("", f"{name!r} is no parameter name: lower case, digits and underscores, not first")
    try:
        kind = param_type(section.need("type", str))
    except ValueError as error:
        raise section.error("type", str(error)) from None
    item = kind.item or kind
    bare = Parameter(
        name=name,
        type=kind,
        optional=section.take("optional", bool, False) or False,
        min_items=_at_least(section, "min_items", 1, 0),
        max_items=_at_least(section, "max_items", 1000, 1),
        max_length=_at_least(section, "max_length", 1000, 1),
        pattern=_pattern(section),
        ordered=section.take("ordered", bool, False) or False,
        suggest=section.take("suggest", str),
        unit=section.take("unit", str),
        doc=section.take("doc", str, "") or "",
    )

    def scalar(key: str) -> Scalar | None:
        value = section.raw(key)
        try:
            return None if value is None else params.parse_json(item, value)
        except ValueError as error:
            raise section.error(key, f"{key} = {params.shown(value)} {error}") from None

    choices = section.take("choices", list, []) or []
    bounded = replace(bare, min=scalar("min"), max=scalar("max"))
    if bounded.min is not None and bounded.max is not None and bounded.min > bounded.max:  # type: ignore[operator]
        raise section.error("max", "max is below min: there is no such value")
    if bare.min_items > bare.max_items:
        raise section.error("max_items", "max_items is below min_items: there is no such list")
    one = replace(bounded, type=item)
    bounded = replace(bounded, choices=tuple(_whole(section, "choices", one, choice) for choice in choices))  # type: ignore[misc]
    if item.kind == "enum" and not choices:
        raise section.error("type", 'an enum needs choices = ["…"]')
    if bounded.optional and "default" in section.values:
        raise section.error("default", "a parameter is required, optional, or has a default; not two at once")
    parameter = replace(
        bounded, default=_default(section, bounded), example=_whole(section, "example", bounded, section.raw("example"))
    )
    section.done()
    return parameter


def _whole(section: Section, key: str, parameter: Parameter, value: object) -> Value | None:
    try:
        return None if value is None else params.parse_value(parameter, value)
    except ValueError as error:
        raise section.error(key, f"{key} = {params.shown(value)} {error}") from None


def _default(section: Section, parameter: Parameter) -> Value | RelativeDate | None:
    value = section.raw("default")
    if isinstance(value, str) and parameter.type.kind in ("date", "timestamp", "timestamptz"):
        found = _RELATIVE.fullmatch(value)
        if found:
            return RelativeDate(found[1], int(found[2] or 0))  # type: ignore[arg-type]
        if parameter.type.kind != "timestamptz":
            raise section.error(
                "default",
                f"default = {value!r} is no date: write 2010-01-04, or today, today - 30d, month_start, year_start",
            )
    return _whole(section, "default", parameter, value)


def _at_least(section: Section, key: str, default: int, least: int) -> int:
    value = section.take(key, int, default)
    if value is None or value < least:
        raise section.error(key, f"{key} must be at least {least}, not {value}")
    return value


def _pattern(section: Section) -> str | None:
    pattern = section.take("pattern", str)
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise section.error("pattern", f"pattern is no regular expression: {error}") from None
    return pattern


def _rules(section: Section, parameters: Mapping[str, Parameter]) -> list[Rule]:
    rules = []
    for name in section.values:
        text = section.need(name, str)
        found = _RULE.fullmatch(text)
        if not found:
            raise section.error(name, f"{text!r} is no rule; write: start_date <= end_date")
        for side in (found[1], found[3]):
            if side not in parameters:
                raise section.error(name, f"the rule names {side!r}, which is no parameter{nearest(side, parameters)}")
        left, right = parameters[found[1]].type, parameters[found[3]].type
        if _compared_as(left) != _compared_as(right):
            raise section.error(name, f"{found[1]} is {left} and {found[3]} is {right}: they cannot be compared")
        rules.append(Rule(name, found[1], found[2], found[3]))  # type: ignore[arg-type]
    return rules


def _compared_as(kind: ParamType) -> str:
    if kind.kind in ("int32", "int64", "float32", "float64", "decimal"):
        return "number"
    return "string" if kind.kind == "enum" else str(kind)


def _column(name: str, section: Section) -> Column:
    try:
        kind = column_type(section.need("type", str))
    except ValueError as error:
        raise section.error("type", str(error)) from None
    column = Column(
        name,
        kind,
        section.take("null", bool, True) is True,
        section.take("doc", str, "") or "",
        section.take("unit", str),
    )
    section.done()
    return column


def _sort_key(root: Section, text: str) -> SortKey:
    found = _SORT.fullmatch(text.strip())
    if not found:
        raise root.error("sorted", f"{text!r} is no order; write: trade_date, or trade_date desc nulls first")
    return SortKey(found[1], (found[2] or "").lower() == "desc", (found[3] or "").lower() == "first")


def _limits(section: Section) -> Limits:
    max_scan = _measure(section, "max_scan", _SIZE, _SIZES, "2 GB")
    max_bytes = _measure(section, "max_bytes", _SIZE, _SIZES, "500 MB")
    limits = Limits(
        max_scan_bytes=None if max_scan is None else int(max_scan),
        max_bytes=None if max_bytes is None else int(max_bytes),
        max_rows=_at_least(section, "max_rows", 1, 1) if "max_rows" in section.values else None,
        max_cost_usd=_dollars(section),
        timeout_s=_measure(section, "timeout", _DURATION, _DURATIONS, "60s"),
    )
    section.take("max_rows", int)
    section.done()
    return limits


def _dollars(section: Section) -> float | None:
    dollars = section.take("max_cost", float)
    if dollars is not None and not 0 < dollars < math.inf:
        raise section.error("max_cost", f"max_cost = {dollars}: write dollars, more than 0")
    return dollars


def _measure(
    section: Section, key: str, pattern: re.Pattern[str], units: dict[str, int] | dict[str, float], example: str
) -> float | None:
    text = section.raw(key)
    if text is None:
        return None
    found = pattern.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found:
        raise section.error(
            key, f"{key} = {text!r}: write a number and a unit of {', '.join(units)}, as in {example!r}"
        )
    if float(found[1]) == 0:
        # Not what it says: for the limits nought would be the server's own.
        raise section.error(key, f"{key} = {text!r} must be more than nothing")
    return float(found[1]) * units[found[2]]


def _cache(section: Section) -> CachePolicy:
    mode = _choice(section, "mode", "snapshot", ("snapshot", "ttl", "off"))
    ttl_s = _measure(section, "ttl", _DURATION, _DURATIONS, "10m")
    if (mode == "ttl") != (ttl_s is not None):
        raise section.error("ttl", 'ttl belongs to mode = "ttl", and that mode needs it')
    section.done()
    return CachePolicy(mode, ttl_s)  # type: ignore[arg-type]


def _access(section: Section) -> frozenset[str]:
    roles = frozenset(section.names("roles"))
    if "roles" in section.values and not roles:
        raise section.error("roles", "roles = [] names nobody; leave [access] out where everybody may use the dataset")
    section.done()
    return roles


def _route(section: Section) -> Literal["auto", "duckdb", "athena"]:
    engine = _choice(section, "engine", "auto", ("auto", "duckdb", "athena"))
    section.done()
    return engine  # type: ignore[return-value]


def _choice(section: Section, key: str, default: str, choices: tuple[str, ...]) -> str:
    value = section.take(key, str, default) or default
    if value not in choices:
        raise section.error(key, f"{key} = {value!r} is not one of {', '.join(choices)}{nearest(value, choices)}")
    return value


def _materialize(section: Section) -> Materialize:
    made = Materialize(
        section.need("table", str),
        section.take("partition", str),
        section.take("refresh", str),
        section.take("query", str),
    )
    section.done()
    return made
