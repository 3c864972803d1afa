"""The offline check of a folder of datasets: contract, SQL, tables of the DDL, columns, and the types that come out.

No catalog, no network, no data: the tables are those of the DDL files, empty. What changed since a git commit is
asked in `against.py`, which rows come out in `run_tests.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pyarrow as pa
from sqlglot import exp

from flight_server.authoring import materialized
from flight_server.authoring.compiler import Compiler
from flight_server.authoring.fits import fits
from flight_server.authoring.samples import combinations, sample
from flight_server.datasets import header, registry, system
from flight_server.datasets.types import type_text
from flight_server.errors import DatasetError, EngineFailed, InvalidRequest, TableError, nearest
from flight_server.model import Dataset
from flight_server.plan import allowed, bind, policies
from flight_server.plan.check import error_at, problems
from flight_server.plan.dialect import Schemas
from flight_server.plan.qualify import qualified, sql_schema
from flight_server.tables import ddl
from flight_server.tables.ddl import Definition

# Folder of the DDL files inside that of the datasets.
TABLES = "tables"
_PLACE = re.compile(r"(?P<path>.*?\.sql)(?::(?P<line>\d+))?(?::(?P<column>\d+))?: (?P<message>.*)", re.DOTALL)


def check(directory: Path, name: str | None = None) -> list[DatasetError]:
    """All that is wrong with the datasets and policies in `directory`, or with the datasets called `name`, by place.

    Every combination of set and unset optional parameters is compiled. Without a folder of DDL files nothing is known
    of tables, columns and types, and only the text is checked.
    """
    found, errors = registry.load(directory)
    errors += system.problems(found)
    errors = [error for error in errors if name is None or error.path.name.split(".")[0] == name]
    chosen = [dataset for dataset in found.all() if name in (None, dataset.name)]
    if name is not None and not chosen and not errors:
        known = [dataset.name for dataset in found.all()]
        return [DatasetError(directory, 0, 0, f"there is no dataset {name!r} in this folder{nearest(name, known)}")]
    right: list[Dataset] = []
    for dataset in chosen:
        against = problems(dataset)
        errors += against
        right += [] if against else [dataset]
    columns_of = None
    if (directory / TABLES).is_dir():
        definitions, wrong = read_tables(directory / TABLES)
        errors += wrong
        if not wrong:
            schemas = {table: sql_schema(definition.schema) for table, definition in definitions.items()}
            errors += check_queries(right, definitions, schemas)
            columns_of = schemas.get
    if name is None:
        errors += policies.problems(found.policies, columns_of)
    return sorted(errors, key=lambda error: (str(error.path), error.line, error.column))


def read_tables(directory: Path) -> tuple[dict[str, Definition], list[DatasetError]]:
    """The tables of every DDL file in `directory`, and what is wrong with the other files."""
    found: dict[str, Definition] = {}
    errors: list[DatasetError] = []
    for path in sorted(directory.glob("*.sql")):
        try:
            definition = ddl.read(path)
        except TableError as error:
            # The message starts with file, line and column, which have their own fields here.
            placed = _PLACE.fullmatch(error.message)
            line, column = (int(placed["line"] or 0), int(placed["column"] or 0)) if placed else (0, 0)
            errors.append(DatasetError(path, line, column, placed["message"] if placed else error.message))
        else:
            found[definition.name] = definition
    return found, errors


def check_queries(
    datasets: list[Dataset], definitions: Mapping[str, Definition], schemas: Schemas
) -> list[DatasetError]:
    """What is wrong with the queries of datasets, held against the tables: names, columns, types."""
    errors: list[DatasetError] = []
    with closing(Compiler(schemas)) as compiler:
        for dataset in datasets:
            errors += _query(dataset, schemas, compiler)
            errors += materialized.problems(dataset, definitions, schemas, compiler)
    return errors


def _query(dataset: Dataset, schemas: Schemas, compiler: Compiler) -> Iterator[DatasetError]:
    unknown = [table for table in allowed.tables(dataset.tree) if allowed.table_name(table) not in schemas]
    if unknown:
        for table in unknown:
            name = allowed.table_name(table)
            yield error_at(dataset, table, f"there is no table {name!r} in {TABLES}/{nearest(name, schemas)}")
        return
    try:
        tree = qualified(dataset.tree, schemas)
    except InvalidRequest as error:
        yield _unresolved(dataset, error, schemas)
        return
    said: set[str] = set()
    for present in combinations(dataset):
        values = {n: sample(p) for n, p in dataset.params.items() if not p.optional or n in present}
        bound, dropped = bind.bind(tree, dataset.params, values)
        try:
            produced = compiler.schema(bound)
        except InvalidRequest as error:
            # What DuckDB would answer otherwise is no matter of a dataset that never runs there.
            if dataset.engine != "athena" and error.message not in said:
                yield error_at(dataset, error.node if isinstance(error, allowed.Refused) else None, error.message)
            said.add(error.message)
            continue
        except EngineFailed as error:
            where = f" without {', '.join(dropped)}" if dropped else ""
            if error.message not in said:
                yield error_at(dataset, None, f"the query does not compile{where}: {error.message}")
            said.add(error.message)
            continue
        for problem in _types(dataset, produced):
            if problem.message not in said:
                yield problem
            said.add(problem.message)


def _unresolved(dataset: Dataset, error: InvalidRequest, schemas: Schemas) -> DatasetError:
    """The qualifier's error with the nearest column and its place in the file."""
    found = re.search(r"column '([^']+)'", error.message)
    if not found:
        return error_at(dataset, None, error.message)
    name = found[1]
    used = allowed.table_names(dataset.tree)
    having = sorted(table for table in used if name.lower() in schemas[table])
    nodes = [node for node in dataset.tree.find_all(exp.Column) if node.name.lower() == name.lower()]
    # Where the name is in a table and still unknown, it is the one that does not say which table it means.
    node = min(nodes, key=lambda node: bool(node.table) if having else False, default=None)
    if len(having) > 1:
        return error_at(dataset, node, f"the column {name!r} is in {' and '.join(having)}; write which, as in t.{name}")
    if having:
        said = f"it is not clear which column {name!r} is meant; write its table, as in t.{name}"
        return error_at(dataset, node, said)
    columns = {column for table in used for column in schemas[table]}
    return error_at(dataset, node, f"there is no column {name!r} here{nearest(name, columns)}")


def _types(dataset: Dataset, produced: pa.Schema) -> Iterator[DatasetError]:
    head = header.read(dataset.path, dataset.path.read_text(encoding="utf-8"))
    for column, field in zip(dataset.columns, produced, strict=True):
        if not fits(field.type, column.type):
            gives, declares = type_text(field.type), type_text(column.type)
            yield head.error(
                ("columns", column.name, "type"),
                f"column {column.name!r} is declared {declares} and the query gives {gives}, which does not fit "
                f"without loss; declare {gives}, or CAST in the query",
            )
