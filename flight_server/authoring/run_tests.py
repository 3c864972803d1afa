"""Running the `.test.toml` of datasets: each over Iceberg tables of its own, through the pipeline, on DuckDB.

Beside the cases of the file, every dataset is tested for what its contract says anyway: its example, every choice of
its enums and every combination of its optional parameters must answer, and every answer must keep key and order.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from flight_server.authoring import cases, local
from flight_server.authoring.cases import Case, TestFile
from flight_server.authoring.check import TABLES, read_tables
from flight_server.authoring.compare import broken_promises, differences
from flight_server.authoring.samples import combinations, sample
from flight_server.authoring.warehouse import fill
from flight_server.config import Catalog as CatalogSettings
from flight_server.config import Config
from flight_server.datasets.registry import Registry
from flight_server.engines.duckdb import DuckDBEngine
from flight_server.errors import CODES, DatasetError, Error, InvalidRequest, nearest
from flight_server.model import Dataset, Engine, Plan, Request, to_json
from flight_server.pipeline import Pipeline
from flight_server.plan import allowed
from flight_server.plan.planner import Planner
from flight_server.plan.scan import Tables
from flight_server.server import load_datasets
from flight_server.tables.catalog import open_catalog
from flight_server.tables.ddl import Definition
from flight_server.tables.locate import locator

SUFFIX = ".test.toml"
# The parameters and rules that a message names (datasets/params.py).
_NAMED = re.compile(r"rule '(\w+)' asks|needs '(\w+)'|has no parameter '(\w+)'|^\w+\.(\w+) ")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case that ran: where it is written (line 0 = nowhere, it follows from the contract), what was wrong."""

    dataset: Dataset
    case: str
    path: Path
    line: int = 0
    problems: tuple[str, ...] = ()


def run_tests(config: Config, name: str | None = None) -> Iterator[Outcome]:
    """Run the tests of all datasets of the configured folder, or those of the versions of `name`, one by one.

    Raises DatasetError for files that are wrong, also for a test file without a dataset.
    """
    directory = config.datasets.directory
    found, errors = load_datasets(directory)
    definitions, wrong = read_tables(directory / TABLES)
    for error in (*errors, *wrong):
        raise error
    _check_strays(directory, found)
    chosen = [dataset for dataset in found.all() if name in (None, dataset.name)]
    if not chosen:
        raise DatasetError(directory, 0, 0, f"there is no dataset {name!r}{nearest(str(name), found.datasets)}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="athena-flight-test-")))
        engine = stack.enter_context(closing(DuckDBEngine(config.duckdb, (str(folder),))))
        for number, dataset in enumerate(chosen):
            yield from _Run(config, dataset, found, engine).outcomes(definitions, folder / str(number))


def test_path(dataset: Dataset) -> Path:
    """Where the tests of a dataset are: `daily_prices.test.toml`, `daily_prices.v2.test.toml`."""
    return dataset.path.with_suffix(SUFFIX)


def _check_strays(directory: Path, found: Registry) -> None:
    known = {test_path(dataset).name for dataset in found.all()}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        if path.name not in known:
            raise DatasetError(path, 0, 0, f"this file tests no dataset{nearest(path.name, known)}")


class _Run:
    """The tests of one dataset: the file, the tables, and the pipeline over them."""

    def __init__(self, config: Config, dataset: Dataset, found: Registry, engine: Engine) -> None:
        self.config = config
        self.dataset = dataset
        # A test is about the query: what policies let its callers see is not the dataset's business.
        self.registry = Registry(found.datasets)
        self.engine = engine
        self.path = test_path(dataset)

    def outcomes(self, definitions: Mapping[str, Definition], folder: Path) -> Iterator[Outcome]:
        test = cases.read(self.path) if self.path.exists() else TestFile(self.path, {}, ())
        tables = set(allowed.table_names(self.dataset.tree))
        missing = sorted(tables - definitions.keys())
        if missing:
            raise DatasetError(self.dataset.path, 0, 0, f"there is no DDL of {missing[0]!r} in {TABLES}/")
        settings = self.config.model_copy(
            update={
                "catalog": CatalogSettings(uri=f"sqlite:///{folder}/catalog.db", warehouse=str(folder / "warehouse"))
            }
        )
        with closing(open_catalog(settings)) as catalog:
            fill(catalog, definitions, tables, test)
            planner = Planner(Tables(catalog, locator(catalog)), self.config.cost)
            pipeline = Pipeline(self.registry, planner, {"duckdb": self.engine}, self.config.limits)
            if test.today is not None:
                today = test.today
                pipeline = Pipeline(self.registry, planner, {"duckdb": self.engine}, self.config.limits, lambda: today)
            for case in test.cases:
                problems = tuple(self._case(pipeline, case))
                yield Outcome(self.dataset, case.name, self.path, case.line, problems)
            for name, params in _from_contract(self.dataset):
                yield Outcome(self.dataset, name, self.dataset.path, 0, tuple(self._free(pipeline, params)))

    def _case(self, pipeline: Pipeline, case: Case) -> Iterator[str]:
        if case.error is not None:
            yield from self._refused(pipeline, case.params, case.error)
            return
        try:
            plan, table = self._answer(pipeline, case.params)
        except Error as error:
            yield f"it failed: {error}"
            return
        if case.max_files is not None and plan.estimate.files > case.max_files:
            yield f"it reads {plan.estimate.files} files, at most {case.max_files} are expected"
        if case.rows is not None:
            yield from differences(self.dataset, table, case.rows, case.approx)
        yield from broken_promises(self.dataset, table)

    def _refused(self, pipeline: Pipeline, params: Mapping[str, Any], expected: str) -> Iterator[str]:
        rules = [rule.name for rule in self.dataset.rules]
        known = [*CODES, *rules, *self.dataset.params]
        if expected not in known:
            yield f"error = {expected!r} is no code, rule or parameter{nearest(expected, known)}"
            return
        try:
            _, table = self._answer(pipeline, params)
        except Error as error:
            named = {name for found in _NAMED.findall(error.message) for name in found}
            if expected != error.code and expected not in named:
                yield f"expected the error {expected!r}, got {error}"
        else:
            yield f"expected the error {expected!r}, got {table.num_rows} rows"

    def _free(self, pipeline: Pipeline, params: Mapping[str, object]) -> Iterator[str]:
        try:
            _, table = self._answer(pipeline, params)
        except InvalidRequest as error:
            yield f"{error}; give the parameters examples that go together"
        except Error as error:
            yield f"it failed: {error}"
        else:
            yield from broken_promises(self.dataset, table)

    def _answer(self, pipeline: Pipeline, params: Mapping[str, Any]) -> tuple[Plan, pa.Table]:
        # The engine is named for datasets that are routed to Athena.
        request = Request(self.dataset.name, params, version=self.dataset.version, engine="duckdb")
        plan = local.plan(pipeline, request)
        with local.answered(pipeline, plan) as batches:
            return plan, pa.Table.from_batches(batches, self.dataset.schema)


def _from_contract(dataset: Dataset) -> Iterator[tuple[str, dict[str, object]]]:
    """Name and parameters of the requests that follow from the contract, each once.

    None where a required parameter has no example: what it may be is not known.
    """
    required = {name: each for name, each in dataset.params.items() if each.required}
    if any(parameter.example is None for parameter in required.values()):
        return
    base = {name: to_json(sample(parameter)) for name, parameter in required.items()}
    given = {name: to_json(each.example) for name, each in dataset.params.items() if each.example is not None}
    found: list[tuple[str, dict[str, object]]] = [("example", base | given)]
    for name, parameter in dataset.params.items():
        for choice in parameter.choices:
            value: object = [to_json(choice)] if parameter.type.kind == "list" else to_json(choice)
            found.append((f"{name} = {choice}", base | given | {name: value}))
    for present in combinations(dataset):
        values = {name: to_json(sample(dataset.params[name])) for name in present}
        found.append((f"with {', '.join(present) or 'no optional parameter'}", base | values))
    seen: list[dict[str, object]] = []
    for name, params in found:
        if params not in seen:
            seen.append(params)
            yield name, params
