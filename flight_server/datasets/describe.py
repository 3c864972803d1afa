"""A dataset's contract as JSON, for the `describe` action and for programs that build clients from it."""

from __future__ import annotations

from flight_server.datasets.types import type_text
from flight_server.model import Column, Dataset, Parameter, RelativeDate, to_json


def contract_json(dataset: Dataset) -> dict[str, object]:
    """Name, version, texts, parameters in order with types and bounds, rules, columns, limits. No SQL, no path."""
    limits = dataset.limits
    return {
        "dataset": dataset.name,
        "version": dataset.version,
        "title": dataset.title,
        "doc": dataset.doc,
        "owner": dataset.owner,
        "tags": list(dataset.tags),
        "key": list(dataset.key),
        "sorted": [str(key) for key in dataset.sorted],
        "params": [_parameter(parameter) for parameter in dataset.params.values()],
        "rules": {rule.name: str(rule) for rule in dataset.rules},
        "columns": [_column(column) for column in dataset.columns],
        "limits": {
            "max_scan_bytes": limits.max_scan_bytes,
            "max_rows": limits.max_rows,
            "max_bytes": limits.max_bytes,
            "max_cost_usd": limits.max_cost_usd,
            "timeout_s": limits.timeout_s,
        },
        "deprecated": dataset.deprecated,
    }


def _parameter(parameter: Parameter) -> dict[str, object]:
    default = parameter.default
    found: dict[str, object] = {
        "name": parameter.name,
        "type": str(parameter.type),
        "required": parameter.required,
        "default": str(default) if isinstance(default, RelativeDate) else None if default is None else to_json(default),
        "min": None if parameter.min is None else to_json(parameter.min),
        "max": None if parameter.max is None else to_json(parameter.max),
        "choices": [to_json(choice) for choice in parameter.choices] or None,
        "pattern": parameter.pattern,
        "unit": parameter.unit,
        "example": None if parameter.example is None else to_json(parameter.example),
        "doc": parameter.doc,
    }
    if parameter.type.kind in ("list", "map"):
        found |= {"min_items": parameter.min_items, "max_items": parameter.max_items}
    if (parameter.type.item or parameter.type).kind == "string":
        found["max_length"] = parameter.max_length
    return {name: value for name, value in found.items() if value is not None}


def _column(column: Column) -> dict[str, object]:
    found = {
        "name": column.name,
        "type": type_text(column.type),
        "null": column.nullable,
        "unit": column.unit,
        "doc": column.doc,
    }
    return {name: value for name, value in found.items() if value is not None}
