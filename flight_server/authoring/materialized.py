"""The check of a `[materialize]` section: the table, its partitions, and the query that fills it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlglot import exp

from flight_server.authoring.compiler import Compiler
from flight_server.authoring.fits import fits
from flight_server.datasets import header, query
from flight_server.datasets.types import type_text
from flight_server.errors import DatasetError, EngineFailed, InvalidRequest, nearest
from flight_server.model import Dataset
from flight_server.plan import allowed
from flight_server.plan.check import place
from flight_server.plan.dialect import Schemas
from flight_server.plan.qualify import qualified
from flight_server.tables.ddl import Definition


def problems(
    dataset: Dataset, definitions: Mapping[str, Definition], schemas: Schemas, compiler: Compiler
) -> Iterator[DatasetError]:
    """What is wrong with the table, its partitioning and the query, held against the DDL. Nothing without a section."""
    made = dataset.materialize
    if made is None:
        return
    head = header.read(dataset.path, dataset.path.read_text(encoding="utf-8"))
    definition = definitions.get(made.table)
    if definition is None:
        what = f"there is no table {made.table!r} in tables/{nearest(made.table, definitions)}"
        yield head.error(("materialize", "table"), what)
        return
    written = ", ".join(_partition(definition))
    if made.partition is not None and made.partition.replace(" ", "") != written.replace(" ", ""):
        what = f"the DDL of {made.table} has {written or 'no partitions'}, not {made.partition}"
        yield head.error(("materialize", "partition"), what)
    if made.query is None:
        return
    path = dataset.path.parent / made.query
    if not path.is_file():
        yield head.error(("materialize", "query"), f"there is no file {made.query!r} beside the dataset")
        return
    yield from _query(path, made.table, schemas, compiler)


def _query(path: Path, target: str, schemas: Schemas, compiler: Compiler) -> Iterator[DatasetError]:
    sql = path.read_text(encoding="utf-8")

    def fail(line: int, column: int, message: str) -> DatasetError:
        return DatasetError(path, line, column, message)

    try:
        tree = query.parse(sql, fail)
        allowed.check(tree)
    except DatasetError as error:
        yield error
        return
    except allowed.Refused as error:
        yield fail(*place(sql, error.node), error.message)
        return
    if parameter := tree.find(exp.Placeholder):
        yield fail(*place(sql, parameter), f"nobody is asked for :{parameter.name} when a table is filled")
        return
    for table in allowed.tables(tree):
        name = allowed.table_name(table)
        if name not in schemas:
            yield fail(*place(sql, table), f"there is no table {name!r} in tables/{nearest(name, schemas)}")
            return
    try:
        produced = compiler.schema(qualified(tree, schemas))
    except (InvalidRequest, EngineFailed) as error:
        yield fail(1, 1, f"the query does not compile: {error.message}")
        return
    wanted = compiler.table(target)
    if sorted(produced.names) != sorted(wanted.names):
        has, gives = ", ".join(wanted.names), ", ".join(produced.names)
        yield fail(1, 1, f"{target} has the columns {has}; the query gives {gives}")
        return
    for field in produced:
        kind = wanted.field(field.name).type
        if not fits(field.type, kind):
            has, gives = type_text(kind), type_text(field.type)
            yield fail(1, 1, f"{target}.{field.name} is {has} and the query gives {gives}, which does not fit")


def _partition(definition: Definition) -> list[str]:
    """The table's partition fields as a contract writes them: month(trade_date), bucket(16, meta_id), port_id."""
    found = []
    for field in definition.spec.fields:
        column = definition.schema.find_column_name(field.source_id)
        word, _, size = str(field.transform).partition("[")
        if word == "identity":
            found.append(str(column))
        else:
            found.append(f"{word}({size.rstrip(']')}, {column})" if size else f"{word}({column})")
    return found
