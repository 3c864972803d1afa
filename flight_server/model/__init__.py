"""The values that pass between the layers: what can be asked, what was asked, how it will be answered.

All are frozen. Nothing here does I/O or knows how it is parsed, planned or run; `datasets`, `plan`, `engines` and
`results` meet only through these, and import them from here.
"""

from flight_server.model.contract import (
    CachePolicy,
    Column,
    Dataset,
    Limits,
    Materialize,
    Parameter,
    ParamType,
    RelativeDate,
    Rule,
    SortKey,
)
from flight_server.model.execution import Engine, Execution, ExecutionStats, Part, StoredResult
from flight_server.model.plan import Bounds, Estimate, Plan, Read, Reading, TablePin, plan_json
from flight_server.model.policies import AppliedPolicy, Mask, Policies, RowFilter
from flight_server.model.request import (
    ANONYMOUS,
    Caller,
    Claim,
    EngineName,
    Entries,
    Request,
    Scalar,
    Text,
    Value,
    key_text,
    to_json,
)

__all__ = [
    "ANONYMOUS",
    "AppliedPolicy",
    "Bounds",
    "CachePolicy",
    "Caller",
    "Claim",
    "Column",
    "Dataset",
    "Engine",
    "EngineName",
    "Entries",
    "Estimate",
    "Execution",
    "ExecutionStats",
    "Limits",
    "Mask",
    "Materialize",
    "ParamType",
    "Parameter",
    "Part",
    "Plan",
    "Policies",
    "Read",
    "Reading",
    "RelativeDate",
    "Request",
    "RowFilter",
    "Rule",
    "Scalar",
    "SortKey",
    "StoredResult",
    "TablePin",
    "Text",
    "Value",
    "key_text",
    "plan_json",
    "to_json",
]
