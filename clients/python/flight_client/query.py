"""One question, to a dataset or as SQL: made without asking the server, answered in many forms."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from flight_client._transport import Transport
from flight_client.answer import Answer
from flight_client.plan import Explanation, Plan, explanation_of, plan_of
from flight_client.submission import Submission, submitted

# Enough of a statement to know it again.
_SHOWN_MAX = 100


@dataclass(frozen=True)
class Request:
    """The JSON form of the protocol: to a dataset, or SQL with the values of its `?` by number."""

    params: Mapping[str, object]
    dataset: str | None = None
    sql: str | None = None
    version: int | None = None
    as_of: str | None = None
    engine: str | None = None

    def body(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if value is not None}

    @property
    def label(self) -> str:
        return self.dataset or "sql"

    def __str__(self) -> str:
        if self.sql is not None:
            asked = " ".join(self.sql.split())
            shown = repr(asked if len(asked) <= _SHOWN_MAX else f"{asked[:_SHOWN_MAX]}…")
            return f"sql({shown}{f', {[*self.params.values()]}' if self.params else ''})"
        return f"{self.dataset}({', '.join(f'{name}={value!r}' for name, value in self.params.items())})"


class Query(Answer):
    """A lazy question: nothing runs before `arrow`, `pl`, `reader` … is called, and each call asks anew."""

    def __init__(self, transport: Transport, request: Request, bar: bool) -> None:
        super().__init__(transport, request.label, self._planned, bar)
        self._request = request

    def __repr__(self) -> str:
        body = self._request.body()
        options = "".join(f" {name}={body[name]!r}" for name in ("version", "as_of", "engine") if name in body)
        return f"<{self._request}{options}>"

    def as_of(self, moment: str | dt.date) -> Query:
        """The same question to the tables as they were: a pin's name, a receipt, a time with its zone, a day (UTC)."""
        if isinstance(moment, dt.datetime) and moment.tzinfo is None:
            raise ValueError(f"{moment} has no time zone; write datetime(…, tzinfo=timezone.utc)")
        if isinstance(moment, dt.date):
            moment = moment.isoformat()
        if not isinstance(moment, str):
            raise ValueError(f"as_of takes a pin's name, a receipt or a datetime, and no {type(moment).__name__}")
        return self._with(replace(self._request, as_of=moment))

    def engine(self, name: str) -> Query:
        """The same question to an engine of the caller's choice, where the caller may choose it."""
        return self._with(replace(self._request, engine=name))

    @property
    def request(self) -> dict[str, object]:
        """The question as the JSON form of the protocol."""
        return self._request.body()

    @property
    def schema(self) -> pa.Schema:
        """The schema that the answer will have."""
        return self._planned().schema

    def plan(self) -> Plan:
        """How the question would be answered now: checked, priced, nothing run."""
        return plan_of(json.loads(self._planned().app_metadata))

    def explain(self) -> Explanation:
        """The plan with the SQL that would run."""
        return explanation_of(self._transport.action_json("explain", self._request.body()))

    def submit(self) -> Submission:
        """Start the query on the server and return at once; the result is kept there for a while."""
        return submitted(self._transport, self._request.body(), self._request.label, self._bar)

    def _with(self, request: Request) -> Query:
        return Query(self._transport, request, self._bar)

    def _planned(self) -> pa.flight.FlightInfo:
        return self._transport.flight_info(self._request.body())
