"""Values to try a dataset with: its own examples, and made-up ones where it gives none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

from flight_server.datasets.params import default_of
from flight_server.model import Dataset, Parameter, ParamType, Scalar, Value

# 2^6: above that, optional parameters are tried alone and left out alone.
_COMBINATIONS_MAX = 64
_MADE_UP: dict[str, Scalar] = {
    "bool": True,
    "int32": 1,
    "int64": 1,
    "float32": 1.0,
    "float64": 1.0,
    "decimal": Decimal(0),
    "string": "a",
    "enum": "a",
    "date": date(2010, 1, 4),
    "timestamp": datetime(2010, 1, 4, 9, 30),
    "timestamptz": datetime(2010, 1, 4, 9, 30, tzinfo=UTC),
}


def sample(parameter: Parameter) -> Value:
    """A value of the parameter's type: its example, its default, a bound, or a made-up one that may break a pattern."""
    if parameter.example is not None:
        return parameter.example
    if (default := default_of(parameter, date(2010, 1, 4))) is not None:
        return default
    kind = parameter.type
    if kind.kind == "list" and kind.item:
        return (_scalar(parameter, kind.item),)
    if kind.kind == "map" and kind.item and kind.key:
        return ((_MADE_UP[kind.key.kind], _scalar(parameter, kind.item)),)
    return _scalar(parameter, kind)


def combinations(dataset: Dataset) -> Iterator[tuple[str, ...]]:
    """The optional parameters to set, in every combination; with more than six, all, none, each and all but each.

    Their terms stand in ANDs and are removed one by one, so that no three of them can do what no two do.
    """
    names = [name for name, parameter in dataset.params.items() if parameter.optional]
    if 2 ** len(names) <= _COMBINATIONS_MAX:
        for size in range(len(names), -1, -1):
            yield from itertools.combinations(names, size)
        return
    yield tuple(names)
    yield ()
    for name in names:
        yield (name,)
        yield tuple(other for other in names if other != name)


def _scalar(parameter: Parameter, kind: ParamType) -> Scalar:
    if parameter.choices:
        return parameter.choices[0]
    return next((bound for bound in (parameter.min, parameter.max) if bound is not None), _MADE_UP[kind.kind])
