"""The flow of one request as code: describe, plan, answer. Knows no wire format and no engine's insides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Literal

import pyarrow as pa

from flight_server.config import Limits
from flight_server.datasets.params import resolve
from flight_server.datasets.registry import Registry
from flight_server.errors import ContractViolated, DatasetError, Denied, EngineFailed, InvalidRequest, Unsupported
from flight_server.model import (
    Bounds,
    Caller,
    Dataset,
    Engine,
    EngineName,
    Execution,
    Plan,
    Request,
    StoredResult,
    Value,
    to_json,
)
from flight_server.plan import allowed, as_of
from flight_server.plan.planner import Planner
from flight_server.results.contract import conform
from flight_server.results.received import Sizes
from flight_server.statements import Compiled, Statements
from flight_server.telemetry import log, traces

# The role that may choose the engine with `_engine`; without authentication everybody has it.
ENGINE_ROLE = "operator"


@dataclass(frozen=True, slots=True)
class Answer:
    """A running answer: the plan, the engine's execution, and its batches with the contract's schema."""

    plan: Plan
    execution: Execution
    batches: Iterator[pa.RecordBatch]


class Pipeline:
    """Answers requests from a registry, a planner and engines. `registry` is replaced as a whole on reload."""

    def __init__(
        self,
        registry: Registry,
        planner: Planner,
        engines: Mapping[EngineName, Engine],
        limits: Limits,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
        statements: Statements | None = None,
    ) -> None:
        self.registry = registry
        self._planner = planner
        self._engines = engines
        self._limits = limits
        self._statements = statements
        self._today = today
        self._sizes = Sizes()

    def describe(self, request: Request, caller: Caller) -> Dataset:
        """The dataset that a request names, for its contract. Touches no engine and checks no parameter."""
        if request.sql is not None:
            return self.prepare(request, caller).dataset
        return self.registry.get(request.dataset, request.version, caller)

    def prepare(self, request: Request, caller: Caller) -> Compiled:
        """A statement's result and parameters, for who prepares it. Runs nothing."""
        return self._sql().prepare(request, self.registry, caller)

    def tables(self, caller: Caller) -> list[str]:
        """The tables of the catalog that the caller may name in SQL, as database.table, sorted."""
        return self._sql().tables(caller)

    def table_schema(self, table: str, caller: Caller) -> pa.Schema:
        """The Arrow schema of such a table, docs in its metadata."""
        return self._sql().table_schema(table, caller)

    def readable(self, caller: Caller) -> list[str]:
        """The tables that the caller's datasets read, and those that it may name in SQL, sorted."""
        read = set(_tables_of(self.registry.visible(caller)))
        return sorted(read.union(self._statements.tables(caller) if self._statements else ()))

    def tables_read(self) -> list[str]:
        """The tables that the datasets read, sorted."""
        return _tables_of(self.registry.all())

    def pins(self, caller: Caller) -> dict[str, dict[str, int]]:
        """The pins that the caller can ask with, each with the snapshots of those tables that the caller can read."""
        return self._planner.pins(self.readable(caller))

    def all_pins(self) -> dict[str, dict[str, int]]:
        """All pins of the catalog."""
        return self._planner.pins(self._planner.tables())

    def snapshots(self, tables: Iterable[str]) -> dict[str, int | None]:
        """What would be read now of those of these tables that are there; None of an empty one."""
        return self._planner.snapshots(tables)

    def plan(self, request: Request, caller: Caller) -> Plan:
        """How the request will be answered: validated, pinned, priced. Runs nothing."""
        # Read once: a reload in between must not join a dataset with the policies of another state.
        with traces.span("plan") as span:
            plan = self._planned(request, caller)
            traces.note(
                span,
                {
                    "dataset": plan.dataset.name,
                    "engine": plan.engine,
                    "cache": plan.cache,
                    "files": plan.estimate.files,
                    "bytes": plan.estimate.bytes,
                },
            )
        return plan

    def _planned(self, request: Request, caller: Caller) -> Plan:
        registry = self.registry
        dataset, values = self._asked(registry, request, caller)
        if request.contract not in (None, dataset.digest):
            raise InvalidRequest("expired-ticket", f"{dataset.name} has changed since the ticket was issued; ask again")
        plan = self._planner.plan(
            dataset,
            values,
            self._engine_name(dataset, request, caller),
            self._bounds(dataset),
            as_of.parse(request.as_of) if request.as_of is not None else None,
            request.pins,
            caller,
            registry.policies,
        )
        return replace(plan, cache=self._cached(plan), statement=request if dataset.unnamed else None)

    def policy_problems(self, registry: Registry) -> list[DatasetError]:
        """What is wrong with the policies of a registry, held against the tables as they are now."""
        return self._planner.policy_problems(registry.policies)

    def sees(self, plan: Plan, caller: Caller) -> bool:
        """Whether the rows of a plan are those that `caller` may see under the policies as they are now."""
        return self._planner.guard(plan, self.registry.policies, caller) == plan.guard

    def stored(self, plan: Plan) -> StoredResult | None:
        """The stored result of an equal plan, whose rows and bytes are known before it runs."""
        return self._engines[plan.engine].stored(plan)

    def size(self, plan: Plan) -> tuple[int, int]:
        """Rows and bytes of an equal plan's stored result; -1 for what only the next sending of it will tell."""
        stored = self.stored(plan)
        if stored is None:
            return -1, -1
        return stored.rows, 0 if stored.rows == 0 else self._sizes.find(plan.engine, plan.fingerprint)

    def sent(self, plan: Plan, size: int) -> None:
        """Note the bytes of a result that was sent to its end, for `size`."""
        self._sizes.note(plan.engine, plan.fingerprint, size)

    def lasting(self, plan: Plan) -> StoredResult | None:
        """The same where it stays, whatever else is asked: a result that is kept here can be pushed out by others."""
        return self.stored(plan) if self._engines[plan.engine].keeps == "shared" else None

    def answer(self, plan: Plan) -> Answer:
        """Start the plan's engine. The caller of this closes `Answer.execution`, whatever happens."""
        execution = self._engines[plan.engine].start(plan)
        batches = traces.iterated(
            "engine",
            conform(plan.dataset, execution.batches(), plan.bounds.rows, plan.bounds.bytes),
            {"engine": plan.engine, "dataset": plan.dataset.name, "cache": plan.cache},
            lambda: {"query_id": execution.stats.query_id, "scanned_bytes": execution.stats.scanned_bytes},
        )
        return Answer(plan, execution, _reticent(execution, batches) if plan.policies else batches)

    def _asked(self, registry: Registry, request: Request, caller: Caller) -> tuple[Dataset, Mapping[str, Value]]:
        if request.sql is None:
            dataset = registry.get(request.dataset, request.version, caller)
            return dataset, resolve(dataset, request.params, self._today())
        at = as_of.parse(request.as_of) if request.as_of is not None else None
        compiled = self._sql().compile(request, registry, caller, self._today(), at)
        return compiled.dataset, compiled.values

    def _sql(self) -> Statements:
        if self._statements is None:
            raise Unsupported("unsupported", "SQL of one's own is not served here; ask for a dataset")
        return self._statements

    def _cached(self, plan: Plan) -> Literal["hit", "miss", "off"]:
        if self._engines[plan.engine].keeps == "nothing" or plan.dataset.cache.mode == "off":
            return "off"
        return "hit" if self.stored(plan) else "miss"

    def _engine_name(self, dataset: Dataset, request: Request, caller: Caller) -> EngineName:
        if dataset.engine == "system":
            return "system"
        if request.engine is not None and not {"*", ENGINE_ROLE} & caller.roles:
            raise Denied("not-allowed", f"the role {ENGINE_ROLE!r} is needed to choose the engine")
        default = next(iter(self._engines))
        usual = request.issued_engine or (default if dataset.engine == "auto" else dataset.engine)
        wanted = usual if request.engine is None else request.engine
        choice = [name for name in self._engines if name != "system"]
        for name in choice:
            if name == wanted:
                return name
        raise InvalidRequest("bad-request", f"there is no engine {wanted[:40]!r}; there is {', '.join(choice)}")

    def _bounds(self, dataset: Dataset) -> Bounds:
        said, server = dataset.limits, self._limits
        return Bounds(
            rows=min(said.max_rows or server.rows_max, server.rows_max),
            timeout_s=min(said.timeout_s or server.timeout_s, server.timeout_s),
            batch_rows=server.batch_rows_max,
            batch_bytes=server.batch_bytes_max,
            scan_bytes=min(said.max_scan_bytes or server.scan_bytes_max, server.scan_bytes_max),
            cost_usd=said.max_cost_usd,
            bytes=min(said.max_bytes or server.bytes_max, server.bytes_max),
        )


def _tables_of(datasets: Iterable[Dataset]) -> list[str]:
    """The tables of the catalog that these read: those of the server's own are in none."""
    trees = (dataset.tree for dataset in datasets if dataset.engine != "system")
    return sorted({table for tree in trees for table in allowed.table_names(tree)})


def question(plan: Plan) -> Request:
    """The request that gives this plan again: the same dataset or statement and values, at the same snapshots."""
    asked = plan.statement or Request(
        dataset=plan.dataset.name,
        params={name: to_json(value) for name, value in plan.params.items()},
        version=plan.dataset.version,
    )
    pins = {pin.table: pin.snapshot_id for pin in plan.pins}
    return replace(asked, as_of=None, engine=None, issued_engine=plan.engine, pins=pins)


def _reticent(execution: Execution, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, without the engine's reason where it fails.

    Engines evaluate a query's own terms before a policy's when that is cheaper, and quote the value that they fail at:
    it can be one that the caller may not see. The same holds for values that do not fit the contract.
    """
    try:
        yield from batches
    except (EngineFailed, ContractViolated) as error:
        log.error("reason_withheld", code=error.code, message=error.message, query_id=execution.stats.query_id)
        query = f" (query {execution.stats.query_id})" if execution.stats.query_id else ""
        message = f"the query failed{query}; row policies hold here, so the reason is in the server's log only"
        raise type(error)(message) from None
