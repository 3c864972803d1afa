"""What can be said against a dataset's query from its text alone, each with its place in the file.

Servers refuse such datasets when they start; `athena-flight check` asks more (authoring/check.py), for which it needs
the tables.
"""

from __future__ import annotations

import re

from sqlglot import exp

from flight_server.errors import DatasetError, InvalidRequest
from flight_server.model import Dataset
from flight_server.plan import allowed, bind, dialect


def problems(dataset: Dataset) -> list[DatasetError]:
    """What the query names that it must not, what Athena cannot say, and optional parameters whose term must stay."""
    found: list[DatasetError] = []
    try:
        allowed.check(dataset.tree)
        dialect.canonical(dataset.tree)
    except allowed.Refused as error:
        found.append(error_at(dataset, error.node, error.message))
    except InvalidRequest as error:
        found.append(error_at(dataset, None, error.message))
    try:
        bind.check(dataset.tree, dataset.params)
    except bind.NotRemovable as error:
        found.append(error_at(dataset, error.node, str(error)))
    return found


def error_at(dataset: Dataset, node: exp.Expr | None, message: str) -> DatasetError:
    """An error at the place of `node` in the dataset's file, or at the start of its query where the node has none."""
    line, column = place(dataset.sql, node)
    return DatasetError(dataset.path, dataset.sql_line + line - 1, column, message)


def place(sql: str, node: exp.Expr | None) -> tuple[int, int]:
    """Line and column (from 1) in `sql` of a node that was parsed from it; (1, 1) when the parser kept none."""
    start = None
    if isinstance(node, exp.Placeholder):
        # The parser keeps no place of placeholders. Comments may name one too, but nothing else may.
        found = re.search(rf"(?m)^(?:(?!--).)*?(:{re.escape(node.name)}\b)", sql)
        start = found.start(1) if found else None
    elif node is not None:
        starts = [each.meta["start"] for each in node.walk() if "start" in each.meta]
        start = min(starts, default=None)
    if start is None:
        return 1, 1
    before = sql[:start]
    return before.count("\n") + 1, len(before) - before.rfind("\n")
