"""Plans for calls: what a call asks, and what comes of it, is noted in its outcome."""

from __future__ import annotations

from flight_server.errors import Error
from flight_server.model import Plan, Reading, Request
from flight_server.pipeline import Pipeline
from flight_server.service.admission import Rate
from flight_server.service.call import Call


class Plans:
    """Plans what calls ask of a pipeline. `statements` bounds the statements that one caller runs."""

    def __init__(self, pipeline: Pipeline, statements: Rate) -> None:
        self._pipeline = pipeline
        self._statements = statements

    def of(self, call: Call, request: Request) -> Plan:
        """How the request will be answered."""
        call.outcome.asked(request)
        if request.sql is None:
            # What is wrong with the request is then counted as this dataset's.
            call.outcome.found(self._pipeline.describe(request, call.asker))
        try:
            plan = self._pipeline.plan(request, call.asker)
        except Error as error:
            if isinstance(error.reading, Reading):
                call.outcome.read(error.reading)
            raise
        call.outcome.planned(plan)
        return plan

    def to_run(self, call: Call, request: Request) -> Plan:
        """The same for what is to run now. Raises Unavailable (busy) where that is a statement too many."""
        plan = self.of(call, request)
        if plan.dataset.unnamed and call.named:
            self._statements.spend(call.asker.name)
        return plan
